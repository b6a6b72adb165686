"""AdaFisher under attack: range of the denominator, corrected convex rate, momentum with a full gradient."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.search import portfolio
from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most, tightest
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio
from reference.adafisher import denominator, init, minmax_normalize, step

__all__ = ["corrected_rate", "denominator_range", "momentum"]

Array = NDArray[np.float64]

#: What the attack on a bound that is attained must reach.
_TIGHT = 0.999

#: The two orders of averaging and normalising.
_ORDERS: tuple[Literal["after", "before"], ...] = ("after", "before")

#: Weights of two equal measurements in the submission's average; they sum to 1.912.
_SUBMISSION = (0.92, 1 - 0.008)

#: Where factors that are not normalised are cut, so that their product stays in range.
_LARGE = 1e100


@evidence(faults=("not-normalised", "weights-of-the-submission"), scope="region")
def denominator_range(*, fault: str | None = None) -> Finding:
    """``lam <= F <= 1 + lam`` to rounding, for factors of any size and any average, in both orders.

    Runs of random measurements over 600 decades, with constant and almost constant factors among them.
    Faults: factors are not normalised; the submission's weights, which sum to 1.91.
    """
    rng = np.random.default_rng(20240812)
    runs, steps, m, n, checked = 200, 6, 3, 5, 0
    ratios: list[Ratio] = []
    for lam in (1e-8, 1e-3, 1.0):
        for order in _ORDERS:
            h, s = (_measurements(rng, steps, runs, k) for k in (n, m))
            state = init((runs, m, n))
            for t in range(steps):
                _, state = step(
                    np.zeros((runs, m, n)),
                    state,
                    h_D=h[t],
                    s_D=s[t],
                    gamma=float(rng.uniform(0, 1)),
                    lam=lam,
                    normalise=order,
                )
                sides = [state.h_D, state.s_D]
                if fault == "not-normalised":
                    sides = [np.minimum(d, _LARGE) for d in sides]
                elif order == "after":
                    sides = [minmax_normalize(d) for d in sides]
                if fault == "weights-of-the-submission":
                    sides = [sum(_SUBMISSION) * d for d in sides]
                F = denominator(sides[0], sides[1], lam=lam)
                rounding = ORDER_ONE * DOUBLE * (1 + lam)
                ratios.append(
                    at_most(f"F over its bound, {order}, lam = {lam:g}", F, 1 + lam, rounding=rounding)
                )
                ratios.append(at_least(f"F, {order}, lam = {lam:g}", F, lam, rounding=0.0))
                checked += F.size
    tightness = tightest(ratios[::2])
    return Finding(
        (*ratios, at_least("tightness of the attack", tightness, _TIGHT, rounding=0.0)),
        f"{checked} entries of F after up to {steps} averages, factors over 600 decades: within [lam, 1 + "
        f"lam], the upper end reached to {tightness}",
        figures={"entries": float(checked)},
        tightness=tightness,
    )


def _measurements(rng: np.random.Generator, steps: int, runs: int, size: int) -> Array:
    """Positive diagonals (steps, runs, size): wild, nearly constant, constant, and one-hot."""
    d = 10.0 ** (rng.uniform(-300, 290, (1, runs, 1)) + rng.uniform(-8, 8, (steps, runs, size)))
    kinds = rng.integers(0, 4, runs)
    base = d[:, :, :1]
    d = np.where((kinds == 1)[:, None], base * (1 + 4 * DOUBLE * rng.integers(0, 9, d.shape)), d)
    d = np.where((kinds == 2)[:, None], base, d)
    return np.where((kinds == 3)[:, None], base * (np.arange(size) == 0), d)


#: Keeps a bound positive that a planted fault makes negative; the true one is above 1/11 in the search.
_POSITIVE = 1e-3

#: Problems of the two attacks on rates, and the outputs x inputs of their layers.
_RUNS, _SHAPE = 100, (2, 3)


@evidence(faults=("rate-doubled", "step-three-times-as-long"), scope="region")
def corrected_rate(*, fault: str | None = None) -> Finding:
    """``eta L <= lam`` gives ``f_{t+1} <= (1 - eta mu/(1+lam)) f_t`` on quadratics, factors fresh every step.

    AdaFisher without momentum on random quadratics with spectra from mu to L, and a search over axis-parallel
    ones for the tightest step. Faults: the rate counts eta mu/(1+lam) twice; three times the largest step.
    """
    rng = np.random.default_rng(20240813)
    speed = 2.0 if fault == "rate-doubled" else 1.0
    reach = 3.0 if fault == "step-three-times-as-long" else 1.0
    size, steps = int(np.prod(_SHAPE)), 25
    mu = 10.0 ** rng.uniform(-2, 0, (_RUNS, 1))
    spectrum = np.concatenate([mu, np.ones_like(mu), mu ** rng.uniform(0, 1, (_RUNS, size - 2))], axis=1)
    U = np.linalg.qr(rng.standard_normal((_RUNS, size, size)))[0]
    ratios: list[Ratio] = []
    for lam in (0.01, 0.3, 2.0):
        w, state = rng.standard_normal((_RUNS, size)), init((_RUNS, *_SHAPE))
        rate = 1 - speed * lam * mu[:, 0] / (1 + lam)
        for t in range(steps):
            turned = np.einsum("rji,rj->ri", U, w)
            f = 0.5 * (spectrum * turned**2).sum(axis=1)
            G = np.einsum("rij,rj->ri", U, spectrum * turned)
            h, s = (10.0 ** rng.uniform(-3, 3, (_RUNS, k)) for k in reversed(_SHAPE))
            update, state = step(
                G.reshape(_RUNS, *_SHAPE),
                state,
                h_D=h,
                s_D=s,
                beta=0.0,
                gamma=float(rng.uniform(0, 1)),
                lam=lam,
            )
            w = w - reach * lam * update.reshape(_RUNS, size)
            after = 0.5 * (spectrum * np.einsum("rji,rj->ri", U, w) ** 2).sum(axis=1)
            rounding = ORDER_ONE * size * DOUBLE * f / mu[:, 0]
            ratios.append(
                at_most(f"f over its bound, lam = {lam}, step {t + 1}", after, rate * f, rounding=rounding)
            )

    def one_step(x: Array) -> Array:
        """``f_1`` over its bound on ``sum a_i w_i^2/2``, ``a_1 = 1`` and the others below."""
        lam, a = 10.0 ** np.clip(x[:, 0], -4, 1), np.exp(-np.abs(x[:, 1:3]))
        a = np.concatenate([np.ones((len(x), 1)), a], axis=1)
        F = lam[:, None] + np.abs(np.sin(x[:, 3:6]))
        w = np.exp(np.clip(x[:, 6:9], -20, 0))
        moved = w - reach * lam[:, None] * a * w / F
        bound = np.maximum(1 - speed * lam * a.min(axis=1) / (1 + lam), _POSITIVE)
        return (a * moved**2).sum(axis=1) / (bound * (a * w**2).sum(axis=1))

    found = portfolio(one_step, np.zeros((1, 9)), budget=4000, restarts=30, rng=rng)
    rounding = ORDER_ONE * DOUBLE
    ratios.append(at_most("f over its bound, searched", found.value, 1.0, rounding=rounding))
    return Finding(
        (*ratios, at_least("tightness of the attack", found.value, _TIGHT, rounding=0.0)),
        f"{3 * _RUNS * steps} steps on {3 * _RUNS} random quadratics and {found.evaluations} searched ones: "
        f"f over its bound at most {tightest(ratios)}",
        figures={"evaluations": float(found.evaluations), "steps": float(3 * _RUNS * steps)},
        tightness=tightest(ratios),
    )


@evidence(faults=("step-without-the-momentum-factor", "error-term-forgotten"), scope="region")
def momentum(*, fault: str | None = None) -> Finding:
    """``2 L eta = lam (1 - beta)``, full gradient: ``V = f + A |M_hat - g|^2`` falls, and so does g.

    Sums of cosines, which are not convex: random ones, and ``-sum cos(w_i)``, whose curvature at the minimum
    is L, so that momentum overshoots. Denominators jump between their ends from step to step.
    ``A = eta/(2 lam (1-beta))``. At every step V falls by ``eta/2 sum g^2/F`` or more; at the end the least
    squared gradient is at most ``2 (1+lam)(f_1 - f*)/(eta T)``.
    Faults: ``2 L eta = lam/(1-beta)``; the function value alone is expected to fall.
    """
    rng = np.random.default_rng(20240814)
    steps = 300
    ratios: list[Ratio] = []
    shares: list[Array] = []
    for beta in (0.5, 0.9):
        for lam in (0.05, 1.0):
            A, a, _ = problem = _cosines(rng, int(np.prod(_SHAPE)), 8)
            L = np.linalg.norm(A * np.sqrt(np.abs(a))[..., None], ord=2, axis=(1, 2)) ** 2
            power = -1 if fault == "step-without-the-momentum-factor" else 1
            eta = lam * (1 - beta) ** power / (2 * L)
            weight = 0.0 if fault == "error-term-forgotten" else eta / (2 * lam * (1 - beta))
            f, rise, squares = _trajectory(rng, problem, eta, weight, beta=beta, lam=lam, steps=steps)
            size = np.abs(a).sum(axis=1)  # f* is at least -size
            rounding = ORDER_ONE * A[0].size * DOUBLE * (size + weight * squares.max(axis=0))
            bound = 2 * (1 + lam) * (f + size) / (eta * steps)
            where = f"beta = {beta}, lam = {lam}"
            ratios += [
                at_most(f"rise of V plus its fall, {where}", rise, 0.0, rounding=rounding),
                at_most(f"least gradient, {where}", squares.min(axis=0), bound, rounding=0.0),
            ]
            shares.append(squares.min(axis=0) / squares[0])
    rate = tightest(ratios[1::2])
    shrink = float(np.median(shares))
    return Finding(
        tuple(ratios),
        f"{4 * _RUNS * steps} steps on {4 * _RUNS} sums of cosines, denominators jumping: the potential "
        f"falls at every step; least squared gradient at most {rate} of its bound, in the median "
        f"{shrink:.1e} of the first",
        figures={"steps": float(4 * _RUNS * steps), "gradient": shrink},
        tightness=rate,
    )


def _trajectory(
    rng: np.random.Generator,
    problem: tuple[Array, Array, Array],
    eta: Array,
    weight: Array | float,
    *,
    beta: float,
    lam: float,
    steps: int,
) -> tuple[Array, Array, Array]:
    """``f_1``, then for every step ``V_t - V_{t-1} + eta/2 sum g^2/F`` and the squared gradient."""
    A, a, phase = problem
    w, state = rng.standard_normal((_RUNS, A.shape[-1])), init((_RUNS, *_SHAPE))
    values, potentials, falls, squares = [], [], [], []
    for t in range(1, steps + 1):
        angle = np.einsum("rkd,rd->rk", A, w) + phase
        f, g = (a * np.cos(angle)).sum(axis=1), -np.einsum("rk,rkd->rd", a * np.sin(angle), A)
        h, s = (rng.choice([0.0, 1.0], (_RUNS, k)) for k in reversed(_SHAPE))
        update, state = step(g.reshape(_RUNS, *_SHAPE), state, h_D=h, s_D=s, beta=beta, gamma=0.0, lam=lam)
        F = denominator(minmax_normalize(h), minmax_normalize(s), lam=lam).reshape(w.shape)
        error = state.M.reshape(w.shape) / (1 - beta**t) - g
        values.append(f)
        potentials.append(f + weight * (error**2).sum(axis=1))
        falls.append(eta / 2 * (g**2 / F).sum(axis=1))
        squares.append((g**2).sum(axis=1))
        w = w - eta[:, None] * update.reshape(w.shape)
    rise = np.diff(potentials, axis=0) + np.array(falls[:-1])
    return values[0], rise, np.array(squares)


def _cosines(rng: np.random.Generator, size: int, terms: int) -> tuple[Array, Array, Array]:
    """Directions, amplitudes and phases of the runs; the first half are minus the sum of separate cosines."""
    A = rng.standard_normal((_RUNS, terms, size)) / np.sqrt(size)
    a, phase = rng.uniform(-1, 1, (_RUNS, terms)), rng.uniform(0, 2 * np.pi, (_RUNS, terms))
    half = _RUNS // 2
    A[:half], a[:half], phase[:half] = np.eye(terms, size), -1.0, 0.0
    return A, a, phase

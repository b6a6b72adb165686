"""FISMO-D.2-bounded, -D.2-needed, -T3-unconditional, -COND-bound: how far the factors can go."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.processes import (
    MU,
    Attack,
    aligned,
    attacks_in_frobenius_ball,
    attacks_in_spectral_ball,
)
from proofs_checks.adversarial.verdicts import (
    at_least,
    at_most,
    factor_rounding,
    tightest,
    vanishing,
)
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from reference.fismo import Damping, FismoState, step

__all__ = ["condition_of_the_step", "d2_bounds", "d2_needs_its_condition", "t3_bounds"]

Array = NDArray[np.float64]

#: What an attack on a bound that is attained must reach.
_TIGHT = 0.9

#: The level that the claim says some 20 gradients reach at b = 3, shape 3x3, gamma = 0, Gauss-Seidel.
_CLAIMED_GROWTH = 94.0

#: The worst cycle found for that claim: an evolution strategy over coefficients in the eigenbases of (P, Q),
#: rounded to two digits; the first matrix for 19 steps, the second for the last. Only directions matter.
_WORST_STEADY = np.array([[-4.0, 0.0, -37.0], [15.0, 0.0, -44.0], [-80.0, 0.0, -7.0]])
_WORST_LAST = np.array([[-21.0, 0.0, -3.0], [23.0, -1.0, -8.0], [-95.0, -1.0, 0.0]])


@evidence(faults=("excess-halved", "sides-swapped", "damping-halved"), scope="region")
def d2_bounds(*, fault: str | None = None) -> Finding:
    """Lemma D.2 as reconstructed: for b < 1 the spectrum of P stays in ``[1 - b, 1 + (m - 1) b]``; n for Q.

    Faults: the bounds with b / 2; m and n exchanged in the upper bounds; a process damped by mu / 2.
    """
    attacks = attacks_in_frobenius_ball(damped_by=0.5 if fault == "damping-halved" else 1.0)
    ratios: list[Ratio] = []
    for attack in attacks:
        m, n, b = _levels(attack)
        if fault == "excess-halved":
            b = b / 2
        sides = (n, m) if fault == "sides-swapped" else (m, n)
        ratios += _spectra(attack, *((1 / (1 - b), 1 + (side - 1) * b) for side in sides))
    by_bound = _tightness_by_bound(ratios)
    reached = at_least("tightness of every bound", np.array([*by_bound.values()]), _TIGHT, rounding=0.0)
    return Finding(
        (*ratios, reached),
        f"{_count(attacks)} adversarial runs of {len(attacks[0].G)} steps, b in (0.1, 0.5, 0.9): worst "
        "over bound " + ", ".join(f"{key} {value}" for key, value in by_bound.items()),
        figures=by_bound,
        tightness=tightest(ratios),
    )


@evidence(faults=("b-below-one", "theorem-damping"), scope="region")
def d2_needs_its_condition(*, fault: str | None = None) -> Finding:
    """Lemma D.2 fails for b > 1: at b = 3, 3x3, gamma = 0, 20 gradients push ``|P^-1|`` or ``|Q^-1|`` to 94.

    A stored worst cycle replays the claim for Gauss-Seidel. For Jacobi at gamma = 0 the adversary is
    explicit: rank-one gradients along the lowest eigenvectors of P and Q give ``|P_t^-1| = 1 + b + ... +
    b^t``, which meets the bound 1/(1 - b) in the limit for b < 1 and grows without end for b >= 1.
    Faults: b = 0.9 instead of 3; the theorem's damping, which needs no condition.
    """
    b = 0.9 if fault == "b-below-one" else 3.0
    damping: Damping = "theorem" if fault == "theorem-damping" else "algorithm"
    size = np.array([np.sqrt(b * 9 * MU)])
    worst = [C / np.linalg.norm(C) for C in (*[_WORST_STEADY] * 19, _WORST_LAST)]
    replay = aligned(
        np.array(worst)[:, None], size=size, steps=20, gamma=0.0, mu=MU, damping=damping, order="gauss-seidel"
    )
    found = max(float((1 / _extremes(factor[-1])[0]).max()) for factor in replay[:2])
    lowest = np.zeros((1, 1, 3, 3))
    lowest[..., 0, 0] = 1.0
    steps = 12
    jacobi = aligned(lowest, size=size, steps=steps, gamma=0.0, mu=MU, damping=damping, order="jacobi")
    grown = 1 / _extremes(jacobi.P)[0][:, 0]
    geometric = np.cumsum(3.0 ** np.arange(steps + 1))
    rounding = factor_rounding(jacobi.P, jacobi.Q, steps=steps)
    return Finding(
        (
            at_least("|Q^-1| or |P^-1| after 20 gradients", found, _CLAIMED_GROWTH, rounding=0.0),
            vanishing(
                "Jacobi growth over 1 + b + ... + b^t, minus 1", grown / geometric - 1, rounding=rounding
            ),
        ),
        f"b = {b}, 3x3, gamma = 0: stored cycle reaches {found:.1f} after 20 gradients (Gauss-Seidel); "
        f"Jacobi grows as 1 + b + ... + b^t, {grown[-1]:.4g} after {steps}",
        figures={"gauss_seidel_20": found, f"jacobi_{steps}": float(grown[-1])},
        counterexample={
            "b": "3",
            "coefficients of steps 1 to 19": _WORST_STEADY.tolist(),
            "coefficients of step 20": _WORST_LAST.tolist(),
        },
    )


@evidence(faults=("constant-halved", "damping-halved"), scope="region")
def t3_bounds(*, fault: str | None = None) -> Finding:
    """T3, theorem damping: ``|P_t^-1| <= K_P = 1 + s^2/(m mu)``, ``lambda_max(P_t) <= m - (m - 1)/K_P``.

    Likewise for Q with n; no condition on the gradients beyond ``|G_t|_2 <= s``.
    Faults: ``K = 1 + s^2 / (2 m mu)``; the process is damped by mu / 2.
    """
    attacks = attacks_in_spectral_ball(damped_by=0.5 if fault == "damping-halved" else 1.0)
    ratios: list[Ratio] = []
    for attack in attacks:
        sides = attack.G.shape[-2:]
        level = attack.size**2 / MU / (2 if fault == "constant-halved" else 1)
        ratios += _spectra(attack, *((1 + level / k, k - (k - 1) / (1 + level / k)) for k in sides))
    by_bound = _tightness_by_bound(ratios)
    reached = at_least("tightness of every bound", np.array([*by_bound.values()]), _TIGHT, rounding=0.0)
    return Finding(
        (*ratios, reached),
        f"{_count(attacks)} adversarial runs of {len(attacks[0].G)} steps, s^2/mu in (0.3, 3, 100): worst "
        "over bound " + ", ".join(f"{key} {value}" for key, value in by_bound.items()),
        figures=by_bound,
        tightness=tightest(ratios),
    )


@evidence(faults=("one-factor-only", "excess-halved"), scope="region")
def condition_of_the_step(*, fault: str | None = None) -> Finding:
    """The condition of a FISMO step with exact polar factor is at most ``sqrt(Lambda_P Lambda_Q) / (1 - b)``.

    The momentum is chosen to pair the lowest eigenvectors of the attacked factors with each other, and the
    highest.
    Faults: the bound forgets Lambda_Q; b / 2 in place of b.
    """
    attacks = attacks_in_frobenius_ball()
    ratios = []
    for attack in attacks:
        m, n, b = _levels(attack)
        bound_b = b / 2 if fault == "excess-halved" else b
        Lambda_P, Lambda_Q = 1 + (m - 1) * bound_b, 1 + (n - 1) * bound_b
        if fault == "one-factor-only":
            Lambda_Q = np.ones_like(b)
        P, Q = attack.P[-1], attack.Q[-1]
        M = _matched_isometry(P, Q)
        update, _ = step(np.zeros_like(M), FismoState(P, Q, M), gamma=1.0, mu=MU)
        s = np.linalg.svd(update, compute_uv=False)
        rounding = factor_rounding(P, Q, steps=len(attack.G))
        condition, bound = s[:, 0] / s[:, -1], np.sqrt(Lambda_P * Lambda_Q) / (1 - bound_b)
        where = f"({m}x{n}, gamma = {attack.gamma}, {attack.order})"
        ratios.append(at_most(f"condition of the step {where}", condition, bound, rounding=rounding * bound))
    tightness = tightest(ratios)
    return Finding(
        (*ratios, at_least("tightness of the attack", tightness, _TIGHT, rounding=0.0)),
        f"{_count(attacks)} adversarial states, b in (0.1, 0.5, 0.9): condition over bound at most "
        f"{tightness}",
        tightness=tightness,
    )


def _spectra(attack: Attack, of_P: tuple[Array, Array], of_Q: tuple[Array, Array]) -> list[Ratio]:
    """Spectra along the runs against a bound on the inverse and one on the largest eigenvalue, per run."""
    m, n = attack.G.shape[-2:]
    where = f"({m}x{n}, gamma = {attack.gamma}, {attack.order})"
    ratios = []
    for name, factor, (inverse, top) in (("P", attack.P, of_P), ("Q", attack.Q, of_Q)):
        low, high = _extremes(factor)
        rounding = factor_rounding(factor, steps=len(attack.G))
        ratios.append(at_most(f"|{name}^-1| {where}", 1 / low, inverse, rounding=rounding * inverse))
        ratios.append(at_most(f"lambda_max({name}) {where}", high, top, rounding=rounding * top))
    return ratios


def _tightness_by_bound(ratios: list[Ratio]) -> dict[str, float]:
    """Tightness of each of the four bounds."""
    bounds = ("|P^-1|", "|Q^-1|", "lambda_max(P)", "lambda_max(Q)")
    return {key: tightest(ratio for ratio in ratios if ratio.name.startswith(key)) for key in bounds}


def _levels(attack: Attack) -> tuple[int, int, Array]:
    """m, n and ``b = g^2 / (m n mu)`` per run."""
    m, n = attack.G.shape[-2:]
    return m, n, attack.size**2 / (m * n * MU)


def _extremes(factor: Array) -> tuple[Array, Array]:
    """Smallest and largest eigenvalue."""
    w: Array = np.linalg.eigvalsh(factor).astype(np.float64)
    return w[..., 0], w[..., -1]


def _matched_isometry(P: Array, Q: Array) -> Array:
    """``sum_i u_i v_i^T`` with eigenvectors in ascending order, the last v_i being the highest of all."""
    U, V = np.linalg.eigh(P)[1], np.linalg.eigh(Q)[1]
    r = min(P.shape[-1], Q.shape[-1])
    rows, columns = ([*range(r - 1), side - 1] for side in (P.shape[-1], Q.shape[-1]))
    return U[..., rows] @ V[..., columns].mT


def _count(attacks: tuple[Attack, ...]) -> int:
    return sum(attack.runs for attack in attacks)

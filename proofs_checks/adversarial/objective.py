"""FISMO-T4.1: the objective J of the Kronecker factors, its block minimisers, convexity and minimiser."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import (
    exponential,
    gradients,
    spd,
    symmetric,
    symmetric_root,
    unit_coupling,
)
from proofs_checks.adversarial.search import portfolio
from proofs_checks.adversarial.verdicts import at_most, factor_rounding, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from reference.fismo import Damping
from reference.kronecker import (
    FixedPoint,
    contraction_factor,
    fixed_point,
    left_factor,
    logdet_divergence,
    objective,
    right_factor,
)

__all__ = ["block_minimisers", "geodesic_convexity", "one_minimiser"]

Array = NDArray[np.float64]

#: Damping of the attacks, for gradients scaled to ``lambda_max(E G G^T) = 1``.
_DAMPING = 0.1


@evidence(faults=("damping-of-the-algorithm", "sides-swapped"), scope="region")
def block_minimisers(*, fault: str | None = None) -> Finding:
    """J never increases under a half-step, and what any other factor costs is exactly n (or m) divergences.

    For every P the identity ``J(P, Q) - J(P*(Q), Q) = n D(P*(Q), P)`` with the log-det divergence D >= 0
    holds; it is checked at random P far from and next to P*(Q), and J is followed along the alternation
    from bad starts.
    Faults: the half-step damps with ``mu tr(Q) / n``; it divides by m instead of n.
    """
    rng = np.random.default_rng(20240605)
    problems, sweeps, (m, n) = 54, 10, (3, 4)
    G = unit_coupling(gradients(rng, problems=problems, samples=3, m=m, n=n))
    P, Q = spd(rng, problems, m), spd(rng, problems, n)

    def left(Q: Array) -> Array:
        P_new = left_factor(G, Q, mu=_DAMPING)
        if fault == "sides-swapped":
            return P_new * (n / m)
        if fault == "damping-of-the-algorithm":
            return left_factor(G, Q, mu=0.0) + _DAMPING * _mean_trace(Q) * np.eye(m)
        return P_new

    values, rounding = [objective(G, P, Q, mu=_DAMPING)], [_objective_rounding(G, P, Q)]
    identities = []
    for _ in range(sweeps):
        P = left(Q)
        values.append(objective(G, P, Q, mu=_DAMPING))
        rounding.append(_objective_rounding(G, P, Q))
        identities.append(_excess_identity(rng, G, P, Q))
        Q = right_factor(G, P, mu=_DAMPING)
        values.append(objective(G, P, Q, mu=_DAMPING))
        rounding.append(_objective_rounding(G, P, Q))
    J, slack = np.array(values), np.array(rounding)
    gap, budget = (np.array(side) for side in zip(*identities, strict=True))
    ratios = (
        at_most(
            "J after a half-step against J before", np.diff(J, axis=0), 0.0, rounding=slack[1:] + slack[:-1]
        ),
        vanishing("J(P, Q) - J(P*(Q), Q) - n D(P*(Q), P)", gap, rounding=budget),
    )
    return Finding(
        ratios,
        f"{problems} problems (3x4), {2 * sweeps} half-steps each: J fell by "
        f"{(J[0] - J[-1]).min():.3g} or more in all and never rose beyond rounding "
        f"({slack.max():.0e}); {gap.size} other factors cost n D each, to {np.abs(gap).max():.1e}",
        figures={"half_steps": float(2 * sweeps * problems), "other_factors": float(gap.size)},
    )


@evidence(faults=("straight-line", "straight-line-of-one-factor"), scope="region")
def geodesic_convexity(*, fault: str | None = None) -> Finding:
    """J at the middle of a geodesic of the pair (P, Q) is at most the mean of J at its ends.

    The log-determinants are linear along a geodesic, so this is a statement on the positive part
    ``E tr(P^-1 G Q^-1 G^T) + mu tr(P^-1) tr(Q^-1)``: middle over mean of the ends, at most 1, equal along the
    gauge ``(c P, Q / c)``. The search runs over a 2x2 sample and two pairs of 2x2 factors.
    Faults: the middle of the straight line, of both factors or of P alone, instead of the geodesic's.
    """
    rng = np.random.default_rng(20240606)
    seeds = np.zeros((3, 16))
    seeds[:, :4] = 1.0, 0.0, 0.0, 1.0
    seeds[:, 10:] = [1, 0, 1, -1, 0, -1], [1, 0, -1, 1, 0, -1], [1, 1, 1, -1, 1, -1]  # the first is the gauge
    found = portfolio(lambda x: _middle_over_mean(x, fault)[0], seeds, budget=2000, restarts=40, rng=rng)
    random, rounding = _middle_over_mean(rng.standard_normal((2000, 16)), fault)
    at_best = _middle_over_mean(found.point[None], fault)[1]
    ratios = (
        at_most("middle over mean of the ends, searched", found.value, 1.0, rounding=at_best),
        at_most("middle over mean of the ends, random", random, 1.0, rounding=rounding),
    )
    geodesics = found.evaluations + len(random)
    return Finding(
        ratios,
        f"largest middle over mean of the ends {found.value:.6f} in {geodesics} geodesics of pairs of 2x2 "
        f"factors, {random.max():.3f} among {len(random)} random ones; 1 is attained along the gauge",
        figures={"evaluations": float(geodesics), "random": float(random.max())},
        tightness=tightest(ratios),
    )


@evidence(faults=("damping-of-the-algorithm", "scale-dropped"), scope="region")
def one_minimiser(*, fault: str | None = None) -> Finding:
    """For mu > 0 the alternation ends at one Q kron P, from any start and for any data, zero included.

    Two runs that end within e1 and e2 of the fixed point (a-posteriori bounds) have row factors at Hilbert
    distance ``d = (e1 + e2) / c``, equal traces, hence products that differ by at most ``e^(2 d) - 1``
    relative.
    Faults: one run ends at the fixed point of Algorithm 1; the scale of F, which Q carries, is lost.
    """
    rng = np.random.default_rng(20240607)
    m, n, starts, mu = 3, 4, 3, 0.1
    G = np.concatenate(
        [
            unit_coupling(gradients(rng, problems=27, samples=3, m=m, n=n)),
            np.zeros((1, 3, m, n)),
            np.repeat(np.eye(m, n)[None, None], 3, axis=1),
        ]
    )
    runs = [fixed_point(G, mu=mu)]
    for k in range(starts):
        P0, Q0 = spd(rng, len(G), m, decades=6.0), spd(rng, len(G), n, decades=6.0)
        method: Literal["gauss-seidel", "jacobi"] = "jacobi" if k % 2 else "gauss-seidel"
        damping: Damping = "algorithm" if fault == "damping-of-the-algorithm" else "theorem"
        runs.append(fixed_point(G, mu=mu, method=method, damping=damping, P0=P0, Q0=Q0))
    if fault == "scale-dropped":
        runs = [runs[0], *(run._replace(Q=run.Q / _mean_trace(run.Q)) for run in runs[1:])]
    c = contraction_factor(G, mu=mu)
    d = [run.error_bound / np.where(c > 0, c, 1.0) for run in runs]
    F = [_product(run) for run in runs]
    size = np.linalg.norm(F[0], 2, axis=(-2, -1))
    ratios = []
    for k in range(1, len(runs)):
        apart = np.linalg.norm(F[k] - F[0], 2, axis=(-2, -1)) / size
        bound = np.expm1(2 * np.where(np.isfinite(d[k]), d[0] + d[k], d[0]))
        rounding = factor_rounding(runs[k].P, runs[k].Q)
        ratios.append(at_most(f"Q kron P of start {k} against start 0", apart, bound, rounding=rounding))
    worst = max(float((np.linalg.norm(X - F[0], 2, axis=(-2, -1)) / size).max()) for X in F[1:])
    return Finding(
        tuple(ratios),
        f"{len(G)} problems (3x4; one with G = 0, one with a single isometry), {starts} random starts of "
        f"condition up to 1e6 each: products differ by at most {worst:.1e}",
        figures={"runs": float(len(G) * len(runs)), "largest_difference": worst},
    )


def _mean_trace(Q: Array) -> Array:
    """Mean eigenvalue, ``(..., 1, 1)``."""
    return np.trace(Q, axis1=-2, axis2=-1)[..., None, None] / Q.shape[-1]


def _product(run: FixedPoint) -> Array:
    """``Q kron P`` of every problem of a batch."""
    kron = np.einsum("...ij,...kl->...ikjl", run.Q, run.P)
    side = run.Q.shape[-1] * run.P.shape[-1]
    return kron.reshape(*run.Q.shape[:-2], side, side)


def _log_determinants(P: Array, Q: Array) -> Array:
    """``n log det P + m log det Q``."""
    m, n = P.shape[-1], Q.shape[-1]
    return n * np.linalg.slogdet(P)[1] + m * np.linalg.slogdet(Q)[1]


def _objective_rounding(G: Array, P: Array, Q: Array) -> Array:
    """Absolute rounding error of J: the sum of its absolute terms times that of what the factors enter."""
    logs = _log_determinants(P, Q)
    return (np.abs(objective(G, P, Q, mu=_DAMPING) - logs) + np.abs(logs)) * factor_rounding(P, Q)


def _excess_identity(rng: np.random.Generator, G: Array, P: Array, Q: Array) -> tuple[Array, Array]:
    """``J(X, Q) - J(P, Q) - n D(P, X)`` and its rounding, for random X near and far from ``P = P*(Q)``."""
    n = Q.shape[-1]
    root = symmetric_root(P, power=0.5)
    gaps, budgets = [], []
    for size in (1e-3, 0.1, 2.0):
        S = rng.standard_normal(P.shape)
        X = root @ exponential(size * (S + S.mT) / 2) @ root
        X = (X + X.mT) / 2
        excess = objective(G, X, Q, mu=_DAMPING) - objective(G, P, Q, mu=_DAMPING)
        gaps.append(excess - n * logdet_divergence(P, X))
        budgets.append(_objective_rounding(G, X, Q) + _objective_rounding(G, P, Q))
    return np.array(gaps), np.array(budgets)


def _middle_over_mean(x: Array, fault: str | None) -> tuple[Array, Array]:
    """``1 + (J(middle) - mean J(ends)) / mean positive part of the ends`` for ``(R, 16)``; its rounding."""
    G = x[:, :4].reshape(-1, 1, 2, 2)
    ends, middles = [], []
    for k in (0, 1):
        S = x[:, 4 + 3 * k : 7 + 3 * k], x[:, 10 + 3 * k : 13 + 3 * k]
        root = symmetric_root(exponential(_bounded(symmetric(S[0], 2))), power=0.5)
        velocity = _bounded(symmetric(S[1], 2))
        ends.append([_symmetrised(root @ exponential(t * velocity) @ root) for t in (-0.5, 0.5)])
        middles.append(_symmetrised(root @ root))
    if fault is not None:
        middles[0] = (ends[0][0] + ends[0][1]) / 2
    if fault == "straight-line":
        middles[1] = (ends[1][0] + ends[1][1]) / 2
    J = [objective(G, ends[0][t], ends[1][t], mu=_DAMPING) for t in (0, 1)]
    positive = sum(J[t] - _log_determinants(ends[0][t], ends[1][t]) for t in (0, 1)) / 2
    value = 1 + (objective(G, *middles, mu=_DAMPING) - (J[0] + J[1]) / 2) / positive
    slack = [_objective_rounding(G, ends[0][t], ends[1][t]) for t in (0, 1)]
    return value, (slack[0] + slack[1]) / positive


def _bounded(S: Array) -> Array:
    """Symmetric matrices pulled into the ball of spectral radius 2, so that factors stay well conditioned."""
    size = np.abs(np.linalg.eigvalsh(S)).max(axis=-1)[..., None, None]
    return S * 2 / np.maximum(size, 2.0)


def _symmetrised(X: Array) -> Array:
    return (X + X.mT) / 2

"""Structural facts of Algorithm 1: invariants, symmetries, limits, frame and loss scale."""

from functools import partial
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import gradients, orthogonal, spd
from proofs_checks.adversarial.trajectories import Options, budget, run, variant
from proofs_checks.adversarial.verdicts import DOUBLE, at_least, factor_rounding, same, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio, yes_no
from reference.fismo import Damping, FismoState, Order, Scaling, update_factors

__all__ = ["frame_matters", "invariants", "orthogonal_equivariance", "transposition"]

Array = NDArray[np.float64]

_OPTIONS: tuple[Options, ...] = tuple(
    Options(damping=damping, order=order, factor_scaling=scaling)
    for damping, order, scaling in product(get_args(Damping), get_args(Order), get_args(Scaling))
)

#: What counts as a visible difference of two runs, relative: a thousandth, 1e12 roundoffs.
VISIBLE = 1e-3


@evidence(faults=("unit-trace", "weight-of-the-average"), scope="region")
def invariants(*, fault: str | None = None) -> Finding:
    """Over long runs ``tr P_t = m``, ``tr Q_t = n``, both exactly symmetric; the form of section 6.1 holds.

    ``P_t = (gamma P_(t-1) + (1-gamma) L_t) / (gamma + (1-gamma) tau_t)`` with ``L_t = G Q^-1 G^T / n + mu
    I``: the printed damping is exactly ``mu I``, and the weight of the new statistic is ``(1-gamma) tau_t /
    (gamma + (1-gamma) tau_t)``, not 1 - gamma.
    Faults: the trace is expected to be 1; the new statistic, at mean eigenvalue 1, gets the weight 1 - gamma.
    """
    rng = np.random.default_rng(20240612)
    steps, problems, (m, n), gamma, mu = 150, 18, (3, 5), 0.9, 0.05
    G = gradients(rng, problems=problems, samples=steps, m=m, n=n).swapaxes(0, 1)
    trace = 1.0 if fault == "unit-trace" else float(m)
    ratios: list[Ratio] = []
    apart = 0.0
    for options in _OPTIONS:
        P, Q = np.broadcast_to(np.eye(m), (problems, m, m)), np.broadcast_to(np.eye(n), (problems, n, n))
        Ps, Qs, expected, slack = [], [], [], []
        for gradient in G:
            if options["damping"] == "algorithm" and options["factor_scaling"] == "none":
                expected.append(_averaged(gradient, P, Q, gamma=gamma, mu=mu, fault=fault))
                slack.append(factor_rounding(Q))
            P, Q = update_factors(gradient, P, Q, gamma=gamma, mu=mu, **options)
            Ps.append(P)
            Qs.append(Q)
        name = _named(options)
        traces_P, traces_Q = (np.trace(np.array(X), axis1=-2, axis2=-1) for X in (Ps, Qs))
        ratios += [
            vanishing(f"tr P - m ({name})", traces_P - trace, rounding=ORDER_ONE * m * m * DOUBLE),
            vanishing(f"tr Q - n ({name})", traces_Q - n, rounding=ORDER_ONE * n * n * DOUBLE),
            yes_no(f"symmetric ({name})", all((X.mT == X).all() for X in (*Ps, *Qs))),
        ]
        if expected:
            difference = np.linalg.norm(np.array(Ps) - np.array(expected), axis=(-2, -1))
            rounding = np.array(slack)[:, None] * m
            ratios.append(vanishing(f"P minus the form of 6.1 ({name})", difference, rounding=rounding))
            apart = max(apart, float(difference.max()))
    return Finding(
        tuple(ratios),
        f"{len(_OPTIONS)} option sets, {problems} runs of {steps} steps on gradients of every kind and "
        f"scale: traces and symmetry kept, the form of section 6.1 met to {apart:.1e}",
        figures={"steps": float(steps * problems * len(_OPTIONS)), "form_of_6_1": apart},
    )


@evidence(faults=("rows-only", "cholesky-roots"), scope="region")
def orthogonal_equivariance(*, fault: str | None = None) -> Finding:
    """Gradients ``U G_t V^T`` give the run ``U W_t V^T``, ``U P_t U^T``, ``V Q_t V^T``, for every option set.

    Faults: V is forgotten in what is expected; the run uses Cholesky roots, which are not equivariant.
    """
    rng = np.random.default_rng(20240613)
    steps, problems, (m, n) = 10, 8, (3, 5)
    G = rng.standard_normal((steps, problems, m, n))
    U, V = orthogonal(rng, problems, m), orthogonal(rng, problems, n)
    V_expected = np.broadcast_to(np.eye(n), V.shape) if fault == "rows-only" else V
    ratios, apart = [], 0.0
    for options in _OPTIONS:
        plain, turned = (run(X, beta=0.8, gamma=0.7, mu=0.1, **options) for X in (G, U @ G @ V.mT))
        updates = turned.updates
        if fault == "cholesky-roots":
            start = FismoState(
                np.tile(np.eye(m), (problems, 1, 1)), np.tile(np.eye(n), (problems, 1, 1)), 0 * G[0]
            )
            updates = variant(U @ G @ V.mT, state=start, beta=0.8, gamma=0.7, mu=0.1, root="cholesky")
        name = _named(options)
        allowed = budget(plain, turned)
        ratios.append(same(f"updates ({name})", updates, U @ plain.updates @ V_expected.mT, budget=allowed))
        ratios.append(same(f"P ({name})", turned.P, U @ plain.P @ U.mT, budget=allowed))
        apart = max(apart, ratios[-2].error / float(np.linalg.norm(plain.updates)))
    return Finding(
        tuple(ratios),
        f"{len(_OPTIONS)} option sets, {problems} runs of {steps} steps (3x5): relative difference at most "
        f"{apart:.1e}",
        figures={"relative_difference": apart},
    )


@evidence(faults=("orders-exchanged",), scope="region")
def transposition(*, fault: str | None = None) -> Finding:
    """``(W, P, Q) <-> (W^T, Q, P)`` is a symmetry of Jacobi and visibly none of Gauss-Seidel.

    Fault: the two orders are exchanged.
    """
    rng = np.random.default_rng(20240614)
    steps, problems, (m, n) = 10, 12, (3, 5)
    G = rng.standard_normal((steps, problems, m, n))
    ratios, broken = [], []
    for options in _OPTIONS:
        plain, turned = (run(X, beta=0.8, gamma=0.7, mu=0.1, **options) for X in (G, G.mT.copy()))
        jacobi = (options["order"] == "jacobi") != (fault == "orders-exchanged")
        name = _named(options)
        if jacobi:
            allowed = budget(plain, turned)
            ratios.append(same(f"updates ({name})", turned.updates.mT, plain.updates, budget=allowed))
            ratios.append(same(f"Q against P ({name})", turned.Q, plain.P, budget=allowed))
        else:
            apart = _relative(turned.updates.mT.sum(axis=0), plain.updates.sum(axis=0))
            broken.append(float(np.median(apart)))
            ratios.append(at_least(f"visible difference ({name})", apart, VISIBLE, rounding=0.0))
    return Finding(
        tuple(ratios),
        f"{len(_OPTIONS)} option sets, {problems} Gaussian runs of {steps} steps (3x5): Jacobi exact to "
        f"rounding, Gauss-Seidel off by {min(broken):.1%} to {max(broken):.1%} (medians)",
        figures={"smallest": min(broken), "largest": max(broken)},
    )


@evidence(faults=("factors-frozen", "factors-moving"), scope="region")
def frame_matters(*, fault: str | None = None) -> Finding:
    """With moving factors, whitened momentum is not momentum whitened, and the root is part of the method.

    Two steps tell the momenta apart, ten the roots; with constant factors both agree to rounding.
    Faults: the factors are frozen where a difference is expected; they move where none is.
    """
    rng = np.random.default_rng(20240615)
    problems, (m, n), mu = 12, (3, 5), 0.1
    G = rng.standard_normal((10, problems, m, n))
    P, Q = spd(rng, problems, m), spd(rng, problems, n)
    P, Q = (X * X.shape[-1] / np.trace(X, axis1=-2, axis2=-1)[:, None, None] for X in (P, Q))
    start = FismoState(P, Q, np.zeros((problems, m, n)))
    moving = 1.0 if fault == "factors-frozen" else 0.7
    frozen = 0.7 if fault == "factors-moving" else 1.0
    ratios: list[Ratio] = []
    figures = {}
    changes = {"momentum": partial(variant, momentum="raw"), "root": partial(variant, root="cholesky")}
    for (name, changed), steps in zip(changes.items(), (2, 10), strict=True):
        plain, other = (
            kind(G[:steps], state=start, beta=0.5, gamma=moving, mu=mu) for kind in (variant, changed)
        )
        apart = _relative(other.sum(axis=0), plain.sum(axis=0))
        figures[name] = float(np.median(apart))
        ratios.append(at_least(f"visible difference of the other {name}", apart, VISIBLE, rounding=0.0))
        constant = run(G, state=start, beta=0.5, gamma=frozen, mu=mu)
        other = changed(G, state=start, beta=0.5, gamma=frozen, mu=mu)
        allowed = 2 * budget(constant)
        ratios.append(same(f"the other {name}, constant factors", other, constant.updates, budget=allowed))
    return Finding(
        tuple(ratios),
        f"{problems} Gaussian runs (3x5): raw momentum differs by {figures['momentum']:.1%} after 2 steps, "
        f"Cholesky roots by {figures['root']:.1%} after 10 (medians); both agree to rounding when the "
        "factors are constant",
        figures=figures,
    )


def _named(options: Options) -> str:
    return f"{options['damping']}, {options['order']}, {options['factor_scaling']}"


def _averaged(G: Array, P: Array, Q: Array, *, gamma: float, mu: float, fault: str | None) -> Array:
    """The next P by the form of section 6.1."""
    m, n = G.shape[-2:]
    L = G @ np.linalg.solve(Q, G.mT) / n + mu * np.eye(m)
    tau = np.trace(L, axis1=-2, axis2=-1)[:, None, None] / m
    if fault == "weight-of-the-average":
        return gamma * P + (1 - gamma) * L / tau
    return (gamma * P + (1 - gamma) * L) / (gamma + (1 - gamma) * tau)


def _relative(X: Array, Y: Array) -> Array:
    """Relative Frobenius distance per run."""
    return np.linalg.norm(X - Y, axis=(-2, -1)) / np.linalg.norm(Y, axis=(-2, -1))

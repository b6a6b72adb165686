"""FISMO-LIM-muon and FISMO-LOSS-SCALE: where FISMO is Muon, and what scaling the loss does to it."""

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import gradients, unit_coupling
from proofs_checks.adversarial.structure import VISIBLE
from proofs_checks.adversarial.trajectories import Trajectory, budget, run
from proofs_checks.adversarial.verdicts import at_least, at_most, factor_rounding, same, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from reference import muon
from reference.fismo import Damping, Order, Scaling
from reference.kronecker import fisher_lmo, fixed_point, hilbert_distance

__all__ = ["closed_form_limit", "heavy_damping", "loss_scale", "muon_limit"]

Array = NDArray[np.float64]

#: How far ``mu * difference`` may still be from its limit at the largest damping: one per cent.
_SETTLED = 0.01


@evidence(faults=("gamma-just-below-one", "momentum-without-average"), scope="region")
def muon_limit(*, fault: str | None = None) -> Finding:
    """At gamma = 1 FISMO is Muon on averaged raw gradients with the exact polar factor, for every option set.

    Faults: gamma = 0.999; Muon orthogonalises the gradient looked ahead (Nesterov), not the average.
    """
    rng = np.random.default_rng(20240616)
    steps, problems, (m, n), beta = 20, 8, (3, 5), 0.9
    G = rng.standard_normal((steps, problems, m, n))
    state, expected = muon.init(G.shape[1:]), []
    for gradient in G:
        update, state = muon.step(
            gradient,
            state,
            beta=beta,
            nesterov=fault == "momentum-without-average",
            scale="none",
            orthogonalize="polar",
        )
        expected.append(update)
    gamma = 0.999 if fault == "gamma-just-below-one" else 1.0
    ratios = []
    for damping in get_args(Damping):
        for order in get_args(Order):
            got = run(G, beta=beta, gamma=gamma, mu=0.1, damping=damping, order=order)
            name = f"updates against Muon's ({damping}, {order})"
            ratios.append(same(name, got.updates, np.stack(expected), budget=2 * budget(got)))
    apart = max(ratio.error for ratio in ratios) / float(np.linalg.norm(expected))
    return Finding(
        tuple(ratios),
        f"gamma = 1, 4 option sets, {problems} runs of {steps} steps (3x5): relative difference from Muon "
        f"{apart:.1e}",
        figures={"relative_difference": apart},
    )


@evidence(faults=("rate-one-over-root", "bound-one-over-square"), scope="region")
def heavy_damping(*, fault: str | None = None) -> Finding:
    """As mu grows FISMO tends to Muon at rate exactly 1/mu, within a bound from the reconstructed Lemma D.2.

    Square matrices: with ``b = g^2 / (n^2 mu)`` the inverse roots are within ``d = (n-1) b / (2
    (1-b)^(3/2))`` of I, the momenta within ``((1+d)^2 - 1) g``, and the polar factors within ``2 / (s_n(M)
    + s_n(M'))`` times that.
    Faults: the rate 1/sqrt(mu); a bound of order 1/mu^2, from b^2 in place of b.
    """
    rng = np.random.default_rng(20240617)
    steps, problems, n = 5, 30, 3
    G = rng.standard_normal((steps, problems, n, n))
    g = np.linalg.norm(G, axis=(-2, -1)).max(axis=0)
    limit = run(G, beta=0.5, gamma=1.0, mu=1.0)
    dampings = np.array([1e2, 1e3, 1e4, 1e5])
    ratios: list[Ratio] = []
    differences = []
    for mu in dampings:
        got = run(G, beta=0.5, gamma=0.5, mu=float(mu))
        apart = np.linalg.norm(got.updates[-1] - limit.updates[-1], axis=(-2, -1))
        b = (g**2 / (n * n * mu)) ** (2 if fault == "bound-one-over-square" else 1)
        bound = _muon_bound(got, limit, g, b=b, n=n)
        rounding = budget(got, limit)
        ratios.append(at_most(f"distance from Muon, mu = {mu:g}", apart, bound, rounding=rounding))
        differences.append(apart)
    power = 0.5 if fault == "rate-one-over-root" else 1.0
    settled = np.array(differences) * dampings[:, None] ** power
    change = settled[-2] / settled[-1] - 1
    tightness = tightest(ratios)
    return Finding(
        (
            *ratios,
            at_most("change of mu * distance over the last decade", np.abs(change), _SETTLED, rounding=0.0),
        ),
        f"{problems} runs of {steps} steps (3x3), mu = 1e2 to 1e5: distance from Muon over its bound at most "
        f"{tightness}; mu * distance between {settled[-1].min():.2g} and {settled[-1].max():.2g}, settled to "
        f"{np.abs(change).max():.1e}",
        figures={"median_mu_times_distance": float(np.median(settled[-1]))},
        tightness=tightness,
    )


@evidence(faults=("old-factors", "momentum-kept"), scope="region")
def closed_form_limit(*, fault: str | None = None) -> Finding:
    """At beta = 0 a step is Theorem 4.2's, with the factors that already contain the gradient.

    Faults: the closed form with the factors before the step; beta = 0.5.
    """
    rng = np.random.default_rng(20240618)
    steps, problems, (m, n) = 10, 12, (3, 5)
    G = rng.standard_normal((steps, problems, m, n))
    got = run(G, beta=0.5 if fault == "momentum-kept" else 0.0, gamma=0.7, mu=0.1)
    now, before = slice(1, None), slice(None, -1)
    used = before if fault == "old-factors" else now
    expected = -fisher_lmo(G[1:], got.P[used], got.Q[used], radius=1.0)
    ratio = same("updates against the closed form", got.updates[now], expected, budget=2 * budget(got))
    apart = ratio.error / float(np.linalg.norm(expected))
    return Finding(
        (ratio,),
        f"beta = 0, {problems} runs of {steps} steps (3x5): relative difference from Theorem 4.2's step "
        f"{apart:.1e}",
        figures={"relative_difference": apart},
    )


@evidence(faults=("damping-scaled-by-c", "unit-left-out"), scope="region")
def loss_scale(*, fault: str | None = None) -> Finding:
    """Scaling the loss by c is scaling mu by 1/c^2 in fixed points, and step by step only at gamma = 0.

    At gamma = 0.9 the pair (c, c^2 mu) moves visibly, and so does c alone; with factor_scaling "unit" c > 0
    does nothing, exactly.
    Faults: mu is scaled by c instead of c^2; the invariance is expected without "unit".
    """
    rng = np.random.default_rng(20240619)
    steps, problems, (m, n), mu, c = 8, 12, (3, 5), 0.1, 7.0
    scaled_mu = mu * (c if fault == "damping-scaled-by-c" else c * c)
    samples = unit_coupling(gradients(rng, problems=18, samples=3, m=m, n=n))
    ratios: list[Ratio] = []
    for damping in get_args(Damping):
        one = fixed_point(samples, mu=mu, damping=damping)
        two = fixed_point(c * samples, mu=scaled_mu, damping=damping)
        rounding = factor_rounding(one.P, one.Q, steps=one.iterations + two.iterations)
        apart = np.maximum(hilbert_distance(one.P, two.P), hilbert_distance(one.Q, two.Q))
        ratios.append(
            vanishing(f"Hilbert distance of the fixed points ({damping})", apart, rounding=rounding)
        )
    G = rng.standard_normal((steps, problems, m, n))
    unit: Scaling = "none" if fault == "unit-left-out" else "unit"
    moves = []
    for damping in get_args(Damping):
        plain, both = (run(X, gamma=0.0, mu=k, damping=damping) for X, k in ((G, mu), (c * G, scaled_mu)))
        ratios.append(_equal(f"gamma = 0, (c, c^2 mu), {damping}", both, plain))
        plain, both, alone = (
            run(X, gamma=0.9, mu=k, damping=damping) for X, k in ((G, mu), (c * G, c * c * mu), (c * G, mu))
        )
        moves += [_end_distance(both, plain), _end_distance(alone, plain)]
        plain, both = (run(X, gamma=0.9, mu=mu, damping=damping, factor_scaling=unit) for X in (G, c * G))
        ratios.append(_equal(f"gamma = 0.9, c alone, unit scaling, {damping}", both, plain))
    ratios.append(
        at_least("move at gamma = 0.9, by (c, c^2 mu) and by c alone", np.array(moves), VISIBLE, rounding=0.0)
    )
    return Finding(
        tuple(ratios),
        f"c = {c:g}: fixed points of 18 problems and {problems} runs of {steps} steps (3x5) at gamma = 0 "
        f"follow (c, c^2 mu); at gamma = 0.9 runs move by {np.min(moves):.1%} or more; unit scaling is "
        "exactly invariant",
        figures={"least_move": float(np.min(moves))},
    )


def _equal(name: str, got: Trajectory, want: Trajectory) -> Ratio:
    return same(name, got.updates, want.updates, budget=budget(got, want))


def _end_distance(got: Trajectory, want: Trajectory) -> Array:
    """Relative distance of the end points, per run."""
    ends = got.updates.sum(axis=0), want.updates.sum(axis=0)
    return np.linalg.norm(ends[0] - ends[1], axis=(-2, -1)) / np.linalg.norm(ends[1], axis=(-2, -1))


def _muon_bound(got: Trajectory, limit: Trajectory, g: Array, *, b: Array, n: int) -> Array:
    """Bound on the last update's distance from Muon's: Lemma D.2 and how far a polar factor can move."""
    d = (n - 1) * b / (2 * (1 - b) ** 1.5)
    product = (1 + d) ** 2
    lowest = sum(np.linalg.svd(path.M[-1], compute_uv=False)[:, -1] for path in (got, limit))
    return product * 2 / lowest * (product - 1) * g + (product - 1) * np.sqrt(n)

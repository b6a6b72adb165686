"""FISMO-T1-contraction and FISMO-T2-jacobi: how fast the two half-steps of Theorem 4.1 settle."""

from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import (
    diagonal_samples,
    exponential,
    gradients,
    spd,
    symmetric,
    symmetric_root,
    unit_coupling,
)
from proofs_checks.adversarial.search import portfolio
from proofs_checks.adversarial.verdicts import at_least, at_most, factor_rounding, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from reference.kronecker import (
    contraction_factor,
    coupling_bound,
    fixed_point,
    hilbert_distance,
    left_factor,
    right_factor,
)

__all__ = ["a_posteriori_bound", "contraction", "interleaved_chains"]

Array = NDArray[np.float64]
Method = Literal["gauss-seidel", "jacobi"]

#: Damping of the attacks, for gradients scaled to ``g_2 <= 1``: contraction factors 0.98, 0.83, 0.33.
_DAMPINGS = (0.01, 0.1, 1.0)

#: Hilbert distance between the two points of a contraction attack; the Birkhoff-Hopf factor is a supremum
#: that is approached as the points meet, so small distances attack hardest; 1e-2 keeps 14 digits of the
#: distance.
_SEPARATIONS = (0.01, 2.0)

#: What the best attack on a bound that is attained must reach.
_TIGHT = 0.999


@evidence(faults=("half-the-constant", "tenth-of-the-damping"), scope="region")
def contraction(*, fault: str | None = None) -> Finding:
    """Half-steps against Hilbert's metric: ``d(P*(Q1), P*(Q2)) <= c d(Q1, Q2)``, ``c = g_2 / (g_2 + 2 mu)``.

    The search runs over two samples of 2x2 gradients and two positive definite matrices; a second attack over
    random problems of every kind, both half-steps. g_2 enters as the largest ``E (x^T G y)^2`` found by
    alternating maximisation, which is at most g_2: an error there makes the test stricter, never laxer.
    Faults: c is halved; the half-step damps with mu / 10 while c is computed with mu.
    """
    rng = np.random.default_rng(20240602)
    ratios, evaluations = [], 0
    for mu in _DAMPINGS:
        for separation in _SEPARATIONS:
            attack = partial(_contraction, mu=mu, separation=separation, fault=fault)
            found = portfolio(attack, _seeds(), budget=300, restarts=20, rng=rng)
            evaluations += found.evaluations
            name = f"contraction over c, mu = {mu}, d(Q1, Q2) = {separation}"
            ratios.append(at_most(name, found.value, 1.0, rounding=_rounding(found.point, mu, separation)))
    problems = 90
    coupling, half_steps = _random_problems(rng, problems=problems, fault=fault)
    tightness = tightest(ratios + half_steps)
    reached = at_least("tightness of the attack", tightness, _TIGHT, rounding=0.0)
    return Finding(
        (*ratios, *half_steps, coupling, reached),
        f"worst contraction over g_2/(g_2 + 2 mu): {tightness} in {evaluations} searched problems (2x2) and "
        f"{4 * problems} half-steps of random ones (3x4), mu in {_DAMPINGS}; never above 1",
        figures={"evaluations": evaluations + 4 * problems},
        tightness=tightness,
    )


@evidence(faults=("one-power-too-many",), scope="region")
def a_posteriori_bound(*, fault: str | None = None) -> Finding:
    """The error bound that `fixed_point` returns covers the true Hilbert distance to the fixed point.

    Fault: the bound is multiplied by ``c^2``, as if the last distance had already been contracted once more.
    """
    rng = np.random.default_rng(20240603)
    sharp = np.broadcast_to(diagonal_samples(2), (4, 2, 2, 2))
    random = unit_coupling(gradients(rng, problems=27, samples=3, m=3, n=4))
    ratios = []
    for G, Q0 in ((sharp, _near_identity(4)), (random, spd(rng, 27, 4))):
        for mu in (0.1, 1.0):
            P0 = spd(rng, len(G), G.shape[-2]) if G is random else _near_identity(4)
            for method in get_args(Method):
                exact = fixed_point(G, mu=mu, method="gauss-seidel", tolerance=0.0)
                for tolerance in (1e-1, 1e-3, 1e-6):
                    got = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0, tolerance=tolerance)
                    bound = got.error_bound
                    if fault == "one-power-too-many":
                        bound = bound * contraction_factor(G, mu=mu) ** 2
                    rounding = factor_rounding(got.P, got.Q, steps=got.iterations)
                    name = f"distance to the fixed point, {method}, mu = {mu}, tolerance {tolerance:g}"
                    distance = hilbert_distance(got.Q, exact.Q)
                    if method == "jacobi":
                        distance = np.maximum(distance, hilbert_distance(got.P, exact.P))
                    ratios.append(at_most(name, distance, bound, rounding=rounding))
    tightness = tightest(ratios)
    return Finding(
        tuple(ratios),
        f"true distance over the a-posteriori bound at most {tightness} in {len(ratios)} stops of batches "
        "of 4 sharp and 27 random problems, Gauss-Seidel and Jacobi",
        tightness=tightness,
    )


@evidence(faults=("jacobi-sees-the-new-factor", "one-chain-only"), scope="region")
def interleaved_chains(*, fault: str | None = None) -> Finding:
    """Plain Jacobi is two Gauss-Seidel chains that never mix, each advancing every other step.

    On problems of every kind, stopped after every number of iterations: the even iterates of P must be the
    Gauss-Seidel iterates of the chain that starts from P0, the odd ones those of the chain that starts from
    Q0; hence the factor per step is the square root of Gauss-Seidel's per sweep.
    Faults: the iteration under test is Gauss-Seidel; both parities are compared with the chain from Q0.
    """
    rng = np.random.default_rng(20240604)
    mu, sweeps, problems = 0.1, 8, 36
    G = unit_coupling(gradients(rng, problems=problems, samples=3, m=4, n=3))
    P0, Q0 = spd(rng, problems, 4), spd(rng, problems, 3)
    method: Method = "gauss-seidel" if fault == "jacobi-sees-the-new-factor" else "jacobi"
    stops = range(1, 2 * sweeps + 1)
    runs = [
        fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0, tolerance=0.0, max_iterations=k) for k in stops
    ]
    from_P, from_Q = [P0], [left_factor(G, Q0, mu=mu)]
    for chain in (from_P, from_Q):
        for _ in range(sweeps):
            chain.append(left_factor(G, right_factor(G, chain[-1], mu=mu), mu=mu))
    if fault == "one-chain-only":
        from_P = [from_Q[0], *from_Q]
    expected = [(from_Q if k % 2 else from_P)[k // 2] for k in stops]
    apart = [hilbert_distance(run.P, P) for run, P in zip(runs, expected, strict=True)]
    rounding = factor_rounding(*expected, steps=2 * sweeps)
    sweep, step = _observed_factors([run.P for run in runs], from_Q)
    return Finding(
        (vanishing("Hilbert distance of Jacobi from its two chains", np.array(apart), rounding=rounding),),
        f"{problems} problems (4x3), {len(runs)} Jacobi iterates against two Gauss-Seidel chains: Hilbert "
        f"distance at most {np.max(apart):.1e}; observed factor per sweep {sweep.min():.3f} to "
        f"{sweep.max():.3f}, per Jacobi step {step.min():.3f} to {step.max():.3f} (its square root)",
        figures={"per sweep": float(sweep.max()), "per Jacobi step": float(step.max())},
    )


def _contraction(x: Array, *, mu: float, separation: float, fault: str | None) -> Array:
    """Contraction of the left half-step over its bound, for free coordinates ``(R, 14)``."""
    G, Q1, Q2 = _problem(x, separation)
    damping = mu / 10 if fault == "tenth-of-the-damping" else mu
    P1, P2 = left_factor(G, Q1, mu=damping), left_factor(G, Q2, mu=damping)
    g2 = _coupling_found(G)
    c = g2 / (g2 + 2 * mu)
    if fault == "half-the-constant":
        c = c / 2
    return hilbert_distance(P1, P2) / (c * separation)


def _problem(x: Array, separation: float) -> tuple[Array, Array, Array]:
    """Two 2x2 samples with ``E |G|_F^2 = 1`` and two positive definite 2x2 matrices at the given distance."""
    G = x[:, :8].reshape(-1, 2, 2, 2)
    G = G * np.sqrt(2) / np.linalg.norm(x[:, :8], axis=1)[:, None, None, None]
    root = symmetric_root(exponential(np.clip(symmetric(x[:, 8:11], 2), -2.0, 2.0)), power=0.5)
    S = symmetric(x[:, 11:], 2)
    w = np.linalg.eigvalsh(S)
    S = S * (separation / (w[:, -1] - w[:, 0]))[:, None, None]
    S = S - np.trace(S, axis1=1, axis2=2)[:, None, None] / 2 * np.eye(2)
    Q2 = root @ exponential(S) @ root
    return G, root @ root, (Q2 + Q2.mT) / 2


def _seeds() -> Array:
    """Samples on the diagonal, one sample, rank one, signs; the identity and a diagonal direction."""
    samples = [
        diagonal_samples(2),
        np.eye(2)[None].repeat(2, 0),
        np.ones((2, 2, 2)),
        np.stack([np.eye(2), np.eye(2)[::-1]]),
    ]
    directions = [np.array([1.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])]
    return np.array([np.concatenate([G.ravel(), np.zeros(3), S]) for G in samples for S in directions])


def _coupling_found(G: Array) -> Array:
    """Largest ``E (x^T G y)^2`` found by alternating maximisation over unit x and y: at most g_2."""
    n = G.shape[-1]
    starts = np.concatenate([np.eye(n), np.ones((1, n)), np.sign(np.arange(n) - 0.5)[None]])
    y = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    y = np.broadcast_to(y, (*G.shape[:-3], *y.shape))
    for _ in range(8):
        Gy = np.einsum("...kij,...sj->...ski", G, y)
        x = np.linalg.svd(Gy, full_matrices=False)[2][..., 0, :]
        xG = np.einsum("...kij,...si->...skj", G, x)
        _, s, V = np.linalg.svd(xG, full_matrices=False)
        y = V[..., 0, :]
    return (s[..., 0] ** 2 / G.shape[-3]).max(axis=-1)


def _rounding(x: Array, mu: float, separation: float) -> float:
    """Relative rounding error of the objective at one point."""
    G, Q1, Q2 = _problem(x[None], separation)
    P1, P2 = left_factor(G, Q1, mu=mu), left_factor(G, Q2, mu=mu)
    return factor_rounding(Q1, Q2, P1, P2, steps=2) / separation


def _random_problems(
    rng: np.random.Generator, *, problems: int, fault: str | None
) -> tuple[Ratio, list[Ratio]]:
    """The library's bound of g_2, and both half-steps against its factor, on problems of every kind."""
    G = unit_coupling(gradients(rng, problems=problems, samples=3, m=3, n=4))
    halved = 0.5 if fault == "half-the-constant" else 1.0
    rounding = factor_rounding(np.eye(3), np.eye(4))
    coupling = at_most("g_2 found", _coupling_found(G), coupling_bound(G), rounding=rounding)
    ratios = []
    for name, half_step, side in (("left", left_factor, 4), ("right", right_factor, 3)):
        X1, X2 = spd(rng, problems, side), spd(rng, problems, side)
        for mu in _DAMPINGS[1:]:
            damping = mu / 10 if fault == "tenth-of-the-damping" else mu
            Y1, Y2 = half_step(G, X1, mu=damping), half_step(G, X2, mu=damping)
            bound = halved * contraction_factor(G, mu=mu) * hilbert_distance(X1, X2)
            rounding = factor_rounding(X1, X2, Y1, Y2, steps=2)
            ratios.append(
                at_most(f"{name} half-step, mu = {mu}", hilbert_distance(Y1, Y2), bound, rounding=rounding)
            )
    return coupling, ratios


def _near_identity(count: int) -> Array:
    """Diagonal 2x2 matrices at Hilbert distances 0.2, 0.4, ... from the identity."""
    d = 0.1 * np.arange(1, count + 1)
    return np.stack([np.diag([np.exp(x), np.exp(-x)]) for x in d])


def _observed_factors(jacobi: list[Array], chain: list[Array]) -> tuple[Array, Array]:
    """Factor per Gauss-Seidel sweep, and per Jacobi step by the same chain's iterates, three sweeps in."""
    k = 3
    sweep = hilbert_distance(chain[k + 1], chain[k]) / hilbert_distance(chain[k], chain[k - 1])
    odd = jacobi[2 * k + 2], jacobi[2 * k], jacobi[2 * k - 2]  # iterates 2k + 3, 2k + 1, 2k - 1
    return sweep, np.sqrt(hilbert_distance(odd[0], odd[1]) / hilbert_distance(odd[1], odd[2]))

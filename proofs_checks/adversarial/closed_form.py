"""FISMO-T4.2: the closed-form step against feasible competitors, and its independence of the roots used."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import into_ball, orthogonal, spd, symmetric_root, with_spectrum
from proofs_checks.adversarial.search import portfolio
from proofs_checks.adversarial.verdicts import at_least, at_most, factor_rounding, same, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from reference.fismo import whiten
from reference.kronecker import fisher_lmo
from reference.polar import nuclear_norm, polar_factor

__all__ = ["any_root", "best_feasible_step"]

Array = NDArray[np.float64]

#: What the competitors must reach of the optimum, to count as an attack.
_TIGHT = 0.999

#: Radius of the trust region.
_RADIUS = 0.3


@evidence(faults=("frobenius-optimum", "muon-step", "roots-forgotten-outside"), scope="region")
def best_feasible_step(*, fault: str | None = None) -> Finding:
    """No feasible step beats ``-eta A Polar(A G C) C``, ``A = P^(-1/2)``, ``C = Q^(-1/2)``.

    Competitors fill the trust region ``|P^(1/2) X Q^(1/2)|_2 <= eta``: X is a whitened matrix of spectral
    norm at most eta, mapped back. Three problems (full rank, rank one, rank two of three) are searched; on
    random ones the step must be feasible with equality and have the value ``-eta |A G C|_*``.
    Faults: the claimed optimum is the Frobenius norm; the step ignores P and Q; it forgets the outer roots.
    """
    rng = np.random.default_rng(20240608)
    m, n = 3, 4
    spectra = np.array([[3.0, 1.0, 0.3], [2.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    G, P, Q = with_spectrum(rng, spectra, m, n), spd(rng, 3, m), spd(rng, 3, n)
    searched, evaluations = [], 0
    for k in range(len(G)):
        optimum = _claimed_optimum(G[k], P[k], Q[k], fault)
        roots = symmetric_root(P[k], power=-0.5), symmetric_root(Q[k], power=-0.5)

        def gain(
            x: Array, G: Array = G[k], roots: tuple[Array, Array] = roots, optimum: float = optimum
        ) -> Array:
            return -(G * _competitor(x, roots, m, n)).sum(axis=(-2, -1)) / optimum

        found = portfolio(gain, _seeds(m, n), budget=4000, restarts=8, rng=rng)
        evaluations += found.evaluations
        rounding = factor_rounding(P[k], Q[k])
        searched.append(
            at_most(
                f"gain over optimum, rank {np.count_nonzero(spectra[k])}", found.value, 1.0, rounding=rounding
            )
        )
    reached = [ratio.figures["left"] for ratio in searched]
    tightness = tightest(searched)
    problems = 200
    G = with_spectrum(
        rng, 10.0 ** rng.uniform(-3, 0, (problems, m)) * (rng.integers(0, 5, (problems, m)) > 0), m, n
    )
    P, Q = spd(rng, problems, m), spd(rng, problems, n)
    X = _step(G, P, Q, fault)
    whitened_step = symmetric_root(P, power=0.5) @ X @ symmetric_root(Q, power=0.5)
    length = np.linalg.norm(whitened_step, 2, axis=(-2, -1))
    value = (G * X).sum(axis=(-2, -1))
    dual = nuclear_norm(whiten(G, P, Q))
    moved = dual > 0
    rounding = factor_rounding(P, Q)
    return Finding(
        (
            *searched,
            at_least("tightness of every attack", np.array(reached), _TIGHT, rounding=0.0),
            vanishing("length of the step over eta, minus 1", length / _RADIUS - moved, rounding=rounding),
            vanishing("value + eta |whitened G|_*", value + _RADIUS * dual, rounding=rounding * dual),
        ),
        f"best of {evaluations} feasible competitors reaches {tightness} of the claimed optimum and never "
        f"more (3 problems, ranks 3, 1, 2); feasibility and value met on {problems} random problems (3x4)",
        figures={"evaluations": float(evaluations)},
        tightness=tightness,
    )


@evidence(faults=("transpose-forgotten", "symmetric-root-outside"), scope="region")
def any_root(*, fault: str | None = None) -> Finding:
    """Any roots ``S S^T = P``, ``K K^T = Q`` give the step ``-eta S^-T Polar(S^-1 G K^-T) K^-1``.

    Roots tried: Cholesky, and the symmetric root times a random rotation.
    Faults: ``S^-1`` outside in place of ``S^-T``; the symmetric root outside whatever was inside.
    """
    rng = np.random.default_rng(20240609)
    problems, m, n = 200, 3, 5
    G = with_spectrum(rng, rng.uniform(0.5, 1.0, (problems, m)), m, n)
    P, Q = spd(rng, problems, m), spd(rng, problems, n)
    want = fisher_lmo(G, P, Q, radius=_RADIUS)
    roots = {
        "Cholesky": (np.linalg.cholesky(P), np.linalg.cholesky(Q)),
        "rotated": (
            symmetric_root(P, power=0.5) @ orthogonal(rng, problems, m),
            symmetric_root(Q, power=0.5) @ orthogonal(rng, problems, n),
        ),
    }
    whitened = np.linalg.svd(whiten(G, P, Q), compute_uv=False)
    condition = float((whitened[..., 0] / whitened[..., -1]).max())
    budget = 2 * factor_rounding(P, Q) * condition * float(np.linalg.norm(want))
    ratios = []
    for name, (S, K) in roots.items():
        S_inv, K_inv = np.linalg.inv(S), np.linalg.inv(K)
        outside = S_inv if fault == "transpose-forgotten" else S_inv.mT
        if fault == "symmetric-root-outside":
            outside = symmetric_root(P, power=-0.5)
        X = -_RADIUS * outside @ polar_factor(S_inv @ G @ K_inv.mT) @ K_inv
        ratios.append(same(f"step with {name} roots against symmetric roots", X, want, budget=budget))
    apart = max(ratio.error for ratio in ratios) / float(np.linalg.norm(want))
    return Finding(
        tuple(ratios),
        f"{problems} problems (3x5), Cholesky and rotated roots: the steps differ by {apart:.1e} of their "
        "size",
        figures={"relative_difference": apart},
    )


def _step(G: Array, P: Array, Q: Array, fault: str | None) -> Array:
    """The step under test."""
    if fault == "muon-step":
        return -_RADIUS * polar_factor(G)
    if fault == "roots-forgotten-outside":
        return -_RADIUS * polar_factor(whiten(G, P, Q))
    return fisher_lmo(G, P, Q, radius=_RADIUS)


def _claimed_optimum(G: Array, P: Array, Q: Array, fault: str | None) -> float:
    whitened = whiten(G, P, Q)
    norm = np.linalg.norm(whitened) if fault == "frobenius-optimum" else nuclear_norm(whitened)
    return float(_RADIUS * norm)


def _competitor(x: Array, roots: tuple[Array, Array], m: int, n: int) -> Array:
    """Steps of whitened length at most eta, ``(R, m, n)``, from free coordinates ``(R, m n)``."""
    return _RADIUS * roots[0] @ into_ball(x.reshape(-1, m, n)) @ roots[1]


def _seeds(m: int, n: int) -> Array:
    """Zero, partial identities, signs, repeated rows, rank one."""
    ranks = [np.eye(m, n) * (np.arange(m) < k)[:, None] for k in range(m + 1)]
    signs = np.sign(np.sin(1.0 + np.arange(m * n))).reshape(m, n)
    return np.array(
        [*ranks, signs, np.ones((m, n)), -np.ones((m, n)), np.repeat(signs[:1], m, axis=0)]
    ).reshape(-1, m * n)

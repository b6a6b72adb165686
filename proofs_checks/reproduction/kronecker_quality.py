"""FISMO-MECH-kronecker: how good ``F = Q kron P`` is, layer type by layer type.

Blocks of `fisher_blocks`, damped by ``mu`` = 1 % of their mean eigenvalue. The factors are those of Theorem
4.1, which have the least log-det divergence of all Kronecker products. Divergences are per parameter. What
is asserted held for five starts of the networks.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.verdicts import at_least, at_most
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.reproduction.fisher_blocks import blocks, divergence, least_squares, log_det_optimal

__all__ = ["by_layer_type", "minibatch_statistics"]

Array = NDArray[np.float64]

#: Damping over the mean eigenvalue of the block.
_DAMPING = 1e-2

#: The factors' divergence is at most this part of the best diagonal's.
_LESS = 2 / 3

#: Relative error in the spectral norm that the factors exceed; by what they divide the condition at least.
_SPECTRAL, _CONDITION = 0.2, 3.0

#: Excess over the least divergence: at most, from means of 64 samples; at least, from means of 4096.
_SMALL_BATCHES, _LARGE_BATCHES = 1.25, 1.2


def _damped(F: Array) -> tuple[Array, float]:
    mu = _DAMPING * float(np.trace(F)) / len(F)
    return F + mu * np.eye(len(F)), mu


def _condition(X: Array, Y: Array) -> float:
    """Largest over smallest eigenvalue of ``Y^-1 X``."""
    lower = np.linalg.cholesky(Y)
    whitened = np.linalg.solve(lower, np.linalg.solve(lower, X).T)
    eigenvalues = np.linalg.eigvalsh((whitened + whitened.T) / 2)
    return float(eigenvalues[-1] / eigenvalues[0])


@cache
def _measured(fault: str | None) -> dict[str, dict[str, float]]:
    """Figures of every layer, for the exact Fisher block."""
    found = {}
    for name, block in blocks().items():
        X, mu = _damped(block.exact)
        P, Q = log_det_optimal(block.exact, block.shape, mu=mu)
        ordered = (Q, P) if fault == "factors-exchanged" else (P, Q)
        product: Array = np.kron(*ordered).astype(np.float64)
        if fault == "identity-factors":
            product = float(np.trace(X)) / len(X) * np.eye(len(X))
        nearest = np.kron(*least_squares(X, block.shape)).astype(np.float64)
        diagonal = np.diag(np.diag(X))
        size = np.linalg.norm(X, 2)
        found[name] = {
            "divergence": divergence(X, product),
            "divergence, diagonal": divergence(X, diagonal),
            "divergence, identity": divergence(X, float(np.trace(X)) / len(X) * np.eye(len(X))),
            "divergence, least squares": divergence(X, nearest),
            "spectral error": float(np.linalg.norm(X - product, 2) / size),
            "spectral error, least squares": float(np.linalg.norm(X - nearest, 2) / size),
            "spectral error, diagonal": float(np.linalg.norm(X - diagonal, 2) / size),
            "condition": float(np.linalg.cond(X)),
            "condition after": _condition(X, product),
        }
    return found


@evidence(faults=("factors-exchanged", "identity-factors"), scope="region", tier="full")
def by_layer_type(*, fault: str | None = None) -> Finding:
    """Theorem 4.1's factors against diagonal, identity and least squares, for the exact Fisher of each layer.

    In every layer type the log-det divergence is at most 2/3 of the best diagonal's and the factors divide
    the condition number by 3 or more; yet the relative error in the spectral norm is above 0.2, and above
    that of the Kronecker product nearest in the Frobenius norm.
    Faults: the factors in the wrong order; no factors.
    """
    found = _measured(fault)
    ratios: list[Ratio] = []
    for name, figure in found.items():
        ratios += [
            at_most(
                f"{name}: divergence",
                figure["divergence"],
                _LESS * figure["divergence, diagonal"],
                rounding=0.0,
            ),
            yes_no(
                f"{name}: diagonal between factors and identity",
                figure["divergence"] < figure["divergence, diagonal"] < figure["divergence, identity"],
            ),
            at_most(
                f"{name}: condition",
                figure["condition after"],
                figure["condition"] / _CONDITION,
                rounding=0.0,
            ),
            at_least(f"{name}: spectral error", figure["spectral error"], _SPECTRAL, rounding=0.0),
            at_least(
                f"{name}: spectral error over least squares",
                figure["spectral error"],
                figure["spectral error, least squares"],
                rounding=0.0,
            ),
        ]
    told = ", ".join(
        f"{name} {f['divergence']:.2f} ({f['divergence, diagonal']:.2f}, {f['spectral error']:.2f} to "
        f"{f['spectral error, least squares']:.2f})"
        for name, f in found.items()
    )
    return Finding(
        tuple(ratios),
        "divergence of Q kron P (of the best diagonal; spectral error, to that of least squares): " + told,
        figures={f"{name}: {key}": value for name, figure in found.items() for key, value in figure.items()},
    )


@evidence(faults=("large-batches", "sixteen-called-256"), scope="region", tier="full")
def minibatch_statistics(*, fault: str | None = None) -> Finding:
    """What mini-batches can know of the empirical Fisher's best factors.

    The factors from single gradients of 16, 64 and 256 samples come nearer with each; a batch of 256 is still
    above the least divergence. FISMO sees means over the batch, whose second moment is
    ``g g^T + (F - g g^T)/B``: averaged over many batches of 64 they give up at most a quarter, of 4096 a
    fifth or more, because the mean gradient then drowns F.
    Faults: means over 4096 where 64 are meant; 16 samples where 256 are.
    """
    ratios: list[Ratio] = []
    figures: dict[str, float] = {}
    for name, block in blocks().items():
        rng = np.random.default_rng(7)
        F, g = block.empirical, block.gradients.reshape(len(block.gradients), -1)
        least = _excess(F, F, block.shape)
        from_samples = {
            n: float(np.mean([_from_samples(g, F, block.shape, drawn, rng) for _ in range(_DRAWS)]))
            for n, drawn in zip(
                _COUNTS, _COUNTS if fault != "sixteen-called-256" else (16, 64, 16), strict=True
            )
        }
        means = {}
        for B in (64, 4096):
            large = 4096 if fault == "large-batches" else B
            mean = np.outer(g.mean(axis=0), g.mean(axis=0))
            means[B] = _excess(mean + (F - mean) / large, F, block.shape) / least
        falling = [from_samples[n] for n in _COUNTS]
        ratios += [
            yes_no(f"{name}: more samples, less divergence", falling == sorted(falling, reverse=True)),
            at_least(f"{name}: not yet the least", falling[-1], least, rounding=0.0),
            at_most(f"{name}: means over 64", means[64], _SMALL_BATCHES, rounding=0.0),
            at_least(f"{name}: means over 4096", means[4096], _LARGE_BATCHES, rounding=0.0),
        ]
        figures |= {f"{name}, {n} samples": value / least for n, value in from_samples.items()}
        figures |= {f"{name}, means over {B}": value for B, value in means.items()}

    def span(key: str) -> str:
        values = [value for name, value in figures.items() if name.endswith(key)]
        return f"{min(values):.2f} to {max(values):.2f}"

    return Finding(
        tuple(ratios),
        f"divergence over the least one, {len(blocks())} layers: single gradients of 16 samples "
        f"{span(', 16 samples')}, of 256 {span('256 samples')}; means over batches of 64 {span('over 64')}, "
        f"of 4096 {span('over 4096')}",
        figures=figures,
    )


#: Sample counts, and draws that a mean is over.
_COUNTS, _DRAWS = (16, 64, 256), 3


def _excess(estimate: Array, F: Array, shape: tuple[int, int]) -> float:
    """Divergence from the damped F to the factors of an `estimate`, at their best scale."""
    X, _ = _damped(F)
    P, Q = log_det_optimal(estimate, shape, mu=_DAMPING * float(np.trace(estimate)) / len(estimate))
    Y = np.kron(P, Q)
    return divergence(X, np.trace(np.linalg.solve(Y, X)) / len(X) * Y)


def _from_samples(g: Array, F: Array, shape: tuple[int, int], n: int, rng: np.random.Generator) -> float:
    chosen = g[rng.integers(0, len(g), n)]
    return _excess(chosen.T @ chosen / n, F, shape)

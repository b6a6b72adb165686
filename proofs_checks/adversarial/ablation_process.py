"""Factor processes that may leave the setting of the lemmas: other starts, dampings, sizes and scalings.

`reference.fismo.update_factors` refuses a damping that is not positive, so the update is written once more
here; where the reference accepts the arguments, a test compares the two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import symmetric_root

__all__ = ["Process", "drift", "extremes", "run", "skewed"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Process:
    """Factors along R runs, with what made them.

    Attributes
    ----------
    P : (T + 1, R, m, m) float64
    Q : (T + 1, R, n, n) float64
    G : (T, R, m, n) float64
    gamma, mu : float
    damping : {"algorithm", "theorem"}
    unit : bool
        Whether the gradients are scaled to entries of mean square one before they enter the factors.
    """

    P: Array
    Q: Array
    G: Array
    gamma: float
    mu: float
    damping: str
    unit: bool

    @property
    def standard_start(self) -> bool:
        """Whether both factors start from the identity."""
        return all(bool((factor[0] == np.eye(factor.shape[-1])).all()) for factor in (self.P, self.Q))

    @property
    def frobenius(self) -> Array:
        """Largest Frobenius norm of a gradient, ``(R,)``."""
        return np.linalg.norm(self.G, axis=(-2, -1)).max(axis=0)

    @property
    def spectral(self) -> Array:
        """Largest spectral norm of a gradient, ``(R,)``."""
        return np.linalg.norm(self.G, 2, axis=(-2, -1)).max(axis=0)


def run(
    C: Array,
    *,
    size: Array,
    steps: int,
    gamma: float,
    mu: float,
    damping: str = "algorithm",
    unit: bool = False,
    start: tuple[Array, Array] | None = None,
    jacobi: bool = False,
) -> Process:
    """Algorithm 1's factors under gradients aligned with their current eigenvectors.

    Parameters
    ----------
    C : (period, R, m, n) float64
        Coefficients in the eigenbases, eigenvalues ascending; scaled by `size` ``(R,)``.
    start : tuple of (m, m) and (n, n) float64, optional
        Default: identities.
    jacobi : bool
        Whether the new Q sees the old P; by default it sees the new one.
    """
    period, R, m, n = C.shape
    P0, Q0 = start or (np.eye(m), np.eye(n))
    P, Q = np.broadcast_to(P0, (R, m, m)), np.broadcast_to(Q0, (R, n, n))
    Ps: list[Array] = [P]
    Qs: list[Array] = [Q]
    Gs: list[Array] = []
    for t in range(steps):
        U, V = np.linalg.eigh(P)[1], np.linalg.eigh(Q)[1]
        G = size[:, None, None] * (U @ C[t % period] @ V.mT)
        old = P
        P = _updated(G, P, Q, gamma=gamma, mu=mu, damping=damping, unit=unit)
        Q = _updated(G.mT, Q, old if jacobi else P, gamma=gamma, mu=mu, damping=damping, unit=unit)
        for history, value in ((Ps, P), (Qs, Q), (Gs, G)):
            history.append(value)
    return Process(np.stack(Ps), np.stack(Qs), np.stack(Gs), gamma, mu, damping, unit)


def extremes(factor: Array) -> tuple[Array, Array]:
    """Smallest and largest eigenvalue along the runs after the start, ``(R,)`` each."""
    w = np.linalg.eigvalsh(factor[1:])
    return w[..., 0].min(axis=0), w[..., -1].max(axis=0)


def drift(factor: Array) -> Array:
    """``max_t |P_t - P_(t-1)|_2``, ``(R,)``."""
    moved: Array = np.linalg.norm(np.diff(factor, axis=0), 2, axis=(-2, -1)).max(axis=0)
    return moved


def skewed(side: int, *, low: float) -> Array:
    """A diagonal start of trace `side` with all eigenvalues `low` but one."""
    return np.diag([side - (side - 1) * low, *[low] * (side - 1)])


def _updated(G: Array, P: Array, Q: Array, *, gamma: float, mu: float, damping: str, unit: bool) -> Array:
    """The new P from the old one and the Q that whitens the data; for the new Q, transposed."""
    m, n = G.shape[-2:]
    if unit:
        norm = np.linalg.norm(G, axis=(-2, -1), keepdims=True)
        G = G * np.sqrt(m * n) / np.where(norm > 0, norm, 1.0)
    C = symmetric_root(Q, power=-0.5)
    Z = G @ C
    weight = (
        np.trace(C @ C, axis1=-2, axis2=-1) / n
        if damping == "theorem"
        else np.trace(P, axis1=-2, axis2=-1) / m
    )
    P_bar = gamma * P + (1 - gamma) * (Z @ Z.mT / n + mu * weight[:, None, None] * np.eye(m))
    P_bar = P_bar * m / np.trace(P_bar, axis1=-2, axis2=-1)[:, None, None]
    return (P_bar + P_bar.mT) / 2

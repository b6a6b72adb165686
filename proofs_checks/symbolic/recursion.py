"""The factor recursion of Algorithm 1 in exact rationals: no root is taken, so nothing is rounded."""

from collections.abc import Iterable, Iterator

from flint import fmpq

from proofs_checks.symbolic.exact import Exact, Number

__all__ = ["alternating_units", "factor_path", "factor_step"]


def factor_step(
    G: Exact,
    P: Exact,
    Q: Exact,
    *,
    gamma: Number,
    mu: Number,
    damping: str = "algorithm",
    order: str = "gauss-seidel",
) -> tuple[Exact, Exact]:
    """One update of ``P`` and ``Q`` by the gradient ``G`` (fismo.md section 5)."""
    m, n = P.rows, Q.rows
    P_new = _averaged(G @ (Q_inverse := Q.inverse()) @ G.T, P, Q_inverse, n, gamma, mu, damping)
    P_inverse = (P if order == "jacobi" else P_new).inverse()
    return P_new, _averaged(G.T @ P_inverse @ G, Q, P_inverse, m, gamma, mu, damping)


def _averaged(
    data: Exact, old: Exact, inverse: Exact, other: int, gamma: Number, mu: Number, damping: str
) -> Exact:
    """``gamma old + (1 - gamma)(data/other + damping)``, scaled to a trace equal to its size."""
    size = old.rows
    weight = mu * (old.trace() / size if damping == "algorithm" else inverse.trace() / other)
    fresh = fmpq(1, other) * data + weight * Exact.identity(size)
    mean = gamma * old + (1 - gamma) * fresh
    return (size / mean.trace()) * mean


def factor_path(
    gradients: Iterable[Exact],
    *,
    gamma: Number,
    mu: Number,
    damping: str = "algorithm",
    order: str = "gauss-seidel",
) -> Iterator[tuple[Exact, Exact]]:
    """``(P_t, Q_t)`` for t = 1, 2, ... from ``P_0 = I``, ``Q_0 = I``."""
    P, Q = None, None
    for G in gradients:
        if P is None or Q is None:
            P, Q = Exact.identity(G.rows), Exact.identity(G.cols)
        P, Q = factor_step(G, P, Q, gamma=gamma, mu=mu, damping=damping, order=order)
        yield P, Q


def alternating_units(size: Number, m: int, n: int, steps: int) -> list[Exact]:
    """``size e_1 f_1^T`` and ``size e_2 f_2^T`` in turn, the process that drives the bounds to equality."""
    return [
        Exact([[size if (i, j) == (t % 2, t % 2) else 0 for j in range(n)] for i in range(m)])
        for t in range(steps)
    ]

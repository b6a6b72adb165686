"""FISMO facts decided by exact rational instances, each small enough to re-check by hand."""

from collections.abc import Sequence

from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.factor_floors import positive_definite_floor
from proofs_checks.symbolic.recursion import factor_path, factor_step

__all__ = [
    "algorithm_fixed_point",
    "frame_matters",
    "gauss_seidel_not_transposable",
    "loss_scale",
    "theorem_not_implemented",
]

#: A law: probabilities and gradients.
Law = Sequence[tuple[fmpq, Exact]]

#: The common normalised fixed point of the two instances below, ``P = Q = diag(3/2, 1/2)``.
FACTOR = Exact.diagonal(fmpq(3, 2), fmpq(1, 2))


def unit_law(size: int, weights: Sequence[Sequence[fmpq]]) -> Law:
    """``size e_i f_j^T`` with probability ``weights[i][j]``: then ``E[G X G^T]`` is diagonal for diagonal
    ``X``."""
    rows, cols = len(weights), len(weights[0])
    return [
        (weights[i][j], Exact([[size if (i, j) == (a, b) else 0 for b in range(cols)] for a in range(rows)]))
        for i in range(rows)
        for j in range(cols)
    ]


def mean_statistic(law: Law, inverse: Exact, mu: fmpq, *, damping: str, left: bool) -> Exact:
    """``E[L]`` (or ``E[R]``), scaled to a trace equal to its size, at factors normalised in the same way."""
    data = [(p, G if left else G.T) for p, G in law]
    size, other = data[0][1].rows, data[0][1].cols
    total = mu * (inverse.trace() / other if damping == "theorem" else fmpq(1)) * Exact.identity(size)
    for p, G in data:
        total = total + (p / other) * (G @ inverse @ G.T)
    return (size / total.trace()) * total


def is_fixed(law: Law, mu: fmpq, *, damping: str) -> bool:
    """Whether ``P = Q = FACTOR`` is a fixed point of the normalised alternation."""
    inverse = FACTOR.inverse()
    return all(
        mean_statistic(law, inverse, mu, damping=damping, left=left) == FACTOR for left in (True, False)
    )


#: ``(a_ij + mu)/(p_i q_j) = 5`` with ``mu = 1`` and ``a`` 16 times the probabilities: Theorem 4.1's equations
#: hold at ``P = Q = FACTOR``.
THEOREM_LAW = unit_law(4, [[fmpq(41, 64), fmpq(11, 64)], [fmpq(11, 64), fmpq(1, 64)]])

#: With ``mu = 1`` the algorithm's equations hold at ``P = Q = FACTOR``: ``L`` has the diagonal
#: ``(6 * 2/3 + 5 * 2)/2 + 1 = 8`` and ``(5 * 2/3)/2 + 1 = 8/3``, ratio 3.
ALGORITHM_LAW = unit_law(4, [[fmpq(6, 16), fmpq(5, 16)], [fmpq(5, 16), fmpq(0)]])


@evidence(faults=("theorem-damping", "no-damping"), refutes=True)
def theorem_not_implemented(*, fault: str | None = None) -> Finding:
    """Algorithm 1 does not implement Theorem 4.1: a law at whose optimal factors the algorithm moves away.

    ``G = 4 e_i f_j^T`` with probabilities 41/64, 11/64, 11/64, 1/64 and ``mu = 1``. At
    ``P = Q = diag(3/2, 1/2)``: theorem damping ``tr(Q^-1)/2 = 4/3`` gives ``L = diag(45, 15)/6``,
    proportional to ``P``; the algorithm's damping 1 gives ``diag(43, 13)/6``, which is not.
    """
    mu = fmpq(0) if fault == "no-damping" else fmpq(1)
    printed = "theorem" if fault == "theorem-damping" else "algorithm"
    moved = mean_statistic(THEOREM_LAW, FACTOR.inverse(), mu, damping=printed, left=True)
    return Finding(
        (
            yes_no("Theorem 4.1 holds at diag(3/2, 1/2)", is_fixed(THEOREM_LAW, mu, damping="theorem")),
            yes_no("the algorithm moves away from it", not is_fixed(THEOREM_LAW, mu, damping=printed)),
            yes_no("to diag(43, 13)/28", moved == Exact.diagonal(fmpq(43, 28), fmpq(13, 28))),
        ),
        f"at Theorem 4.1's factors diag(3/2, 1/2) the printed mean update gives diag({moved.entries[0][0]}, "
        f"{moved.entries[1][1]})",
        counterexample={
            "G": "4 e_i f_j' with probability p_ij",
            "p": "41/64, 11/64; 11/64, 1/64",
            "mu": str(mu),
            "P = Q (Theorem 4.1, normalised)": str(FACTOR),
            "normalised E[L] with the printed damping": str(moved),
        },
    )


@evidence(faults=("laws-exchanged", "equality-at-twice-the-identity"), scope="region")
def algorithm_fixed_point(*, fault: str | None = None) -> Finding:
    """`algorithm` damping has its own fixed point and damps less; `theorem` damping has Theorem 4.1's.

    Two laws in rationals, each fixed at ``diag(3/2, 1/2)`` for one damping and not for the other. For all
    sizes ``tr(Q^-1)/n - 1`` is the square ``tr((Q - I) Q^-1 (Q - I))/n`` on normalised ``Q``: zero iff
    ``Q = I``.
    """
    own, other = (THEOREM_LAW, ALGORITHM_LAW) if fault == "laws-exchanged" else (ALGORITHM_LAW, THEOREM_LAW)
    floor_fault = "equal-at-twice-the-identity" if fault == "equality-at-twice-the-identity" else None
    mu = fmpq(1)
    return Finding(
        (
            yes_no("algorithm damping: fixed", is_fixed(own, mu, damping="algorithm")),
            yes_no("the same law, theorem damping: not fixed", not is_fixed(own, mu, damping="theorem")),
            yes_no("theorem damping: fixed", is_fixed(other, mu, damping="theorem")),
            yes_no(
                "the same law, algorithm damping: not fixed", not is_fixed(other, mu, damping="algorithm")
            ),
            yes_no(
                "probabilities sum to 1", all(sum((p for p, _ in law), fmpq(0)) == 1 for law in (own, other))
            ),
            *positive_definite_floor(fault=floor_fault).ratios,
        ),
        "two rational laws with fixed point diag(3/2, 1/2), one per damping; tr(Q^-1)/n - 1 is a square for "
        "all sizes",
    )


@evidence(faults=("jacobi-order", "square-gradient"))
def gauss_seidel_not_transposable(*, fault: str | None = None) -> Finding:
    """Gauss-Seidel order breaks the symmetry ``(W, P, Q) -> (W^T, Q, P)``.

    ``G = [2 0 0; 0 1 0]``, ``mu = 1``, ``gamma = 0``, one step from ``I``: ``P = diag(14, 8)/11`` and
    ``Q = 3/589 diag(288, 189, 112)``; for ``G^T`` the 2 x 2 factor is ``2/87 diag(49, 38)``. All is
    diagonal, so the step is ``1/sqrt(p_i q_i)``: its first entry squared is 6479/12096 against 957/1764.
    (One step on a square gradient is still symmetric, by orthogonal equivariance.)
    """
    order = "jacobi" if fault == "jacobi-order" else "gauss-seidel"
    cols = 2 if fault == "square-gradient" else 3
    G = Exact([[(2, 1)[i] if i == j else 0 for j in range(cols)] for i in range(2)])
    ((P, Q),) = factor_path([G], gamma=fmpq(0), mu=fmpq(1), order=order)
    ((Q_turned, P_turned),) = factor_path([G.T], gamma=fmpq(0), mu=fmpq(1), order=order)
    step = 1 / (P.entries[0][0] * Q.entries[0][0])
    turned = 1 / (P_turned.entries[0][0] * Q_turned.entries[0][0])
    return Finding(
        (
            yes_no("the factors differ", P_turned != P or Q_turned != Q),
            yes_no("the first entries of the two steps differ", step != turned),
        ),
        f"one step: squared first entry {step} for G against {turned} for its transpose",
        counterexample={"G": str(G), "mu": "1", "gamma": "0", "squared entries": f"{step}, {turned}"},
    )


def _row_direction(roots: Sequence[Exact], gradients: Sequence[Exact], *, whitened: bool) -> Exact:
    """Direction of the last step for ``1 x n`` gradients (``P = 1``), ``beta = 1/2``, roots ``K K^T = Q``.

    With momentum of whitened gradients, or whitening of the averaged raw gradient; the polar factor of a row
    is a positive multiple of it and does not turn it.
    """
    M = 0 * gradients[0]
    for K, G in zip(roots, gradients, strict=True):
        M = fmpq(1, 2) * M + fmpq(1, 2) * (G @ K.inverse().T if whitened else G)
    last = roots[-1].inverse()
    return (M if whitened else M @ last.T) @ last


def _parallel(a: Exact, b: Exact) -> bool:
    (x, y), (u, v) = a.entries[0], b.entries[0]
    return bool(x * v == y * u)


@evidence(faults=("constant-factors", "same-root-twice"), scope="region")
def frame_matters(*, fault: str | None = None) -> Finding:
    """With moving factors the order of whitening and averaging, and the choice of the root, change the step.

    ``1 x 2`` gradients ``4 u``, ``u = (5/13, 12/13)``, then ``(4, 0)``; ``mu = 1/3``, ``gamma = 0``,
    ``beta = 1/2``. Then ``Q_1 = (I + 48 u u^T)/25`` with symmetric root ``(I + 6 u u^T)/5`` and a rational
    Cholesky root, and ``Q_2 = diag(49, 1)/25``. The second step points in three different directions; with
    ``Q_2 = Q_1`` in one.
    """
    one = Exact.identity(2)
    u = Exact([[fmpq(5, 13)], [fmpq(12, 13)]])
    gradients = [4 * u.T, Exact([[4, 0]])]
    path = list(factor_path(gradients, gamma=fmpq(0), mu=fmpq(1, 3)))
    Q_1, Q_2 = (Q for _, Q in path)
    symmetric = fmpq(1, 5) * (one + 6 * (u @ u.T))
    corner = fmpq(37, 65)
    below = Q_1.entries[1][0] / corner
    cholesky = Exact([[corner, 0], [below, symmetric.determinant() / corner]])
    second = Exact.diagonal(fmpq(7, 5), fmpq(1, 5))
    other = symmetric if fault == "same-root-twice" else cholesky

    def directions(last: Exact, last_other: Exact) -> tuple[Exact, Exact, Exact]:
        return (
            _row_direction([symmetric, last], gradients, whitened=True),
            _row_direction([symmetric, last], gradients, whitened=False),
            _row_direction([other, last_other], gradients, whitened=True),
        )

    moving = directions(symmetric, other) if fault == "constant-factors" else directions(second, second)
    frozen = directions(symmetric, other)
    return Finding(
        (
            yes_no("the roots are roots", all(K @ K.T == Q_1 for K in (symmetric, cholesky))),
            yes_no("and of the second factor", second @ second.T == Q_2),
            yes_no("momentum of whitened is not whitening of momentum", not _parallel(moving[0], moving[1])),
            yes_no("the Cholesky root steps elsewhere", not _parallel(moving[0], moving[2])),
            yes_no("constant factors: one direction", all(_parallel(frozen[0], d) for d in frozen[1:])),
        ),
        f"second-step directions: symmetric ({moving[0]}), averaged first ({moving[1]}), Cholesky "
        f"({moving[2]})",
        counterexample={
            "gradients": "(20/13, 48/13), (4, 0)",
            "mu, gamma, beta": "1/3, 0, 1/2",
            "symmetric root of Q_1": str(symmetric),
            "Cholesky root of Q_1": str(cholesky),
        },
    )


@evidence(faults=("scale-one", "gamma-zero"), scope="region")
def loss_scale(*, fault: str | None = None) -> Finding:
    """As printed the factors depend on the loss scale; `unit` scaling removes it.

    ``G = diag(3, 4)``, ``mu = 1``, ``c = 2``. At ``gamma = 0`` scaling by ``c`` equals ``mu -> mu/c^2``; at
    ``gamma = 1/2`` it does not, because the forgetting weight changes too. ``|G|_F = 5`` is rational, so
    `unit` is exact: ``2 G/|G|_F``.
    """
    G, one = Exact.diagonal(fmpq(3), fmpq(4)), Exact.identity(2)
    c = fmpq(1 if fault == "scale-one" else 2)
    memory = fmpq(0) if fault == "gamma-zero" else fmpq(1, 2)

    def first(gradient: Exact, gamma: fmpq, mu: fmpq) -> tuple[Exact, Exact]:
        return factor_step(gradient, one, one, gamma=gamma, mu=mu)

    def unit(gradient: Exact) -> Exact:
        size = gradient.entries[0][0] * fmpq(5, 3)  # the Frobenius norm of a positive multiple of diag(3, 4)
        return (2 / size) * gradient

    mu = fmpq(1)
    return Finding(
        (
            yes_no("the scale changes the factors", first(c * G, memory, mu) != first(G, memory, mu)),
            yes_no("gamma = 0: c acts as mu/c^2", first(c * G, fmpq(0), mu) == first(G, fmpq(0), mu / c**2)),
            yes_no("gamma > 0: it does not", first(c * G, memory, mu) != first(G, memory, mu / c**2)),
            yes_no("unit: the norm is right", (unit(c * G).T @ unit(c * G)).trace() == 4),
            yes_no("unit: invariant", first(unit(c * G), memory, mu) == first(unit(G), memory, mu)),
        ),
        f"P_1 at scale 1: {first(G, memory, mu)[0]}; at scale {c}: {first(c * G, memory, mu)[0]}; unit "
        "scaling: equal",
        counterexample={"G": str(G), "c": str(c), "gamma": str(memory), "mu": "1"},
    )

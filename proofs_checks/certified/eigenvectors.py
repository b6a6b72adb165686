"""Guesses for `enclosures`: square roots and eigenvectors to any precision, from LAPACK's to 16 digits.

Nothing here is proved. A wrong result makes an enclosure wide or none, never false. Both iterations use
matrix products only; midpoints are cut off after every step, so that no radius builds up.

Symbols: N symmetric positive definite, K its root, V eigenvectors, s the roots of its eigenvalues; A
symmetric, S = V^T A V, R = I - V^T V.
"""

from itertools import pairwise

import numpy as np
from flint import arb, arb_mat, ctx
from numpy.typing import NDArray

__all__ = ["diagonal", "floats", "identity", "refined", "rounded_root"]

Array = NDArray[np.float64]

#: Newton steps of at least two bits each that use up any precision in use.
_STEPS = 200

#: Turns of eigenvectors: digits double in each, from a few to any precision in use, and clusters take more.
_TURNS = 16

#: The first of these turn within groups, too. LAPACK's rotations are orthogonal to 16 digits, and the turns
#: after them make up for it.
_BLOCK_TURNS = 4

#: Gaps of eigenvalues below this many times the off-diagonal part are not divided by.
_RESOLVED = 16

#: An iteration whose defect does not fall by this factor has reached the precision.
_GAIN = 4

_HALF = arb(0.5)


def floats(X: arb_mat) -> Array:
    """Midpoints, rounded."""
    return np.array([float(x.mid()) for x in X.entries()]).reshape(X.nrows(), X.ncols())


def identity(n: int) -> arb_mat:
    """The identity."""
    return diagonal([arb(1)] * n)


def diagonal(values: list[arb]) -> arb_mat:
    """A diagonal matrix."""
    n = len(values)
    return arb_mat(n, n, [values[i] if i == j else arb(0) for i in range(n) for j in range(n)])


def rounded_root(N: arb_mat, V: Array, s: Array) -> tuple[arb_mat, arb_mat]:
    """A symmetric K with exact entries near ``N^(1/2)``, and V as exact numbers.

    Newton's method for ``K^2 = N`` asks for X with ``K X + X K = N - K^2``. In the eigenvectors of K that is
    a division by ``s_i + s_j``; V is near enough to them that every step gains about as many digits as
    ``1e-16 kappa`` has, however close the eigenvalues are to each other.
    """
    n = N.nrows()
    basis = arb_mat(n, n, [arb(float(x)) for x in V.reshape(-1)])
    turned = basis.transpose()
    roots = [arb(float(x)) for x in s]
    weights = [1 / (a + b) for a in roots for b in roots]
    K = (basis * diagonal(roots) * turned).mid()
    last = None
    for _ in range(_STEPS):
        defect = (N - K * K).mid()
        size = _largest(defect)
        if last is not None and not _GAIN * size < last:
            break
        last = size
        inner = (turned * defect * basis).entries()
        X = arb_mat(n, n, [x * w for x, w in zip(inner, weights, strict=True)])
        K = (K + basis * X * turned).mid()
        K = ((K + K.transpose()) * _HALF).mid()
    return K, basis


def refined(A: arb_mat, V: Array) -> arb_mat:
    """Exact entries near orthonormal eigenvectors of A: ``V^T A V`` nearly diagonal, ``V^T V`` nearly I.

    Eigenvectors whose eigenvalues are apart are turned by the first-order step of Ogita and Aishima (2018).
    Those whose eigenvalues are too close for that, or agree to half the digits in use, are turned by LAPACK's
    eigenvectors of their own small block, whose common eigenvalue is taken out first so that what is left is
    seen in full.
    """
    n = A.nrows()
    basis = arb_mat(n, n, [arb(float(x)) for x in V.reshape(-1)])
    for k in range(_TURNS):
        S = (basis.transpose() * A * basis).mid()
        R = (identity(n) - basis.transpose() * basis).mid()
        values = [S[i, i] for i in range(n)]
        coupling = (S + R * diagonal(values)).mid()
        off = _largest(coupling - diagonal([coupling[i, i] for i in range(n)]))
        if off <= n * _ulp() * _largest(S) and _largest(R) <= n * _ulp():
            break
        groups = _groups(values, (_RESOLVED * n * off).max(_largest(S) * _ulp().sqrt()))
        basis = (basis * _turn(coupling, R, values, groups)).mid()
        if k < _BLOCK_TURNS:
            basis = (basis * _block_turns(S, R, groups)).mid()
    return basis


def _turn(coupling: arb_mat, R: arb_mat, values: list[arb], groups: list[list[int]]) -> arb_mat:
    """``I + E``: E_ij is the coupling over the gap, and within a group only restores orthonormality."""
    n = len(values)
    group = {i: g for g, members in enumerate(groups) for i in members}
    return arb_mat(
        n,
        n,
        [
            int(i == j) + R[i, j] * _HALF
            if group[i] == group[j]
            else coupling[i, j] / (values[j] - values[i])
            for i in range(n)
            for j in range(n)
        ],
    )


def _block_turns(S: arb_mat, R: arb_mat, groups: list[list[int]]) -> arb_mat:
    """Eigenvectors of the block ``V^T (A - c I) V`` of every group, c one of its values, by LAPACK."""
    turn, nothing = identity(S.nrows()), S.nrows() * _ulp() * _largest(S)
    for group in groups:
        centre = S[group[0], group[0]]
        shifted = [S[i, j] - centre * (int(i == j) - R[i, j]) for i in group for j in group]
        size = max(abs(x).mid() for x in shifted)
        if len(group) == 1 or size <= nothing:
            continue
        block = np.array([float((x / size).mid()) for x in shifted]).reshape(len(group), len(group))
        W = np.linalg.eigh(block)[1]
        for a, i in enumerate(group):
            for b, j in enumerate(group):
                turn[i, j] = arb(float(W[a, b]))
    return turn


def _groups(values: list[arb], gap: arb) -> list[list[int]]:
    """Indices, those with neighbouring values closer than `gap` together."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    groups = [order[:1]] if order else []
    for i, j in pairwise(order):
        if values[j] - values[i] > gap:
            groups.append([])
        groups[-1].append(j)
    return groups


def _ulp() -> arb:
    """One unit in the last place of the current precision."""
    return arb(2) ** (1 - ctx.prec)


def _largest(X: arb_mat) -> arb:
    """The largest entry in size, of exact entries."""
    return max((abs(x).mid() for x in X.entries()), default=arb(0))

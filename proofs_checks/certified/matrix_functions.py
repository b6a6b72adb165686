"""POLAR-, ROOT- and NORM-enclosure: the a-posteriori bounds against matrices whose answer is rational.

The matrices are ``M = Q H`` with a rational orthogonal Q and a rational symmetric positive definite H, so
that the polar factor, the inverse root of ``H^2`` and the norms are known exactly without any machinery.
"""

from collections.abc import Sequence

import numpy as np
from flint import arb, arb_mat, fmpq, fmpq_mat
from numpy.typing import NDArray

from proofs_checks.certified.balls import at_precision
from proofs_checks.certified.enclosures import (
    ACCURACY,
    MatrixBall,
    eigenvalues,
    frobenius,
    inverse_root,
    nuclear_norm,
    polar,
    singular_values,
    spectral_norm,
)
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no

__all__ = ["inverse_root_enclosures", "large_enclosures", "norm_enclosures", "polar_enclosures"]

Array = NDArray[np.float64]

#: Precision at which rational matrices become balls; results need `ACCURACY` bits.
_BITS = 512

#: By how much the guess K of the two inequalities misses H, relatively to its least eigenvalue.
_MISSES = (fmpq(1, 2), fmpq(1, 100), fmpq(1, 10**9))

#: Orthonormal rows of integers over one denominator: reflections ``I - 2 v v^T/v^T v``.
_NORMALS = ((1, 2, 2), (2, -1, 3, 1), (1, 1, -2, 3, 5))

#: Ratio of neighbouring eigenvalues of a graded H: condition 1e12 at the largest size, for H or for H^2.
_GRADED, _GRADED_SQUARED = 1000, 30


def _reflection(v: Sequence[int]) -> fmpq_mat:
    n, square = len(v), sum(x * x for x in v)
    return fmpq_mat(
        n, n, [fmpq(int(i == j)) - fmpq(2 * v[i] * v[j], square) for i in range(n) for j in range(n)]
    )


def _diagonal(values: Sequence[fmpq]) -> fmpq_mat:
    n = len(values)
    return fmpq_mat(n, n, [values[i] if i == j else fmpq(0) for i in range(n) for j in range(n)])


def _cases(graded: int = _GRADED) -> list[tuple[fmpq_mat, fmpq_mat, list[fmpq], fmpq_mat]]:
    """Q (n rows, or n + 1), H, its eigenvalues (mild, graded or repeated) and its eigenvectors."""
    cases = []
    for v in _NORMALS:
        n = len(v)
        turn = _reflection([1, *v[1:]][::-1])
        mild, steep = [fmpq(i + 1) for i in range(n)], [fmpq(1, graded**i) for i in range(n)]
        for values in (mild, steep, [fmpq(1 + i // 2, 3) for i in range(n)]):
            H = turn * _diagonal(values) * turn.transpose()
            tall = _reflection((*v, 2))
            columns = fmpq_mat(n + 1, n, [tall[i, j] for i in range(n + 1) for j in range(n)])
            cases += [(_reflection(v), H, values, turn), (columns, H, values, turn)]
    return cases


def _contained(ball: MatrixBall, exact: fmpq_mat) -> tuple[bool, float]:
    """Whether the ball may hold a matrix, and the distance from its midpoint in radii."""
    distance = frobenius(arb_mat(exact) - ball.midpoint)
    return bool(distance.lower() <= ball.radius), float((distance / ball.radius).upper())


@evidence(faults=("one-inverse-forgotten", "midpoint-off-by-2^-60", "wrong-isometry"), scope="region")
@at_precision(_BITS)
def polar_enclosures(*, fault: str | None = None) -> Finding:
    """The enclosure of the polar factor holds the rational one, and both inequalities hold for poor guesses.

    18 matrices ``Q H`` of 3 to 6 rows with condition up to 1e12: the exact Q lies in the ball, whose radius
    is at most ``2^-64``. For guesses K that miss H by up to half its least eigenvalue, the two bounds are
    compared with the exact distances.

    Faults: the second bound without its ``1/k``; a midpoint moved by more than the radius; the isometry of
    another matrix.
    """
    held, narrow, largest = True, True, arb(0)
    ratios: list[Ratio] = []
    cases = _cases()
    for Q, H, values, _ in cases:
        found = polar(arb_mat(Q * H))
        midpoint = found.midpoint
        if fault == "midpoint-off-by-2^-60":
            midpoint = midpoint + arb_mat(Q) * arb(2) ** -60
        exact = -1 * Q if fault == "wrong-isometry" else Q
        held &= _contained(MatrixBall(midpoint, found.radius, found.precision), exact)[0]
        narrow &= bool(found.radius <= arb(2) ** -ACCURACY)
        largest = largest.max(found.radius)
        ratios += _two_inequalities(Q, H, min(values), forgotten=fault == "one-inverse-forgotten")
    worst = max(ratios, key=lambda ratio: ratio.value)
    return Finding(
        (yes_no("every ball holds the exact factor", held), yes_no("radii at most 2^-64", narrow), *ratios),
        f"{len(cases)} rational matrices of condition up to 1e12: factor enclosed, radius at most "
        f"{float(largest):.1e}; both inequalities, {len(ratios)} instances, at most {worst.value:.3f} of the "
        "bound",
        figures={"largest radius": float(largest)},
        tightness=int(worst.value * 1000) / 1000,
    )


def _two_inequalities(Q: fmpq_mat, H: fmpq_mat, least: fmpq, *, forgotten: bool) -> list[Ratio]:
    """Left over right side of both, for guesses ``K = H + miss`` along a fixed symmetric direction."""
    n = H.nrows()
    M = Q * H
    ratios = []
    for miss in _MISSES:
        step = fmpq_mat(n, n, [least * miss * fmpq((-1) ** (i + j), n) for i in range(n) for j in range(n)])
        K = H + step
        k = eigenvalues(arb_mat(K))[0].lower()
        root = frobenius(arb_mat(H - K))
        second = (root if forgotten else root / k).lower()
        first = (frobenius(arb_mat(M.transpose() * M - K * K)) / k).lower()
        moved = frobenius(arb_mat(Q - M * K.inv()))
        ratios += [
            Ratio("|H - K|_F", float((root / first).upper()), 1.0),
            Ratio("|Q - M K^-1|_F", float((moved / second).upper()), 1.0),
        ]
    return ratios


@evidence(faults=("one-inverse-forgotten", "midpoint-off-by-2^-60"), scope="region")
@at_precision(_BITS)
def inverse_root_enclosures(*, fault: str | None = None) -> Finding:
    """The enclosure of ``P^(-1/2)`` holds the rational one, and its inequality holds for poor guesses.

    ``|H^-1 - K^-1|_F <= |P - K^2|_F/(k^2 (k - |P - K^2|_F/k))`` for ``P = H^2``, ``K >= k I > 0``, because
    ``H^-1 - K^-1 = H^-1 (K - H) K^-1`` and ``H >= (k - |H - K|) I``.
    Faults: one ``1/k`` is left out; a midpoint moved by more than the radius.
    """
    held, narrow, ratios = True, True, []
    cases = _cases(_GRADED_SQUARED)[::2]
    for _, H, values, turn in cases:
        found = inverse_root(arb_mat(H * H))
        exact, size = H.inv(), 1 / arb(min(values))
        midpoint = found.midpoint
        if fault == "midpoint-off-by-2^-60":
            midpoint = midpoint * (1 + arb(2) ** -60)
        held &= _contained(MatrixBall(midpoint, found.radius, found.precision), exact)[0]
        narrow &= bool(found.radius <= size * arb(2) ** -ACCURACY)
        for miss in _MISSES[1:]:
            least = values.index(min(values))
            step = [min(values) * miss * int(i == least) for i in range(len(values))]
            K = H + turn * _diagonal(step) * turn.transpose()
            k = arb(min(values))
            defect = frobenius(arb_mat(H * H - K * K)) / k
            bound = defect / (k - defect) / (1 if fault == "one-inverse-forgotten" else k)
            moved = frobenius(arb_mat(exact - K.inv()))
            if defect < k:  # else the bound says nothing
                ratios.append(Ratio("|H^-1 - K^-1|_F", float((moved / bound).upper()), 1.0))
    worst = max(ratios, key=lambda ratio: ratio.value)
    return Finding(
        (yes_no("every ball holds the exact root", held), yes_no("radii at most 2^-64", narrow), *ratios),
        f"{len(cases)} rational matrices of condition up to 7e11: root enclosed to 2^-64 of its norm; the "
        f"inequality on {len(ratios)} guesses, at most {worst.value:.3f} of its bound",
        tightness=int(worst.value * 1000) / 1000,
    )


@evidence(faults=("radius-dropped", "lapack-for-certified", "order-reversed"), scope="region")
@at_precision(_BITS)
def norm_enclosures(*, fault: str | None = None) -> Finding:
    """Eigenvalues, spectral and nuclear norm lie in narrow balls, also when they repeat or vanish.

    Rational matrices with known spectra, and Hilbert and Pascal matrices against the real roots of their
    characteristic polynomial, isolated by FLINT without any of this.
    Faults: the radii are dropped; LAPACK's numbers with the same radii; eigenvalues in descending order.
    """
    held, narrow, count = True, True, 0
    for A, exact in _symmetric_cases():
        found = eigenvalues(arb_mat(A))
        size = max(abs(x).upper() for x in found)
        narrow &= all(bool(x.rad() <= size * arb(2) ** -ACCURACY) for x in found)
        held &= _same(_spoilt(found, A, fault), exact)
        count += len(exact)
    for Q, H, values, _ in _cases():
        M = Q * H
        norms = (spectral_norm(arb_mat(M)), nuclear_norm(arb_mat(M)))
        held &= norms[0].contains(arb(max(values))) and norms[1].contains(arb(sum(values, fmpq(0))))
        count += 2
    deficient = np.outer([3.0, 0.0, 4.0], [1.0, 2.0, 2.0, 4.0])  # one singular value, 25
    s = singular_values(deficient)
    held &= s[-1].contains(25) and all(x.contains(0) for x in s[:-1])
    narrow &= all(bool(x.rad() <= s[-1] * arb(2) ** -ACCURACY) for x in s)
    return Finding(
        (yes_no("every ball holds the exact value", held), yes_no("every radius is narrow", narrow)),
        f"{count} eigenvalues and norms of matrices with known spectra, single, repeated, graded to 1e-12 "
        "and zero: enclosed to 2^-64 of the largest",
        figures={"values": float(count)},
    )


def _symmetric_cases() -> list[tuple[fmpq_mat, list[arb]]]:
    """Matrices with their eigenvalues, ascending, found in another way."""
    known = [(H, sorted((arb(x) for x in values), key=float)) for _, H, values, _ in _cases()[::2]]
    for A in (fmpq_mat.hilbert(6, 6), fmpq_mat(5, 5, [_pascal(i, j) for i in range(5) for j in range(5)])):
        roots = [root.real for root, _ in A.charpoly().numer().complex_roots()]
        known.append((A, sorted(roots, key=float)))
    return known


def _pascal(i: int, j: int) -> fmpq:
    return fmpq(1) if 0 in (i, j) else _pascal(i - 1, j) + _pascal(i, j - 1)


def _spoilt(found: list[arb], A: fmpq_mat, fault: str | None) -> list[arb]:
    if fault == "radius-dropped":
        return [x.mid() for x in found]
    if fault == "order-reversed":
        return found[::-1]
    if fault == "lapack-for-certified":
        values = np.linalg.eigvalsh(np.array([float(arb(x)) for x in A.entries()]).reshape(A.nrows(), -1))
        return [arb(float(value), x.rad()) for value, x in zip(values, found, strict=True)]
    return found


def _same(found: list[arb], exact: list[arb]) -> bool:
    return all(x.overlaps(y) for x, y in zip(found, exact, strict=True))


@evidence(faults=("target-beyond-the-input",), scope="region", tier="full")
def large_enclosures(*, fault: str | None = None) -> Finding:
    """Polar factor, inverse root and singular values at n = 64, and at n = 32 with condition 1e12.

    Float64 matrices with orthogonal factors from LAPACK, also 96 x 64 and 24 x 64.
    Fault: the entries become balls of relative radius ``2^-53``, from which nothing narrow can be proved.
    """
    rng = np.random.default_rng(20240701)
    radii: dict[str, float] = {}
    ratios = []
    for m, n, condition in ((64, 64, 1e4), (96, 64, 1e4), (24, 64, 1e6), (32, 32, 1e12)):
        s = np.geomspace(1.0, 1.0 / condition, min(m, n))
        M = (_orthonormal(rng, m, len(s)) * s) @ _orthonormal(rng, n, len(s)).T
        V = _orthonormal(rng, n, n)
        P = (V * np.geomspace(1.0, 1.0 / condition, n)) @ V.T
        inputs = [M, (P + P.T) / 2]
        if fault == "target-beyond-the-input":
            inputs = [_blurred(X) for X in inputs]
        for name, function, X in (("polar", polar, inputs[0]), ("root", inverse_root, inputs[1])):
            found = _attempted(function, X)
            radius = float("inf") if found is None else float(found.radius)
            size = 1.0 if name == "polar" else condition**0.5
            radii[f"{name} {m}x{n}"] = radius
            ratios.append(
                Ratio(f"radius, {name} {m}x{n}, condition {condition:g}", radius, size * 2.0**-ACCURACY)
            )
    return Finding(
        tuple(ratios),
        "radii " + ", ".join(f"{name} {radius:.0e}" for name, radius in radii.items()),
        figures=radii,
    )


def _orthonormal(rng: np.random.Generator, rows: int, cols: int) -> Array:
    return np.linalg.qr(rng.standard_normal((rows, cols)))[0]


def _blurred(X: Array) -> arb_mat:
    return arb_mat(*X.shape, [arb(float(x), abs(float(x)) * 2.0**-53) for x in X.reshape(-1)])


def _attempted(function: object, X: object) -> MatrixBall | None:
    try:
        return function(X)  # type: ignore[operator]
    except ArithmeticError:
        return None

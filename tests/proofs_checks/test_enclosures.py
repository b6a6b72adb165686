"""Enclosures of matrix functions: they contain, they are narrow, and they refuse rather than guess."""

import time

import numpy as np
import pytest
from flint import arb, arb_mat, ctx, fmpq, fmpq_mat
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.certified import eigenvectors, enclosures
from proofs_checks.certified.enclosures import (
    ACCURACY,
    MatrixBall,
    NoCertificate,
    eigenvalues,
    frobenius,
    inverse_root,
    nuclear_norm,
    polar,
    singular_values,
    spectral_norm,
)
from tests.strategies import known_polar

#: The relative radius that is promised.
UNIT = 2.0**-ACCURACY

#: Seconds that the largest supported size may take; measured 0.2.
PATIENCE = 2.0


def _orthonormal(rng, rows, cols):
    return np.linalg.qr(rng.standard_normal((rows, cols)))[0]


def _with_spectrum(m, n, s, seed=0):
    rng = np.random.default_rng(seed)
    return (_orthonormal(rng, m, len(s)) * s) @ _orthonormal(rng, n, len(s)).T


def _narrow(ball, size=1.0):
    return ball.radius <= size * UNIT


@pytest.mark.claim("POLAR-enclosure")
@given(known_polar(max_decades=10))
def test_a_polar_ball_is_narrow_and_its_midpoint_has_the_structure_of_a_polar_factor(case):
    M = case[0]
    ball = polar(M)
    assert _narrow(ball)
    with ctx.workprec(ball.precision):
        X, Q = arb_mat(*M.shape, [arb(float(x)) for x in M.reshape(-1)]), ball.midpoint
        if M.shape[0] < M.shape[1]:
            X, Q = X.transpose(), Q.transpose()
        gram, H = Q.transpose() * Q, Q.transpose() * X
        size = frobenius(X) + 1
        allowed = 3 * ball.radius * (frobenius(Q) + 1)
        assert frobenius(gram - enclosures.identity(Q.ncols())).lower() <= allowed
        turned = 2 * ball.radius * size
        assert frobenius(H - H.transpose()).lower() <= turned


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1)])
def test_the_polar_factor_of_an_isometry_times_a_number_is_the_isometry(shape):
    Q = np.eye(*shape)[::-1].copy()
    low, high = polar(0.375 * Q).distance(Q)
    allowed = 2 * UNIT
    assert low == 0
    assert high <= allowed


@pytest.mark.parametrize("exponent", [-990, -500, 500, 990])
def test_scale_does_not_matter(exponent):
    M = _with_spectrum(6, 4, np.geomspace(1, 1e-3, 4))
    ball, moved = polar(M), polar(np.ldexp(M, exponent))
    assert moved.distance(ball.midpoint)[0] <= ball.radius
    assert _narrow(moved)


@pytest.mark.claim("POLAR-enclosure")
@pytest.mark.parametrize(("m", "n", "condition"), [(64, 64, 1e4), (96, 64, 1e4), (32, 32, 1e12)])
def test_the_promised_sizes_take_less_than_two_seconds(m, n, condition):
    M = _with_spectrum(m, n, np.geomspace(1, 1 / condition, n))
    started = time.process_time()
    assert _narrow(polar(M))
    assert time.process_time() - started <= PATIENCE
    V = _orthonormal(np.random.default_rng(1), n, n)
    P = (V * np.geomspace(1, 1 / condition, n)) @ V.T
    started = time.process_time()
    inverse_root((P + P.T) / 2)
    assert time.process_time() - started <= PATIENCE


def test_a_wider_demand_is_met_with_more_bits():
    M = _with_spectrum(5, 5, np.geomspace(1, 1e-6, 5))
    bits = 500
    coarse, fine = polar(M), polar(M, accuracy=bits)
    both, allowed = coarse.radius + fine.radius, np.ldexp(1.0, -bits)
    assert fine.radius <= allowed
    assert fine.precision > coarse.precision
    assert fine.distance(coarse.midpoint)[0] <= both


@given(st.integers(1, 8), st.floats(0, 11), st.integers(0, 2**32 - 1))
def test_an_inverse_root_squares_to_the_inverse(n, decades, seed):
    V = _orthonormal(np.random.default_rng(seed), n, n)
    P = (V * np.geomspace(1, 10.0**-decades, n)) @ V.T
    P = (P + P.T) / 2
    ball = inverse_root(P)
    with ctx.workprec(ball.precision):
        X = ball.midpoint
        exact = arb_mat(n, n, [arb(float(x)) for x in P.reshape(-1)])
        # (X + E) P (X + E) = I with |E| <= radius
        moved = frobenius(exact) * ball.radius * (2 * frobenius(X) + ball.radius)
        assert frobenius(X * exact * X - enclosures.identity(n)).lower() <= moved
        assert X[0, n - 1].overlaps(X[n - 1, 0] + arb(0, 2 * ball.radius))


def test_balls_in_give_a_ball_for_every_matrix_in_them():
    M = _with_spectrum(5, 3, np.array([1.0, 0.5, 0.25]))
    blur = 2.0**-90
    found = polar(arb_mat(5, 3, [arb(float(x), blur) for x in M.reshape(-1)]))
    with ctx.workprec(found.precision):
        shifts = [arb(blur) * (-1) ** i for i in range(M.size)]
        moved = arb_mat(5, 3, [arb(float(x)) + d for x, d in zip(M.reshape(-1), shifts, strict=True)])
        inner = polar(moved, accuracy=100)
        assert frobenius(inner.midpoint - found.midpoint).lower() <= found.radius + inner.radius


def test_rank_deficiency_is_no_certificate_but_singular_values_do_not_mind():
    M = _with_spectrum(6, 4, np.array([1.0, 0.5, 0.25, 0.0]))
    with pytest.raises(
        NoCertificate, match=r"polar factor of a 6x4 matrix: rank-deficient to working precision"
    ):
        polar(M)
    with pytest.raises(NoCertificate, match="rank-deficient"):
        inverse_root(np.diag([1.0, 0.0]))
    s = singular_values(np.ones((5, 4)))
    assert all(x.contains(0) for x in s[:-1])
    with ctx.workprec(512):
        assert s[-1].contains(arb(20).sqrt())


def test_wide_balls_are_refused_with_the_radius_they_leave():
    M = _with_spectrum(4, 4, np.ones(4))
    wide = arb_mat(4, 4, [arb(float(x), 2.0**-40) for x in M.reshape(-1)])
    with pytest.raises(NoCertificate, match=r"the radius stays at \d"):
        polar(wide)
    with pytest.raises(NoCertificate, match="radius stays"):
        eigenvalues(wide * wide.transpose())


@pytest.mark.parametrize(
    ("function", "X", "message"),
    [
        (polar, np.ones(3), r"float64 matrix \(m, n\) is needed, got float64 of shape \(3,\)"),
        (polar, np.ones((2, 2), dtype=np.float32), "got float32"),
        (polar, np.array([[1.0, np.nan]]), "finite entries are needed, got 1 others"),
        (inverse_root, np.ones((2, 3)), r"P must be square, got shape \(2, 3\)"),
        (inverse_root, np.array([[2.0, 1.0], [1.0 + 2.0**-50, 2.0]]), "P must be exactly symmetric"),
        (eigenvalues, np.array([[0.0, 1.0], [0.0, 0.0]]), "A must be exactly symmetric"),
    ],
)
def test_bad_input_is_named(function, X, message):
    with pytest.raises(ValueError, match=message):
        function(X)


def test_empty_matrices_have_defined_results():
    for shape in ((0, 3), (3, 0), (0, 0)):
        M = np.zeros(shape)
        assert polar(M).radius == 0
        assert (polar(M).midpoint.nrows(), polar(M).midpoint.ncols()) == shape
        assert singular_values(M) == []
        assert spectral_norm(M) == nuclear_norm(M) == 0
    assert eigenvalues(np.zeros((0, 0))) == []
    assert inverse_root(np.zeros((0, 0))).radius == 0


@given(st.integers(2, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_eigenvalues_of_a_rational_similarity_are_found_with_their_multiplicities(n, different, seed):
    rng = np.random.default_rng(seed)
    v = rng.integers(1, 9, n)
    square = int(v @ v)
    turn = fmpq_mat(
        n, n, [fmpq(int(i == j)) - fmpq(2 * int(v[i] * v[j]), square) for i in range(n) for j in range(n)]
    )
    values = sorted(fmpq(int(rng.integers(-5, 6)), 1 + i % different) for i in range(n))
    spread = fmpq_mat(n, n, [values[i] if i == j else fmpq(0) for i in range(n) for j in range(n)])
    with ctx.workprec(512):
        found = eigenvalues(arb_mat(turn * spread * turn.transpose()))
        assert all(ball.contains(arb(value)) for ball, value in zip(found, values, strict=True))
        total = nuclear_norm(arb_mat(turn * spread))
        assert total.contains(arb(sum((abs(value) for value in values), fmpq(0))))


def test_a_cluster_that_float64_cannot_resolve_is_resolved():
    gaps = np.array([0.0, 1e-17, 3e-17, 1.0])
    s = singular_values(_with_spectrum(4, 4, 1.0 + gaps))
    allowed = 2 * UNIT
    assert all(x.rad() <= allowed for x in s)
    assert sum((x for x in s), arb(0)).overlaps(nuclear_norm(_with_spectrum(4, 4, 1.0 + gaps)))


def test_distance_is_from_the_ball_not_from_its_midpoint():
    ball = MatrixBall(arb_mat(1, 2, [3, 0]), arb(1), 128)
    low, high = ball.distance(np.array([[3.0, 4.0]]))
    assert (low, high) == (3, 5)
    inside = np.array([[3.0, 0.5]])
    assert ball.distance(inside)[0] == 0
    assert ball.entries[0, 1].contains(1)


def test_a_bad_guess_costs_the_certificate_and_never_its_truth(monkeypatch):
    M = _with_spectrum(4, 4, np.geomspace(1, 0.1, 4))
    truth = polar(M, accuracy=100)
    rooted = eigenvectors.rounded_root

    def spoilt(N, V, s):
        K, basis = rooted(N, V, s)
        return K * (1 + arb(2) ** -20), basis

    monkeypatch.setattr(enclosures, "rounded_root", spoilt)
    with pytest.raises(NoCertificate, match="radius stays"):
        polar(M)
    rough = polar(M, accuracy=4)
    assert rough.distance(truth.midpoint)[0] == 0
    monkeypatch.setattr(
        enclosures, "rounded_root", lambda N, V, s: (-1 * rooted(N, V, s)[0], rooted(N, V, s)[1])
    )
    with pytest.raises(NoCertificate, match="nothing was proved"):
        polar(M)


def test_precision_is_given_back():
    before = ctx.prec
    polar(np.eye(3))
    eigenvalues(np.eye(3))
    assert ctx.prec == before

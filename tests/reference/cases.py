"""What the tests of the reference share: budgets, printed numbers, read-only inputs, Kronecker problems."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from proofs_checks.ratios import Ratio, unit_roundoff
from tests.strategies import seeds

Array = NDArray[np.float64]

U64 = unit_roundoff("float64")

#: Roundings of one formula on matrices of side k, in units of ``k u``: a product costs 1, the orthogonal
#: transformations of a LAPACK decomposition 4; four of these make 16.
PER_FORMULA = 16

#: LAPACK's singular values are final once off-diagonals are below ``eps^(-1/8)`` u, that is 99 u (dbdsqr,
#: TOLMUL): for spectra with clusters the backward error really comes near this, whatever the size.
LAPACK_STOP = 99

#: Scales at which squares of the entries underflow, are harmless, and overflow: about 1e-300 to 1e300, and
#: powers of two, so that scaling an input does not change its digits.
SCALES = (2.0**-996, 2.0**-600, 1.0, 2.0**600, 2.0**996)

#: A budget must be positive also where the result is zero.
SMALLEST = float(np.finfo(np.float64).tiny)


def check(*ratios: Ratio) -> None:
    """Every acceptance decision must have been taken in favour."""
    assert ratios
    for ratio in ratios:
        assert ratio.passed, f"{ratio.value:.3g} times its budget: {ratio}"


def frozen(X: Array) -> Array:
    """`X`, in which any write raises: a function that modifies its argument cannot pass."""
    X.flags.writeable = False
    return X


def distance(name: str, got: Array, want: Array, *, budget: float) -> Ratio:
    """Frobenius distance over a budget; shapes must agree."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, not {want.shape}"
    return Ratio(name, float(np.linalg.norm((got - want).reshape(-1))), budget)


def printed(name: str, got: Array | float, digits: str | Sequence[str], *, rounding: float) -> Ratio:
    """Distance from printed numbers: half a unit in the last digit of each, plus `rounding`, relative."""
    texts = [digits] if isinstance(digits, str) else list(digits)
    want = np.array([float(text) for text in texts])
    half_unit = np.array([0.5 * 10.0 ** int(Decimal(text).as_tuple().exponent) for text in texts])
    error = np.abs(np.reshape(got, -1) - want)
    assert error.shape == want.shape, f"{name}: {error.size} numbers, not {want.size}"
    budget = half_unit + rounding * np.abs(want).max()
    worst = np.argmax(error / budget)
    return Ratio(name, float(error[worst]), float(budget[worst]))


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Random orthonormal columns."""
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def spd(rng: np.random.Generator, side: int, decades: float) -> Array:
    """A positive definite matrix of the given condition, exactly symmetric and read-only."""
    V = orthogonal(rng, side, side)
    X = (V * np.logspace(0.0, -decades, side)) @ V.T
    return frozen(0.5 * (X + X.T))


@st.composite
def kronecker_case(draw, *, max_decades: float = 3.0, max_side: int = 6, max_samples: int = 4):
    """Samples G, factors P and Q, damping mu and a generator."""
    rng = np.random.default_rng(draw(seeds))
    m, n = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    G = frozen(rng.standard_normal((draw(st.integers(1, max_samples)), m, n)))
    decades = st.floats(0.0, max_decades)
    mu = 10.0 ** draw(st.floats(-2.0, 1.0))
    return G, spd(rng, m, draw(decades)), spd(rng, n, draw(decades)), mu, rng


def kronecker_samples(U: Array, V: Array) -> Array:
    """``mn`` samples ``sqrt(mn U_i V_j) e_i e_j^T``, whose covariance is ``diag(V) kron diag(U)`` exactly."""
    m, n = len(U), len(V)
    samples = np.zeros((m, n, m, n))
    i, j = np.indices((m, n))
    samples[i, j, i, j] = np.sqrt(m * n * np.outer(U, V))
    return frozen(samples.reshape(m * n, m, n))


def size(X: Array) -> float:
    """Frobenius norm over all axes."""
    return float(np.linalg.norm(np.reshape(X, -1)))


def condition(P: Array) -> float:
    """Largest condition number in a batch of matrices."""
    return float(np.max(np.linalg.cond(P), initial=1.0))


def formula_budget(size: float, side: int, *conditions: float, formulas: int = 1) -> float:
    """``(99 + 16 k) u size`` per formula, times the sum of the conditions of what it inverts."""
    roundings = formulas * (LAPACK_STOP + PER_FORMULA * max(side, 1))
    return roundings * U64 * max(sum(conditions), 1.0) * max(size, SMALLEST)

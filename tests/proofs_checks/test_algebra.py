"""The two carriers of the proofs: rewriting rules against elimination, and what neither may accept."""

import inspect
import itertools

import numpy as np
import pytest
import sympy
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ledger.discovery import all_evidence
from proofs_checks.symbolic.algebra import STEP, Letter, Matrix, log_det, trace
from proofs_checks.symbolic.carriers import Numbers, Symbols
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.exact import Dual, Exact, rational
from proofs_checks.symbolic.networks import contract
from proofs_checks.symbolic.proof import prove

M, N = sympy.symbols("m n", positive=True, integer=True)


def letters(x):
    """One letter of every kind: general, symmetric, invertible, orthogonal, orthonormal columns, a vector."""
    return {
        "A": x.matrix("A", x.n, x.n),
        "S": x.symmetric("S", x.n),
        "P": x.positive("P", x.n),
        "K": x.invertible("K", x.n),
        "O": x.isometry("O", x.n, x.n),
        "U": x.isometry("U", x.d, x.n),
        "v": x.matrix("v", x.n, 1),
    }


#: Square factors of size n made from the letters: as they are, transposed, inverted, and two products.
FACTORS = {
    "A": lambda L: L["A"],
    "A'": lambda L: L["A"].T,
    "S": lambda L: L["S"],
    "P": lambda L: L["P"],
    "P^-1": lambda L: L["P"].inverse(),
    "K": lambda L: L["K"],
    "K^-1": lambda L: L["K"].inverse(),
    "K'": lambda L: L["K"].T,
    "K^-T": lambda L: L["K"].inverse().T,
    "O": lambda L: L["O"],
    "O'": lambda L: L["O"].T,
    "U'U": lambda L: L["U"].T @ L["U"],
    "vv'": lambda L: L["v"] @ L["v"].T,
}


def product(names, L):
    """The product of the named factors, folded from the left."""
    X = FACTORS[names[0]](L)
    for name in names[1:]:
        X = X @ FACTORS[name](L)
    return X


def value(X, L):
    """A symbolic polynomial evaluated in numbers: words letter by letter, traces from their names."""

    def factor(text):
        base = L[text.rstrip("'").removesuffix("^-1")]
        base = base.inverse() if "^-1" in text else base
        return base.T if text.endswith("'") else base

    def number(scalar):
        names = {s: s.name.removeprefix("tr(").removesuffix(")").split() for s in scalar.free_symbols}
        sizes = {s: fmpq(L["A"].rows) for s in scalar.free_symbols if s.name == "n"}
        total = fmpq(0)
        for term in sympy.Add.make_args(sympy.expand(scalar)):
            part = fmpq(1)
            for base, power in term.as_powers_dict().items():
                if base.is_Rational:
                    part *= fmpq(int(base.p), int(base.q)) ** int(power)
                elif base in sizes:
                    part *= sizes[base] ** int(power)
                else:
                    word = factor(names[base][0])
                    for text in names[base][1:]:
                        word = word @ factor(text)
                    part *= word.trace() ** int(power)
            total += part
        return total

    if not isinstance(X, Matrix):
        return number(sympy.sympify(X))
    total = 0 * Exact.identity(L["A"].rows)
    for word, coefficient in X.terms.items():
        term = Exact.identity(L["A"].rows)
        for letter in word:
            term = term @ factor(str(letter))
        total = total + number(sympy.sympify(coefficient)) * term
    return total


@given(st.lists(st.sampled_from(sorted(FACTORS)), min_size=1, max_size=6), st.integers(0, 50))
def test_normal_form_and_trace_keep_the_value_of_a_product(names, seed):
    x, y = Symbols(), Numbers(seed, 1, 2)
    X, L = product(names, letters(x)), letters(y)
    direct = product(names, L)
    assert value(X, L) == direct
    assert value(x.trace(X), L) == direct.trace()
    assert value(X.T, L) == direct.T


@given(st.lists(st.sampled_from(sorted(FACTORS)), min_size=1, max_size=5), st.data())
def test_a_trace_does_not_depend_on_rotation_or_transposition(names, data):
    x = Symbols()
    L = letters(x)
    turn = data.draw(st.integers(0, len(names) - 1))
    rotated = names[turn:] + names[:turn]
    assert sympy.expand(x.trace(product(names, L)) - x.trace(product(rotated, L))) == 0
    assert sympy.expand(x.trace(product(names, L)) - x.trace(product(names, L).T)) == 0


def test_cancellation_needs_the_declared_property():
    x = Symbols()
    L = letters(x)
    one = x.identity(x.n)
    assert x.vanishes(L["U"].T @ L["U"] - one)
    assert not x.vanishes(L["U"] @ L["U"].T - x.identity(x.d))
    assert x.vanishes(L["O"] @ L["O"].T - one)
    assert not x.vanishes(L["A"] - L["A"].T)
    assert not x.vanishes(L["A"] @ L["S"] - L["S"] @ L["A"])


def test_complementary_frames_annihilate_each_other_also_around_a_trace():
    x = Symbols()
    U, V = x.frames(("U", "V"), x.d, x.r, x.m)
    X = x.matrix("X", x.m, x.r)
    assert x.vanishes(U.T @ V)
    assert x.vanishes(x.trace(V @ X @ U.T))
    assert not x.vanishes(x.trace(V @ X @ U.T @ U @ X.T @ V.T))


@pytest.mark.parametrize(
    "make",
    [
        lambda A, B: A + B,
        lambda A, B: B @ B,
        lambda A, B: trace(B),
        lambda A, B: A.inverse(),
        lambda A, B: (A + A.T).inverse(),
        lambda A, B: log_det(A + A.T),
    ],
)
def test_wrong_shapes_and_undeclared_inverses_are_refused(make):
    A, B = Matrix.of(Letter("A", M, M)), Matrix.of(Letter("B", M, N))
    with pytest.raises(ValueError, match=r"shapes|sizes|square|invert|log det"):
        make(A, B)


def test_a_name_means_one_matrix():
    x = Symbols()
    x.matrix("A", x.m, x.n)
    with pytest.raises(ValueError, match="taken"):
        x.matrix("A", x.n, x.m)
    with pytest.raises(ValueError, match="identifier"):
        x.matrix("P^-1", x.m, x.m)


def test_slopes_that_matrix_calculus_packages_get_wrong():
    x = Symbols()
    A, E, one = x.matrix("A", x.n, x.n), x.matrix("E", x.n, x.n), x.identity(x.n)
    moved = A + STEP * E
    assert x.vanishes(x.slope(trace(moved) + trace(moved @ moved)) - (trace(E) + 2 * trace(A @ E)))
    assert x.vanishes(x.slope(trace(one - moved) ** 2) + 2 * trace(one - A) * trace(E))


def test_replacement_puts_a_polynomial_for_a_word():
    x = Symbols()
    Z, K = x.matrix("Z", x.d, x.r), x.positive("K", x.r)
    gram = 2 * (K - x.identity(x.r))
    got = (Z @ Z.T @ Z @ Z.T @ Z).replace(Z.T @ Z, gram)
    assert x.vanishes(got - Z @ gram @ gram)


# ---- exact matrices


@given(st.integers(0, 200), st.integers(1, 4))
def test_elimination_inverts_and_agrees_with_determinants(seed, size):
    x = Numbers(seed, size, size)
    A, B = x.invertible("A", x.m), x.positive("B", x.m)
    assert A @ A.inverse() == x.identity(x.m)
    assert (A @ B).determinant() == A.determinant() * B.determinant()


@given(st.integers(0, 200), st.integers(1, 4))
def test_semidefiniteness_agrees_with_the_construction(seed, size):
    x = Numbers(seed, size, size)
    A = x.matrix("A", x.m, 1)
    gram, one = A @ A.T, x.identity(x.m)
    assert gram.is_psd()
    assert not (gram - ((A.T @ A).trace() + 1) * one).is_psd()
    assert not (-1 * gram).is_psd()


def test_semidefiniteness_of_a_zero_pivot():
    assert Exact([[0, 0], [0, 1]]).is_psd()
    assert not Exact([[0, 1], [1, 5]]).is_psd()


def test_a_singular_matrix_is_refused():
    with pytest.raises(ValueError, match="singular"):
        Exact([[1, 1], [1, 1]]).inverse()


def test_dual_numbers_differentiate_division():
    t = Dual(fmpq(2), fmpq(1))
    f = (3 * t + 1) / (t * t - 1)
    assert f == Dual(fmpq(7, 3), fmpq(3 * 3 - 7 * 4, 9))
    complement = 1 - t
    assert complement == Dual(fmpq(-1), fmpq(-1))


def test_decimals_are_read_without_rounding():
    assert rational("-4.7750") == fmpq(-191, 40)
    assert rational("1/3") == fmpq(1, 3)
    assert rational(5) == fmpq(5)


@given(st.integers(0, 100))
def test_rotations_are_rotations(seed):
    x = Numbers(seed, 2, 3)
    U, V = x.frames(("U", "V"), x.e, x.r, 1)
    assert x.identity(x.r) == U.T @ U
    assert np.all([v == 0 for row in (U.T @ V).entries for v in row])


# ---- networks and cones


def test_a_network_with_a_loose_index_is_refused():
    x = Symbols()
    A = x.matrix("A", x.n, x.n)
    with pytest.raises(ValueError, match="index"):
        contract(x, [(A, "i", "j")])


@given(st.integers(0, 100))
def test_every_rule_of_the_cone_keeps_a_numeric_matrix_semidefinite(seed):
    x = Numbers(seed, 3, 2)
    F, c = x.matrix("F", x.m, x.n), Nonnegative.positive(x.scalar("c"))
    X = Psd.assumed(x, x.positive("X", x.n))
    made = [
        X.under(F),
        c * X,
        X + Psd.identity(x, x.n),
        X.below_trace(x.n),
        Psd.gram(x, F),
        (X.trace() / c) * Psd.identity(x, x.n),
    ]
    assert all(Y.value.is_psd() for Y in made)
    assert (c + X.trace()).strict
    assert not (c * X.trace()).strict


def test_division_by_something_that_may_be_zero_is_refused():
    zero = Nonnegative.assumed(sympy.Integer(0))
    with pytest.raises(ValueError, match="positive"):
        Nonnegative.positive(sympy.Integer(1)) / zero


# ---- proofs


def test_prove_sees_an_error_in_either_carrier():
    def wrong(x):
        A = x.matrix("A", x.m, x.m)
        return {"A = A'": (A, A.T), "A = A": (A, A)}

    ratios = {ratio.name: ratio for ratio in prove(wrong)}
    assert not ratios["A = A': normal form"].passed
    assert not ratios["A = A': exact rationals"].passed
    assert ratios["A = A: normal form"].passed


_FUNCTIONS = {path: f for path, f in all_evidence()[0].items() if path.startswith("symbolic.")}


@pytest.mark.parametrize(
    ("path", "fault"), [(path, fault) for path, f in _FUNCTIONS.items() for fault in (None, *f.faults)]
)
def test_symbols_and_numbers_give_the_same_verdict_on_every_equation(path, fault):
    ratios = {ratio.name: ratio.passed for ratio in _FUNCTIONS[path](fault=fault).ratios}
    for name, passed in ratios.items():
        if name.endswith(": normal form"):
            assert ratios[name.removesuffix("normal form") + "exact rationals"] == passed


@pytest.mark.parametrize("path", _FUNCTIONS)
def test_a_proof_tells_its_idea(path):
    assert len(inspect.getdoc(_FUNCTIONS[path]).splitlines()) >= 1
    findings = _FUNCTIONS[path]()
    quoted = [name for name in ("Birkhoff", "Chebyshev", "SVD") if name in inspect.getdoc(_FUNCTIONS[path])]
    for name, summary in itertools.product(quoted, [findings.summary]):
        assert name in summary, f"{path} quotes {name} and must name it as trusted"

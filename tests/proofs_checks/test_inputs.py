"""The matrices to check with are what their names say, in every format and shape."""

import numpy as np
import pytest
import torch
from hypothesis import given

from proofs_checks.inputs import (
    CONDITION,
    FORMATS,
    GAP,
    KINDS,
    MATRICES,
    SHAPES,
    from_spectrum,
    named_matrices,
    rounded,
)
from proofs_checks.ratios import recursion, unit_roundoff
from tests.strategies import (
    KnownPolar,
    KnownSPD,
    gradient_sequences,
    known_polar,
    known_spd,
    options,
    seeds,
    spectra,
)

DOUBLE = unit_roundoff("float64")

#: An SVD of a small matrix is exact to this many roundings of its largest entry; LAPACK stops at 99.
LAPACK = 128 * DOUBLE

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
formats = pytest.mark.parametrize("dtype", FORMATS)


def singular_values(A: np.ndarray) -> np.ndarray:
    return np.linalg.svd(A, compute_uv=False)


@shapes
@formats
def test_entries_are_finite_numbers_of_the_format_in_the_shape_asked_for(
    shape: tuple[int, int], dtype: str
) -> None:
    for name, A in named_matrices(*shape, seed=1, dtype=dtype).items():
        assert A.shape == shape, name
        assert A.dtype == np.float64, name
        assert np.isfinite(A).all(), name
        stored = torch.tensor(A).to(getattr(torch, dtype)).double().numpy()
        assert np.array_equal(stored, A), name


def test_the_same_seed_gives_the_same_matrices_and_another_seed_others() -> None:
    first, again, other = (named_matrices(5, 4, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    fixed = {"zero", "identity_like"}
    assert {name for name in first if np.array_equal(first[name], other[name])} == fixed


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="m and n must be non-negative"):
        named_matrices(-1, 2, seed=0)
    with pytest.raises(ValueError, match="dtype must be one of float64"):
        named_matrices(2, 2, seed=0, dtype="float8")
    for wrong in ([1.0], [1.0, -1.0], [1.0, np.nan], [[1.0, 1.0]]):
        with pytest.raises(ValueError, match="singular_values must be 2 finite non-negative"):
            from_spectrum(2, 3, wrong, rng=np.random.default_rng(0))


@shapes
def test_spectra_are_the_ones_named(shape: tuple[int, int]) -> None:
    r = min(shape)
    made = named_matrices(*shape, seed=2)
    wanted = {
        "zero": np.zeros(r),
        "identity_like": np.ones(r),
        "evenly_spaced": np.arange(r, 0, -1) / max(r, 1),
        "geometric": np.geomspace(1.0, 1.0 / CONDITION, r),
        "one_dominant": np.where(np.arange(r) == 0, 1.0, GAP),
    }
    for name, s in wanted.items():
        assert np.abs(singular_values(made[name]) - s).max(initial=0) <= LAPACK, name


def test_ranks_and_entries_are_the_ones_named() -> None:
    made = named_matrices(7, 6, seed=3)
    rank = np.linalg.matrix_rank
    assert rank(made["rank_deficient"]) == 3
    assert rank(made["repeated_rows"]) == 1
    assert (made["repeated_rows"] == made["repeated_rows"][0]).all()
    assert set(np.unique(made["signs"])) == {-1, 1}
    s = singular_values(made["low_rank_plus_noise"])
    noise = 10 * GAP
    assert s[1] <= noise * s[0]
    assert s[-1] > 0
    assert np.array_equal(rounded(made["exact_in_bfloat16"], "bfloat16"), made["exact_in_bfloat16"])
    assert not made["non_contiguous"].flags.contiguous


@pytest.mark.parametrize("dtype", [name for name in FORMATS if name != "float16"])
def test_extreme_scales_underflow_and_overflow_when_squared(dtype: str) -> None:
    made = named_matrices(4, 4, seed=4, dtype=dtype)
    info = torch.finfo(getattr(torch, dtype))
    small, large = made["near_underflow"], made["near_overflow"]
    assert small.any()
    assert np.abs(small).max() < info.tiny / info.eps
    assert np.abs(large).max() <= info.max
    for A, lost in ((small, 0.0), (large, np.inf)):
        squared = torch.tensor(A).to(getattr(torch, dtype)).square().sum().item()
        assert squared == lost


@given(seeds)
def test_rounding_to_a_format_is_torchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.integers(-160, 130, 50))
    # Numbers that float32 holds, so that torch's way to bfloat16 by float32 rounds once, as we do.
    x = rounded(rng.standard_normal(50) * scale, "float32")
    for dtype in FORMATS:
        assert np.array_equal(rounded(x, dtype), torch.tensor(x).to(getattr(torch, dtype)).double().numpy())


def test_the_collection_has_every_kind_and_every_shape_and_cannot_be_changed() -> None:
    names = set(named_matrices(1, 1, seed=0))
    assert set(KINDS) < names
    assert {name.split()[0] for name in MATRICES} == names
    assert {name.split(maxsplit=1)[1] for name in MATRICES} == set(SHAPES)
    for name, A in MATRICES.items():
        assert A.shape == SHAPES[name.split(maxsplit=1)[1]]
        with pytest.raises(ValueError, match="read-only"):
            A[...] = 0.0


# The strategies that build on them


@given(known_polar(max_decades=3.0, deficient=True))
def test_known_polar_factors_satisfy_their_definition(case: KnownPolar) -> None:
    H = case.Q.T @ case.M
    tolerance = LAPACK * len(case.s)
    assert np.abs(H - H.T).max() <= tolerance
    assert np.linalg.eigvalsh((H + H.T) / 2).min() >= -tolerance
    assert np.abs(case.Q @ H - case.M).max() <= tolerance
    kept = (case.s > 0).astype(float)
    assert np.abs(singular_values(case.Q) - kept).max() <= tolerance
    assert case.rank == np.count_nonzero(case.s)
    assert case.rank == 0 or case.condition == case.s[0] / case.s[case.rank - 1]


@given(known_spd(max_decades=3.0))
def test_known_spd_matrices_have_their_spectrum_and_powers(case: KnownSPD) -> None:
    assert np.array_equal(case.A, case.A.T)
    tolerance = LAPACK * case.eigenvalues[0]
    assert np.abs(np.linalg.eigvalsh(case.A)[::-1] - case.eigenvalues).max() <= tolerance
    first = case.power(1)
    assert np.abs(first - case.A).max() <= tolerance


@given(spectra(5, max_decades=2.0, zeros=True))
def test_spectra_descend_within_their_decades(s: np.ndarray) -> None:
    smallest = 10.0**-2.0 * (1.0 - LAPACK)
    assert (np.diff(s) <= 0).all()
    assert s.shape == (5,)
    assert all(value == 0 or smallest <= value <= 1 for value in s)


@given(gradient_sequences(max_length=3, max_side=4))
def test_gradient_sequences_are_finite_stacks_of_matrices(G: np.ndarray) -> None:
    assert G.ndim == 3
    assert np.isfinite(G).all()
    assert recursion(G, G, np.abs(G), operations=1, u=DOUBLE).passed


@given(options({"damping": ("algorithm", "theorem"), "order": ["jacobi"]}))
def test_options_are_keyword_arguments(chosen: dict[str, str]) -> None:
    assert set(chosen) == {"damping", "order"}
    assert chosen["damping"] in ("algorithm", "theorem")
    assert chosen["order"] == "jacobi"

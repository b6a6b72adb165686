"""Every known fault applies to today's source, changes what is computed, and the checks find and name it."""

import functools

import numpy as np
import pytest

from proofs_checks.conformance import SPECS, CheckStatus, Level, adafisher_cases
from proofs_checks.conformance.findings import Finder
from proofs_checks.conformance.manifest import plan
from proofs_checks.conformance.run import execute
from proofs_checks.mutants import (
    Mutant,
    adafisher,
    fismo,
    mutated,
    planted_adafisher,
    planted_fismo,
    planted_muon,
    planted_sofim,
    sofim,
)
from proofs_checks.mutants import muon as muon_faults

#: Planted fault -> the check that isolates the equation it breaks, and the known fault it behaves like.
FISMO = {
    "stale-left": ("order", "stale-left"),
    "right-divisor": ("right-factor", "right-divisor"),
    "left-divisor": ("left-factor", "left-divisor"),
    "left-one-sided": ("damping", "left-one-sided"),
    "right-one-sided": ("order", "right-one-sided"),
    "left-damping-dropped": ("left-factor", "left-damping-dropped"),
    "right-damping-dropped": ("right-factor", "right-damping-dropped"),
    "left-damping-doubled": ("left-factor", "left-damping-doubled"),
    "gamma-swapped": ("averaging", "left-gamma-swapped"),
    "trace-missing": ("normalisation", "left-trace-missing"),
    "power-one": ("whitening", "power-one"),
    "power-quarter": ("whitening", "power-quarter"),
    "triangular-root": ("equivariance", "triangular-root"),
    "cholesky-root": ("whitened-momentum", "cholesky-root"),
    "stale-whitening": ("whitening", "stale-whitening"),
    "unwhitening-left-missing": ("whitening", "unwhitening-left-missing"),
    "unwhitening-right-missing": ("whitening", "unwhitening-right-missing"),
    "unwhitening-missing": ("whitening", "unwhitening-missing"),
    "momentum-missing": ("momentum", "momentum-missing"),
    "momentum-undamped": ("momentum", "momentum-undamped"),
    "momentum-raw": ("whitened-momentum", "momentum-raw"),
    "sign": ("polar", "sign"),
    "not-orthogonalised": ("polar", "not-orthogonalised"),
}
SOFIM = {
    "norm-per-layer": ("global-norm", "norm-per-parameter"),
    "norm-not-squared": ("direction", "norm-not-squared"),
    "norm-of-raw-momentum": ("direction", "norm-of-raw-momentum"),
    "rho-missing": ("regularisation", "rho-missing"),
    "norm-missing": ("direction", "norm-missing"),
    "bias-correction-missing": ("bias-correction", "bias-correction-missing"),
    "bias-correction-late": ("bias-correction", "bias-correction-late"),
    "momentum-missing": ("momentum", "momentum-forgotten"),
    "momentum-swapped": ("momentum", "momentum-swapped"),
    "equation-6": ("cancellation", None),  # right in exact arithmetic: no fault of the equations
    "sign": ("direction", "sign"),
}
MUON = {
    "buffer-normalised": ("momentum", "buffer-normalised"),
    "momentum-missing": ("momentum", "momentum-missing"),
    "momentum-swapped": ("momentum", "momentum-swapped"),
    "momentum-undamped": ("momentum", "momentum-undamped"),
    "nesterov-missing": ("momentum.nesterov", "nesterov-missing"),
    "nesterov-double": ("momentum.nesterov", "nesterov-double"),
    "four-steps": ("iteration.steps", None),  # fewer than asked for, not four
    "spectral-norm": ("iteration.dense", "spectral-norm"),
    "wrong-gram": ("iteration.support", None),
    "cubic-dropped": ("iteration.small-singular-values", None),  # diverges
    "scale-inverted": ("shape-factor", "scale-inverted"),
    "scale-missing": ("shape-factor", "scale-missing"),
    "decay-missing": ("weight-decay", "decay-missing"),
    "decay-without-lr": ("weight-decay", "decay-without-lr"),
    "decay-after": ("weight-decay", "decay-after"),
    "decay-coupled": (
        "weight-decay",
        None,
    ),  # mixes directions: the faulty bfloat16 run has no entrywise budget
    "sign": ("descent", "sign"),
}
ADAFISHER = {
    "root": ("denominator", "root"),
    "sign": ("range", "sign"),
    "transposed": ("denominator", "transposed"),
    "lam-inside": ("damping", "lam-inside"),
    "lam-doubled": ("damping", "lam-doubled"),
    "minmax-missing": ("loss-scale.2^-10", "minmax-missing"),
    "minimum-kept": ("constant-factor", "minimum-kept"),
    "epsilon-absolute": ("loss-scale.2^-10", "epsilon-absolute"),
    "constant-one": ("constant-factor", "constant-one"),
    "bias-left-out": ("bias", "bias-left-out"),
    "inputs-summed": ("bias", "inputs-summed"),
    "rows-summed": ("average", "rows-summed"),
    "absolute-values": ("denominator", "absolute-values"),
    "last-call": ("accumulation", "last-call"),
    "gamma-on-new": ("average", "gamma-exchanged"),
    "average-missing": ("average", "average-missing"),
    "from-ones": ("average", "initial-exchanged"),
    "refresh-ignored": ("refresh", "refresh-ignored"),
    "normalised-twice": ("order", "normalised-twice"),
    "evaluation-counted": ("evaluation", "evaluation-counted"),
    "rows-kept": ("average", None),  # how many rows of which steps is a fault of its own
    "layer-skipped": ("layer.embedding", None),  # a layer that stands still
    "momentum-missing": ("momentum", "momentum-forgotten"),
    "momentum-swapped": ("momentum", "momentum-swapped"),
    "momentum-of-steps": ("momentum-order", "momentum-of-steps"),
    "bias-correction-missing": ("bias-correction", "bias-correction-missing"),
    "decay-coupled": ("weight-decay", "decay-coupled"),
    "decay-missing": ("weight-decay", "decay-missing"),
    "norm-shift": ("layer.layer-norm", "shift-scaled"),
}
PLANTED = {
    "fismo": planted_fismo.PLANTED,
    "sofim": planted_sofim.PLANTED,
    "adafisher": planted_adafisher.PLANTED,
    "muon": planted_muon.PLANTED,
}
EXPECTED = {"fismo": FISMO, "sofim": SOFIM, "adafisher": ADAFISHER, "muon": MUON}
KNOWN = {
    "fismo": fismo.REFERENCE_FAULTS,
    "sofim": sofim.REFERENCE_FAULTS,
    "adafisher": adafisher.REFERENCE_FAULTS,
    "muon": muon_faults.REFERENCE_FAULTS,
}
MANY = {"fismo": 15, "sofim": 8, "adafisher": 12, "muon": 8}


def faulty(spec: str, mutant: Mutant):
    """The optimizer class with the fault in it."""
    if spec == "fismo":
        return mutated(mutant, dependents=["torch_impl.optim.fismo"]).FISMO
    return getattr(mutated(mutant), {"sofim": "SOFIM", "adafisher": "AdaFisher", "muon": "Muon"}[spec])


def lines(spec: str, target, *, dtype: str = "float32", only: str | None = None):
    manifest = plan(target, spec, options={}, rename={}, level="L2", device="cpu", dtype=dtype, seed=0)
    return [line for line in manifest.lines if only is None or line.check.id == only]


@functools.cache
def unchanged(spec: str):
    return {
        "fismo": "torch_impl:FISMO",
        "sofim": "torch_impl:SOFIM",
        "adafisher": "proofs_checks.mutants.small_adafisher:AdaFisher",
        "muon": "proofs_checks.mutants.small_muon:Muon",
    }[spec]


@pytest.mark.parametrize("spec", SPECS)
def test_there_are_many_known_faults_each_with_an_equation_and_a_description(spec):
    faults = KNOWN[spec]
    assert len(faults) >= MANY[spec]
    assert len({m.id for m in faults}) == len(faults)
    assert all(m.equation and m.description and m.id.startswith(f"{spec}.") for m in faults)
    assert [m.id.partition(".")[2] for m in PLANTED[spec]] == list(EXPECTED[spec])


@pytest.mark.parametrize("spec", SPECS)
def test_every_known_fault_of_the_reference_changes_a_trajectory(spec):
    """In at least one variant: a fault may be another variant's rule."""
    variants = [{}, {"order": "jacobi"}] if spec == "fismo" else [{}]
    benches = [
        line.bench
        for options in variants
        for line in plan(
            unchanged(spec),
            spec,
            options=options,
            rename={},
            level="L0",
            device="cpu",
            dtype="float64",
            seed=0,
        ).lines
    ]
    benches = list({str(b.setting): b for b in benches}.values())
    held = SPECS[spec]
    original = __import__(held.module, fromlist=["step"])
    for mutant in held.faults:
        module = mutated(mutant)
        assert any(differs(held, original, module, bench) for bench in benches), mutant.id


def differs(held, original, module, bench) -> bool:
    for case in [*held.fingerprints(bench), *layers(held, bench)]:
        right = held.simulate(original, case, bench.setting)
        try:
            with np.errstate(all="ignore"):
                wrong = held.simulate(module, case, bench.setting)
        except (ValueError, np.linalg.LinAlgError):
            return True
        if any(not np.array_equal(a, b) for a, b in zip(right, wrong, strict=True)):
            return True
    return False


def layers(held, bench):
    """Kinds of layers whose faults are told from the failing input itself."""
    kinds = ("conv2d", "conv2d-grouped", "layer-norm") if held.model else ()
    return [
        next(adafisher_cases.layers_of(kind, bench, bench.rng(f"{held.name}.layer.{kind}"))) for kind in kinds
    ]


@pytest.mark.parametrize(
    ("spec", "mutant"),
    [pytest.param(spec, mutant, id=mutant.id) for spec, faults in PLANTED.items() for mutant in faults],
)
def test_a_planted_fault_is_found_by_the_check_of_its_equation_and_named(spec, mutant):
    check, likeness = EXPECTED[spec][mutant.id.partition(".")[2]]
    dtype = "bfloat16" if mutant.id == "torch-muon.buffer-normalised" else "float32"
    finder = Finder(seconds=0.0)
    found = [
        execute(line, finder)
        for line in lines(spec, faulty(spec, mutant), dtype=dtype, only=f"{spec}.{check}")
    ]
    failed = [record for record in found if record.status is CheckStatus.FAILED]
    assert failed, f"{mutant.id} survived {spec}.{check}"
    for record in failed:
        assert record.message.startswith(f"violated: {record.equation}")
        behaves = f"behaves like {spec}.{likeness}: "
        assert (
            record.nearest_mutant is None if likeness is None else record.nearest_mutant.startswith(behaves)
        )


@pytest.mark.parametrize(
    ("spec", "mutant"),
    [
        pytest.param(spec, mutant, id=mutant.id)
        for spec, changes in (
            ("fismo", planted_fismo.EQUIVALENT),
            ("adafisher", planted_adafisher.EQUIVALENT),
        )
        for mutant in changes
    ],
)
def test_a_change_that_leaves_every_step_as_it_is_is_not_reported(spec, mutant):
    finder = Finder(seconds=0.0)
    found = [execute(line, finder) for line in lines(spec, faulty(spec, mutant))]
    found = [record for record in found if "the target refuses torch.nn" not in record.message]
    assert {record.status for record in found} == {CheckStatus.PASSED}


@pytest.mark.parametrize("name", ["stale-left", "unwhitening-right-missing"])
def test_a_fault_is_killed_by_two_independent_checks_beside_the_trajectory(name):
    mutant = next(m for m in planted_fismo.PLANTED if m.id.endswith(name))
    finder = Finder(seconds=0.0)
    found = [execute(line, finder) for line in lines("fismo", faulty("fismo", mutant))]
    failed = {record.id.partition("[")[0] for record in found if record.status is CheckStatus.FAILED}
    assert {record.level for record in found if record.status is CheckStatus.FAILED} >= {
        Level.GOLDEN,
        Level.INVARIANTS,
    }
    assert len(failed - {"fismo.trajectory", "fismo.golden"}) > 1


def test_a_substitution_must_match_exactly_once():
    for old in ("not in the source", "return"):
        with pytest.raises(ValueError, match="must occur once"):
            mutated(Mutant("x", "reference.fismo", old, "pass", "e", "d"))
    with pytest.raises(ValueError, match="must occur once"):
        mutated(Mutant("x", "reference.fismo", "jacobi = choice", "jacobi = choice", "e", "d"))


def test_nothing_is_left_of_a_mutant_in_the_import_system():
    import reference
    import reference.sofim as original

    mutant = sofim.REFERENCE_FAULTS[0]
    module = mutated(mutant)
    assert module is not original
    assert reference.sofim is original
    with pytest.raises(SyntaxError):
        mutated(Mutant("x", "reference.sofim", "M = beta * state.M", "M = (", "e", "d"))
    assert __import__("sys").modules["reference.sofim"] is original

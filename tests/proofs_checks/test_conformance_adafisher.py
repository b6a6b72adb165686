"""Verdicts on AdaFisher: correct implementations pass in every precision, others are told what they do."""

import subprocess
import sys
import textwrap
import warnings

import pytest
import torch

from proofs_checks.conformance import SPECS, CheckStatus, UsageError, run_check
from proofs_checks.conformance.findings import Finder
from proofs_checks.conformance.manifest import plan
from proofs_checks.conformance.run import execute
from proofs_checks.mutants import mutated, planted_adafisher
from proofs_checks.mutants.small_adafisher import AdaFisher
from tests.proofs_checks.summing_adafisher import SummingAdaFisher

FAILED, IDLE = CheckStatus.FAILED, CheckStatus.NOT_APPLICABLE
OURS, DECOUPLED = "torch_impl:AdaFisher", "torch_impl:AdaFisherW"


def check(target, *, dtype="float32", options=None, **how):
    return run_check(target, "adafisher", dtype=dtype, options=options, **how)


def records(target, *checks, dtype="float32", options=None, seconds=0.0):
    """Only these checks, by name, with so much time to make counterexamples smaller."""
    how = {"options": options or {}, "rename": {}, "level": "L2", "device": "cpu", "seed": 0}
    lines = plan(target, "adafisher", dtype=dtype, **how).lines
    finder = Finder(seconds=seconds)
    with warnings.catch_warnings():  # as `run_check` has it
        warnings.simplefilter("ignore")
        done = {line.check.id: execute(line, finder) for line in lines if line.check.id in checks}
    assert set(done) == set(checks)
    return [done[check_id] for check_id in checks]


def name(record):
    return record.id.partition("[")[0]


def failures(report):
    return [f"{record.id}: {record.message}" for record in report.checks if record.status is FAILED]


def idle(report):
    return [f"{record.id}: {record.message}" for record in report.checks if record.status is IDLE]


# ---- correct implementations pass


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_our_optimizer_conforms_in_every_precision_and_no_check_is_idle(dtype):
    report = check(OURS, dtype=dtype)
    assert report.variant["precision"] == "float32"  # their promise, from the preset
    assert failures(report) == []
    assert idle(report) == []
    assert {name(record) for record in report.checks} == {
        line.id for line in SPECS["adafisher"].checks if line.level in ("L0", "L1", "L2")
    }


@pytest.mark.parametrize(
    ("seed", "dtype", "options"),
    [(0, "float64", {}), (1, "float32", {}), (2, "bfloat16", {"precision": "float64"}), (3, "float16", {})],
)
def test_an_implementation_written_otherwise_passes(seed, dtype, options):
    report = check(SummingAdaFisher, seed=seed, dtype=dtype, options=options)
    assert failures(report) == []
    assert all("leave the range of float16" in line for line in idle(report))


def test_an_implementation_of_few_layers_passes_and_the_others_do_not_apply():
    report = check(AdaFisher)
    assert failures(report) == []
    kinds = {name(record) for record in report.checks if record.status is IDLE}
    assert kinds == {
        f"adafisher.layer.{kind}"
        for kind in ("conv1d", "conv2d", "conv2d-grouped", "conv3d", "batch-norm", "group-norm", "rms-norm")
    }
    assert all("ValueError: no factors for" in line for line in idle(report))


STEPS = ("reference.adafisher:step", "torch_impl.adafisher:step")
VARIANTS = (
    {"normalise": "before"},
    {"gamma_on": "new"},
    {"initial": "ones"},
    {"initial": "ones", "normalise": "before", "gamma_on": "new"},
    {"epsilon": "0.125"},
    {"epsilon": "1e-6", "relative": "False"},
)


@pytest.mark.claim("ADAF-average")
@pytest.mark.parametrize(
    ("target", "options"),
    [*((OURS, options) for options in VARIANTS), *((step, VARIANTS[k]) for step in STEPS for k in (3, 5))],
)
def test_every_variant_conforms_as_declared(target, options):
    report = check(target, dtype="float64", options=options)
    assert failures(report) == []


@pytest.mark.claim("ADAF-legacy")
@pytest.mark.parametrize(
    ("target", "decay"),
    [(OURS, "coupled"), (DECOUPLED, "decoupled"), ("reference.adafisher:step", "decoupled")],
)
def test_the_released_averaging_conforms_with_the_decay_of_its_class(target, decay):
    options = {"averaging": "released", "decay": decay}
    assert failures(check(target, dtype="float64", options=options)) == []


@pytest.mark.parametrize("target", STEPS)
def test_pure_step_functions_conform(target):
    report = check(target, dtype=None if target.startswith("torch") else "float64")
    assert failures(report) == []
    assert all("a pure step function" in line for line in idle(report))
    assert "adafisher.trajectory" in {name(r) for r in report.checks if r.status is CheckStatus.PASSED}


# ---- another variant than declared is named


def variant(**chosen):
    """Our optimizer with a variant built in that the caller does not know of."""
    from torch_impl import AdaFisher as Ours

    def make(model, lr, *, beta, gamma, lam, weight_decay=0.0, refresh=1, params=None):
        options = {"beta": beta, "gamma": gamma, "lam": lam, "weight_decay": weight_decay, "refresh": refresh}
        return Ours(model, lr, params=params, **options, **chosen)

    return make


@pytest.mark.claim("ADAF-average")
@pytest.mark.parametrize(
    ("chosen", "likeness", "says"),
    [
        ({"normalise": "before"}, "order-exchanged", "normalise=before"),
        ({"gamma_on": "new"}, "gamma-exchanged", "gamma_on=new"),
        ({"initial": "ones"}, "initial-exchanged", "initial=ones"),
    ],
)
def test_a_variant_that_was_not_declared_is_reported_by_name(chosen, likeness, says):
    asked = ("adafisher.average", "adafisher.golden", "adafisher.order")
    for record in records(variant(**chosen), *asked, dtype="float64"):
        assert record.status is FAILED
        assert record.nearest_mutant.startswith(f"behaves like adafisher.{likeness}: ")
        assert says in record.nearest_mutant
    for record in records(variant(**chosen), *asked, dtype="float64", options=chosen):
        assert record.status is CheckStatus.PASSED


@pytest.mark.claim("ADAF-legacy")
def test_the_released_optimizer_is_reported_as_such():
    options = {"averaging": "released"}
    average, record = records(
        OURS, "adafisher.average", "adafisher.weight-decay", dtype="float64", options=options
    )
    assert average.status is CheckStatus.PASSED
    assert record.status is FAILED
    assert "decay=coupled, the released AdaFisher without W" in record.nearest_mutant


@pytest.mark.claim("ADAF-minmax-epsilon")
def test_an_absolute_epsilon_is_found_where_gradients_are_quiet():
    (record,) = records(variant(epsilon=1e-6, relative=False), "adafisher.loss-scale.2^-10")
    assert record.status is FAILED
    assert "epsilon=1e-6 relative=False" in record.nearest_mutant
    assert record.ratio is not None
    assert not record.ratio <= record.threshold


# ---- failures are small and stand alone


def faulty(fault):
    return mutated(next(m for m in planted_adafisher.PLANTED if m.id.endswith(f".{fault}"))).AdaFisher


@pytest.mark.parametrize(
    ("fault", "check_id", "steps"),
    [
        ("root", "adafisher.denominator", 1),
        ("bias-left-out", "adafisher.bias", 1),
        ("gamma-on-new", "adafisher.average", 2),
        ("momentum-missing", "adafisher.momentum", 2),
        ("decay-coupled", "adafisher.weight-decay", 1),
        ("last-call", "adafisher.accumulation", 1),
    ],
)
def test_a_counterexample_is_as_small_as_the_fault_allows(fault, check_id, steps):
    (record,) = records(faulty(fault), check_id, seconds=60.0)
    inputs = record.counterexample.inputs
    assert len(inputs["steps"]) == steps
    assert inputs["layer"].startswith("torch.nn.Linear(in_features=")
    sides = len(range(3))
    for call in [call for calls in inputs["steps"] for call in calls]:
        rows = (*call["h"], *call["s"])
        assert len(call["h"]) <= sides
        assert all(len(row) <= sides for row in rows)
        assert all(float.fromhex(x) == float.fromhex(x) for row in rows for x in row)


WRONG = """
    from proofs_checks.mutants import mutated, planted_adafisher
    from reference import adafisher

    def fault(name):
        return mutated(next(m for m in planted_adafisher.PLANTED if m.id.endswith("." + name))).AdaFisher

    Gamma, Evaluation, Decay = fault("gamma-on-new"), fault("evaluation-counted"), fault("decay-coupled")
    Shift, Skipped = fault("norm-shift"), fault("layer-skipped")
    init = adafisher.init

    def step(G, state, *, beta, gamma, lam, refresh, weight_decay=0.0, W=None, h_D=None, s_D=None):
        factors = {"h_D": h_D, "s_D": s_D, "refresh": refresh}
        decay = {"weight_decay": 2 * weight_decay, "W": W}
        return adafisher.step(G, state, beta=beta, gamma=gamma, lam=lam, **factors, **decay)

    class Breaking(Gamma):
        def step(self, closure=None):
            raise RuntimeError("broken")
"""


@pytest.mark.parametrize(
    ("attribute", "check_id"),
    [
        ("Gamma", "adafisher.average"),
        ("Gamma", "adafisher.golden"),
        ("Evaluation", "adafisher.evaluation"),  # calls of several kinds
        ("Decay", "adafisher.weight-decay"),  # a start
        ("Shift", "adafisher.layer.layer-norm"),
        ("Skipped", "adafisher.layer.embedding"),
        ("step", "adafisher.weight-decay"),  # a step function
        ("Breaking", "adafisher.momentum"),  # nothing to compare
    ],
)
def test_every_kind_of_script_runs_alone_and_ends_with_an_error(tmp_path, attribute, check_id):
    path = tmp_path / "wrong_adafisher.py"
    path.write_text(textwrap.dedent(WRONG), encoding="utf-8")
    (record,) = records(
        f"{path}:{attribute}", check_id, dtype="float64" if attribute == "step" else "float32"
    )
    assert record.status is FAILED
    script = record.counterexample.script
    assert "fisherproof" not in script
    assert "proofs_checks" not in script
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    namespace = {"__name__": "__main__"}
    with pytest.raises((SystemExit, RuntimeError)) as ended:
        exec(compile(script, "script.py", "exec"), namespace)
    assert str(ended.value) == ("broken" if attribute == "Breaking" else "True")


# ---- what is asked of everyone who takes a model


class StandsStill(AdaFisher):
    """Skips what it has no factors for, and layer normalisation with it."""

    def __init__(self, model, lr=1e-3, **hp):
        kept = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Embedding)]
        spare = torch.nn.ModuleList(kept or [torch.nn.Linear(1, 1)])
        super().__init__(spare, lr, **hp)


class MovesTheFrozen(AdaFisher):
    def __init__(self, model, lr=1e-3, **hp):
        super().__init__(model, lr, **hp)
        self.everything = list(model.parameters())

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for p in self.everything:
            if not p.requires_grad:
                p.add_(1.0)
        return loss


class TurnsGradients(AdaFisher):
    def watch(self, module, inputs, output):
        super().watch(module, inputs, output)
        if output.requires_grad:
            output.register_hook(lambda s: 2.0 * s)


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        (StandsStill, {"every-parameter", "unknown-layer"}),
        (MovesTheFrozen, {"frozen"}),
        (TurnsGradients, {"transparent"}),
    ],
)
def test_each_check_of_the_model_fails_its_control(target, broken):
    report = check(target, level="L0")
    found = {name(r).removeprefix("adafisher.contract.") for r in report.checks if r.status is FAILED}
    assert broken <= found
    own = {"every-parameter", "unknown-layer", "frozen", "transparent"}
    assert found & own == broken


def test_a_target_without_params_cannot_be_asked_about_groups():
    def make(model, lr, *, beta, gamma, lam):
        return AdaFisher(model, lr, beta=beta, gamma=gamma, lam=lam)

    report = check(make, level="L0")
    assert failures(report) == []
    assert idle(report) == [
        "adafisher.contract.groups[float32]: the target takes all parameters of its model and no params"
    ]


def test_a_crash_in_a_hook_is_no_refusal():
    class Crashing(AdaFisher):
        def seen(self, module, x):
            raise TypeError("unsupported operand")

    report = check(Crashing, level="L0")
    (record,) = [r for r in report.checks if name(r) == "adafisher.contract.every-parameter"]
    assert record.status is FAILED
    assert "broke off with TypeError: unsupported operand" in record.message


# ---- asking


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"target": "torch.optim:SGD"}, "does not take 'beta', which spec adafisher needs"),
        ({"options": {"averaging": "legacy"}}, "option averaging must be one of 'paper', 'released'"),
        ({"options": {"refresh": "1.5"}}, "option refresh must be a whole number"),
        ({"target": lambda params, lr, beta, gamma, lam: list(params)}, "must return an optimizer"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_clear_line(how, says):
    asked = {"target": AdaFisher, **how}
    with pytest.raises(UsageError) as caught:
        check(asked.pop("target"), level="L0", **asked)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_line_in_a_test_file_makes_a_test_of_every_check(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
            from proofs_checks.conformance import conformance_tests
            from proofs_checks.mutants.small_adafisher import AdaFisher as MyAdaFisher

            def wrong(model, *, gamma, **hp):
                return MyAdaFisher(model, gamma=1 - gamma, **hp)

            TestRight = conformance_tests(
                "adafisher", lambda model, **hp: MyAdaFisher(model, **hp), dtype="float32"
            )
            TestWrong = conformance_tests("adafisher", wrong, dtype="float32")
        """),
        encoding="utf-8",
    )
    some = ["-k", "average or contract or layer"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *some, "test_mine.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert all("TestWrong" in line for line in broken)
    assert any("TestWrong::test_check[adafisher.average[float32]]" in line for line in broken)
    assert "behaves like adafisher.gamma-exchanged" in done.stdout

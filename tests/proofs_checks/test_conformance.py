"""What `run_check` answers: its report, its usage errors, expected failures."""

import json
import textwrap

import pytest
import torch

from proofs_checks.conformance import SPECS, CheckReport, CheckStatus, UsageError, run_check
from proofs_checks.ledger import load_claims
from proofs_checks.mutants.small_adafisher import AdaFisher
from proofs_checks.mutants.small_muon import Muon

FAILED = CheckStatus.FAILED


TOP = {"fisherproof", "target", "spec", "variant", "environment", "summary", "checks"}
CHECK = {
    "id",
    "claim",
    "equation",
    "level",
    "status",
    "ratio",
    "threshold",
    "dtype",
    "device",
    "message",
    "counterexample",
    "nearest_mutant",
}


def check(target, spec="muon", *, level="L0", dtype="float32", **how):
    return run_check(target, spec, level=level, dtype=dtype, **how)


def failed(report):
    return {record.id.partition("[")[0] for record in report.checks if record.status is FAILED}


def test_the_json_has_exactly_the_published_shape_and_reads_back():
    report = check("torch_impl:SOFIM", "sofim", level="L3")
    content = json.loads(report.model_dump_json())
    assert set(content) == TOP
    assert set(content["summary"]) == {"passed", "failed", "expected_failures", "not_applicable"}
    assert all(set(record) == CHECK for record in content["checks"])
    assert sum(content["summary"].values()) == len(content["checks"])
    assert CheckReport.model_validate_json(report.model_dump_json()) == report
    assert report.conforms


def test_every_record_has_its_own_id_and_every_claim_is_in_the_ledger():
    ids = set(load_claims())
    targets = {"fismo": "torch_impl:FISMO", "sofim": "torch_impl:SOFIM", "adafisher": AdaFisher, "muon": Muon}
    assert set(targets) == set(SPECS)
    for spec, target in targets.items():
        records = check(target, spec, dtype=None).checks
        assert len({record.id for record in records}) == len(records)
        assert {claim for c in SPECS[spec].checks if (claim := c.claim)} <= ids


def test_progress_counts_every_record_and_levels_include_the_ones_before():
    seen = []
    report = check(Muon, progress=lambda done, listed, record: seen.append((done, listed, record.id)))
    assert [done for done, *_ in seen] == list(range(1, len(report.checks) + 1))
    assert {listed for _, listed, _ in seen} == {len(report.checks)}
    deeper = check(Muon, level="L1")
    assert {r.id for r in report.checks} < {r.id for r in deeper.checks}


def test_white_box_checks_are_listed_with_the_reason_why_they_do_not_apply():
    report = check("torch_impl:SOFIM", "sofim", level="L3")
    (record,) = [r for r in report.checks if r.level == "L3"]
    assert record.status is CheckStatus.NOT_APPLICABLE
    assert "canonical" in record.message


def test_a_seed_repeats_its_verdicts_to_the_last_digit():
    first, second = (check("torch_impl:FISMO", "fismo", level="L2", seed=7) for _ in range(2))
    assert first.checks == second.checks
    assert first.checks != check("torch_impl:FISMO", "fismo", level="L2", seed=8).checks


class TakesVectors(Muon):
    def __init__(self, params, lr=1e-3, **hp):
        """Nothing is said here about shapes."""
        params = list(params)
        super().__init__(
            [p for p in params if p.ndim == 2] or [torch.nn.Parameter(torch.zeros(1, 1))], lr, **hp
        )


class Plain(torch.optim.Optimizer):
    """Muon without Nesterov under other names: 2-D only, `mass` and `eta`, fixed step count."""

    def __init__(self, params, eta, mass=0.9):
        if eta < 0:
            raise ValueError("eta")
        super().__init__(params, {"eta": eta, "mass": mass})
        self.inner = None

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        from proofs_checks.mutants.small_muon import orthogonalized

        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                V = self.state[p].setdefault("V", torch.zeros_like(p))
                V.lerp_(p.grad, 1 - group["mass"])
                a = max(1.0, p.shape[0] / p.shape[1]) ** 0.5 if p.ndim == 2 else 1.0
                p.sub_(group["eta"] * a * orthogonalized(V, steps=5).to(p.dtype))
        return loss


def test_other_names_are_renamed_and_what_is_lacking_does_not_apply():
    rename = {"lr": "eta", "momentum": "mass"}
    report = check(Plain, level="L2", rename=rename, options={"nesterov": "False"})
    assert failed(report) == set()
    idle = {
        r.id.partition("[")[0]: r.message for r in report.checks if r.status is CheckStatus.NOT_APPLICABLE
    }
    assert idle == {
        "muon.iteration.steps": "the target has no hyper-parameter ns_steps",
        "muon.weight-decay": "the target has no hyper-parameter weight_decay",
    }
    assert report.variant["nesterov"] is False
    undeclared = check(Plain, level="L2", rename=rename)
    messages = [r.message for r in undeclared.checks if "nesterov=False" in r.id]
    assert messages
    assert all("say --option nesterov=False" in message for message in messages)


def test_a_hyper_parameter_that_is_built_in_restricts_the_checks_that_need_another_value():
    def make(params, lr, beta, gamma):
        from torch_impl import FISMO

        return FISMO(params, lr, beta=beta, gamma=gamma, mu=0.25)

    report = run_check(make, "fismo", dtype="float32", options={"mu": 0.25})
    assert failed(report) == set()
    idle = [r for r in report.checks if r.status is CheckStatus.NOT_APPLICABLE]
    assert {"fismo.damping", "fismo.golden", "fismo.step-bound"} <= {r.id.partition("[")[0] for r in idle}
    assert all("mu=0.25 is built into the target" in r.message for r in idle)
    wrong = run_check(make, "fismo", dtype="float32", options={"mu": 0.5})
    assert failed(wrong)


def test_a_factory_that_passes_keywords_on_gets_those_it_takes():
    report = check(lambda params, **hp: Muon(params, **hp), level="L2")
    assert failed(report) == set()


def test_a_step_function_in_a_file_is_a_target(tmp_path):
    source = """
        import numpy as np

        def init(w):
            return np.zeros_like(w), 0

        def step(g, state, *, beta, rho):
            M, t = beta * state[0] + (1 - beta) * g, state[1] + 1
            m = M / (1 - beta**t)
            return m / (rho + SIGN (m @ m)), (M, t)
    """
    for sign, verdict in (("", set()), ("-", {"sofim.direction"})):
        path = tmp_path / f"student{len(sign)}.py"
        path.write_text(textwrap.dedent(source).replace("SIGN", sign), encoding="utf-8")
        report = run_check(f"{path}:step", "sofim")
        assert failed(report) >= verdict
        assert report.conforms is not bool(verdict)
        assert {r.dtype for r in report.checks} == {"float64"}


def no_init(G, state, *, beta, rho):
    return G, state


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"spec": "mouon"}, "unknown spec 'mouon'; did you mean 'muon'?"),
        ({"target": "no_such_module:X"}, "cannot import 'no_such_module': ModuleNotFoundError"),
        ({"target": "torch.optim:Muom"}, "has no attribute 'Muom'; did you mean 'Muon'?"),
        ({"target": "nonsense"}, "target must be MODULE:ATTR"),
        ({"target": "nowhere.py:step"}, "FileNotFoundError: no file nowhere.py"),
        ({"target": "torch:pi"}, "must be an optimizer class, a factory or a step function, got float"),
        ({"target": "torch:eye"}, "torch:eye"),
        ({"target": no_init, "spec": "sofim"}, "needs a function init(W) beside it"),
        ({"target": "torch.optim:SGD"}, None),
        ({"target": "torch.optim:SGD", "spec": "fismo"}, "does not take 'beta', which spec fismo needs"),
        ({"options": {"nesterof": True}}, "unknown option 'nesterof'; did you mean 'nesterov'?"),
        ({"options": {"scale": "large"}}, "option scale must be one of 'original'"),
        ({"options": {"scale": "none"}}, "adjust_lr_fn': 'none'"),
        ({"rename": {"moment": "m"}}, "no such name in spec muon; did you mean 'momentum'?"),
        ({"rename": {"momentum": "mass"}}, "does not take 'momentum', which spec muon needs"),
        ({"level": "L9"}, "unknown level 'L9'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"target": "reference.sofim:step", "spec": "sofim", "dtype": "float32"}, "dtype must be float64"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_clear_line(how, says):
    asked = {"target": "torch.optim:Muon", "spec": "muon", "level": "L0", **how}
    if says is None:
        assert not run_check(**asked, dtype="float32").conforms
        return
    with pytest.raises(UsageError) as caught:
        run_check(**asked)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def expectations(tmp_path, text):
    path = tmp_path / "expected.toml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


ENTRY = '[[expected]]\nid = "{}"\nreason = "reported"\nexpires = {}\n'


def test_an_expected_failure_is_counted_apart(tmp_path):
    for name in ("muon.contract.vectors", "muon.contract.vectors[float32,nesterov=True]"):
        path = expectations(tmp_path, ENTRY.format(name, "2999-01-01"))
        report = check(TakesVectors, options={"nesterov": True}, expected_failures=path)
        assert report.summary.expected_failures == 1
        assert report.conforms
        (record,) = [r for r in report.checks if r.status is CheckStatus.EXPECTED_FAILURE]
        assert record.message.startswith("expected until 2999-01-01 (reported): ")


def test_an_expected_failure_that_passes_is_a_failure(tmp_path):
    path = expectations(tmp_path, ENTRY.format("muon.contract.vectors", "2999-01-01"))
    report = check(Muon, expected_failures=path)
    assert failed(report) == {"muon.contract.vectors"}
    assert all("remove the entry" in r.message for r in report.checks if r.status is FAILED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ENTRY.format("muon.contract.vector", "2999-01-01"), "did you mean 'muon.contract.vectors'?"),
        (ENTRY.format("muon.contract.vectors", "2001-01-01"), "expired on 2001-01-01"),
        (ENTRY.format("muon.contract.vectors", '"soon"'), "expires must be a date YYYY-MM-DD"),
        ('[[expected]]\nid = "x"\nreason = "y"\n', "needs id, reason and expires, got id, reason"),
        ("expected = [1]", "needs id, reason and expires, got int"),
        (ENTRY.format("x", "2999-01-01").replace("reported", ""), "id and reason must be text"),
        ("no toml", "cannot read"),
    ],
)
def test_a_careless_file_of_expectations_is_a_usage_error(tmp_path, text, says):
    with pytest.raises(UsageError, match="expected failures") as caught:
        check(Muon, expected_failures=expectations(tmp_path, text))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "needed"),
    [
        ("ns_steps", "banana", "a whole number"),
        ("ns_steps", "2.5", "a whole number"),
        ("nesterov", "1", "True or False"),
        ("momentum", "True", "a number"),
    ],
)
def test_an_option_of_the_wrong_kind_is_a_usage_error(option, value, needed):
    with pytest.raises(UsageError, match=f"option {option} must be {needed}, got"):
        run_check("torch.optim:Muon", "muon", options={option: value}, level="L0")

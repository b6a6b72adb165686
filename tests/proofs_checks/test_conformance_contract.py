"""Hostile targets are reported, and every contract check fails an optimizer that breaks it."""

import numpy as np
import pytest
import torch

import proofs_checks.conformance.run as run_module
from proofs_checks.conformance import SPECS, CheckStatus, run_check
from proofs_checks.mutants.small_muon import Muon

FAILED = CheckStatus.FAILED


def check(target, spec="muon", *, level="L0", dtype="float32", **how):
    return run_check(target, spec, level=level, dtype=dtype, **how)


def failed(report):
    return {record.id.partition("[")[0] for record in report.checks if record.status is FAILED}


class Raising(Muon):
    def step(self, closure=None):
        raise RuntimeError("no luck\nsecond line")


class NotANumber(Muon):
    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(float("nan"))


class Hanging(Muon):
    def step(self, closure=None):
        while True:
            pass


class Meddling(Muon):
    def step(self, closure=None):
        torch.manual_seed(1)
        torch.set_default_dtype(torch.float64)
        return super().step(closure)


def test_what_the_target_raises_is_a_failure_with_its_message():
    report = check(Raising, level="L2", options={"nesterov": False})
    assert all(
        "RuntimeError: no luck" in r.message for r in report.checks if r.id.startswith("muon.iteration")
    )
    assert "muon.momentum" in failed(report)
    assert not report.conforms


def test_a_nan_fails_every_check_of_a_value():
    report = check(NotANumber, level="L2", options={"nesterov": True})
    deep = {r.id.partition("[")[0] for r in report.checks if r.level in ("L1", "L2")}
    assert deep == deep & failed(report)
    assert len(deep) > 1
    assert all(r.ratio is None or not r.ratio <= 1 for r in report.checks if r.status is FAILED)


def test_a_target_that_hangs_is_reported_and_ends_the_run(monkeypatch):
    monkeypatch.setattr(run_module, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(run_module, "SHRINK_SECONDS", 0.0)
    report = check(Hanging)
    messages = [r.message for r in report.checks if r.status is FAILED]
    assert messages[0].startswith("hangs: no result after 0.2 s")
    assert all(
        message.startswith("not executed: the target hung in muon.contract.") for message in messages[1:]
    )
    assert len(report.checks) == len(check(Muon).checks)


def test_changed_global_state_is_reported_and_put_back():
    before, state = torch.get_default_dtype(), torch.get_rng_state()
    report = check(Meddling, level="L2", options={"nesterov": True})
    assert torch.get_default_dtype() is before
    assert torch.equal(torch.get_rng_state(), state)
    (record,) = [r for r in report.checks if r.id.startswith("muon.contract.global-state")]
    assert "default dtype" in record.message
    assert "torch random state" in record.message
    assert all("changed" in r.message for r in report.checks if r.id.startswith("muon.momentum"))


class NoHalf(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        if any(p.dtype is torch.bfloat16 for p in self.param_groups[0]["params"]):
            raise NotImplementedError("not for bfloat16")
        return super().step(closure)


def test_a_dtype_that_the_target_refuses_does_not_apply_unless_it_was_asked_for():
    swept = check(NoHalf, dtype=None)
    idle = [r for r in swept.checks if r.status is CheckStatus.NOT_APPLICABLE]
    assert {r.dtype for r in idle} == {"bfloat16"}
    assert all(
        "refuses bfloat16 parameters: NotImplementedError: not for bfloat16" in r.message for r in idle
    )
    assert swept.conforms
    assert not check(NoHalf, dtype="bfloat16").conforms


# Controls: one optimizer for every contract check, that must fail it


class Replaces(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            p.data = p.data.clone()
        return loss


class ScalesGradients(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                p.grad.mul_(2)
        return super().step(closure)


class ForgetsState(Muon):
    def state_dict(self):
        return {**super().state_dict(), "state": {}}


class CastsState(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for state in self.state.values():
            state["V"] = state["V"].double()
        return loss


class MovesTheIdle(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            p.mul_(0.5)
        return loss


class SharesBuffers(Muon):
    """One momentum buffer per shape."""

    @torch.no_grad()
    def step(self, closure=None):
        buffers = {}
        for group in self.param_groups:
            for p in group["params"]:
                V = self.state[p].setdefault("V", torch.zeros_like(p))
                self.state[p]["V"] = buffers.setdefault(p.shape, V)
        return super().step(closure)


class OneGroup(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        return super().step(closure)


class FixedRate(Muon):
    def __init__(self, params, lr=1e-3, **hp):
        super().__init__(params, lr, **hp)
        self.rate = lr

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = self.rate
        return super().step(closure)


class WrongLayout(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            if p.grad is not None and not p.grad.is_contiguous():
                p.grad = p.grad.T.contiguous().view(p.shape)
        return super().step(closure)


class Noisy(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            p.add_(torch.from_numpy(np.random.default_rng().standard_normal(p.shape)).to(p.dtype), alpha=1e-3)
        return loss


class MovesAtZeroRate(Muon):
    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            p.add_(1e-3)
        return loss


class AcceptsAnything(Muon):
    def __init__(self, params, lr=1e-3, **hp):
        super().__init__(params, abs(lr), **hp)


class IgnoresClosure(Muon):
    def step(self, closure=None):
        super().step()


class TakesVectors(Muon):
    def __init__(self, params, lr=1e-3, **hp):
        """Nothing is said here about shapes."""
        params = list(params)
        super().__init__(
            [p for p in params if p.ndim == 2] or [torch.nn.Parameter(torch.zeros(1, 1))], lr, **hp
        )


CONTROLS = {
    "in-place": Replaces,
    "inputs-kept": ScalesGradients,
    "state-dict": ForgetsState,
    "no-gradient": MovesTheIdle,
    "neighbours": SharesBuffers,
    "groups": OneGroup,
    "schedule": FixedRate,
    "layout": WrongLayout,
    "deterministic": Noisy,
    "zero-lr": MovesAtZeroRate,
    "negative-lr": AcceptsAnything,
    "closure": IgnoresClosure,
    "vectors": TakesVectors,
    "global-state": Meddling,
}


@pytest.mark.parametrize("name", CONTROLS)
def test_each_contract_check_fails_its_control(name):
    assert f"muon.contract.{name}" in failed(check(CONTROLS[name], options={"nesterov": True}))


def test_every_contract_check_has_a_control_and_a_correct_optimizer_passes_all():
    assert {f"muon.contract.{name}" for name in CONTROLS} == {
        c.id for c in SPECS["muon"].checks if c.level == "L0"
    }
    assert failed(check(Muon, dtype=None)) == set()


def test_state_kept_in_another_precision_than_the_checkpoint_restores_is_found():
    report = check(CastsState, options={"nesterov": True})
    (record,) = [r for r in report.checks if r.id.startswith("muon.contract.state-dict")]
    assert "'V' was torch.float64, is torch.float32" in record.message


def test_a_step_function_that_modifies_its_arguments_is_found():
    def init(W):
        return (np.zeros_like(W),)

    def step(G, state, *, beta, rho):
        state[0][...] = beta * state[0] + (1 - beta) * G
        return state[0], state

    step.__globals__["init"] = init
    try:
        report = run_check(step, "sofim", level="L0")
    finally:
        del step.__globals__["init"]
    assert "sofim.contract.inputs-kept" in failed(report)

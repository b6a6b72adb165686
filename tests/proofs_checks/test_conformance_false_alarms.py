"""Correct implementations written in other ways than ours pass, whatever the seed."""

import numpy as np
import pytest
import scipy.linalg
import torch

from proofs_checks.conformance import CheckStatus, run_check

RUNS = [(0, "float32"), (1, "float64"), (2, "bfloat16"), (3, "bfloat16")]


def fails(target, spec, **how):
    report = run_check(target, spec, **how)
    assert report.summary.passed > 0
    return [f"{check.id}: {check.message}" for check in report.checks if check.status is CheckStatus.FAILED]


class Checked(torch.optim.Optimizer):
    """What the implementations below share and the checks ask of everyone."""

    def __init__(self, params, **options):
        if options["lr"] < 0:
            raise ValueError("lr")
        super().__init__(params, options)
        if any(p.ndim != 2 for group in self.param_groups for p in group["params"]) and self.matrices:
            raise ValueError("matrices only")

    matrices = True

    def load_state_dict(self, saved):
        """PyTorch's casts state to the dtype of the parameter; this one keeps it."""
        super().load_state_dict(saved)
        for index, p in enumerate(p for group in self.param_groups for p in group["params"]):
            if index in saved["state"]:
                self.state[p] = {
                    name: value.clone() if isinstance(value, torch.Tensor) else list(value)
                    for name, value in saved["state"][index].items()
                }

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.one(p, group)
        return loss


class CholeskyFreeFismo(Checked):
    """Everything in float64; inverses by solving; sum momentum, which Polar cannot tell from the average."""

    def __init__(self, params, lr, *, beta, gamma, mu):
        super().__init__(params, lr=lr, beta=beta, gamma=gamma, mu=mu)

    def one(self, p, group):
        G, state = p.grad.double(), self.state[p]
        m, n = G.shape
        if not state:
            state.update(P=torch.eye(m).double(), Q=torch.eye(n).double(), M=torch.zeros(m, n).double())
        P, Q = state["P"], state["Q"]
        gamma, mu = group["gamma"], group["mu"]
        L = G @ torch.linalg.solve(Q, G.T) / n + mu * torch.eye(m, dtype=torch.float64)
        P = gamma * P + (1 - gamma) * L
        P = m * (P + P.T) / (2 * P.trace())
        R = G.T @ torch.linalg.solve(P, G) / m + mu * torch.eye(n, dtype=torch.float64)
        Q = gamma * Q + (1 - gamma) * R
        Q = n * (Q + Q.T) / (2 * Q.trace())
        A, C = (torch.tensor(np.linalg.inv(scipy.linalg.sqrtm(X.numpy()).real)) for X in (P, Q))
        M = group["beta"] * state["M"] + A @ G @ C
        left, s, right = torch.linalg.svd(M, full_matrices=False)
        kept = (s > max(m, n) * torch.finfo(s.dtype).eps * s.max()).double()
        p.sub_((group["lr"] * A @ (left * kept) @ right @ C).to(p.dtype))
        state.update(P=P, Q=Q, M=M)


class TransposedFismo(Checked):
    """Works on the transpose throughout, in the precision of the parameter or float32, roots by SVD."""

    def __init__(self, params, lr, *, beta, gamma, mu):
        super().__init__(params, lr=lr, beta=beta, gamma=gamma, mu=mu)

    def one(self, p, group):
        dtype = torch.promote_types(p.dtype, torch.float32)
        H, state = p.grad.T.to(dtype), self.state[p]
        n, m = H.shape
        if not state:
            state.update(
                P=torch.eye(m, dtype=dtype), Q=torch.eye(n, dtype=dtype), M=torch.zeros(n, m, dtype=dtype)
            )
        gamma, mu = group["gamma"], group["mu"]

        def mixed(old, data):
            X = gamma * old + (1 - gamma) * (
                data + mu * old.diagonal().mean() * torch.eye(len(old), dtype=dtype)
            )
            return (X + X.T) / (2 * X.diagonal().mean())

        def root(X):
            U, s, Vh = torch.linalg.svd(X)
            return (U / s.sqrt()) @ Vh

        P = mixed(state["P"], H.T @ torch.linalg.inv(state["Q"]) @ H / n)
        Q = mixed(state["Q"], H @ torch.linalg.inv(P) @ H.T / m)
        M = torch.lerp(root(Q) @ H @ root(P), state["M"], group["beta"])
        U, s, Vh = torch.linalg.svd(M, full_matrices=False)
        U = U * (s > max(m, n) * torch.finfo(dtype).eps * s.max())
        p.copy_(p - (group["lr"] * (root(Q) @ U @ Vh @ root(P)).T).to(p.dtype))
        self.state[p] = {"P": P, "Q": Q, "M": M}


class UnitVectorSofim(Checked):
    """Step length times unit vector, over all parameters; momentum from a list of past gradients."""

    matrices = False

    def __init__(self, params, lr, *, beta, rho):
        super().__init__(params, lr=lr, beta=beta, rho=rho)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        corrected = []
        for p, group in moving:
            history = self.state[p].setdefault("history", [])
            history.append(p.grad.double().flatten().tolist())
            weights = group["beta"] ** np.arange(len(history))[::-1]
            corrected.append(np.array(history).T @ weights / weights.sum())
        if not moving:
            return loss
        m = np.concatenate(corrected)
        length = np.linalg.norm(m)
        x = m / length / (moving[0][1]["rho"] / length + length) if length else m
        for p, group in moving:
            head, x = np.split(x, [p.numel()])
            p.sub_(torch.tensor(group["lr"] * head.reshape(p.shape)).to(p.dtype))
        return loss


class SumMuon(Checked):
    """Sum momentum, Horner's rule, iteration in float32 on the taller side, scale folded into the step."""

    def __init__(self, params, lr, *, momentum, nesterov, weight_decay):
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def one(self, p, group):
        G = p.grad.float()
        V = self.state[p].setdefault("V", torch.zeros(p.shape))
        V.copy_(group["momentum"] * V + G)
        X = G + group["momentum"] * V if group["nesterov"] else V.clone()
        X = X / (X.norm() + 1e-7)
        I = torch.eye(p.shape[1])
        for _ in range(5):
            Y = X.T @ X
            X = X @ (3.4445 * I + Y @ (-4.7750 * I + 2.0315 * Y))
        m, n = p.shape
        a = (m / n) ** 0.5 if m > n else 1.0
        p.copy_(p * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * a * X)


@pytest.mark.parametrize(("seed", "dtype"), RUNS)
@pytest.mark.parametrize("target", [CholeskyFreeFismo, TransposedFismo])
def test_fismo_written_otherwise_passes(target, seed, dtype):
    assert fails(target, "fismo", seed=seed, dtype=dtype) == []


@pytest.mark.parametrize(("seed", "dtype"), RUNS)
def test_sofim_written_otherwise_passes(seed, dtype):
    assert fails(UnitVectorSofim, "sofim", seed=seed, dtype=dtype) == []


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_muon_written_otherwise_passes(precision):
    assert fails(SumMuon, "muon", options={"precision": precision}, dtype="float32") == []


@pytest.mark.parametrize(
    ("target", "spec", "options"),
    [
        ("torch_impl:FISMO", "fismo", {"order": "jacobi", "damping": "theorem"}),
        ("torch_impl:FISMO", "fismo", {"factor_scaling": "unit"}),
        ("torch_impl:SOFIM", "sofim", {}),
        ("torch_impl.fismo:step", "fismo", {}),
        ("torch_impl.muon:step", "muon", {}),
        ("reference.fismo:step", "fismo", {"damping": "theorem"}),
        ("reference.sofim:step", "sofim", {}),
        ("reference.muon:step", "muon", {"scale": "match_rms_adamw"}),
    ],
)
def test_our_own_implementations_conform(target, spec, options):
    dtype = "float32" if target.startswith("torch_impl.muon") else None
    assert fails(target, spec, options=options, dtype=dtype) == []


def test_no_check_is_idle_in_the_default_settings():
    for target, spec, dtype in (
        ("torch_impl:FISMO", "fismo", None),
        ("torch_impl:SOFIM", "sofim", None),
        ("proofs_checks.mutants.small_muon:Muon", "muon", "bfloat16"),
    ):
        report = run_check(target, spec, dtype=dtype)
        assert [c.id for c in report.checks if c.status is CheckStatus.NOT_APPLICABLE] == []

"""The torch twins agree with the reference, and a planted fault in any of them is seen."""

import inspect

import numpy as np
import pytest
import torch

import reference
import torch_impl.adafisher
import torch_impl.fismo
import torch_impl.kronecker
import torch_impl.muon
import torch_impl.polar
import torch_impl.sofim
from proofs_checks import twins
from proofs_checks.inputs import from_spectrum
from proofs_checks.twins import TWINS, compare_twin, compare_twins, twin_count
from tests.gpu import demand_cuda
from tests.proofs_checks.adafisher_faults import FAULTS as ADAFISHER_FAULTS

BY_NAME = {twin.name: twin for twin in TWINS}
MODULES = ("polar", "kronecker", "fismo", "sofim", "muon", "adafisher")


@pytest.fixture
def few(monkeypatch):
    """Four matrices instead of the whole collection: tall, wide, square and small, and ill-conditioned."""
    rng = np.random.default_rng(7)
    chosen = {f"{m}x{n}": rng.standard_normal((m, n)) for m, n in ((5, 3), (3, 4))}
    chosen["small"] = 2.0**-6 * rng.standard_normal((4, 4))
    chosen["ill-conditioned"] = from_spectrum(4, 4, (1.0, 0.5, 1e-3, 1e-4), rng=rng)
    monkeypatch.setattr(twins, "MATRICES", chosen)
    monkeypatch.setattr(twins, "NEAR", ())


@pytest.fixture
def cuda():
    """The GPU, by name."""
    return demand_cuda().type


@pytest.mark.parametrize(("name", "dtype"), [(twin.name, dtype) for twin in TWINS for dtype in twin.dtypes])
def test_the_twins_agree_up_to_rounding(name, dtype):
    result = compare_twin(BY_NAME[name], dtype)
    assert result.worst.passed, f"{result.worst.name} {result.worst.value:.3g} at {result.worst_input}"
    assert result.inputs


@pytest.mark.gpu
@pytest.mark.parametrize("name", BY_NAME)
def test_the_twins_agree_up_to_rounding_on_a_gpu(cuda, name):
    for dtype in BY_NAME[name].dtypes:
        result = compare_twin(BY_NAME[name], dtype, cuda)
        assert result.worst.passed, f"{result.worst.name} {result.worst.value:.3g} at {result.worst_input}"


def test_every_public_function_that_both_have_is_compared():
    public = set()
    for module in MODULES:
        ours, theirs = (getattr(package, module) for package in (torch_impl, reference))
        public |= {
            f"{module}.{name}"
            for name in set(ours.__all__) & set(theirs.__all__)
            if inspect.isfunction(getattr(ours, name))
        }
    assert set(BY_NAME) == public


def test_results_come_in_order_and_are_announced_before_they_start(few):
    announced = []
    results = list(compare_twins(starting=announced.append))
    assert len(results) == len(announced) == twin_count()
    assert announced == [f"{result.name} in {result.dtype}" for result in results]


# Planted faults: the function that is broken, and what a careless author might have made of it. Each takes
# the sound function and returns the faulty one.

FAULTS = ADAFISHER_FAULTS | {
    "polar.polar_factor": {
        "off by a billionth": lambda f: lambda M: f(M) * (1 + 2.0**-30),
        "transposed": lambda f: lambda M: f(M).mT if M.shape[-2] == M.shape[-1] else f(M),
        "not a number": lambda f: lambda M: f(M) * float("nan"),
    },
    "polar.nuclear_norm": {"Frobenius norm": lambda f: lambda M: torch.linalg.matrix_norm(M)},
    "polar.spectral_lmo": {"radius ignored": lambda f: lambda G, radius: f(G)},
    "polar.newton_schulz": {
        "a step too few": lambda f: lambda M, p, **k: f(M, p[:-1], **k),
        "a step too many": lambda f: lambda M, p, **k: f(M, (*p, p[-1]), **k),
        "coefficient off": lambda f: (
            lambda M, p, **k: f(M, [(r[0] * (1 + 2.0**-30), *r[1:]) for r in p], **k)
        ),
        "shift and floor ignored": lambda f: lambda M, p, **k: f(M, p),
    },
    "polar.orthogonalize": {
        "safety factor dropped": lambda f: (
            lambda M, method: (
                torch_impl.polar.newton_schulz(M, torch_impl.polar.POLAR_EXPRESS, shift=1e-2)
                if method == "polar-express"
                else f(M, method)
            )
        ),
        "methods mixed up": lambda f: lambda M, method: f(M, "polar" if method == "jordan" else method),
    },
    "polar.scalar_map": {"a step too few": lambda f: lambda x, p: f(x, p[:-1])},
    "polar.kim_oh_polynomial": {"degree off by one": lambda f: lambda k: f(k + 1)},
    "polar.polar_express_coefficients": {
        "cushion 0.1": lambda f: lambda lower, degree: f(lower, degree=degree, cushion=0.1)
    },
    "kronecker.left_factor": {
        "divided by the rows": lambda f: lambda G, Q, mu: f(G, Q, mu=mu) * G.shape[-1] / G.shape[-2],
        "damping without the trace": lambda f: (
            lambda G, Q, mu: f(G, Q, mu=0.0) + mu * torch.eye(G.shape[-2], dtype=G.dtype)
        ),
    },
    "kronecker.right_factor": {"sum for mean": lambda f: lambda G, P, mu: f(G, P, mu=mu) * len(G)},
    "kronecker.inverse_sqrt": {
        "Cholesky root": lambda f: lambda P: torch.linalg.inv(torch.linalg.cholesky(P)),
        "inverse": lambda f: torch.linalg.inv,
    },
    "kronecker.objective": {"damping missing": lambda f: lambda G, P, Q, mu: f(G, P, Q, mu=0.0)},
    "kronecker.logdet_divergence": {"sides swapped": lambda f: lambda X, Y: f(Y, X)},
    "kronecker.hilbert_distance": {"half": lambda f: lambda X, Y: f(X, Y) / 2},
    "kronecker.coupling_bound": {"sum for mean": lambda f: lambda G: f(G) * len(G)},
    "kronecker.contraction_factor": {"2 missing": lambda f: lambda G, mu: f(G, mu=mu / 2)},
    "kronecker.fixed_point": {
        "order ignored": lambda f: lambda G, **k: f(G, **(k | {"method": "gauss-seidel"})),
        "damping ignored": lambda f: lambda G, **k: f(G, **(k | {"damping": "theorem"})),
        "start ignored": lambda f: (
            lambda G, **k: f(G, **{name: x for name, x in k.items() if name not in ("P0", "Q0")})
        ),
    },
    "kronecker.fisher_lmo": {
        "ascent": lambda f: lambda G, P, Q, radius: -f(G, P, Q, radius=radius),
        "radius ignored": lambda f: lambda G, P, Q, radius: f(G, P, Q),
    },
    "fismo.init": {"start ignored": lambda f: lambda W, **k: f(W)},
    "fismo.update_factors": {
        "stale factor": lambda f: lambda *a, **k: f(*a, **(k | {"order": "jacobi"})),
        "unit scaling dropped": lambda f: lambda *a, **k: f(*a, **(k | {"factor_scaling": "none"})),
        "damping of the theorem": lambda f: lambda *a, **k: f(*a, **(k | {"damping": "theorem"})),
        "weights swapped": lambda f: lambda *a, **k: f(*a, **(k | {"gamma": (1 - k["gamma"]) / 2})),
        "trace normalisation dropped": lambda f: lambda *a, **k: tuple(2 * X for X in f(*a, **k)),
    },
    "fismo.whiten": {"whitened twice": lambda f: lambda G, P, Q: f(f(G, P, Q), P, Q)},
    "fismo.step": {
        "momentum missing": lambda f: lambda G, s, **k: f(G, s, **(k | {"beta": 0.0})),
        "wrong orthogonaliser": lambda f: lambda G, s, **k: f(G, s, **(k | {"orthogonalize": "polar"})),
        "order ignored": lambda f: lambda G, s, **k: f(G, s, **(k | {"order": "gauss-seidel"})),
        "update transposed back": lambda f: lambda G, s, **k: (-f(G, s, **k)[0], f(G, s, **k)[1]),
    },
    "sofim.sherman_morrison_solve": {"u and v swapped": lambda f: lambda A, u, v, b: f(A, u, v + 1, b)},
    "sofim.two_term_direction": {"rho not squared": lambda f: lambda M, rho: f(M, rho=rho**0.5)},
    "sofim.bracket_direction": {"first term alone": lambda f: lambda M, rho: M / rho},
    "sofim.direction": {"norm not squared": lambda f: lambda M, rho: M / (rho + torch.linalg.norm(M))},
    "sofim.init": {"counts from one": lambda f: lambda w: f(w)._replace(t=1)},
    "sofim.step": {
        "bias correction dropped": lambda f: lambda g, s, **k: f(g, s._replace(t=10**6), **k),
        "weights swapped": lambda f: lambda g, s, beta, rho: f(g, s, beta=1 - beta, rho=rho),
        "momentum missing": lambda f: lambda g, s, beta, rho: f(g, s, beta=0.0, rho=rho),
    },
    "muon.init": {"ones": lambda f: lambda W: f(W)._replace(V=torch.ones_like(W))},
    "muon.step": {
        "Nesterov ignored": lambda f: lambda G, s, **k: f(G, s, **(k | {"nesterov": False})),
        "momentum form ignored": lambda f: lambda G, s, **k: f(G, s, **(k | {"momentum": "ema"})),
        "scale ignored": lambda f: lambda G, s, **k: f(G, s, **(k | {"scale": "original"})),
        "decay missing": lambda f: lambda G, s, **k: f(G, s, **(k | {"weight_decay": 0.0})),
    },
}


def test_every_comparison_has_a_planted_fault():
    assert set(FAULTS) == set(BY_NAME)


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults]
)
def test_a_planted_fault_in_a_torch_twin_is_seen(few, monkeypatch, name, fault):
    assert compare_twin(BY_NAME[name], "float64").worst.passed
    module, function = name.split(".")
    target = getattr(torch_impl, module)
    monkeypatch.setattr(target, function, FAULTS[name][fault](getattr(target, function)))
    assert not compare_twin(BY_NAME[name], "float64").worst.passed


def test_a_twin_that_raises_fails_and_says_how(few, monkeypatch):
    def broken(M):
        raise RuntimeError("kernel missing")

    monkeypatch.setattr(torch_impl.polar, "polar_factor", broken)
    result = compare_twin(BY_NAME["polar.polar_factor"], "float64")
    assert not result.worst.passed
    assert "kernel missing" in result.worst_input


def test_a_comparison_without_any_input_fails(monkeypatch):
    monkeypatch.setattr(twins, "MATRICES", {})
    monkeypatch.setattr(twins, "NEAR", ())
    result = compare_twin(BY_NAME["polar.polar_factor"], "float64")
    assert result.inputs == 0
    assert not result.worst.passed


def test_inputs_that_overflow_the_format_are_left_out(monkeypatch):
    monkeypatch.setattr(twins, "MATRICES", {"huge": np.full((2, 2), 2.0**200), "plain": np.eye(2)})
    near = len(twins.NEAR)
    assert compare_twin(BY_NAME["polar.polar_factor"], "float64").inputs == 2 + near
    assert compare_twin(BY_NAME["polar.polar_factor"], "float32").inputs == 1 + near
    assert compare_twin(BY_NAME["fismo.whiten"], "float32").inputs == 2

"""SOFIM: bias-corrected momentum over one flat vector, divided by ``rho + |M_hat|^2``.

Symbols: g gradient, M momentum, M_hat bias-corrected momentum, s = |M_hat|^2 / rho, d number of parameters.
Source of the rule: sofim.md sections 1 and 2.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from proofs_checks.conformance import sofim_oracle
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Check, Option, Setting, Spec, Verdict, compare
from proofs_checks.conformance.contract import contract_checks
from proofs_checks.conformance.judges import against_oracle, oddness, relation, stays_zero
from proofs_checks.conformance.records import Level
from proofs_checks.mutants.sofim import REFERENCE_FAULTS
from proofs_checks.ratios import Ratio

__all__ = ["SOFIM"]

LR, BETA, RHO = 0.5, 0.5, 0.5
#: sofim.md section 2: golden steps on ``f(w) = (w_1^2 + 3 w_2^2) / 2`` from (1, -2).
GOLDEN_W = ((0.9973333333333, -1.984), (0.9946485498702, -1.967936580179), (0.9919447873692, -1.951806938769))
GOLDEN_HP = {"lr": 0.1, "beta": 0.9, "rho": 0.5}
#: Half a unit in the thirteenth significant digit of numbers below 2, as printed.
GOLDEN_DIGITS = 5e-13
#: Factor c of the scaling group (f, lr, rho) -> (c f, c lr, c^2 rho).
GROUP = 2.0**4
#: Gradient norms from far below sqrt(rho) to far above.
NORMS = (2.0**-10, 2.0**-3, 0.5**0.5, 2.0, 2.0**5, 2.0**10)


def _unit(bench: Bench, rng: np.random.Generator, d: int) -> Array:
    x = rng.standard_normal(d)
    return bench.cast(x / np.linalg.norm(x))


def _single_steps(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One step, where bias correction makes M_hat the gradient itself, at gradient norms around sqrt(rho)."""
    for d in (1, 2, 5):
        g = _unit(bench, rng, d)
        for norm in NORMS:
            yield Case(bench.hp(lr=LR, beta=BETA, rho=RHO), (bench.cast(norm * g),))


def _regularisation(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One step at several rho: the only place where it enters."""
    for rho in (2.0**-6, 0.25, 4.0):
        yield Case(bench.hp(lr=LR, beta=BETA, rho=rho), (_unit(bench, rng, 3),))


def _sequences(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Several steps: gradients that change sign and size, so that old and new weigh alike."""
    for beta in (BETA, 0.875):
        hp = bench.hp(lr=LR, beta=beta, rho=RHO)
        yield Case(hp, tuple(np.array([g]) for g in (1.0, -2.0, 0.5, 4.0)))
        yield Case(hp, tuple(bench.cast(2.0 * rng.standard_normal(4)) for _ in range(4)))


def _constant(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """A constant gradient: with bias correction every M_hat_t equals it, and every step is the same."""
    for beta in (BETA, 0.9375):
        yield Case(bench.hp(lr=LR, beta=beta, rho=RHO), (np.array([0.75, -0.5]),) * 4)


def _large(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Large s: equation 6, evaluated as printed, loses ``u (1 + s)``."""
    for exponent in (3, 5, 8, 11):
        yield Case(bench.hp(lr=LR, beta=BETA, rho=RHO), (2.0**exponent * np.array([0.75, -0.5, 1.25]),))


def _split(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One vector dealt out to several parameters: one global norm."""
    for sizes in ((1, 1), (2, 3), (1, 2, 3)):
        hp = bench.hp(lr=LR, beta=BETA, rho=RHO)
        yield Case(hp, tuple(bench.cast(rng.standard_normal(sum(sizes))) for _ in range(3)), split=sizes)


def _extremes(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Gradients whose squares leave the range of the dtype, or nearly."""
    for exponent in (-100, -60, 30, 62, 100):
        g = bench.cast(2.0**exponent * np.array([0.75, -0.5]))
        if np.isfinite(g).all():
            yield Case(bench.hp(lr=LR, beta=BETA, rho=RHO), (g,) * 2)


def _zeros(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    for d in (1, 3):
        yield Case(bench.hp(lr=LR, beta=BETA, rho=RHO), (np.zeros(d),) * 2)


def _golden_cases(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """The gradients along the golden iterates."""
    path = np.array([(1.0, -2.0), *GOLDEN_W[:-1]])
    yield Case(bench.hp(**GOLDEN_HP), tuple(bench.cast(w * (1.0, 3.0)) for w in path), start=path[0])


def _golden(bench: Bench, case: Case) -> Verdict:
    """Printed digits, within their own rounding, that of the gradients, and the budget of the recursion."""
    _, allowed = sofim_oracle.oracle(bench, case)
    count = len(case.gradients)
    # A step is 2 lr / rho-Lipschitz in the gradient (slope of x / (rho + x^2), and bias correction averages).
    inputs = [2 * case.hp["lr"] / case.hp["rho"] * bench.u * np.abs(G).max() for G in case.gradients]
    budgets = tuple(a + GOLDEN_DIGITS + sum(inputs[: t + 1]) for t, a in enumerate(allowed))
    return compare("golden steps", bench.run(case), tuple(map(np.array, GOLDEN_W[:count])), budgets)


def _parallel(bench: Bench, case: Case) -> Verdict:
    """The part of the update across M_hat, against the budget of its entries; and it points along M_hat."""
    expected, allowed = sofim_oracle.oracle(bench, case)
    observed = bench.run(case)
    along = []
    for U, E in zip(observed, expected, strict=True):
        size = float((E * E).sum())
        along.append(E * max(0.0, float((U * E).sum()) / size) if size else E)
    budgets = tuple(a * (1 + np.sqrt(a.size)) for a in allowed)
    return compare("parallel to M_hat", observed, tuple(along), budgets)


def _bounded(bench: Bench, case: Case) -> Verdict:
    """``|U| <= 1 / (2 sqrt(rho))`` at every scale, and nothing but numbers."""
    bound = 0.5 / float(case.hp["rho"]) ** 0.5
    lengths = [float(np.linalg.norm(U)) for U in bench.run(case)]
    d, count = case.gradients[0].size, len(lengths)
    budget = (3 * sofim_oracle.MOMENTUM_ROUNDINGS * count + d) * (bench.working_u + bench.u) * bound
    excess = np.max([np.nan if not np.isfinite(x) else max(0.0, x - bound) for x in lengths])
    note = f"update lengths {', '.join(f'{x:.3g}' for x in lengths)}, bound {bound:.3g}"
    return Verdict(Ratio("step bound", float(excess), budget), note=note)


def _redescends(bench: Bench, case: Case) -> Verdict:
    """The longest step is taken at ``|M_hat| = sqrt(rho)``: half and twice that gradient move less."""
    (g,) = case.gradients
    lengths = [
        float(np.linalg.norm(bench.run(replace(case, gradients=(f * g,)))[0])) for f in (0.5, 1.0, 2.0)
    ]
    budget = sum(float(np.linalg.norm(sofim_oracle.oracle(bench, case)[1][0])) for _ in lengths)
    excess = np.max(lengths) - lengths[1]
    return Verdict(Ratio("redescending", float(excess), budget), note=f"lengths {lengths}")


def _peak(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    for d in (1, 4):
        g = np.full(d, (RHO / d) ** 0.5)
        yield Case(bench.hp(lr=LR, beta=BETA, rho=RHO), (bench.cast(g),))


def _rescaled(case: Case) -> Case:
    hp = {**case.hp, "rho": GROUP**2 * case.hp["rho"]}
    return replace(case, hp=hp, gradients=tuple(GROUP * G for G in case.gradients))


def _is_closed(setting: Setting) -> bool:
    return setting.variant["form"] == "closed"


def _checks() -> tuple[Check, ...]:
    direction = "U_t = M_hat_t / (rho + |M_hat_t|^2)"
    momentum = "M_t = beta M_{t-1} + (1 - beta) g_t"
    corrected = "M_hat_t = M_t / (1 - beta^t), so that M_hat_1 = g_1"
    L1, L2 = Level.GOLDEN, Level.INVARIANTS
    return (
        Check(
            "sofim.golden",
            "SOFIM-closed-form",
            "three golden steps on a quadratic",
            L1,
            _golden_cases,
            _golden,
        ),
        Check("sofim.direction", "SOFIM-closed-form", direction, L2, _single_steps, against_oracle),
        Check("sofim.regularisation", "SOFIM-closed-form", direction, L2, _regularisation, against_oracle),
        Check("sofim.bias-correction", "SOFIM-pipeline", corrected, L2, _constant, against_oracle),
        Check("sofim.momentum", "SOFIM-pipeline", momentum, L2, _sequences, against_oracle),
        Check(
            "sofim.parallel",
            "SOFIM-closed-form",
            "U_t is a non-negative multiple of M_hat_t",
            L2,
            _sequences,
            _parallel,
        ),
        Check(
            "sofim.global-norm",
            "SOFIM-noise",
            "|M_hat|^2 is taken over all parameters together, not per parameter",
            L2,
            _split,
            against_oracle,
            optimizer_only=True,
        ),
        Check(
            "sofim.cancellation",
            "SOFIM-cancellation",
            f"{direction}, evaluated without subtracting M_hat/rho from itself",
            L2,
            _large,
            against_oracle,
            where=_is_closed,
        ),
        Check(
            "sofim.step-bound",
            "SOFIM-step-bound",
            "|U_t| <= 1/(2 sqrt(rho))",
            L2,
            _single_steps,
            _bounded,
            script=False,
        ),
        Check(
            "sofim.extremes",
            "SOFIM-step-bound",
            "|U_t| <= 1/(2 sqrt(rho)) for gradients of any size, no NaN",
            L2,
            _extremes,
            _bounded,
            script=False,
        ),
        Check(
            "sofim.redescending",
            "SOFIM-step-bound",
            "|U| is largest at |M_hat| = sqrt(rho)",
            L2,
            _peak,
            _redescends,
            script=False,
        ),
        Check(
            "sofim.scaling-group",
            "SOFIM-scaling",
            "U(c g, c^2 rho) = U(g, rho)/c: (f, lr, rho) -> (c f, c lr, c^2 rho) leaves the iterates alone",
            L2,
            _sequences,
            relation("scaling group", _rescaled, lambda U, case: U / GROUP),
        ),
        Check("sofim.oddness", "SOFIM-closed-form", "U(-g) = -U(g)", L2, _sequences, oddness()),
        Check("sofim.zero-gradient", "SOFIM-closed-form", "M_hat = 0: no step", L2, _zeros, stays_zero),
    )


def _fingerprints(bench: Bench) -> list[Case]:
    rng = bench.rng("sofim.fingerprint")
    split = [] if bench.is_step else list(_split(bench, rng))[1:2]
    return [
        *split,
        *_sequences(bench, rng),
        *list(_single_steps(bench, rng))[-3:],
        *list(_constant(bench, rng))[:1],
    ]


SOFIM = Spec(
    name="sofim",
    hyper_parameters={"lr": LR, "beta": BETA, "rho": RHO},
    essential=frozenset({"lr", "beta", "rho"}),
    sweep={},
    options={
        "form": Option("closed", ("closed", "two-term")),
        "precision": Option("parameter", ("parameter", "bfloat16", "float32", "float64")),
    },
    checks=(*contract_checks("sofim", matrices_only=False), *_checks()),
    oracle=sofim_oracle.oracle,
    simulate=sofim_oracle.simulate,
    fingerprints=_fingerprints,
    faults=REFERENCE_FAULTS,
    module="reference.sofim",
    coupled=True,
)

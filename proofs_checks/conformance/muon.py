"""Muon: ``V <- beta V + (1-beta) G``, five Newton-Schulz steps, a shape factor, decoupled decay.

Symbols: B what is orthogonalised (V, or ``G + beta (V - G)`` with Nesterov), NS the iteration, a the shape
factor, U update. Source of the rule: comparators.md section 1; "V <- beta V + G" gives the same direction.
"""

from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np

from proofs_checks.conformance import muon_cases as cases
from proofs_checks.conformance import muon_oracle
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Check, Option, Setting, Spec, Verdict, compare
from proofs_checks.conformance.contract import contract_checks
from proofs_checks.conformance.judges import (
    against_oracle,
    oddness,
    refuse_vacuous,
    relation,
    rotate,
    rotated,
    stays_zero,
)
from proofs_checks.conformance.records import Level
from proofs_checks.mutants.muon import REFERENCE_FAULTS
from proofs_checks.ratios import ORDER_ONE, Ratio
from reference import polar

__all__ = ["MUON"]

GOLDEN = "five Jordan steps on diag(3, 4), diag(5, 12), diag(8, 15) in rational arithmetic"
ITERATION = "U = a NS(B), NS: X = B/|B|_F, then ns_steps times X <- (a I + b X X^T + c (X X^T)^2) X"
SHAPE = {
    "original": "U = a NS(B), a = sqrt(max(1, m/n))",
    "match_rms_adamw": "U = a NS(B), a = 0.2 sqrt(max(m, n))",
    "none": "U = NS(B), no shape factor",
}
MOMENTUM = {
    False: "U_t = a NS(V_t), V_t = beta V_{t-1} + (1 - beta) G_t",
    True: "U_t = a NS(G_t + beta (V_t - G_t)), V_t = beta V_{t-1} + (1 - beta) G_t",
}
DECAY = "W_t = (1 - lr wd) W_{t-1} - lr U_t"
INVARIANCE = "U(c G_1, c G_2, ...) = U(G_1, G_2, ...), c = {}: the input is divided by its Frobenius norm"


def _is_jordan(setting: Setting) -> bool:
    return setting.variant["coefficients"] == polar.JORDAN_QUINTIC


def _golden(bench: Bench, case: Case) -> Verdict:
    """Integer momenta, exact rational arithmetic, one rounding; the reference is not used for the values."""
    _, allowed = muon_oracle.oracle(bench, case)
    a = muon_oracle.scale_factor(case.gradients[0].shape, bench.setting.variant["scale"])
    V: Array = np.zeros_like(case.gradients[0])
    expected = []
    for G in case.gradients:
        V = (V + G) / 2
        B = (V + G) / 2 if case.hp["nesterov"] else V
        whole = [round(4 * float(value)) for value in np.diag(B)]  # 4 B is integer and has B's direction
        expected.append(a * cases.diagonal(G.shape, *muon_oracle.golden_direction(whole)))
    verdict = compare("golden direction", bench.run(case), tuple(expected), allowed)
    return refuse_vacuous(replace(verdict, source="exact rational arithmetic"))


def _support(bench: Bench, case: Case) -> Verdict:
    """Rows and columns that are zero in G are zero in the update, to the rounding of a polar factor."""
    (U,), (G,) = bench.run(case), case.gradients
    inside = np.outer(G.any(axis=1), G.any(axis=0))
    # Inside, U is compared with itself: what it holds there is the business of the other checks.
    allowed = np.where(inside, np.abs(U), ORDER_ONE * bench.working_u)
    return compare("support", (U,), (np.where(inside, U, 0.0),), (allowed,))


def _descends(bench: Bench, case: Case) -> Verdict:
    """``<B, U> >= 0`` at every step, up to what rounding can take away."""
    _, allowed = muon_oracle.oracle(bench, case)
    worst = Ratio("descent", 0.0, 1.0)
    for B, U, budget in zip(muon_oracle.momentum(case), bench.run(case), allowed, strict=True):
        inner = float((B * U).sum())
        slack = float((np.abs(B) * budget).sum()) if budget.ndim else float(np.linalg.norm(B) * budget)
        ascent = max(0.0, -inner) if np.isfinite(inner) else np.nan
        worst = max(worst, Ratio("descent", ascent, max(slack, bench.u)), key=lambda ratio: ratio.value)
    return Verdict(worst)


def _transposed(bench: Bench, case: Case) -> Verdict:
    scale = bench.setting.variant["scale"]

    def image(U: Array, case: Case) -> Array:
        a, b = (muon_oracle.scale_factor(shape, scale) for shape in (U.shape, U.shape[::-1]))
        return (b / a) * U.T

    def other(case: Case) -> Case:
        return replace(case, gradients=tuple(G.T.copy() for G in case.gradients))

    return relation("transposition", other, image)(bench, case)


_check = partial(Check, level=Level.INVARIANTS, judge=against_oracle)


def _scaled(factor: float) -> Check:
    """Invariance of whole trajectories under one scale."""
    name = f"2^{int(np.log2(factor))}"

    def other(case: Case) -> Case:
        return replace(case, gradients=tuple(factor * G for G in case.gradients))

    return _check(
        f"muon.scale-invariance.{name}",
        "COMP-oracles",
        INVARIANCE.format(name),
        cases=cases.sequences,
        judge=relation("scale invariance", other, lambda U, case: U),
    )


def _with_momentum(nesterov: bool) -> tuple[Check, Check]:
    """Momentum and trajectories, with the equation that goes with the setting."""

    def where(setting: Setting) -> bool:
        return bool(setting.swept.get("nesterov")) is nesterov

    suffix, equation = ".nesterov" if nesterov else "", MOMENTUM[nesterov]
    return (
        _check(f"muon.momentum{suffix}", "COMP-oracles", equation, cases=cases.momentum, where=where),
        _check(f"muon.trajectory{suffix}", "COMP-oracles", equation, cases=cases.trajectories, where=where),
    )


def _shape_factor(scale: str, equation: str) -> Check:
    def where(setting: Setting) -> bool:
        return setting.variant["scale"] == scale

    return _check("muon.shape-factor", "COMP-oracles", equation, cases=cases.shapes, where=where)


_CHECKS = (
    Check("muon.golden", "JORDAN-range", GOLDEN, Level.GOLDEN, cases.golden, _golden, where=_is_jordan),
    _check("muon.iteration.small-singular-values", "NS-evolution", ITERATION, cases=cases.small_values),
    _check("muon.iteration.dense", "NS-evolution", ITERATION, cases=cases.dense_gradients),
    _check("muon.iteration.steps", "NS-evolution", ITERATION, cases=cases.few_steps, needs=("ns_steps",)),
    _check("muon.iteration.support", "NS-evolution", ITERATION, cases=cases.zero_border, judge=_support),
    *(_shape_factor(scale, equation) for scale, equation in SHAPE.items()),
    *_with_momentum(False),
    *_with_momentum(True),
    _check("muon.weight-decay", "COMP-oracles", DECAY, cases=cases.decay, needs=("weight_decay",)),
    *(_scaled(factor) for factor in cases.SCALES),
    _check(
        "muon.equivariance",
        "COMP-oracles",
        "U(S G T^T) = S U(G) T^T for orthogonal S, T",
        cases=cases.sequences,
        judge=relation("equivariance", rotated, rotate, mixes=True),
    ),
    _check(
        "muon.transposition",
        "COMP-oracles",
        "U(G^T)/a(n, m) = (U(G)/a(m, n))^T",
        cases=cases.sequences,
        judge=_transposed,
    ),
    _check("muon.oddness", "COMP-oracles", "U(-G) = -U(G)", cases=cases.sequences, judge=oddness()),
    _check(
        "muon.descent",
        "POLAR-duality",
        "<B_t, U_t> >= 0",
        cases=cases.sequences,
        judge=_descends,
        script=False,
    ),
    _check(
        "muon.zero-gradient",
        "COMP-oracles",
        "NS(0) = 0: no gradient, no step",
        cases=cases.zeros,
        judge=stays_zero,
    ),
)


def _simulate(module: ModuleType, case: Case, setting: Setting) -> tuple[Array, ...]:
    """The recursion of `module` (`reference.muon` or a faulty copy) on a case."""
    hp, steps = case.hp, muon_oracle.coefficients(setting, case)
    W, state = case.start, module.init(case.gradients[0])
    out = []
    for G in case.gradients:
        update, state = module.step(
            G,
            state,
            beta=float(hp["momentum"]),
            nesterov=bool(hp["nesterov"]),
            momentum="ema",
            scale=setting.variant["scale"],
            orthogonalize=partial(polar.newton_schulz, polynomials=steps),
            weight_decay=0.0 if W is None else float(hp["weight_decay"]),
            W=W,
        )
        W = None if W is None else W - hp["lr"] * update
        out.append(update if W is None else W)
    return tuple(out)


def _fingerprints(bench: Bench) -> list[Case]:
    """Momentum at both ends of its range, small singular values, shapes, and decay if there is any."""
    rng = bench.rng("muon.fingerprint")
    momentum = list(cases.momentum(bench, rng))
    decayed = [] if "weight_decay" in bench.target.lacks else list(cases.decay(bench, rng))[3:4]
    shapes = list(cases.shapes(bench, rng))[:4]
    return [*decayed, momentum[0], momentum[-1], *cases.small_values(bench, rng), *shapes]


MUON = Spec(
    name="muon",
    hyper_parameters={
        "lr": cases.LR,
        "momentum": 0.875,
        "nesterov": True,
        "weight_decay": 0.0,
        "ns_steps": 5,
    },
    essential=frozenset({"lr", "momentum"}),
    sweep={"nesterov": (True, False)},
    options={
        "scale": Option("original", tuple(SHAPE)),
        "eps": Option(1e-7),
        "coefficients": Option(polar.JORDAN_QUINTIC),
        "precision": Option("bfloat16", ("bfloat16", "float32", "float64")),
    },
    checks=(*contract_checks("muon", matrices_only=True), *_CHECKS),
    oracle=muon_oracle.oracle,
    simulate=_simulate,
    fingerprints=_fingerprints,
    faults=REFERENCE_FAULTS,
    module="reference.muon",
)

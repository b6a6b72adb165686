"""AdaFisher: momentum over a diagonal, min-max normalised Kronecker approximation of the Fisher matrix.

Symbols: h inputs of a layer, s gradients at its output, h_D and s_D mean squares of their entries, x' the
min-max normalisation of x, F denominator, G gradient, M momentum, M_hat its bias-corrected value, U update.
Source: adafisher.md sections 1, 1.1, 2 and 4.

A target takes the model. It is given one layer, and h and s are chosen: the loss is ``sum(s * output)``.
What isolates an equation: ``beta = 0`` leaves G / F; a layer of one input and one output has F = lam, which
leaves the momentum; a first step leaves the measurement itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from proofs_checks.conformance import adafisher_cases as cases
from proofs_checks.conformance import adafisher_golden, adafisher_oracle
from proofs_checks.conformance.adafisher_contract import model_checks
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Check, Option, Setting, Spec, Verdict, compare
from proofs_checks.conformance.contract import contract_checks
from proofs_checks.conformance.errors import NotApplicable, TargetRaised
from proofs_checks.conformance.judges import against_oracle, refuse_vacuous, relation, stays_zero
from proofs_checks.conformance.layer_case import LayerCase, Pass, layered
from proofs_checks.conformance.layers import Linear
from proofs_checks.conformance.records import Level
from proofs_checks.mutants.adafisher import REFERENCE_FAULTS
from proofs_checks.ratios import Ratio

__all__ = ["ADAFISHER"]

DENOMINATOR = "U = M_hat / F, F_jk = s'_j h'_k + lam: no square root, outputs x inputs"
BIAS = f"{DENOMINATOR}; the bias is the last column, with input 1 in h_D"
DAMPING = "F_jk = s'_j h'_k + lam: lam is added to the product, once"
CONSTANT = "a constant factor normalises to 0: F = lam, U = M_hat / lam"
EXTREMES = "h' and s' hold an exact 0 and an exact 1: F = lam and F = 1 + lam there"
RANGE = "lam <= F <= 1 + lam, seen in U = M_hat / F"
MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) G_t"
CORRECTED = "M_hat_t = M_t / (1 - beta^t), so that M_hat_1 = G_1"
MOVING = f"U_t = M_hat_t / F_t, {MOMENTUM}: averaged before it is divided, by the F of the moment"
AVERAGE = {
    (
        "paper",
        "old",
        "first",
    ): "h_D <- gamma h_D + (1 - gamma) fresh, s_D likewise, from the first measurement",
    (
        "paper",
        "new",
        "first",
    ): "h_D <- (1 - gamma) h_D + gamma fresh, s_D likewise, from the first measurement",
    ("paper", "old", "ones"): "h_D <- gamma h_D + (1 - gamma) fresh, s_D likewise, from ones",
    ("paper", "new", "ones"): "h_D <- (1 - gamma) h_D + gamma fresh, s_D likewise, from ones",
}
RELEASED = "h' <- 0.1 gamma h' + 0.01 gamma minmax(fresh), range + 1e-6, from ones"
ORDER = {
    "after": "h' = minmax(average of h_D): averaged first, then normalised",
    "before": "h' = average of minmax(h_D): normalised first, then averaged",
}
REFRESH = "the factors are measured at steps 1, 1 + K, 1 + 2 K, ... and kept in between"
DECAY = {
    "decoupled": "W_t = W_{t-1} - lr (U_t + wd W_{t-1})",
    "coupled": "W_t = W_{t-1} - lr U_t, wd W_{t-1} added to G_t",
}
LOSS_SCALE = "U(c s) = c U(s), c = {}: min-max removes the scale of the loss from F"
INPUT_SCALE = "U(c h) = c U(h), c = {}, without a bias: min-max removes the scale of the inputs from F"
REUSE = "a module called twice: the rows of both calls are pooled, in G and in the factors"
ACCUMULATION = "gradient accumulation: the rows of all backward passes since the last step are pooled"
EVALUATION = "calls without gradients, or never differentiated, do not count"
_CONVOLUTION = "h_D of a convolution: mean squares of patch entries over batch and sites, 1 for the bias"
_NORMALISATION = "scale: h_D from the normalised activations, F_j = s'_j h'_j + lam"
LAYERS = {
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "conv2d-grouped": "a grouped convolution: each group has the factors of its own channels",
    "conv3d": _CONVOLUTION,
    "embedding": "an embedding is a linear layer of one-hot inputs: h_D holds the share of each entry",
    "batch-norm": f"{_NORMALISATION}; shift: F = lam",
    "layer-norm": f"{_NORMALISATION}; shift: F = lam",
    "group-norm": f"{_NORMALISATION}; shift: F = lam",
    "rms-norm": _NORMALISATION,
}

#: Scales that a step must carry through without seeing them in F.
SCALES = (2.0**-10, 2.0**3, 2.0**10)


def _is(**options: object) -> Callable[[Setting], bool]:
    return lambda setting: all(setting.variant[name] == value for name, value in options.items())


def _normalises_last(setting: Setting) -> bool:
    return _is(averaging="paper", normalise="after", epsilon=0.0)(setting)


def _is_scale_free(setting: Setting) -> bool:
    """Whether F forgets the scale of its first measurement; from ones it does not."""
    exact = setting.variant["epsilon"] == 0 or bool(setting.variant["relative"])
    return exact and _is(averaging="paper", initial="first")(setting)


def _flattens_constants(setting: Setting) -> bool:
    """Whether a constant factor leaves F = lam: not where a normalised average starts from ones."""
    from_ones = _is(normalise="before", initial="ones")(setting)
    return _is(averaging="paper")(setting) and not from_ones


def _golden(bench: Bench, case: Case) -> Verdict:
    """Exact rational arithmetic, one rounding; the reference is not used for the values."""
    case = layered(case)
    _, allowed = adafisher_oracle.oracle(bench, case)
    if not isinstance(case.layer, Linear):
        raise NotApplicable("the golden steps are those of a linear layer")
    want = adafisher_golden.updates(case, bench.setting.variant)
    verdict = compare("golden steps", bench.run(case), want, allowed)
    return replace(verdict, source="exact rational arithmetic")


def _extreme(bench: Bench, case: Case) -> Verdict:
    """Only the entries where s' h' is 0 or 1: there F carries one rounding."""
    expected, allowed = adafisher_oracle.oracle(bench, case)
    observed = bench.run(case)
    lam = float(case.hp["lam"])
    marks = adafisher_oracle.extremes(bench, layered(case))
    want, budgets = [], []
    for U, E, budget, mark in zip(observed, expected, allowed, marks, strict=True):
        # Elsewhere U is compared with itself: what it holds there is the business of the other checks.
        want.append(np.where(mark, E, U))
        budgets.append(np.where(mark, budget, np.abs(U) + lam))
    return refuse_vacuous(compare("extremes", observed, tuple(want), tuple(budgets)))


def _bounded(bench: Bench, case: Case) -> Verdict:
    """``|M_hat| / (1 + lam) <= |U| <= |M_hat| / lam``, with the sign of M_hat."""
    lam = float(case.hp["lam"])
    _, allowed = adafisher_oracle.oracle(bench, case)
    momenta = adafisher_oracle.momenta(case, bench.setting)
    worst, seen = Ratio("range of F", 0.0, 1.0), []
    for U, M_hat, budget in zip(bench.run(case), momenta, allowed, strict=True):
        along = U * np.sign(M_hat)
        excess = np.maximum(along - np.abs(M_hat) / lam, np.abs(M_hat) / (1 + lam) - along)
        ratios = np.where(np.isfinite(excess), np.maximum(excess, 0.0), np.inf) / np.maximum(
            budget, bench.smallest
        )
        at = np.unravel_index(int(ratios.argmax()), ratios.shape)
        found = Ratio("range of F", float(ratios[at] * budget[at]), float(budget[at]))
        worst = max(worst, found, key=lambda ratio: ratio.value)
        seen += np.abs(M_hat[U != 0] / U[U != 0]).tolist()
    note = f"F from {min(seen, default=np.nan):.4g} to {max(seen, default=np.nan):.4g}, lam = {lam:.4g}"
    return Verdict(worst, note=note)


def _layer(bench: Bench, case: Case) -> Verdict:
    """Against the reference, unless the target refuses the layer when it is made."""
    try:
        bench.start_layer(layered(case))
    except TargetRaised as error:
        raise NotApplicable(f"the target refuses {layered(case).layer.source()}: {error}") from error
    return against_oracle(bench, case)


def _mapped(case: Case, change: Callable[[Pass], Pass], **also: object) -> LayerCase:
    trained = layered(case)
    steps = tuple(tuple(map(change, passes)) for passes in trained.steps)
    return replace(trained, steps=steps, **also)  # type: ignore[arg-type]


def _scale_checks() -> list[Check]:
    found = []
    for name, equation in (("loss-scale", LOSS_SCALE), ("input-scale", INPUT_SCALE)):
        for c in SCALES:
            power = f"2^{int(np.log2(c))}"
            found.append(
                _check(
                    f"adafisher.{name}.{power}",
                    "ADAF-loss-scale",
                    equation.format(power),
                    cases=cases.moving,
                    judge=relation(name.replace("-", " "), _scaling(name, c), _times(c)),
                    where=_is_scale_free,
                )
            )
    return found


def _scaling(name: str, c: float) -> Callable[[Case], Case]:
    if name == "loss-scale":
        return lambda case: _mapped(case, lambda p: replace(p, s=c * p.s))
    return lambda case: _mapped(case, lambda p: replace(p, h=c * p.h))


def _times(c: float) -> Callable[[Array, Case], Array]:
    return lambda U, case: c * U


def _turned(case: Case) -> Case:
    """Inputs and outputs in reverse order."""
    return _mapped(case, lambda p: replace(p, h=p.h[..., ::-1].copy(), s=p.s[..., ::-1].copy()))


def _exchanged(case: Case) -> Case:
    """Inputs for gradients and the reverse."""
    trained = layered(case)
    m, n = trained.layer.shape
    return _mapped(case, lambda p: replace(p, h=p.s, s=p.h), layer=Linear(m, n))


def _negated(case: Case) -> Case:
    return _mapped(case, lambda p: replace(p, s=-p.s))


_check = partial(Check, level=Level.INVARIANTS, judge=against_oracle)


def _variants(
    id: str, claim: str, make: Callable[..., object], equations: dict[str, Callable[[Setting], bool]]
) -> list[Check]:
    """One check, with the equation that goes with the variant."""
    return [_check(id, claim, text, cases=make, where=where) for text, where in equations.items()]  # type: ignore[arg-type]


_AVERAGED = {
    text: _is(averaging=averaging, gamma_on=gamma_on, initial=initial)
    for (averaging, gamma_on, initial), text in AVERAGE.items()
}

_CHECKS = (
    Check(
        "adafisher.golden",
        "ADAF-golden",
        "three steps of the two-sample layer in rational arithmetic",
        Level.GOLDEN,
        cases.golden,
        _golden,
    ),
    _check("adafisher.denominator", "ADAF-golden", DENOMINATOR, cases=cases.single),
    _check("adafisher.bias", "ADAF-golden", BIAS, cases=cases.biased),
    _check("adafisher.damping", "ADAF-range", DAMPING, cases=cases.damped),
    _check(
        "adafisher.constant-factor",
        "ADAF-zero-one",
        CONSTANT,
        cases=cases.constant,
        where=_flattens_constants,
    ),
    _check(
        "adafisher.zero-and-one",
        "ADAF-zero-one",
        EXTREMES,
        cases=cases.extremes,
        judge=_extreme,
        where=_normalises_last,
    ),
    _check("adafisher.range", "ADAF-range", RANGE, cases=cases.ranges, judge=_bounded, script=False),
    _check("adafisher.momentum", "ADAF-update", MOMENTUM, cases=cases.plain),
    _check("adafisher.bias-correction", "ADAF-update", CORRECTED, cases=cases.constant_gradient),
    _check("adafisher.momentum-order", "ADAF-update", MOVING, cases=cases.moving),
    *_variants("adafisher.average", "ADAF-average", cases.averages, _AVERAGED),
    *_variants("adafisher.average", "ADAF-legacy", cases.averages, {RELEASED: _is(averaging="released")}),
    *_variants(
        "adafisher.order",
        "ADAF-average",
        cases.quiet_then_loud,
        {text: _is(averaging="paper", normalise=name) for name, text in ORDER.items()},
    ),
    _check("adafisher.refresh", "ADAF-average", REFRESH, cases=cases.periodic, needs=("refresh",)),
    _check("adafisher.trajectory", "ADAF-golden", "Algorithm 1, all steps", cases=cases.trajectories),
    *(
        _check(
            "adafisher.weight-decay",
            "ADAF-update",
            text,
            cases=cases.decayed,
            needs=("weight_decay",),
            where=_is(decay=name),
        )
        for name, text in DECAY.items()
    ),
    *_scale_checks(),
    _check(
        "adafisher.permutation",
        "ADAF-golden",
        "inputs and outputs in another order: U with its columns and rows in that order",
        cases=cases.moving,
        judge=relation("permutation", _turned, lambda U, case: U[::-1, ::-1]),
    ),
    _check(
        "adafisher.transposition",
        "ADAF-golden",
        "inputs and gradients exchanged: U^T",
        cases=cases.moving,
        judge=relation("transposition", _exchanged, lambda U, case: U.T),
    ),
    _check(
        "adafisher.oddness",
        "ADAF-golden",
        "U(-s) = -U(s)",
        cases=cases.moving,
        judge=relation("oddness", _negated, lambda U, case: -U),
    ),
    _check(
        "adafisher.zero-gradient", "ADAF-zero-one", "M_hat = 0: no step", cases=cases.zeros, judge=stays_zero
    ),
    *(
        _check(id, "ADAF-golden", text, cases=make, judge=_layer, optimizer_only=True)
        for id, text, make in (
            ("adafisher.tokens", "inputs (N, T, n): tokens are rows of h and s", cases.tokens),
            ("adafisher.reuse", REUSE, cases.reused),
            ("adafisher.accumulation", ACCUMULATION, cases.accumulated),
            ("adafisher.evaluation", EVALUATION, cases.evaluated),
        )
    ),
    *(
        _check(
            f"adafisher.layer.{kind}",
            "ADAF-P3.1-block" if kind.endswith("norm") else "ADAF-golden",
            text,
            cases=partial(cases.layers_of, kind),
            judge=_layer,
            optimizer_only=True,
        )
        for kind, text in LAYERS.items()
    ),
)


def _fingerprints(bench: Bench) -> list[Case]:
    """What tells the known faults apart: each equation at work, alone or with few others."""
    rng = bench.rng("adafisher.fingerprint")

    def some(
        make: Callable[[Bench, np.random.Generator], Iterable[LayerCase]], *which: int
    ) -> list[LayerCase]:
        found = list(make(bench, rng))
        return [found[i] for i in which]

    moving = some(cases.moving, 0, 1)
    found = [
        *some(cases.trajectories, 1, 2),
        *moving,
        _scaling("loss-scale", SCALES[0])(moving[1]),
        *some(cases.averages, 2, 4),
        *some(cases.quiet_then_loud, 0),
        *some(cases.plain, 0),
        *some(cases.constant, 2),
        *some(cases.biased, 3),
    ]
    if "refresh" not in bench.target.lacks:
        found += some(cases.periodic, 1)
    if "weight_decay" not in bench.target.lacks:
        found += some(cases.decayed, 2, 3)
    if not bench.is_step:
        found += [*some(cases.accumulated, 0, 3), *some(cases.evaluated, 1)]
    return found


ADAFISHER = Spec(
    name="adafisher",
    hyper_parameters={
        "lr": cases.LR,
        "beta": 0.875,
        "gamma": 0.75,
        "lam": 2.0**-6,
        "weight_decay": 0.0,
        "refresh": 1,
    },
    essential=frozenset({"lr", "beta", "gamma", "lam"}),
    sweep={},
    options={
        "normalise": Option("after", ("after", "before")),
        "gamma_on": Option("old", ("old", "new")),
        "averaging": Option("paper", ("paper", "released")),
        "initial": Option("first", ("first", "ones")),
        "epsilon": Option(0.0),
        "relative": Option(True, (True, False)),
        "decay": Option("decoupled", ("decoupled", "coupled")),
        "grouping": Option("layer", ("layer", "group")),
        "precision": Option("parameter", ("parameter", "float32", "float64")),
    },
    checks=(*contract_checks("adafisher", matrices_only=False), *model_checks("adafisher"), *_CHECKS),
    oracle=adafisher_oracle.oracle,
    simulate=adafisher_oracle.simulate,
    fingerprints=_fingerprints,
    faults=REFERENCE_FAULTS,
    module="reference.adafisher",
    likeness=8.0,
    model=True,
)

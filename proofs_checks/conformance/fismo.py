"""FISMO: factors P and Q, whitened momentum, its polar factor mapped back. Algorithm 1 and its options.

Symbols: G gradient (m, n), L and R fresh statistics, P and Q factors of mean eigenvalue 1, M momentum in
whitened coordinates, U update. Source: fismo.md section 5.

Every equation is isolated by hyper-parameters and shapes:

- ``gamma = 1`` freezes ``P = Q = I``: what is left is the polar factor (``beta = 0``) and the momentum.
- ``n = 1`` makes Q the number 1, ``m = 1`` makes P the number 1: one factor alone.
- ``gamma = 0`` makes the factors those of the current gradient; a large gradient drowns the damping, a large
  mu the data.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

import reference.fismo
from proofs_checks.conformance import fismo_cases as cases
from proofs_checks.conformance import fismo_oracle
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Check, Option, Setting, Spec, Verdict, compare
from proofs_checks.conformance.contract import contract_checks
from proofs_checks.conformance.errors import NotApplicable
from proofs_checks.conformance.judges import against_oracle, oddness, relation, rotate, rotated, stays_zero
from proofs_checks.conformance.records import Level
from proofs_checks.mutants.fismo import REFERENCE_FAULTS
from proofs_checks.ratios import ORDER_ONE, Ratio

__all__ = ["FISMO"]

#: fismo.md section 8.2: W_3, row by row, by damping, order and factor scaling.
GOLDEN_W3 = {
    ("algorithm", "gauss-seidel", "none"): (
        (-0.1534225422177, -0.2350011965256, -0.03740650017101),
        (-0.1738578915331, 0.09215221572859, -0.1425391324283),
    ),
    ("algorithm", "jacobi", "none"): (
        (-0.1599463786486, -0.2423682170283, -0.0279370312442),
        (-0.1680886297846, 0.08947381036275, -0.1478134585669),
    ),
    ("theorem", "gauss-seidel", "none"): (
        (-0.1527055599889, -0.2351024128512, -0.03665313738532),
        (-0.1734828635492, 0.09220940685282, -0.1439618401530),
    ),
    ("theorem", "jacobi", "none"): (
        (-0.1582768920945, -0.2406429500105, -0.02760435007923),
        (-0.1678926904975, 0.09019363650549, -0.1504681818113),
    ),
    ("algorithm", "gauss-seidel", "unit"): (
        (-0.1532077339615, -0.2403274511797, -0.03102161767096),
        (-0.1706823057270, 0.09312224596096, -0.1425596376517),
    ),
    ("theorem", "gauss-seidel", "unit"): (
        (-0.1527208987779, -0.2404230490026, -0.03054229867675),
        (-0.1704034160514, 0.09315169353960, -0.1436857427446),
    ),
}
#: Half a unit in the last printed digit.
GOLDEN_DIGITS = 5e-14

LEFT = "P_t = sym(m/tr(Pbar_t) Pbar_t), L_t = G Q^-1 G^T/n + damping, U = P^(-1/2) Polar(M) Q^(-1/2)"
RIGHT = "Q_t = sym(n/tr(Qbar_t) Qbar_t), R_t = G^T P^-1 G/m + damping, U = P^(-1/2) Polar(M) Q^(-1/2)"
TRACES = (
    "P_t = m/tr(Pbar_t) Pbar_t, Q_t = n/tr(Qbar_t) Qbar_t: at gamma = 0, (c G, c^2 mu) gives the U of (G, mu)"
)
AVERAGES = "Pbar_t = gamma P_{t-1} + (1 - gamma) L_t, Qbar_t = gamma Q_{t-1} + (1 - gamma) R_t"
UPDATE = "U_t = P_t^(-1/2) Polar(M_t) Q_t^(-1/2), M_t from G~_t = P_t^(-1/2) G_t Q_t^(-1/2)"
ORDER = "R_t = G_t^T P^-1 G_t/m + damping, with P = P_t (Gauss-Seidel) or P_{t-1} (Jacobi)"
DAMPING = {
    "algorithm": "L_t = G Q^-1 G^T/n + mu tr(P_{t-1})/m I, R_t = G^T P^-1 G/m + mu tr(Q_{t-1})/n I",
    "theorem": "L_t = G Q^-1 G^T/n + mu tr(Q^-1)/n I, R_t = G^T P^-1 G/m + mu tr(P^-1)/m I",
}
MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) G~_t"
BOUND = "|U_t|_2 <= (|P_t^-1| |Q_t^-1|)^(1/2), with the factors' bounds D.2 or T3"


def _row(setting: Setting) -> tuple[str, str, str]:
    damping, order, scaling = (str(setting.variant[name]) for name in ("damping", "order", "factor_scaling"))
    return damping, order, scaling


def _has_golden(setting: Setting) -> bool:
    return _is_polar(setting) and _row(setting) in GOLDEN_W3


def _is_polar(setting: Setting) -> bool:
    return setting.variant["orthogonalize"] == "polar"


def _is(option: str, value: str) -> Callable[[Setting], bool]:
    return lambda setting: setting.variant[option] == value


def _golden(bench: Bench, case: Case) -> Verdict:
    """W_3 against the printed digits; the steps before it are not printed and only lead there."""
    _, allowed = fismo_oracle.oracle(bench, case)
    printed = (len(cases.GOLDEN_GRADIENTS), *np.shape(cases.GOLDEN_GRADIENTS[0]))
    if (len(case.gradients), *case.gradients[0].shape) != printed:
        raise NotApplicable("the golden steps are three, of shape 2x3")
    want = np.array(GOLDEN_W3[_row(bench.setting)])
    verdict = compare("golden steps", (bench.run(case)[-1],), (want,), (allowed[-1] + GOLDEN_DIGITS,))
    return replace(verdict, source="the golden number")


def _rank(bench: Bench, case: Case) -> Verdict:
    """The update has the rank of M, here one: its second singular value is rounding.

    Directions below the cut-off are not orthogonalised. What a correct program leaves there is its backward
    error, times the norms of the inverse roots.
    """
    expected = fismo_oracle.simulate(reference.fismo, case, bench.setting)
    worst = Ratio("rank-one update", 0.0, 1.0)
    for U, E in zip(bench.run(case), expected, strict=True):
        if not np.isfinite(U).all():
            return Verdict(Ratio("rank-one update", np.inf, 1.0), note="not a number")
        second = float(np.linalg.svd(U, compute_uv=False)[1:].max(initial=0.0))
        budget = ORDER_ONE * max(U.shape) * bench.u * float(np.linalg.norm(E, 2))
        worst = max(worst, Ratio("rank-one update", second, budget), key=lambda ratio: ratio.value)
    return Verdict(worst, note=f"second singular value {worst.error:.3g}")


def _bound(bench: Bench, case: Case) -> float:
    """``(|P^-1| |Q^-1|)^(1/2)`` by Lemma D.2 as reconstructed (b < 1), or by T3 for the theorem's damping."""
    m, n = case.gradients[0].shape
    mu, unit = float(case.hp["mu"]), bench.setting.variant["factor_scaling"] == "unit"
    if bench.setting.variant["damping"] == "theorem":
        s2 = float(m * n) if unit else max(float(np.linalg.norm(G, 2)) ** 2 for G in case.gradients)
        return float(((1 + s2 / (m * mu)) * (1 + s2 / (n * mu))) ** 0.5)
    b = 1 / mu if unit else max(float(np.square(G).sum()) for G in case.gradients) / (m * n * mu)
    if not b < 1:
        raise NotApplicable(f"the bound needs b < 1, and b = {b:.2g} here")
    return 1 / (1 - b)


def _bounded(bench: Bench, case: Case) -> Verdict:
    bound = _bound(bench, case)
    _, allowed = fismo_oracle.oracle(bench, case)
    updates = bench.run(case)
    if not all(np.isfinite(U).all() for U in updates):
        return Verdict(Ratio("step bound", np.inf, 1.0), note="not a number")
    longest = max(float(np.linalg.norm(U, 2)) for U in updates)
    budget = max(float(np.linalg.norm(a)) for a in allowed)
    note = f"update norm {longest:.4g}, bound {bound:.4g}"
    return Verdict(Ratio("step bound", max(0.0, longest - bound), budget), note=note)


def _dual_norm(bench: Bench, case: Case) -> Verdict:
    """``<G, U>``; without momentum that is the nuclear norm of the whitened gradient."""
    expected, allowed = fismo_oracle.oracle(bench, case)

    def against(weights: tuple[Array, ...], values: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(np.array([(G * X).sum()]) for G, X in zip(weights, values, strict=True))

    sizes = tuple(np.abs(G) for G in case.gradients)
    G = case.gradients
    return compare("dual norm", against(G, bench.run(case)), against(G, expected), against(sizes, allowed))


def _louder(case: Case) -> Case:
    return replace(case, gradients=tuple(cases.SCALE * G for G in case.gradients))


def _homogeneous(case: Case) -> Case:
    return replace(_louder(case), hp={**case.hp, "mu": cases.SCALE**2 * case.hp["mu"]})


def _transposed(case: Case) -> Case:
    return replace(case, gradients=tuple(G.T.copy() for G in case.gradients))


def _same(U: Array, case: Case) -> Array:
    return U


_check = partial(Check, level=Level.INVARIANTS, judge=against_oracle)

_CHECKS = (
    Check(
        "fismo.golden",
        "FISMO-GOLDEN",
        "W_3 of three golden steps",
        Level.GOLDEN,
        cases.golden,
        _golden,
        where=_has_golden,
    ),
    _check("fismo.polar", "FISMO-LIM-muon", "gamma = 1, beta = 0: U = Polar(G)", cases=cases.flat),
    _check("fismo.momentum", "FISMO-LIM-muon", f"gamma = 1: {MOMENTUM}", cases=cases.flat_momentum),
    _check("fismo.left-factor", "FISMO-ALG-invariants", LEFT, cases=cases.columns),
    _check("fismo.right-factor", "FISMO-ALG-invariants", RIGHT, cases=cases.rows),
    _check(
        "fismo.normalisation",
        "FISMO-ALG-invariants",
        TRACES,
        cases=cases.homogeneous,
        judge=relation("homogeneity", _homogeneous, _same),
        where=_is("factor_scaling", "none"),
    ),
    _check("fismo.averaging", "FISMO-ALG-invariants", AVERAGES, cases=cases.averaged_columns),
    _check("fismo.whitening", "FISMO-T4.2-lmo", UPDATE, cases=cases.loud),
    _check("fismo.order", "FISMO-ALG-invariants", ORDER, cases=cases.fresh),
    *(
        _check("fismo.damping", "FISMO-ALG-fixed-point", text, cases=cases.damped, where=_is("damping", name))
        for name, text in DAMPING.items()
    ),
    _check(
        "fismo.whitened-momentum", "FISMO-FRAME", f"{MOMENTUM}, averaged after whitening", cases=cases.moving
    ),
    _check("fismo.trajectory", "FISMO-ALG-invariants", "Algorithm 1, all steps", cases=cases.trajectories),
    _check(
        "fismo.loss-scale",
        "FISMO-LOSS-SCALE",
        "factor_scaling='unit': U(c G_1, c G_2, ...) = U(G_1, G_2, ...)",
        cases=cases.symmetric,
        judge=relation("scale invariance", _louder, _same),
        where=_is("factor_scaling", "unit"),
    ),
    _check(
        "fismo.equivariance",
        "FISMO-SYM-orthogonal",
        "U(S G T^T) = S U(G) T^T for orthogonal S, T",
        cases=cases.symmetric,
        judge=relation("equivariance", rotated, rotate, mixes=True),
    ),
    _check(
        "fismo.transposition",
        "FISMO-SYM-transpose",
        "order='jacobi': U(G^T) = U(G)^T",
        cases=cases.symmetric,
        judge=relation("transposition", _transposed, lambda U, case: U.T),
        where=_is("order", "jacobi"),
    ),
    _check("fismo.oddness", "FISMO-SYM-orthogonal", "U(-G) = -U(G)", cases=cases.symmetric, judge=oddness()),
    _check("fismo.sign", "FISMO-LIM-muon", "1x1: P = Q = 1, U_t = sign(M_t)", cases=cases.signs),
    _check(
        "fismo.rank",
        "FISMO-T4.2-lmo",
        "Polar(M) is a partial isometry of the rank of M",
        cases=cases.deficient,
        judge=_rank,
        where=_is_polar,
        script=False,
    ),
    _check(
        "fismo.dual-norm",
        "FISMO-T4.2-lmo",
        "beta = 0: <G, U> = |P^(-1/2) G Q^(-1/2)|_*",
        cases=cases.fresh,
        judge=_dual_norm,
        script=False,
    ),
    _check(
        "fismo.step-bound",
        "FISMO-T3-unconditional",
        BOUND,
        cases=cases.quiet,
        judge=_bounded,
        where=_is_polar,
        script=False,
    ),
    _check("fismo.zero-gradient", "FISMO-T4.2-lmo", "M_t = 0: no step", cases=cases.zeros, judge=stays_zero),
)


def _fingerprints(bench: Bench) -> list[Case]:
    """Trajectories that everything enters, one factor alone each way, flat factors."""
    rng = bench.rng("fismo.fingerprint")
    hp = bench.hp(lr=cases.LR, beta=0.5, gamma=0.5, mu=1.0)
    general = [Case(hp, cases.steps(bench, rng, shape, 4)) for shape in ((2, 3), (3, 2), (3, 3))]
    return [*general, *list(cases.averaged_columns(bench, rng))[:2], list(cases.flat_momentum(bench, rng))[1]]


FISMO = Spec(
    name="fismo",
    hyper_parameters={"lr": cases.LR, "beta": 0.875, "gamma": 0.9375, "mu": 2.0**-6},
    essential=frozenset({"lr", "beta", "gamma", "mu"}),
    sweep={},
    options={
        "damping": Option("algorithm", ("algorithm", "theorem")),
        "order": Option("gauss-seidel", ("gauss-seidel", "jacobi")),
        "factor_scaling": Option("none", ("none", "unit")),
        "orthogonalize": Option("polar", ("polar", "jordan", "polar-express")),
        "precision": Option("float32", ("float32", "parameter")),
    },
    checks=(*contract_checks("fismo", matrices_only=True), *_CHECKS),
    oracle=fismo_oracle.oracle,
    simulate=fismo_oracle.simulate,
    fingerprints=_fingerprints,
    faults=REFERENCE_FAULTS,
    module="reference.fismo",
)

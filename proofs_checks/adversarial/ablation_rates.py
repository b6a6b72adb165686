"""Assumption ablation of FISMO's rates: the quoted form, the path inequality, T6 and its three regimes."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.ablation import FAULTS, AblationFinding, Study, Tries, ablate, joined, tries
from proofs_checks.adversarial.ablation_process import skewed
from proofs_checks.adversarial.ablation_scalar import Path, Scalar, drive, exact, family
from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import evidence
from proofs_checks.ratios import ORDER_ONE
from reference import fismo
from reference.bounds import UniformBounds, fismo_rate, fismo_rate_t6

__all__ = ["STUDIES", "fismo_rates"]

Array = NDArray[np.float64]

#: Roles of the assumptions in the families of runs.
ROLES = {
    "FISMO-A-smooth": "smooth",
    "FISMO-A-lower": "lower",
    "FISMO-A-variance": "variance",
    "FISMO-A-polar": "polar",
    "FISMO-A-unbiased": "unbiased",
}
UNIFORM, SETTING, BOUNDED, GAMMA = "FISMO-A-uniform", "FISMO-A-setting", "FISMO-A-bounded", "FISMO-A-gamma"

_HOW = {
    "FISMO-A-smooth": "a kink: gradient jumps at 0, claimed L a thousandth of 1/η",
    "FISMO-A-lower": "f falls below the claimed f*",
    "FISMO-A-variance": "noise a thousand times the claimed σ",
    "FISMO-A-polar": "one Newton-Schulz step after division by max{1, |M|}, |M| = 0.1",
    "FISMO-A-unbiased": "constant noise -1 that cancels the gradient",
    UNIFORM: "P₀ of condition 700 where ‖P⁻¹‖ ≤ 1 and λ_max(P) ≤ 1 are claimed",
}

#: Rows of the tall matrices, the low eigenvalue of their skewed start.
_ROWS, _LOW = 16, 0.02

_NO_DRIFT = {"d_A": 0.0, "d_C": 0.0}


class Regime(NamedTuple):
    """Horizon, step, momentum weight, batch size."""

    T: int
    eta: float
    beta: float
    batch: int = 1


@evidence(faults=FAULTS, scope="region", tier="full")
def fismo_rates(*, fault: str | None = None) -> AblationFinding:
    """Every assumption of FISMO's rates, violated alone.

    Faults: inequalities the wrong way round; a second assumption violated with the first; none violated.
    """
    return ablate(STUDIES, fault=fault)


def _truth(instance: Scalar, path: Path) -> dict[str, bool]:
    return {
        "FISMO-A-smooth": instance.smooth,
        "FISMO-A-lower": instance.bounded_below,
        "FISMO-A-variance": instance.small_variance,
        "FISMO-A-polar": path.error == 0,
        "FISMO-A-unbiased": instance.unbiased,
    }


def _false(violated: frozenset[str]) -> frozenset[str]:
    return frozenset(ROLES[name] for name in violated if name in ROLES)


def _rounding(path: Path) -> float:
    """Rounding of an average of T numbers, plus the standard error where the runs are random."""
    mean, spread = path.average
    return ORDER_ONE * len(path.gradients) * DOUBLE * mean + spread


# ---- the averaged bound T6 and its regimes


def _t6(violated: frozenset[str], *, regime: Regime) -> Tries:
    """Scalar runs for the assumptions on f and noise, a column with frozen factors for the uniform bounds."""
    kinds = [ROLES[name] for name in sorted(violated) if name in ROLES][:1]
    if not violated:
        kinds = list(ROLES.values())
    parts = [_t6_scalar(kind, violated, regime) for kind in kinds]
    return joined(parts if kinds and violated else [*parts, _t6_tall(violated, regime)])


def _t6_scalar(kind: str, violated: frozenset[str], regime: Regime) -> Tries:
    T, eta, beta, batch = regime
    instance = family(kind, _false(violated), T=T, eta=eta, beta=beta, batch=batch)
    path = drive(instance)
    steepest = float(np.abs(path.gradients).max())
    claimed = 0.5 * steepest if UNIFORM in violated else steepest
    uniform = UniformBounds(p=1.0, q=1.0, Lambda_P=1.0, Lambda_Q=1.0, **_NO_DRIFT)
    bound = fismo_rate_t6(r=1, G_f=claimed, uniform=uniform, **_constants(instance)).total
    holds = _truth(instance, path) | {UNIFORM: steepest <= claimed}
    return tries([path.average[0]], [bound], rounding=_rounding(path), holds=holds)


def _constants(instance: Scalar) -> dict[str, Any]:
    return {
        "D": instance.D,
        "L": instance.L,
        "sigma": instance.sigma,
        "batch": instance.batch,
        "T": instance.T,
        "eta": instance.eta,
        "beta": instance.beta,
    }  # fmt: skip


def _t6_tall(violated: frozenset[str], regime: Regime) -> Tries:
    """Frozen skewed factors on a column: the step along the gradient is a quarter of what is claimed."""
    instance, gradients, P = _tall_run(regime, P=skewed(_ROWS, low=_LOW), gamma=1.0, mu=1.0)
    claims = {"p": 1.0, "q": 1.0, "Lambda_P": 1.0, "Lambda_Q": 1.0} if UNIFORM in violated else {}
    w = np.linalg.eigvalsh(P)
    true = {"p": float(1 / w.min()), "q": 1.0, "Lambda_P": float(w.max()), "Lambda_Q": 1.0}
    uniform = UniformBounds(**(true | claims), **_NO_DRIFT)
    bound = fismo_rate_t6(r=1, G_f=1.0, uniform=uniform, **_constants(instance)).total
    holds = _tall_truth(instance) | {UNIFORM: all(true[k] <= v for k, v in claims.items())}
    rounding = ORDER_ONE * len(gradients) * DOUBLE
    return tries([gradients.mean()], [bound], rounding=rounding, holds=holds)


def _tall_run(
    regime: Regime, *, P: Array, gamma: float, mu: float, size: float = 1.0
) -> tuple[Scalar, Array, Array]:
    """FISMO on a column, f a Huber function of its first entry: the instance, gradient norms, all factors."""
    T, eta, beta, batch = regime
    memory = 0.5 + 2 * beta / (1 - beta)
    width, start = 3 * memory * eta, 0.3 * T * eta + 3 * memory * eta
    plain = Scalar(T, eta, beta, size, width, start, (0.0,), exact, 0.0, size / width, 0.0, batch)
    instance = replace(plain, D=float(plain.value(np.array(start))))
    W, state = np.zeros((_ROWS, 1)), fismo.init((_ROWS, 1), P0=P)
    W[0] = start
    norms, factors = [], []
    for _ in range(T):
        G = np.zeros_like(W)
        G[0] = instance.gradient(W[0])
        norms.append(float(np.abs(G[0, 0])))
        update, state = fismo.step(G, state, beta=beta, gamma=gamma, mu=mu)
        factors.append(state.P)
        W = W - eta * update
    return instance, np.array(norms), np.stack(factors)


def _tall_truth(instance: Scalar) -> dict[str, bool]:
    """As `_truth`; the polar factor of the reference step is exact."""
    return {
        "FISMO-A-smooth": instance.smooth,
        "FISMO-A-lower": instance.bounded_below,
        "FISMO-A-variance": instance.small_variance,
        "FISMO-A-polar": True,
        "FISMO-A-unbiased": instance.unbiased,
    }


# ---- the quoted form


def _quoted(violated: frozenset[str]) -> Tries:
    regime = Regime(T=300, eta=0.01, beta=0.5)
    kinds = {
        "FISMO-A-smooth": "smooth",
        "FISMO-A-lower": "lower",
        "FISMO-A-variance": "noise",
        "FISMO-A-polar": "polar",
    }
    chosen = [kinds[name] for name in sorted(violated) if name in kinds]
    if violated and not chosen:
        return _quoted_turning(violated) if GAMMA in violated else _quoted_tall(violated)
    parts = [_quoted_scalar(kind, violated, regime) for kind in (chosen[:1] or kinds.values())]
    return joined(parts if violated else [*parts, _quoted_tall(violated), _quoted_turning(violated)])


def _quoted_scalar(kind: str, violated: frozenset[str], regime: Regime) -> Tries:
    instance = family(kind, _false(violated), **regime._asdict())
    path = drive(instance)
    largest = float(np.abs(path.gradients).max())
    g = (largest + max(map(abs, instance.noise))) * (0.5 if BOUNDED in violated else 1.0)
    mu = 1e4 * g**2
    bound = fismo_rate(m=1, n=1, G_star=largest, g=g, gamma=1.0, mu=mu, **_constants(instance)).total
    holds = _quoted_truth(instance, path)
    holds |= {BOUNDED: BOUNDED not in violated or largest <= g, GAMMA: True, SETTING: SETTING not in violated}
    return tries([path.average[0]], [bound], rounding=_rounding(path), holds=holds)


def _quoted_truth(instance: Scalar, path: Path) -> dict[str, bool]:
    truth = _truth(instance, path)
    del truth["FISMO-A-unbiased"]
    return truth


def _quoted_tall(violated: frozenset[str]) -> Tries:
    """A column: a skewed start that is kept (setting), or gradients so large that the factors follow them."""
    regime = Regime(T=300, eta=0.01, beta=0.0)
    P0 = skewed(_ROWS, low=_LOW) if SETTING in violated else np.eye(_ROWS)
    gamma, mu = (1.0, 1.0) if SETTING in violated else (0.0, 1.0)
    g = 0.05 * np.sqrt(_ROWS * mu)
    size = g * (200.0 if BOUNDED in violated else 1.0)
    instance, norms, _ = _tall_run(regime, P=P0, gamma=gamma, mu=mu, size=float(size))
    claims: dict[str, Any] = {"G_star": float(size), "g": float(g), "gamma": gamma, "mu": mu}
    bound = fismo_rate(m=_ROWS, n=1, **claims, **_constants(instance)).total
    holds = _tall_truth(instance) | {
        GAMMA: True,  # beta = 0: the change of the frame does not enter
        BOUNDED: bool(norms.max() <= g * (1 + DOUBLE)),
        SETTING: bool((np.eye(_ROWS) == P0).all()),
    }
    del holds["FISMO-A-unbiased"]
    return tries([norms.mean()], [bound], rounding=ORDER_ONE * regime.T * DOUBLE * size, holds=holds)


def _quoted_turning(violated: frozenset[str]) -> Tries:
    """Cycles of noise that turn the factors at every step while ``1 - gamma <= c_gamma eta`` is claimed of 0.

    2x2, a gradient of constant direction; noise of every size up to twice the gradient, b up to 0.9.
    """
    rng = np.random.default_rng(20250103)
    R, T, beta, eta = 300, 40, 0.5, 0.01
    A, N = rng.standard_normal((R, 2, 2)), rng.standard_normal((3, R, 2, 2))
    A /= np.linalg.norm(A, axis=(-2, -1), keepdims=True)
    size = 10.0 ** rng.uniform(-2, 0.3, R)
    N *= (size / np.linalg.norm(N, axis=(-2, -1)).max(axis=0))[:, None, None]
    g = np.linalg.norm(A + N, axis=(-2, -1)).max(axis=0)
    mu = 1.0
    scale = np.sqrt(rng.uniform(0.1, 0.9, R) * 4 * mu) / g  # of gradient and noise, so that b is below 1
    gamma = 0.0 if GAMMA in violated else 1.0
    state, progress = fismo.init((R, 2, 2)), np.zeros(R)
    for t in range(T):
        G = scale[:, None, None] * (A + N[t % 3])
        update, state = fismo.step(G, state, beta=beta, gamma=gamma, mu=mu)
        progress += eta * np.einsum("rij,rij->r", A, update)
    width = 10 * eta  # of the Huber function whose linear part the run stays on
    nuclear = scale * np.linalg.svd(A, compute_uv=False).sum(axis=-1)
    bounds = [
        fismo_rate(
            m=2,
            n=2,
            D=float(scale[k] * (max(progress[k], 0.0) + width / 2)),
            L=float(scale[k] / width),
            G_star=float(nuclear[k]),
            g=float(g[k] * scale[k]),
            sigma=float(size[k] * scale[k]),
            batch=1,
            T=T,
            eta=eta,
            beta=beta,
            gamma=1.0,
            mu=mu,
        ).total
        for k in range(R)
    ]
    kept = ("FISMO-A-smooth", "FISMO-A-lower", "FISMO-A-variance", "FISMO-A-polar", SETTING)
    largest = 4 * mu  # m n mu
    holds = dict.fromkeys(kept, True) | {
        SETTING: SETTING not in violated,
        BOUNDED: np.square(g * scale) < largest,
        GAMMA: 1 - gamma <= 0,
    }
    return tries(nuclear, bounds, rounding=ORDER_ONE * T * DOUBLE * nuclear, holds=holds)


# ---- the path inequality


def _path(violated: frozenset[str]) -> Tries:
    """At 1x1, at every step: change of f plus eta |f'| against momentum error and second-order term."""
    kinds = [ROLES[name] for name in sorted(violated)][:1] or ["smooth", "polar"]
    parts = []
    for kind, beta in ((kind, beta) for kind in kinds for beta in (0.0, 0.5)):
        instance = family(kind, _false(violated), T=100, eta=0.01, beta=beta)
        path, eta = drive(instance), instance.eta
        size = np.abs(path.gradients)
        left = np.diff(path.values, axis=0) + eta * size
        right = 2 * eta * np.abs(path.momenta - path.gradients) + instance.L * eta**2 * path.directions**2 / 2
        rounding = ORDER_ONE * DOUBLE * (1 + path.values[0].max())
        truth = _truth(instance, path)
        holds = {name: truth[name] for name in ("FISMO-A-smooth", "FISMO-A-polar")}
        parts.append(tries(left.reshape(1, -1), right.reshape(1, -1), rounding=rounding, holds=holds))
    return joined(parts)


def _minibatch(violated: frozenset[str]) -> Tries:
    """The rate with batch 100 on a run whose batches repeat one sample: the noise does not average out."""
    instance = family("noise", frozenset(), T=300, eta=0.01, beta=0.5)
    path = drive(instance)
    claimed = replace(instance, batch=100 if violated else 1)
    largest = float(np.abs(path.gradients).max())
    bound = fismo_rate(m=1, n=1, G_star=largest, g=2.0, gamma=1.0, mu=1e4, **_constants(claimed)).total
    holds = {"FISMO-A-variance": claimed.small_variance}
    return tries([path.average[0]], [bound], rounding=_rounding(path), holds=holds)


def _regime_studies() -> list[Study]:
    # Regimes: eta = c / sqrt(T) with beta fixed; the same with batch T; eta = T^(-3/4), 1 - beta = T^(-1/2).
    regimes = {
        "FISMO-RATE-T6": Regime(T=400, eta=0.01, beta=0.8),
        "FISMO-RATE-R1": Regime(T=625, eta=1 / 25, beta=0.85),
        "FISMO-RATE-R2": Regime(T=400, eta=1 / 20, beta=0.8, batch=400),
        "FISMO-RATE-R3": Regime(T=1024, eta=1024**-0.75, beta=1 - 1 / 32),
    }
    return [Study(claim, partial(_t6, regime=regime), _HOW) for claim, regime in regimes.items()]


_QUOTED_HOW = {name: _HOW[name] for name in ROLES if name != "FISMO-A-unbiased"}

STUDIES = (
    Study(
        "FISMO-RATE-quoted",
        _quoted,
        _QUOTED_HOW
        | {
            BOUNDED: "gradients 200 times the bound g",
            GAMMA: "factors recomputed at every step (γ = 0) where γ = 1 is claimed",
            SETTING: "P₀ of condition 700, kept by γ = 1",
        },
        frozenset({GAMMA}),
    ),
    Study("FISMO-RATE-path", _path, {name: _HOW[name] for name in ("FISMO-A-smooth", "FISMO-A-polar")}),
    *_regime_studies(),
    Study("FISMO-ABS-minibatch", _minibatch, {"FISMO-A-variance": "batches that repeat one sample"}),
)

"""METH-eprocess: how often the betting test raises a false alarm when the claim holds with equality."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from proofs_checks.adversarial.verdicts import rounded_down
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, unit_roundoff
from proofs_checks.statistical.eprocess import GRID, crossed, refutation_wealth

__all__ = ["exact_false_alarms", "simulated_false_alarms"]

Array = NDArray[np.float64]

#: Two-point nulls: Y is bound / p with probability p, else 0, so that E[Y] is the bound exactly.
_HIT_PROBABILITIES = np.array([0.5, 0.3, 0.1, 0.03, 0.01])

#: False-alarm levels at which the test is audited.
_LEVELS = (0.1, 0.01, 0.001)

#: Seeds seen before the test gives up.
_HORIZON = 300

#: What `mean-above-bound` plants: the violation that the method must catch at noise 0.3 within 200 seeds.
_PLANTED = 1.3

#: Simulated nulls and their false-alarm level; the count may exceed its mean by what chance does once in 1e6.
_RUNS, _LEVEL, _CHANCE = 3000, 0.01, 1e-6


@evidence(faults=("largest-stake-wins", "mean-above-bound"), scope="region")
def exact_false_alarms(*, fault: str | None = None) -> Finding:
    """Exact probability of ever crossing 1/alpha on two-point nulls at the boundary, by dynamic programming.

    The wealth depends on the number of hits only, so the paths that have not crossed form one row of numbers.
    Faults: the wealth is the maximum over stakes instead of their mean; the mean is 1.3 bounds.
    """
    p = np.minimum(_HIT_PROBABILITIES * (_PLANTED if fault == "mean-above-bound" else 1.0), 1.0)
    combine = np.max if fault == "largest-stake-wins" else np.mean
    probability = {alpha: _crossing_probability(p, alpha=alpha, combine=combine) for alpha in _LEVELS}
    rounding = 2 * _HORIZON * unit_roundoff("float64")  # each step multiplies and adds non-negative numbers
    ratios = tuple(
        Ratio(f"false alarms at alpha = {alpha:g}", float(worst.max()), alpha * (1 + rounding))
        for alpha, worst in probability.items()
    )
    tightness = max(ratio.value for ratio in ratios)
    return Finding(
        ratios,
        f"exact crossing probability within {_HORIZON} draws for {len(p)} two-point nulls at the boundary "
        f"and alpha in {_LEVELS}: at most {tightness:.3f} alpha",
        figures={f"alarms at {alpha:g}": float(worst.max()) for alpha, worst in probability.items()},
        tightness=rounded_down(tightness),
    )


@evidence(faults=("peeked-z-test", "mean-above-bound"), scope="region")
def simulated_false_alarms(*, fault: str | None = None) -> Finding:
    """Simulated nulls at the boundary with continuous noise, peeking after every seed.

    Faults: a z-test that peeks (the count exceeds its level many times over); the mean is 1.3 bounds.
    """
    rng = np.random.default_rng(20240601)
    draws = {
        "gamma, noise 0.3": rng.gamma(1 / 0.3**2, 0.3**2, (_RUNS, _HORIZON)),
        "exponential, noise 1": rng.exponential(1.0, (_RUNS, _HORIZON)),
    }
    scale = _PLANTED if fault == "mean-above-bound" else 1.0
    counts = np.arange(_RUNS)
    allowed = float(counts[bdtrc(counts, _RUNS, _LEVEL) <= _CHANCE][0])
    alarms = {}
    for name, Y in draws.items():
        alarm = _peeked_z_test(Y) if fault == "peeked-z-test" else _betting_test(scale * Y)
        alarms[name] = int(np.count_nonzero(alarm))
    return Finding(
        tuple(Ratio(f"alarms of {_RUNS} ({name})", count, allowed) for name, count in alarms.items()),
        f"{_RUNS} nulls at the boundary, {_HORIZON} seeds each, alpha = {_LEVEL}: "
        + ", ".join(f"{count} alarms ({name})" for name, count in alarms.items())
        + f"; {_RUNS * _LEVEL:.0f} expected at most, {allowed:.0f} allowed for chance",
        figures={name: float(count) for name, count in alarms.items()},
    )


def _crossing_probability(p: Array, *, alpha: float, combine: object) -> Array:
    """Probability that the wealth reaches 1/alpha within the horizon, for each hit probability."""
    hits = np.arange(_HORIZON + 1)
    alive = np.zeros((len(p), _HORIZON + 1))
    alive[:, 0] = 1.0
    gone = np.zeros(len(p))
    stakes = np.array(GRID)[:, None, None]
    pay = 1 / _HIT_PROBABILITIES[:, None] - 1
    with np.errstate(divide="ignore"):
        up, down = np.log1p(stakes * pay), np.log1p(-stakes)
    for t in range(1, _HORIZON + 1):
        alive[:, 1:] = alive[:, 1:] * (1 - p[:, None]) + alive[:, :-1] * p[:, None]
        alive[:, 0] *= 1 - p
        misses = np.maximum(t - hits, 0)
        with np.errstate(invalid="ignore", over="ignore"):
            log_wealth = hits * up + np.where(misses > 0, misses * down, 0.0)
            wealth = combine(np.exp(log_wealth), axis=0)  # type: ignore[operator]
        over = (wealth * alpha >= 1) & (hits <= t)
        gone += np.where(over, alive, 0.0).sum(axis=1)
        alive[over] = 0.0
    return gone


def _betting_test(Y: Array) -> NDArray[np.bool_]:
    return crossed(refutation_wealth(Y, bound=1.0), alpha=_LEVEL)


def _peeked_z_test(Y: Array) -> NDArray[np.bool_]:
    """A one-sided test of ``mean <= 1`` that looks after every seed from the tenth on: what not to do."""
    n = np.arange(1, Y.shape[1] + 1)
    mean = np.cumsum(Y, axis=1) / n
    variance = np.maximum(np.cumsum(Y * Y, axis=1) / n - mean**2, np.finfo(np.float64).tiny)
    z = (mean - 1) * np.sqrt(n / variance)
    critical = 2.326  # upper 1 % point of the normal distribution
    return np.asarray((z[:, 9:] >= critical).any(axis=1))

"""The floor of FISMO's rate, decided on a Markov chain of rational numbers.

For 1x1 the factors are 1 and the step is the sign of the momentum. On ``f(w) = w^2/2`` from 0, without
momentum, one sample per step, noise -1 with probability 3/4 and +3 with probability 1/4 and step ``1/k``, the
distance ``z = k (1 - w)`` is a whole number that moves by one: w climbs to 1, where the gradient is 1.
"""

from typing import Any, NamedTuple

import numpy as np
import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.proof import scalar_identity
from reference.fismo import init, step

__all__ = ["floor", "one_over_horizon_refuted", "squared_norm_refuted"]


class Noise(NamedTuple):
    """-1 with probability `wrong`, else `high`; mean zero iff ``high = wrong/(1 - wrong)``."""

    wrong: fmpq
    high: int


SKEWED, SYMMETRIC = Noise(fmpq(3, 4), 3), Noise(fmpq(1, 2), 1)

#: Steps ``1/k`` of the exact runs, of k^2 steps each.
INVERSE_STEPS = (8, 16, 32)


def _moves(noise: Noise, z: Any, where: str) -> list[tuple[fmpq, Any]]:
    """Probabilities and new distances from ``z``: inside, at ``w = 1`` (z = 0), or at ``w = -high``.

    The sign of ``w + noise`` decides; it is 0, and nothing moves, where they cancel.
    """
    p = noise.wrong
    towards, away = (p, z - 1), (1 - p, z + 1)
    return {
        "inside": [towards, away],
        "at one": [(p, z), away],
        "at the far end": [towards, (1 - p, z)],
    }[where]


def _lyapunov(noise: Noise) -> list[Ratio]:
    """``E z'^2 - z^2 <= 1 - z`` and ``E z'^3 - z^3 <= -3 z^2/2 + 3 z + 1/4``, with the slack in each case."""
    z = sympy.Symbol("z")
    q = sympy.Rational
    slacks = {
        "inside": (0, q(3, 4)),
        "at one": (q(3, 4), 0),
        "at the far end": (z / 2 + q(1, 4), q(3, 4) * z**2 + q(3, 4) * z + 1),
    }
    found = []
    for where, (of_square, of_cube) in slacks.items():
        at = z if where != "at one" else sympy.Integer(0)
        moves = [(q(int(p.p), int(p.q)), new) for p, new in _moves(noise, at, where)]
        square = sum(p * new**2 for p, new in moves) - at**2
        cube = sum(p * new**3 for p, new in moves) - at**3
        found += [
            scalar_identity(f"mean of z^2, {where}", 1 - at - square, of_square),
            scalar_identity(f"mean of z^3, {where}", -q(3, 2) * at**2 + 3 * at + q(1, 4) - cube, of_cube),
        ]
    return found


def _averages(noise: Noise, k: int) -> tuple[fmpq, fmpq]:
    """Exact averages of ``E|w|`` and ``E w^2`` over the first k^2 points where the chain samples."""
    ends, p = (1 + noise.high) * k, noise.wrong
    scale = int(p.q)
    up, down = int(p.p), scale - int(p.p)
    weight = [0] * (ends + 1)  # of z, in units of scale^-t
    weight[k] = 1
    first, second, unit = fmpq(0), fmpq(0), 1
    for _ in range(k * k):
        first += fmpq(sum(abs(k - z) * x for z, x in enumerate(weight)), k * unit)
        second += fmpq(sum((k - z) ** 2 * x for z, x in enumerate(weight)), k * k * unit)
        new = [0] * (ends + 1)
        for z, x in enumerate(weight):
            if x:
                new[max(z - 1, 0)] += up * x  # at z = 0 the sign is 0: it stays
                new[min(z + 1, ends)] += down * x  # at the far end likewise
        weight, unit = new, unit * scale
    return first / (k * k), second / (k * k)


def _is_fismo(noise: Noise, k: int) -> Ratio:
    """The library's step from every point of the chain, for both values of the noise, moves it as stated."""
    state, agree = init((1, 1)), True
    for z in range((1 + noise.high) * k + 1):
        w = 1 - z / k
        for value, moved in ((-1.0, -1), (float(noise.high), 1)):
            update, _ = step(np.array([[w + value]]), state, beta=0.0, gamma=0.5, mu=17.0)
            expected = 0 if w + value == 0 else moved
            agree &= float(update[0, 0]) == expected
    return yes_no("the library's step is the chain's move", agree)


def _decided(noise: Noise) -> tuple[list[Ratio], dict[str, float]]:
    """Everything that the three findings share: chain, Lyapunov functions, exact runs."""
    mean = noise.high * (1 - noise.wrong) - noise.wrong
    variance = noise.high**2 * (1 - noise.wrong) + noise.wrong
    ratios = [
        yes_no("the noise has mean 0 and variance 3", mean == 0 and variance == 3),
        _is_fismo(noise, 4),
        *_lyapunov(noise),
    ]
    figures = {}
    for k in INVERSE_STEPS:
        first, second = _averages(noise, k)
        above = 1 + (k + fmpq(25, 4)) / (3 * k * k)
        ratios += [
            yes_no(f"average of E|w| inside its bounds, k = {k}", 1 - fmpq(2, k) <= first <= above),
            yes_no(f"average of E w^2 at least 1 - 4/k, k = {k}", second >= 1 - fmpq(4, k)),
        ]
        figures[f"E|w|, T = {k * k}"] = _decimal(first)
        figures[f"E w^2, T = {k * k}"] = _decimal(second)
    return ratios, figures


def _listed(figures: dict[str, float], what: str) -> str:
    """The exact averages of one quantity, for a summary."""
    return "; ".join(
        f"{x:.4f}{name.removeprefix(what)}" for name, x in figures.items() if name.startswith(what)
    )


def _decimal(value: fmpq) -> float:
    """A rational between 0 and 10 as a float, rounded down to six decimals."""
    return int((value * 10**6).floor()) / 10**6


def _summed(power: int) -> list[Ratio]:
    """From the mean of ``z^2`` to the averages, for all k: ``z_0 = k`` and ``k^2`` steps.

    ``sum E z <= T + k^2`` gives ``E|w| >= E w >= 1 - 2/k`` on average, and ``w^2 >= 1 - 2 (1 - w)``.
    """
    k, w, spent = sympy.symbols("k w spent", positive=True)
    T = k**2
    total = T + k**2 - spent  # telescoped: sum E z + slacks + E z_T^2 = T + z_0^2
    return [
        scalar_identity("average of 1 - w", 2 / k - total / (k * T), spent / (k * T)),
        scalar_identity("w^2 - (1 - 2 (1 - w))", w**2 - (1 - power * (1 - w)), (1 - w) ** 2),
    ]


@evidence(faults=("symmetric-noise", "noise-with-a-mean"), scope="region")
def floor(*, fault: str | None = None) -> Finding:
    """The average of ``E|grad|`` tends to 1 for ``eta = 1/sqrt(T)``, ``beta = 0``, ``B = 1``.

    Lyapunov: ``E z'^2 - z^2 <= 1 - z`` at every point of the chain, so ``sum E z <= T + k^2`` and ``E w``
    averages at least ``1 - 2/k``; ``E z'^3`` bounds the mean of ``z^2`` by ``(2/3)(k + 25/4)``, and ``max(-w,
    0) <= z^2/(4 k^2)`` because ``(z - 2k)^2 >= 0``, which bounds ``E|w|`` from above. For every k; exact runs
    for three. The region: no momentum, one sample per step, ``1/eta`` a whole number.
    """
    noise = {"symmetric-noise": SYMMETRIC, "noise-with-a-mean": Noise(fmpq(3, 4), 2)}.get(fault or "", SKEWED)
    ratios, figures = _decided(noise)
    k, z = sympy.symbols("k z", positive=True)
    square = sympy.Rational(2, 3) * (k**3 + 3 * (2 * k**2) + k**2 / 4) / k**2  # average of E z^2
    upper = [
        scalar_identity(
            "(z - k)/k <= z^2/(4 k^2)", z**2 / (4 * k**2) - (z - k) / k, (z - 2 * k) ** 2 / (4 * k**2)
        ),
        scalar_identity(
            "twice the negative part", 2 * square / (4 * k**2), (k + sympy.Rational(25, 4)) / (3 * k**2)
        ),
    ]
    return Finding(
        (*ratios, *_summed(2), *upper),
        "average of E|grad| between 1 - 2/sqrt(T) and 1 + (sqrt(T) + 25/4)/(3 T) for every square T; exact "
        + _listed(figures, "E|w|"),
        figures=figures,
    )


def _counterexample(constant: int, horizon: int) -> dict[str, object]:
    return {
        "f": "w^2/2",
        "w_0": "0",
        "noise": "-1 with probability 3/4, 3 with probability 1/4",
        "eta": "1/sqrt(T)",
        "beta": "0",
        "batch": "1",
        "T that defeats the constant C = 1000": str(horizon),
        "C": str(constant),
    }


@evidence(faults=("symmetric-noise", "square-expanded-once"), refutes=True)
def squared_norm_refuted(*, fault: str | None = None) -> Finding:
    """``O(1/sqrt(T))`` for the expected squared gradient norm fails at a fixed batch.

    On the instance of `floor` the average of ``E grad^2`` is at least ``1 - 4/k`` at ``T = k^2``, while C/k
    is below that for every ``k > C + 4``: no constant C serves. The minimum over t is another metric and is
    not decided here.
    """
    noise = SYMMETRIC if fault == "symmetric-noise" else SKEWED
    ratios, figures = _decided(noise)
    C, more = sympy.symbols("C more", positive=True)
    k = C + 4 + more
    beaten = scalar_identity("1 - 4/k - C/k", 1 - 4 / k - C / k, more / k)
    constant = 1000
    return Finding(
        (*ratios, *_summed(1 if fault == "square-expanded-once" else 2), beaten),
        "average of E grad^2 at least 1 - 4/sqrt(T) for every square T, above C/sqrt(T) from (C + 5)^2 on; "
        + _listed(figures, "E w^2"),
        figures=figures,
        counterexample=_counterexample(constant, (constant + 5) ** 2),
    )


@evidence(faults=("symmetric-noise", "constant-hidden"), refutes=True)
def one_over_horizon_refuted(*, fault: str | None = None) -> Finding:
    """``O(1/T)`` fails, for the norm and for its square, and so does "variance-reduced" at a fixed batch.

    Same instance: both averages are at least ``1 - 4/k`` at ``T = k^2``, above ``C/k^2`` for ``k > C + 4``.
    """
    noise = SYMMETRIC if fault == "symmetric-noise" else SKEWED
    ratios, figures = _decided(noise)
    C, more = sympy.symbols("C more", positive=True)
    k = C + 4 + (-more if fault == "constant-hidden" else more)
    beaten = scalar_identity(
        "k^2 (1 - 4/k) - C", k**2 - 4 * k - C, (C + 4 + more) * more + C * (C + 3 + more)
    )
    constant = 1000
    return Finding(
        (*ratios, *_summed(2), beaten),
        "averages of E|grad| and E grad^2 at least 1 - 4/sqrt(T) for every square T: no O(1/T)",
        figures=figures,
        counterexample=_counterexample(constant, (constant + 5) ** 2),
    )

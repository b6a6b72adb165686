"""SOFIM-DPF-variants: five readings of one server step of DP-FedSOFIM, told apart in exact rationals."""

from collections.abc import Sequence
from itertools import combinations

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.exact import rational
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["variants"]

Vector = tuple[fmpq, ...]

#: What the code adds to the denominator of equation 6.
EXTRA = fmpq(1, 10**8)

#: ``rho``, ``s = |M|^2/rho`` and by how much the extra lengthens the step there: 33 %, 98 %, 50.75 times.
_NAMED = ((fmpq(1, 10**4), 1, "1.33"), (fmpq(1, 10**4), 100, "1.98"), (fmpq(1, 10**5), 100, "50.75"))

#: Two decimals, as the factors are given.
_HALF_UNIT = fmpq(1, 200)


def _dot(a: Vector, b: Vector) -> fmpq:
    return sum((x * y for x, y in zip(a, b, strict=True)), fmpq(0))


def _combined(*terms: tuple[fmpq, Vector]) -> Vector:
    return tuple(sum((c * v[i] for c, v in terms), fmpq(0)) for i in range(len(terms[0][1])))


def scalar(M: Vector, G: Vector, rho: fmpq) -> Vector:
    """``(M M^T + rho I)^-1 M``: the README and the code."""
    return _combined((1 / (rho + _dot(M, M)), M))


def anisotropic(M: Vector, G: Vector, rho: fmpq) -> Vector:
    """``(M M^T + rho I)^-1 G`` with the raw aggregate: the reading note on the paper."""
    return _combined((1 / rho, G), (-_dot(M, G) / (rho * (rho + _dot(M, M))), M))


def warm_up_of_the_note(M: Vector, G: Vector, rho: fmpq) -> Vector:
    """``G/rho``."""
    return _combined((1 / rho, G))


def warm_up_of_the_code(M: Vector, G: Vector, rho: fmpq) -> Vector:
    """``M``."""
    return M


def with_extra(M: Vector, G: Vector, rho: fmpq, *, extra: fmpq = EXTRA) -> Vector:
    """Equation 6 with 10^-8 added to its denominator."""
    nu = _dot(M, M)
    return _combined((1 / rho - nu / (rho * rho * (1 + nu / rho) + extra), M))


_VARIANTS = (scalar, anisotropic, warm_up_of_the_note, warm_up_of_the_code, with_extra)


def _corrected(gradients: Sequence[Vector], beta: fmpq) -> Vector:
    """The bias-corrected average after the last gradient."""
    M = _combined((fmpq(0), gradients[0]))
    for G in gradients:
        M = _combined((beta, M), (1 - beta, G))
    return _combined((1 / (1 - beta ** len(gradients)), M))


@evidence(faults=("gradients-in-one-direction", "extra-left-out"), scope="region")
def variants(*, fault: str | None = None) -> Finding:
    """Five steps of one instance, every two different; and the lengthening by the extra 10^-8.

    The anisotropic step leaves the line of ``M``; the code's warm-up is ``rho + |M|^2`` times the step after
    it. The extra multiplies a step by ``(1 + s)(rho^2 + e)/(rho^2 (1 + s) + e)``: near 1 from 10^-2 on.
    Faults: all gradients alike, so that ``M = G``; no extra.
    """
    rho, beta = fmpq(1, 2), fmpq(9, 10)
    same = fault == "gradients-in-one-direction"
    gradients = [(fmpq(1), fmpq(2)), (fmpq(1), fmpq(2)) if same else (fmpq(2), fmpq(-1))]
    M, G = _corrected(gradients, beta), gradients[-1]
    extra = fmpq(0) if fault == "extra-left-out" else EXTRA
    steps = {f.__name__: f(M, G, rho) for f in _VARIANTS[:-1]} | {
        "with_extra": with_extra(M, G, rho, extra=extra)
    }
    s, r, e = sympy.symbols("s rho e", positive=True)
    ratios: list[Ratio] = [
        yes_no(f"{a} differs from {b}", steps[a] != steps[b]) for a, b in combinations(steps, 2)
    ]
    across = steps["anisotropic"][0] * M[1] - steps["anisotropic"][1] * M[0]
    ratios += [
        yes_no("the anisotropic step leaves the line of M", across != 0),
        scalar_identity(
            "by how much the extra lengthens",
            (1 / r - s * r / (r**2 * (1 + s) + e)) * r * (1 + s),
            (1 + s) * (r**2 + e) / (r**2 * (1 + s) + e),
        ),
    ]
    factors = {}
    for small, ratio, text in _NAMED:
        factor = (1 + ratio) * (small**2 + extra) / (small**2 * (1 + ratio) + extra)
        nu = ratio * small
        step = 1 / small - nu / (small**2 * (1 + nu / small) + extra)
        ratios += [
            yes_no(f"rho {small}, s {ratio}: the formula is the step", step * (small + nu) == factor),
            yes_no(f"rho {small}, s {ratio}: factor {text}", abs(factor - rational(text)) <= _HALF_UNIT),
        ]
        factors[f"rho {small}, s {ratio}"] = float(sympy.Rational(str(factor)))
    harmless = max(
        (1 + k) * (fmpq(1, 10**4) + extra) / (fmpq(1, 10**4) * (1 + k) + extra) for k in (1, 100, 10**6)
    )
    ratios.append(yes_no("harmless at rho = 10^-2: within 10^-4", harmless - 1 <= fmpq(1, 10**4)))
    return Finding(
        tuple(ratios),
        "five variants of a step on two rational gradients, every two different; the extra 10^-8 lengthens a "
        "step by "
        + ", ".join(f"{value:.4g}" for value in factors.values())
        + " in the named cases and by at most 1e-4 from rho = 1e-2 on",
        figures=factors,
        counterexample={
            "gradients": "(1, 2), (2, -1); beta = 9/10, rho = 1/2",
            **{name: ", ".join(map(str, step)) for name, step in steps.items()},
        },
    )

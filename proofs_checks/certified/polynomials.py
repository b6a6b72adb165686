"""Kim-Oh and Polar Express: false exponents, hidden constants, printed floors, in exact rationals and
balls."""

from functools import partial
from math import comb

from flint import arb, fmpq

from proofs_checks.certified.balls import PRECISION, at_precision, enclose
from proofs_checks.certified.jordan import STEPS, five_steps
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.exact import rational

__all__ = [
    "cubic_rate",
    "double_exponent_refuted",
    "hidden_constant",
    "slope_floor_refuted",
    "squared_exponent_refuted",
]


#: Bits for residuals as small as ``(1 - 0.99^2)^32 = 1e-54`` and for the powers of a planted wrong rate.
DEEP = 2048


def w(x: fmpq, k: int) -> fmpq:
    """``sum_{i <= k} c_i x^i`` with ``c_i = C(2i, i)/4^i``."""
    return sum((fmpq(comb(2 * i, i), 4**i) * x**i for i in range(k + 1)), 0 * x)


def phi(x: fmpq, k: int) -> fmpq:
    """One Newton-Schulz step on the residual: ``1 - (1-x) w(x)^2``."""
    return 1 - (1 - x) * w(x, k) ** 2


def _excess(x: arb, k: int) -> tuple[arb, arb]:
    """``phi(x) - x^(2k+1)`` and its slope, by ``phi' = (2k+1) c_k x^k w``."""
    last = fmpq((2 * k + 1) * comb(2 * k, k), 4**k)
    value = phi(x, k) - x ** (2 * k + 1)
    return value, last * x**k * w(x, k) - (2 * k + 1) * x ** (2 * k)


@evidence(faults=("exponent-k+1", "residual-zero", "printed-excess-off"), refutes=True)
@at_precision(PRECISION)
def double_exponent_refuted(*, fault: str | None = None) -> Finding:
    """The exponent ``(2k+1)^q`` in a circulating summary of Kim-Oh is false for every small ``k``.

    ``k = 1``, the 1 x 1 matrix ``M = 3/5``: ``delta_0 = 16/25``, one cubic step gives ``3/5 -> 99/125`` and
    ``delta_1 = 5824/15625``, more than ``delta_0^3 = 4096/15625``. The excess ``phi(x) - x^(2k+1)`` reaches
    0.111, 0.135, 0.146 for ``k = 1, 2, 3`` (balls).
    """
    sigma = fmpq(1) if fault == "residual-zero" else fmpq(3, 5)
    exponent = 2 if fault == "exponent-k+1" else 3
    before = 1 - sigma**2
    after = 1 - (sigma * (3 - sigma**2) / 2) ** 2
    ratios = [
        yes_no("delta_1 = phi(delta_0)", after == phi(before, 1)),
        yes_no("delta_1 exceeds delta_0^exponent", after > before**exponent),
    ]
    half_unit = fmpq(1, 2000)
    for k, text in ((1, "0.111"), (2, "0.135"), (3, "0.146")):
        centre = rational(text) + (2 * half_unit if fault == "printed-excess-off" else 0)
        claimed = {"least": arb(0), "most": arb(centre + half_unit)}
        found = enclose(partial(_excess, k=k), fmpq(1, 10**3), fmpq(999, 1000), **claimed)
        reached = bool(found.highest >= arb(centre - half_unit))
        ratios.append(yes_no(f"k = {k}: largest excess {text}", found.certified and reached))
    return Finding(
        tuple(ratios),
        f"M = 3/5, k = 1: delta_1 = {after} > delta_0^3 = {before**3}; largest excess 0.111, 0.135, 0.146",
        counterexample={
            "k": "1",
            "M": f"[[{sigma}]]",
            "delta_0": str(before),
            "delta_1": str(after),
            "delta_0^3": str(before**3),
        },
    )


@evidence(faults=("epsilon-1e-6", "quintic-for-jordan"), scope="region")
@at_precision(4 * PRECISION)
def hidden_constant(*, fault: str | None = None) -> Finding:
    """``delta_0 < 1`` hides how close it is to 1: ``diag(1/2, eps/2)`` with ``eps = 1e-8``.

    The norm is below 1, so Kim-Oh's iteration does not scale it, and ``delta_0 = 1 - eps^2/4``. After five
    steps the polar error is ``1 - h_5(eps/2)``: 0.99999758 (Jordan), 0.99999988 (Taylor, k = 2). The law
    ``delta_0^(3^q) <= 1/2`` first holds at ``q = 35``. And ``delta_0 -> 1`` as ``eps -> 0``: no constant
    bounds it.
    """
    epsilon = fmpq(1, 10 ** (6 if fault == "epsilon-1e-6" else 8))
    least = epsilon / 2
    taylor = arb(least)
    for _ in range(STEPS):
        taylor = taylor * w(1 - taylor**2, 2)
    errors = {"Jordan": 1 - five_steps(arb(least))[0], "Taylor": 1 - taylor}
    if fault == "quintic-for-jordan":
        errors["Jordan"] = errors["Taylor"]
    half_unit = arb(fmpq(1, 2 * 10**8))
    printed = {"Jordan": "0.99999758", "Taylor": "0.99999988"}
    norm = fmpq(1, 4) + least * least  # Frobenius norm squared
    rate = -(1 - arb(least) ** 2).log()
    target = arb(2).log()
    decay = {q: 3**q * rate for q in range(1, 60)}  # -log of delta_0^(3^q)
    first = next(q for q, value in decay.items() if value > target)
    before = bool(decay[first - 1] < target)
    return Finding(
        (
            yes_no("no scaling: the norm is below 1", norm < 1),
            *(
                yes_no(
                    f"{name} error {printed[name]}",
                    bool(abs(error - arb(rational(printed[name]))) <= half_unit),
                )
                for name, error in errors.items()
            ),
            yes_no("the law first reaches 1/2 at q = 35", first == 35 and before),
        ),
        "diag(1/2, 5e-9): five steps leave errors 0.99999758 and 0.99999988; delta_0^(3^q) <= 1/2 needs q >= "
        f"{first}",
    )


def _cubic_error(lower: arb, upper: arb) -> arb:
    """``theta - 1`` of the best odd cubic on ``[lower, upper]`` (proved in
    symbolic.newton_schulz.cubic_minimax)."""
    alpha = (3 / (upper**2 + lower * upper + lower**2)).sqrt()
    return 4 / (2 + lower * upper * (lower + upper) * alpha**3) - 1


@evidence(faults=("exponent-q+1", "narrow-interval"), refutes=True)
@at_precision(PRECISION)
def squared_exponent_refuted(*, fault: str | None = None) -> Finding:
    """Polar Express: the exponent ``(d+1)^T`` of one printed line is false; ``(q+1)^T`` holds there.

    ``d = 3``, ``l = 9/10``, ``T = 1``: the optimal error is 2.0792e-3 in ball arithmetic, while
    ``(1 - l^2)^4 = 130321/10^8 = 1.303e-3`` and ``(1 - l^2)^2 = 361/10^4``.
    """
    lower = fmpq(1, 10) if fault == "narrow-interval" else fmpq(9, 10)
    error = _cubic_error(arb(lower), arb(1))
    base = 1 - lower**2
    false_bound = base ** (2 if fault == "exponent-q+1" else 4)
    half_unit = arb(fmpq(1, 2 * 10**7))
    return Finding(
        (
            yes_no("optimal error 2.0792e-3", bool(abs(error - arb(rational("0.0020792"))) <= half_unit)),
            yes_no("it exceeds the bound with exponent (d+1)^T", bool(error > arb(false_bound))),
            yes_no("it obeys the bound with exponent (q+1)^T", bool(error <= arb(base**2))),
        ),
        f"d = 3, l = 9/10, T = 1: error {error.str(8, radius=False)} > (1-l^2)^4 = {false_bound}, below "
        "(1-l^2)^2",
        counterexample={
            "d": "3",
            "l": str(lower),
            "T": "1",
            "alpha^2": str(3 / (1 + lower + lower**2)),
            "optimal error": error.str(20),
            "(1-l^2)^4": str(base**4),
        },
    )


@evidence(faults=("rate-cubed",), scope="region")
@at_precision(DEEP)
def cubic_rate(*, fault: str | None = None) -> Finding:
    """Polar Express, Theorem 4.3 for ``d = 3``: error at most ``(1 - l^2)^(2^T)``.

    Six values of ``l`` from 1/1000 to 99/100, ``T = 1..5``, through the proved closed form of the best cubic.
    """
    held, tightest = [], 0.0
    for start in (fmpq(1, 1000), fmpq(1, 100), fmpq(1, 10), fmpq(1, 2), fmpq(9, 10), fmpq(99, 100)):
        lower, upper = arb(start), arb(1)
        for step in range(1, 6):
            error = _cubic_error(lower, upper)
            lower, upper = 1 - error, 1 + error
            bound = (1 - arb(start) ** 2) ** ((3 if fault == "rate-cubed" else 2) ** step)
            held.append(bool(error <= bound))
            if held[-1]:
                tightest = max(tightest, float((error / bound).lower()))
    return Finding(
        (yes_no("error at most (1-l^2)^(2^T) on 30 instances", all(held)),),
        f"30 instances (6 values of l, T = 1..5) hold in ball arithmetic, tightest {tightest:.4f}",
        tightness=int(tightest * 10**4) / 10**4,
    )


#: Rows 2 and 3 of the coefficient table (polar.md 5.3), and the first, as printed.
ROWS = {
    1: ("8.28721201814563", "-23.595886519098837", "17.300387312530933"),
    2: ("4.107059111542203", "-2.9478499167379106", "0.5448431082926601"),
    3: ("3.9486908534822946", "-2.908902115962949", "0.5518191394370137"),
}


@evidence(faults=("floor-0.1", "minimum-outside-the-interval"), refutes=True)
def slope_floor_refuted(*, fault: str | None = None) -> Finding:
    """The printed floor ``p_t(x)/x >= 0.236`` fails for rows 2 and 3, in absolute and in scaled units.

    ``p(x)/x = a + b z + c z^2``, ``z = x^2``, has its minimum ``a - b^2/(4c)`` at ``z = -b/(2c)``, inside
    ``(0, u_t^2]`` with ``u_{t+1} = 2 - p_t(l_t)`` from ``l_1 = 1/1000``: 0.1198 and 0.1151; in units of
    ``1/u_t`` row 3 gives 0.2264. All rational.
    """
    floor = rational("0.1" if fault == "floor-0.1" else "0.236")
    lower, upper = fmpq(1, 1000), fmpq(1)
    minima: dict[int, fmpq] = {}
    uppers: dict[int, fmpq] = {}
    inside = True
    for row, texts in ROWS.items():
        a, b, c = (rational(text) for text in texts)
        place = -b / (2 * c)
        uppers[row], minima[row] = upper, a - b * b / (4 * c)
        end = upper / 2 if fault == "minimum-outside-the-interval" else upper
        inside &= place <= end * end
        lower = lower * (a + b * lower**2 + c * lower**4)
        upper = 2 - lower
    half_unit = fmpq(1, 2 * 10**4)
    printed = {1: "0.2416", 2: "0.1198", 3: "0.1151"}
    return Finding(
        (
            yes_no("the minima lie inside (0, u_t]", inside),
            yes_no("row 2 below the floor", minima[2] < floor),
            yes_no("row 3 below the floor in units of 1/u_t", minima[3] * uppers[3] < floor),
            *(
                yes_no(f"minimum of row {row} is {text}", abs(minima[row] - rational(text)) <= half_unit)
                for row, text in printed.items()
            ),
        ),
        "minima of p_t(x)/x: "
        + ", ".join(f"{float(arb(v)):.4f}" for v in minima.values())
        + f"; row 3 in units of 1/u_3: {float(arb(minima[3] * uppers[3])):.4f}",
        counterexample={
            "row 2 (a, b, c)": ", ".join(ROWS[2]),
            "z = x^2 = -b/(2c)": f"{float(arb(-rational(ROWS[2][1]) / (2 * rational(ROWS[2][2])))):.6f}",
            "p(x)/x = a - b^2/(4c)": str(minima[2]),
            "claimed floor": str(floor),
        },
    )

"""The inputs of the golden cases: short binary fractions, so that every precision holds them exactly.

Well-conditioned on purpose: a golden vector pins a formula, and a budget blurred by the condition of the
input would pin less. Symbols as in `reference`.
"""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from proofs_checks.decision import Array
from proofs_checks.golden.case import Case
from reference.polar import JORDAN_QUINTIC, POLAR_EXPRESS, kim_oh_polynomial

__all__ = [
    "adafisher",
    "adahessian",
    "adamw",
    "fismo",
    "muon",
    "newton_schulz",
    "polar_factor",
    "sgd",
    "shampoo",
    "sofim",
    "spectral_lmo",
]

HALF, QUARTER, EIGHTH = 0.5, 0.25, 0.125


def _array(rows: ArrayLike) -> Array:
    return np.array(rows, dtype=np.float64)


#: Three gradients of a 2x3 parameter, those of the printed three steps of Algorithm 1; three of a 4x3 one.
WIDE = tuple(_array(G) for G in ([[1, 2, 0], [0, -1, 1]], [[0, 1, -1], [2, 0, 1]], [[1, 0, 1], [1, -1, 0]]))
TALL = tuple(
    _array(G)
    for G in (
        [[2, 0, 1], [0, 1, 0], [-1, 0, 2], [1, -1, 0]],
        [[1, 1, 0], [0, 2, -1], [-1, 0, 1], [0, 0, 1]],
        [[2, 0, 0], [1, 1, -1], [0, 0, 2], [0, -1, 1]],
    )
)
#: At most one entry per row and column, the same places at every step.
SPARSE = tuple(_array(G) for G in ([[0, 1, 0], [2, 0, 0], [0, 0, -3]], [[0, -2, 0], [1, 0, 0], [0, 0, -1]]))
ROW = tuple(_array(G) for G in ([[3, 4]], [[1, -2]]))
SCALAR = tuple(_array(G) for G in ([[3]], [[-1]], [[-2]]))
SMALL_W = _array([[1, -2, 0.5], [0.25, 4, -1]])
VECTORS = tuple(_array(g) for g in ([1, -2, 0, 0.5], [3, 1, -1, 0], [-2, 0.25, 1, 2]))
#: Corrected averages of the squares, with beta2 = 1/2, are squares: (5^2 + 2 * 1^2) / 3 = 3^2, and
#: (1^2 + 2 * 11^2) / 3 = 9^2.
SQUARES = tuple(_array(g) for g in ([5, -1, 2, 0], [1, 11, -2, 0]))


#: Matrices whose polar factor is a sign, rational, or of deficient rank, and matrices of extreme scale.
_POLAR_INPUTS: dict[str, Any] = {
    "one entry per row and column": SPARSE[0],
    "rational rotation": [[10, 15], [-5, 5]],
    "rational reflection": [[3, 4], [4, -3]],
    "wide": WIDE[0],
    "tall": TALL[0],
    "rank one": [[1, 2], [2, 4]],
    "rank one, rectangular": [[3, 6, 6], [4, 8, 8]],
    "tiny scale": 2.0**-100 * WIDE[0],
    "large scale": 2.0**100 * WIDE[0],
    "zero": np.zeros((2, 3)),
    "row": [[3, 4]],
}


def _steps(gradients: tuple[Array, ...], name: str = "G", **others: Array) -> tuple[dict[str, Array], ...]:
    """One input per gradient; `others` are the same at every step."""
    return tuple({name: G, **others} for G in gradients)


def fismo() -> tuple[Case, ...]:
    """Every combination of options; limits and starts with the usual ones."""
    usual: dict[str, Any] = {
        "beta": HALF,
        "gamma": HALF,
        "mu": HALF,
        "damping": "algorithm",
        "order": "gauss-seidel",
        "factor_scaling": "none",
        "orthogonalize": "polar",
    }
    options = product(("algorithm", "theorem"), ("gauss-seidel", "jacobi"), ("none", "unit"))
    named = [
        Case(
            f"{damping}, {order}, {scaling}",
            usual | {"damping": damping, "order": order, "factor_scaling": scaling},
            _steps(WIDE),
        )
        for damping, order, scaling in options
    ]
    start = {
        "P0": _array([[1.5, HALF], [HALF, 0.75]]),
        "Q0": _array([[1, QUARTER, 0], [QUARTER, 1.25, 0], [0, 0, 0.75]]),
        "M0": _array([[1, 0, 0], [0, 0, 1]]),
    }
    zero = np.zeros((2, 3))
    return (
        *named,
        Case("default hyper-parameters", usual | {"beta": 0.9, "gamma": 0.95, "mu": 1e-2}, _steps(WIDE)),
        Case("given start", usual, _steps(WIDE), start),
        Case("tall", usual, _steps(TALL)),
        Case("diagonal, jacobi, rational roots", usual | {"order": "jacobi"}, _steps(_diagonals())),
        Case("gamma 1, averaged raw gradients", usual | {"gamma": 1.0}, _steps(SPARSE)),
        Case("beta 0, gamma 0", usual | {"beta": 0.0, "gamma": 0.0, "mu": 2.0}, _steps(WIDE[:2])),
        Case("one row", usual, _steps(ROW)),
        Case("1x1, the sign of the average", usual, _steps(SCALAR)),
        Case("zero, then a gradient", usual, _steps((zero, WIDE[0], zero))),
        Case("jordan", usual | {"orthogonalize": "jordan"}, _steps(WIDE[:2])),
        Case("polar-express", usual | {"orthogonalize": "polar-express"}, _steps(WIDE[:2])),
    )


def muon() -> tuple[Case, ...]:
    """Both momenta with and without Nesterov, every scale, weight decay; exact and polynomial factors."""
    usual: dict[str, Any] = {
        "beta": 0.75,
        "nesterov": True,
        "momentum": "ema",
        "scale": "original",
        "orthogonalize": "polar",
        "weight_decay": 0.0,
    }
    conventions = list(product(("ema", "sum"), (True, False)))
    return (
        *(
            Case(
                f"{momentum}, nesterov {nesterov}",
                usual | {"momentum": momentum, "nesterov": nesterov},
                _steps(SPARSE),
            )
            for momentum, nesterov in conventions
        ),
        *(
            Case(
                f"dense, {momentum}, nesterov {nesterov}",
                usual | {"momentum": momentum, "nesterov": nesterov},
                _steps(WIDE),
            )
            for momentum, nesterov in conventions
        ),
        Case("tall", usual, _steps(TALL)),
        Case("4x1, scale 2", usual, _steps((_array([[0], [3], [0], [0]]), _array([[0], [-1], [0], [0]])))),
        *(Case(f"scale {s}", usual | {"scale": s}, _steps(TALL)) for s in ("match_rms_adamw", "none")),
        Case("weight decay", usual | {"weight_decay": EIGHTH}, _steps(WIDE, W=SMALL_W)),
        Case("jordan, default beta", usual | {"orthogonalize": "jordan", "beta": 0.95}, _steps(WIDE)),
        Case("polar-express", usual | {"orthogonalize": "polar-express"}, _steps(WIDE)),
        Case("zero", usual | {"orthogonalize": "jordan"}, _steps((np.zeros((2, 3)),))),
    )


def shampoo() -> tuple[Case, ...]:
    """Both powers; diagonal gradients for which the roots are rational; weight decay."""
    usual: dict[str, Any] = {"epsilon": 1.0, "exponent": -QUARTER, "weight_decay": 0.0}
    # 1 + (3/4)^2 = (5/4)^2, (5/4)^2 + 3^2 = (13/4)^2; 1 + (4/3)^2 is no binary fraction, 0 stays 1.
    roots = tuple(np.diag(d) for d in (_array([0.75, 0.0]), _array([-3.0, 0.75])))
    return (
        Case("rational roots", usual, _steps(roots)),
        Case("exponent -1/2", usual | {"exponent": -HALF}, _steps(roots)),
        Case("wide", usual, _steps(WIDE)),
        Case("tall", usual, _steps(TALL)),
        Case("weight decay", usual | {"weight_decay": EIGHTH}, _steps(WIDE, W=SMALL_W)),
        Case("small epsilon", usual | {"epsilon": 2.0**-10}, _steps(WIDE)),
    )


def polar_factor() -> tuple[Case, ...]:
    """Signs, rational rotations, rectangles, low rank, extreme scale, nothing."""
    return tuple(Case(name, {}, ({"M": _array(M)},)) for name, M in _POLAR_INPUTS.items())


def spectral_lmo() -> tuple[Case, ...]:
    """Radii 0, 1 and another."""
    return (
        Case("one entry per row and column", {"radius": 1.0}, _steps(SPARSE)),
        Case("radius 3/4", {"radius": 0.75}, _steps(TALL)),
        Case("radius 0", {"radius": 0.0}, _steps(WIDE[:1])),
        Case("zero", {"radius": 1.0}, _steps((np.zeros((2, 3)),))),
    )


def newton_schulz() -> tuple[Case, ...]:
    """Polynomials, step counts and normalisations on Pythagorean diagonals and on dense matrices."""
    usual: dict[str, Any] = {"steps": None, "normalize": True, "floor": 0.0, "shift": 0.0}
    cubic, quintic = ([list(kim_oh_polynomial(k))] for k in (1, 2))
    jordan, express = [list(JORDAN_QUINTIC)], [list(p) for p in POLAR_EXPRESS]
    pair, triple, rectangle = np.diag([3.0, 4.0]), np.diag([2.0, 3.0, 6.0]), _array([[1, 2, 2]])
    named: dict[str, tuple[Any, dict[str, Any], Array]] = {
        "cubic, one step, diagonal": (cubic, {}, pair),
        "cubic, two steps, diagonal": (cubic, {"steps": 2}, triple),
        "quintic, one step, diagonal": (quintic, {}, triple),
        "jordan, one step, diagonal": (jordan, {}, pair),
        "jordan, five steps, diagonal": (jordan, {"steps": 5}, pair),
        "no steps": (jordan, {"steps": 0}, pair),
        "shift": (cubic, {"shift": 1.0}, pair),
        "floor above the norm": (cubic, {"floor": 8.0}, pair),
        "not normalised": (quintic, {"normalize": False}, 0.25 * WIDE[0]),
        "row": (cubic, {}, rectangle),
        "jordan, five steps, wide": (jordan, {"steps": 5}, WIDE[0]),
        "jordan, five steps, tall": (jordan, {"steps": 5}, TALL[0]),
        "polar express, rows in turn": (express, {}, WIDE[0]),
        "polar express, last row repeats": (express, {"steps": 9}, TALL[0]),
        "zero": (jordan, {"steps": 5}, np.zeros((2, 3))),
    }
    return tuple(
        Case(name, usual | {"polynomials": rows} | options, ({"M": M},))
        for name, (rows, options, M) in named.items()
    )


def sofim() -> tuple[Case, ...]:
    """Weights and regularisations; the printed quadratic; the longest step."""
    return (
        Case("half", {"beta": HALF, "rho": HALF}, _steps(VECTORS, "g")),
        Case("default hyper-parameters", {"beta": 0.9, "rho": 0.5}, _steps(VECTORS, "g")),
        Case("beta 0", {"beta": 0.0, "rho": 2.0}, _steps(VECTORS, "g")),
        Case(
            "longest step, |M_hat|^2 = rho", {"beta": HALF, "rho": QUARTER}, _steps((_array([0.5, 0]),), "g")
        ),
        Case("large ratio |M_hat|^2 / rho", {"beta": HALF, "rho": 2.0**-20}, _steps(VECTORS, "g")),
        Case("zero", {"beta": HALF, "rho": HALF}, _steps((np.zeros(3),), "g")),
    )


def sgd() -> tuple[Case, ...]:
    """Both forms with and without Nesterov, dampening, coupled weight decay."""
    usual: dict[str, Any] = {
        "momentum": 0.75,
        "dampening": 0.0,
        "nesterov": False,
        "form": "classical",
        "weight_decay": 0.0,
    }
    conventions = product(("classical", "ema"), (False, True))
    return (
        *(
            Case(f"{form}, nesterov {n}", usual | {"form": form, "nesterov": n}, _steps(VECTORS))
            for form, n in conventions
        ),
        Case("dampening", usual | {"dampening": QUARTER}, _steps(VECTORS)),
        Case("weight decay", usual | {"weight_decay": EIGHTH}, _steps(WIDE, W=SMALL_W)),
        Case("no momentum", usual | {"momentum": 0.0}, _steps(VECTORS)),
        Case("default momentum", usual | {"momentum": 0.9}, _steps(VECTORS)),
    )


def adamw() -> tuple[Case, ...]:
    """Perfect squares with a large epsilon, usual hyper-parameters, weight decay, epsilon 0."""
    usual: dict[str, Any] = {"beta1": HALF, "beta2": HALF, "epsilon": QUARTER, "weight_decay": 0.0}
    default = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 1e-2}
    return (
        Case("perfect squares", usual, _steps(SQUARES)),
        Case("perfect squares, epsilon 0", usual | {"epsilon": 0.0}, _steps(SQUARES)),
        Case("general", usual, _steps(VECTORS)),
        Case("weight decay", usual | {"weight_decay": EIGHTH}, _steps(WIDE, W=SMALL_W)),
        Case("default hyper-parameters", default, _steps(WIDE, W=SMALL_W)),
    )


def adahessian() -> tuple[Case, ...]:
    """Perfect squares, Hessian powers 0, 1/2 and 1, weight decay."""
    usual: dict[str, Any] = {
        "beta1": HALF,
        "beta2": HALF,
        "epsilon": QUARTER,
        "power": 1.0,
        "weight_decay": 0.0,
    }
    squares = tuple({"G": G, "D": D} for G, D in zip(VECTORS[:2], SQUARES, strict=True))
    general = tuple({"G": G, "D": D} for G, D in zip(VECTORS, VECTORS[1:] + VECTORS[:1], strict=True))
    decayed = tuple({"G": G, "D": D, "W": SMALL_W} for G, D in zip(WIDE, WIDE[1:] + WIDE[:1], strict=True))
    return (
        Case("perfect squares", usual, squares),
        Case("power 0", usual | {"power": 0.0}, general),
        Case("power 1/2", usual | {"power": HALF}, general),
        Case("default averages", usual | {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-4}, squares),
        Case("weight decay", usual | {"weight_decay": EIGHTH}, decayed),
    )


def adafisher() -> tuple[Case, ...]:
    """Averages normalised after; both starts; weight decay."""
    usual: dict[str, Any] = {
        "beta": HALF,
        "gamma": 0.75,
        "lam": EIGHTH,
        "weight_decay": 0.0,
        "initial": "first",
    }
    h = (_array([1, 4, 2]), _array([3, 1, 0.5]), _array([2, 5, 1]))
    s = (_array([2, 0.5]), _array([1, 3]), _array([0.25, 1]))
    steps = tuple({"G": G, "h_D": a, "s_D": b} for G, a, b in zip(WIDE, h, s, strict=True))
    return (
        Case("first", usual, steps),
        Case("from ones", usual | {"initial": "ones"}, steps),
        Case("weight decay", usual | {"weight_decay": EIGHTH}, tuple(x | {"W": SMALL_W} for x in steps)),
        Case("default averages", usual | {"beta": 0.9, "gamma": 0.8, "lam": 1e-3}, steps),
    )


def _diagonals() -> tuple[Array, ...]:
    return np.diag([1.0, 2.0]), np.diag([-3.0, 1.0]), np.diag([1.0, -1.0])

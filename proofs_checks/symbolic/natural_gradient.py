"""The natural-gradient step along eigenvectors, and the Fisher matrix as an expected Hessian."""

from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = ["along_eigenvectors", "fisher_is_expected_hessian"]


@evidence(faults=("multiplied", "inverted-twice"))
def along_eigenvectors(*, fault: str | None = None) -> Finding:
    """``F = V diag(phi) V^T``: the coordinates of ``F^-1 g`` along V are ``g_i / phi_i``, for every size.

    The same gradient component makes a longer step where phi is smaller: the difference of two such steps is
    ``g (phi_2 - phi_1) / (phi_1 phi_2)``. Instance: a two-label logistic model with inputs (1, 1) at
    probability 1/3 and (1, -1) at 1/2, whose exact Fisher matrix has the eigenvalues 2/9 and 1/4.
    """

    def claim(x: Carrier) -> Equations:
        V, phi, g = x.isometry("V", x.d, x.d), x.diagonal("phi", x.d), x.matrix("g", x.d, 1)
        F = V @ phi @ V.T
        step = F.inverse() @ g
        if fault == "inverted-twice":
            step = F.inverse() @ step
        weight = phi if fault == "multiplied" else phi.inverse()
        return {"coordinates of the step": (V.T @ step, weight @ V.T @ g), "F applied to it": (F @ step, g)}

    g, low, gap = sympy.symbols("g phi gap", positive=True)
    points = (((1, 1), fmpq(1, 3)), ((1, -1), fmpq(1, 2)))
    F = Exact([[0, 0], [0, 0]])
    for x, p in points:
        column = Exact([[x[0]], [x[1]]])
        F = F + fmpq(1, 2) * (p * (1 - p)) * (column @ column.T)
    gradient = Exact([[3], [1]])  # 2 (1, 1) + (1, -1)
    want = fmpq(9, 2) * 2 * Exact([[1], [1]]) + fmpq(4) * Exact([[1], [-1]])
    return Finding(
        (
            *prove(claim),
            scalar_identity("longer where flatter", g / low - g / (low + gap), g * gap / (low * (low + gap))),
            yes_no("logistic instance", F.inverse() @ gradient == want),
        ),
        "V' F^-1 g = g_i / phi_i for all sizes; logistic model with eigenvalues 2/9 and 1/4: the step for "
        "(3, 1) is (13, 5)",
    )


@evidence(faults=("observed-label", "hessian-sign", "fair-coin"))
def fisher_is_expected_hessian(*, fault: str | None = None) -> Finding:
    """``E[grad l grad l^T] = -E[Hess l]``, l = log p, for labels from the model; observed labels break it.

    For every smooth p: ``p (l_a l_b + l_ab) = p_ab`` for parameters a, b, and the sum of p over labels is 1,
    so the sum of the right side is 0. Written out for softmax of arbitrary logits, where both are also the
    Gauss-Newton matrix ``J^T (diag(p) - p p^T) J``, and for Gaussian noise. Two labels of probability p and
    1 - p: 2/9 at p = 1/3, where observed labels give 4/9 or 1/9; they agree on average under the model.
    """
    p = sympy.Symbol("p", positive=True)
    share = fmpq(1, 2) if fault == "fair-coin" else fmpq(1, 3)
    exact, first, second = share * (1 - share), (1 - share) ** 2, share**2
    return Finding(
        (
            _any_family(),
            *(ratio for k in (2, 3) for ratio in _softmax(k, fault)),
            *_gaussian(fault),
            yes_no("first label observed", first != exact),
            yes_no("second label observed", second != exact),
            scalar_identity("labels from the model", p * (1 - p) ** 2 + (1 - p) * p**2, p * (1 - p)),
        ),
        "Fisher = expected Hessian for every smooth family, = Gauss-Newton for softmax and Gaussian; two "
        f"labels at p = {share}: {exact} against {first} and {second} for the empirical matrix",
    )


def _any_family() -> Ratio:
    """``p (l_a l_b + l_ab) = p_ab``."""
    a, b = sympy.symbols("a b", real=True)
    p = sympy.Function("p")(a, b)
    log_p = sympy.log(p)
    left = p * (log_p.diff(a) * log_p.diff(b) + log_p.diff(a, b))
    return scalar_identity("p (l_a l_b + l_ab) = p_ab", sympy.expand(left), p.diff(a, b))


def _softmax(k: int, fault: str | None) -> tuple[Ratio, ...]:
    """One entry (a, b) of all three matrices for k labels with arbitrary logits.

    The logits enter by ``e_i = exp(z_i)`` and by their derivatives A, B, C in a, b and ab. The derivative of
    p_i in b, ``p_i (B_i - sum_j p_j B_j)``, is checked by the chain rule ``d/db = sum_j e_j B_j d/de_j``.
    """
    e, A, B, C = (sympy.symbols(f"{name}1:{k + 1}", positive=True) for name in "eABC")
    total = sum(e)
    p = [value / total for value in e]

    def mean(X: Any) -> Any:
        return sum(weight * x for weight, x in zip(p, X, strict=True))

    def along(value: Any, slopes: Any) -> Any:
        return sum(value.diff(x) * x * slope for x, slope in zip(e, slopes, strict=True))

    score_a, score_b = ([x - mean(X) for x in X] for X in (A, B))
    p_b = [weight * score for weight, score in zip(p, score_b, strict=True)]
    moved = sum(change * x for change, x in zip(p_b, A, strict=True))
    hessian = [c - moved - mean(C) for c in C]  # of log p_y, whose derivative in a is A_y - mean(A)
    weights = [sympy.Integer(int(y == 0)) for y in range(k)] if fault == "observed-label" else p
    fisher = sum(w * x * y for w, x, y in zip(weights, score_a, score_b, strict=True))
    sign = 1 if fault == "hessian-sign" else -1
    newton = mean([x * y for x, y in zip(A, B, strict=True)]) - mean(A) * mean(B)
    return (
        *(scalar_identity(f"p_b, {k} labels", along(x, B), y) for x, y in zip(p, p_b, strict=True)),
        scalar_identity(f"Fisher = expected Hessian, {k} labels", fisher, sign * mean(hessian)),
        scalar_identity(f"Fisher = Gauss-Newton, {k} labels", fisher, newton),
    )


def _gaussian(fault: str | None) -> tuple[Ratio, ...]:
    """``l = -r^2 / (2 v)`` with residual ``r = y - f``, ``E r = 0`` and ``E r^2 = v``."""
    r, v, f_a, f_b, f_ab = sympy.symbols("r v f_a f_b f_ab", positive=True)

    def mean(X: Any) -> Any:
        X = sympy.expand(X)
        return X.coeff(r, 0) + v * X.coeff(r, 2)

    score = sympy.expand((r * f_a / v) * (r * f_b / v))
    fisher = score if fault == "observed-label" else mean(score)
    hessian = mean(-f_a * f_b / v + r * f_ab / v)
    sign = 1 if fault == "hessian-sign" else -1
    return (
        scalar_identity("Fisher = expected Hessian, Gaussian", fisher, sign * hessian),
        scalar_identity("Fisher = Gauss-Newton, Gaussian", fisher, f_a * f_b / v),
    )

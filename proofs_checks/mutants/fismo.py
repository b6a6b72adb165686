"""Known faults of FISMO in the reference: what a failing target may behave like."""

from proofs_checks.mutants import Mutant

__all__ = ["REFERENCE_FAULTS"]

_LEFT = "L_t = G_t Q_{t-1}^-1 G_t^T/n + damping"
_RIGHT = "R_t = G_t^T P_t^-1 G_t/m + damping"
_AVERAGE = "Pbar_t = gamma P_{t-1} + (1 - gamma) L_t"

_TRACE = "P_t = m/tr(Pbar_t) Pbar_t"
_WHITE = "G~_t = P_t^(-1/2) G_t Q_t^(-1/2)"
_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) G~_t"
_UPDATE = "U_t = P_t^(-1/2) Polar(M_t) Q_t^(-1/2)"

_ROOTS = 'A, C = inverse_root("P", P), inverse_root("Q", Q)  # `whiten` on both sides of the polar step'
_AVERAGED = "M = beta * state.M + (1 - beta) * (A @ G @ C)"
_UNWHITENED = "update = A @ polar.orthogonalize(M, orthogonalize) @ C"
_BODY = f"{_ROOTS}\n    {_AVERAGED}\n    {_UNWHITENED}"
_SEEN = 'A = inverse_root("P", P if jacobi else P_new)'
_LEFT_CODE = "L = _statistic(S @ C, n, mu * (_mean_square(C) if theorem else _mean_eigenvalue(P)))"
_RIGHT_CODE = "R = _statistic(S.mT @ A, m, mu * (_mean_square(A) if theorem else _mean_eigenvalue(Q)))"
_P_BAR = "P_bar = gamma * P + (1 - gamma) * L"
_NEW_P, _NEW_Q = 'P_new = _averaged("P", P, L, gamma)', 'return P_new, _averaged("Q", Q, R, gamma)'


def _reference(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"fismo.{name}", "reference.fismo", old, new, equation, description)


REFERENCE_FAULTS = (
    _reference(
        "stale-left", _SEEN, 'A = inverse_root("P", P)', _RIGHT, "R_t built from the stale P_{t-1} (Jacobi)"
    ),
    _reference(
        "fresh-left",
        _SEEN,
        'A = inverse_root("P", P_new)',
        _RIGHT,
        "R_t built from the fresh P_t (Gauss-Seidel)",
    ),
    _reference(
        "left-damping-dropped",
        _LEFT_CODE,
        "L = _statistic(S @ C, n, np.zeros((1, 1)))",
        _LEFT,
        "no damping in L_t",
    ),
    _reference(
        "right-damping-dropped",
        _RIGHT_CODE,
        "R = _statistic(S.mT @ A, m, np.zeros((1, 1)))",
        _RIGHT,
        "no damping in R_t",
    ),
    _reference(
        "damping-doubled", "+ damping * np.eye", "+ 2 * damping * np.eye", _LEFT, "damping counted twice"
    ),
    _reference(
        "damping-swapped",
        '("algorithm", "theorem")) == "theorem"',
        '("algorithm", "theorem")) != "theorem"',
        "damping mu tr(P_{t-1})/m (algorithm) or mu tr(Q^-1)/n (theorem)",
        "the other damping: algorithm's for the theorem's or the reverse",
    ),
    _reference(
        "damping-trace",
        "/ P.shape[-1]\n",
        "\n",
        "damping mu tr(P_{t-1})/m",
        "trace in the place of the mean eigenvalue",
    ),
    _reference(
        "scaling-swapped",
        '("none", "unit")) == "unit"',
        '("none", "unit")) != "unit"',
        "factor_scaling",
        "gradient of unit size in the factors although the variant says none, or the reverse",
    ),
    _reference(
        "left-divisor",
        _LEFT_CODE,
        _LEFT_CODE.replace(", n,", ", m,"),
        _LEFT,
        "L_t divided by m in the place of n",
    ),
    _reference(
        "right-divisor",
        _RIGHT_CODE,
        _RIGHT_CODE.replace(", m,", ", n,"),
        _RIGHT,
        "R_t divided by n in the place of m",
    ),
    _reference(
        "divisors-swapped",
        "Z @ Z.mT / count",
        "Z @ Z.mT / Z.shape[-2]",
        f"{_LEFT}; {_RIGHT}",
        "divisors n and m exchanged in L_t and R_t",
    ),
    _reference(
        "divisors-dropped",
        "Z @ Z.mT / count",
        "Z @ Z.mT",
        f"{_LEFT}; {_RIGHT}",
        "L_t and R_t not divided by n and m",
    ),
    _reference(
        "left-one-sided",
        "_statistic(S @ C, n",
        "_statistic(S, n",
        _LEFT,
        "L_t = G G^T/n, without Q^-1 (Shampoo's statistic)",
    ),
    _reference(
        "right-one-sided",
        "_statistic(S.mT @ A, m",
        "_statistic(S.mT, m",
        _RIGHT,
        "R_t = G^T G/m, without P^-1",
    ),
    _reference(
        "left-squared",
        "_statistic(S @ C, n",
        "_statistic(S @ C @ C, n",
        _LEFT,
        "Q^-2 in the place of Q^-1 in L_t",
    ),
    _reference(
        "left-damping-doubled",
        _LEFT_CODE,
        _LEFT_CODE.replace("mu *", "2 * mu *"),
        _LEFT,
        "damping of L_t counted twice",
    ),
    _reference(
        "right-damping-doubled",
        _RIGHT_CODE,
        _RIGHT_CODE.replace("mu *", "2 * mu *"),
        _RIGHT,
        "damping of R_t counted twice",
    ),
    _reference(
        "left-gamma-swapped",
        _NEW_P,
        _NEW_P.replace("gamma", "1 - gamma"),
        _AVERAGE,
        "gamma weighs the new L_t",
    ),
    _reference(
        "right-gamma-swapped",
        _NEW_Q,
        _NEW_Q.replace("gamma", "1 - gamma"),
        _AVERAGE,
        "gamma weighs the new R_t",
    ),
    _reference(
        "left-trace-missing",
        _NEW_P,
        "P_new = symmetric(gamma * P + (1 - gamma) * L)",
        _TRACE,
        "no trace normalisation of P",
    ),
    _reference(
        "right-trace-missing",
        _NEW_Q,
        "return P_new, symmetric(gamma * Q + (1 - gamma) * R)",
        _TRACE,
        "no trace normalisation of Q",
    ),
    _reference(
        "gamma-swapped",
        _P_BAR,
        "P_bar = (1 - gamma) * P + gamma * L",
        _AVERAGE,
        "gamma weighs the new statistic",
    ),
    _reference(
        "gamma-sum",
        _P_BAR,
        "P_bar = gamma * P + L",
        _AVERAGE,
        "the new statistic has weight 1, not 1 - gamma",
    ),
    _reference("factors-frozen", _P_BAR, "P_bar = P + 0 * L", _AVERAGE, "factors never change: Muon"),
    _reference(
        "trace-missing", "symmetric(P_bar / mean)", "symmetric(P_bar)", _TRACE, "no trace normalisation"
    ),
    _reference(
        "trace-one",
        "symmetric(P_bar / mean)",
        "symmetric(P_bar / mean) / P.shape[-1]",
        _TRACE,
        "normalised to trace 1, not m",
    ),
    _reference(
        "power-one",
        _ROOTS,
        "A, C = np.linalg.inv(P), np.linalg.inv(Q)",
        _WHITE,
        "P^-1 and Q^-1 in the place of P^(-1/2) and Q^(-1/2)",
    ),
    _reference(
        "power-quarter",
        _ROOTS,
        'A, C = (np.linalg.inv(inverse_root("A", inverse_root("P", X))) for X in (P, Q))',
        _WHITE,
        "P^(-1/4) and Q^(-1/4) in the place of P^(-1/2) and Q^(-1/2)",
    ),
    _reference(
        "cholesky-root",
        _BODY,
        "A, C = np.linalg.inv(np.linalg.cholesky(P)), np.linalg.inv(np.linalg.cholesky(Q))\n"
        "    M = beta * state.M + (1 - beta) * (A @ G @ C.mT)\n"
        "    update = A.mT @ polar.orthogonalize(M, orthogonalize) @ C",
        _WHITE,
        "Cholesky roots in the place of symmetric ones",
    ),
    _reference(
        "triangular-root",
        _ROOTS,
        "A, C = np.linalg.inv(np.linalg.cholesky(P)), np.linalg.inv(np.linalg.cholesky(Q))",
        _WHITE,
        "triangular roots used as if they were symmetric",
    ),
    _reference(
        "factors-exchanged",
        _BODY,
        _BODY.replace("A, C =", "C, A ="),
        _WHITE,
        "P and Q exchanged in whitening",
    ),
    _reference(
        "stale-whitening",
        _ROOTS,
        'A, C = inverse_root("P", state.P), inverse_root("Q", state.Q)',
        _WHITE,
        "whitened by the factors of the previous step",
    ),
    _reference(
        "stale-right",
        _ROOTS,
        'A, C = inverse_root("P", P), inverse_root("Q", state.Q)',
        _WHITE,
        "whitened by P_t and the stale Q_{t-1}",
    ),
    _reference(
        "whitening-left-only",
        _AVERAGED,
        _AVERAGED.replace("A @ G @ C", "A @ G"),
        _WHITE,
        "whitened by P only",
    ),
    _reference(
        "whitening-right-only",
        _AVERAGED,
        _AVERAGED.replace("A @ G @ C", "G @ C"),
        _WHITE,
        "whitened by Q only",
    ),
    _reference(
        "unwhitening-missing",
        _UNWHITENED,
        "update = polar.orthogonalize(M, orthogonalize)",
        _UPDATE,
        "Polar(M) not mapped back",
    ),
    _reference(
        "unwhitening-left-missing",
        _UNWHITENED,
        _UNWHITENED.replace("= A @ ", "= "),
        _UPDATE,
        "P^(-1/2) missing before Polar(M)",
    ),
    _reference(
        "unwhitening-right-missing",
        _UNWHITENED,
        _UNWHITENED.replace(" @ C", ""),
        _UPDATE,
        "Q^(-1/2) missing after Polar(M)",
    ),
    _reference(
        "unwhitening-inverse",
        _UNWHITENED,
        "update = np.linalg.inv(A) @ polar.orthogonalize(M, orthogonalize) @ np.linalg.inv(C)",
        _UPDATE,
        "mapped back with P^(1/2) and Q^(1/2)",
    ),
    _reference("sign", _UNWHITENED, _UNWHITENED.replace("= A", "= -A"), _UPDATE, "ascends"),
    _reference(
        "momentum-raw",
        f"{_AVERAGED}\n    {_UNWHITENED}",
        "M = beta * state.M + (1 - beta) * G\n"
        "    update = A @ polar.orthogonalize(A @ M @ C, orthogonalize) @ C",
        _MOMENTUM,
        "raw gradients are averaged and the average whitened (Mousse's order)",
    ),
    _reference("momentum-missing", _AVERAGED, "M = A @ G @ C", _MOMENTUM, "no momentum"),
    _reference(
        "momentum-swapped",
        _AVERAGED,
        "M = (1 - beta) * state.M + beta * (A @ G @ C)",
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _reference(
        "momentum-undamped",
        _AVERAGED,
        "M = state.M + (1 - beta) * (A @ G @ C)",
        _MOMENTUM,
        "old momentum has weight 1, not beta",
    ),
    _reference(
        "nesterov",
        _UNWHITENED,
        "update = A @ polar.orthogonalize(beta * M + (1 - beta) * (A @ G @ C), orthogonalize) @ C",
        _UPDATE,
        "Nesterov momentum, which Algorithm 1 does not have",
    ),
    _reference(
        "gradient-orthogonalised",
        _UNWHITENED,
        "update = A @ polar.orthogonalize(A @ G @ C, orthogonalize) @ C",
        _UPDATE,
        "Polar(G~_t) in the place of Polar(M_t)",
    ),
    _reference("not-orthogonalised", _UNWHITENED, "update = A @ M @ C", _UPDATE, "no polar factor"),
    _reference(
        "jordan",
        _UNWHITENED,
        _UNWHITENED.replace("(M, orthogonalize)", '(M, "jordan")'),
        _UPDATE,
        "five Jordan steps in the place of the exact polar factor",
    ),
)

"""Faults of FISMO for the conformance checks to find, planted into our own optimizer."""

from proofs_checks.mutants import Mutant

__all__ = ["EQUIVALENT", "PLANTED"]

_LEFT = "L_t = G_t Q_{t-1}^-1 G_t^T/n + damping"
_RIGHT = "R_t = G_t^T P_t^-1 G_t/m + damping"
_AVERAGE = "Pbar_t = gamma P_{t-1} + (1 - gamma) L_t"
_TRACE = "P_t = m/tr(Pbar_t) Pbar_t"
_WHITE = "G~_t = P_t^(-1/2) G_t Q_t^(-1/2)"
_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) G~_t"
_UPDATE = "U_t = P_t^(-1/2) Polar(M_t) Q_t^(-1/2)"

_T_ROOTS = "A, C = roots or (inverse_sqrt(P), inverse_sqrt(Q))  # symmetric, by the algorithm's definition"
_T_MOMENTUM = "M = beta * state.M + (1.0 - beta) * (A @ G.to(P.dtype) @ C)"
_T_UPDATE = "update = A @ apply_orthogonalizer(M, orthogonalize) @ C"
_T_LEFT = "L = left_factor(X, Q, mu=mu if theorem else 0.0)"
_T_RIGHT = 'R = right_factor(X, next_P if order == "gauss-seidel" else P, mu=mu if theorem else 0.0)'
_T_P = "next_P = unit_mean(gamma * P + (1.0 - gamma) * (L if theorem else _damped(L, mu, P)))"
_T_Q = "next_Q = unit_mean(gamma * Q + (1.0 - gamma) * (R if theorem else _damped(R, mu, Q)))"


def _planted(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"torch-fismo.{name}", "torch_impl.fismo", old, new, equation, description)


#: Faults of our own optimizer; ``mutated(m, dependents=["torch_impl.optim.fismo"])`` and its `FISMO`.
PLANTED = (
    _planted(
        "stale-left",
        _T_RIGHT,
        _T_RIGHT.replace("next_P if order", "P if order"),
        _RIGHT,
        "R_t built from the stale P_{t-1}",
    ),
    _planted(
        "right-divisor", _T_RIGHT, f"{_T_RIGHT} * (m / n)", _RIGHT, "R_t divided by n in the place of m"
    ),
    _planted("left-divisor", _T_LEFT, f"{_T_LEFT} * (n / m)", _LEFT, "L_t divided by m in the place of n"),
    _planted("left-one-sided", _T_LEFT, "L = (X @ X.mT).mean(-3) / n", _LEFT, "L_t = G G^T/n, without Q^-1"),
    _planted(
        "right-one-sided", _T_RIGHT, "R = (X.mT @ X).mean(-3) / m", _RIGHT, "R_t = G^T G/m, without P^-1"
    ),
    _planted(
        "left-damping-dropped", _T_P, _T_P.replace("_damped(L, mu, P)", "L"), _LEFT, "no damping in L_t"
    ),
    _planted(
        "right-damping-dropped", _T_Q, _T_Q.replace("_damped(R, mu, Q)", "R"), _RIGHT, "no damping in R_t"
    ),
    _planted(
        "left-damping-doubled",
        _T_P,
        _T_P.replace("_damped(L, mu, P)", "_damped(L, 2 * mu, P)"),
        _LEFT,
        "damping of L_t counted twice",
    ),
    _planted(
        "gamma-swapped",
        _T_P,
        _T_P.replace("gamma * P + (1.0 - gamma) *", "(1.0 - gamma) * P + gamma *"),
        _AVERAGE,
        "gamma weighs the new L_t",
    ),
    _planted("trace-missing", _T_P, _T_P.replace("unit_mean(", "("), _TRACE, "no trace normalisation of P"),
    _planted(
        "power-one",
        _T_ROOTS,
        "A, C = torch.linalg.inv(P), torch.linalg.inv(Q)",
        _WHITE,
        "P^-1, Q^-1 in the place of the roots",
    ),
    _planted(
        "power-quarter",
        _T_ROOTS,
        "A, C = (torch.linalg.inv(inverse_sqrt(inverse_sqrt(X))) for X in (P, Q))",
        _WHITE,
        "P^(-1/4), Q^(-1/4) in the place of the roots",
    ),
    _planted(
        "triangular-root",
        _T_ROOTS,
        "A, C = (torch.linalg.inv(torch.linalg.cholesky(X)) for X in (P, Q))",
        _WHITE,
        "triangular roots used as if they were symmetric",
    ),
    _planted(
        "cholesky-root",
        f"{_T_ROOTS}\n    {_T_MOMENTUM}\n    {_T_UPDATE}",
        "A, C = (torch.linalg.inv(torch.linalg.cholesky(X)) for X in (P, Q))\n"
        "    M = beta * state.M + (1.0 - beta) * (A @ G.to(P.dtype) @ C.mT)\n"
        "    update = A.mT @ apply_orthogonalizer(M, orthogonalize) @ C",
        _WHITE,
        "Cholesky roots in the place of symmetric ones",
    ),
    _planted(
        "stale-whitening",
        _T_ROOTS,
        "A, C = inverse_sqrt(state.P), inverse_sqrt(state.Q)",
        _WHITE,
        "whitened by the factors of the previous step",
    ),
    _planted(
        "unwhitening-left-missing",
        _T_UPDATE,
        _T_UPDATE.replace("= A @ ", "= "),
        _UPDATE,
        "P^(-1/2) missing before Polar(M)",
    ),
    _planted(
        "unwhitening-right-missing",
        _T_UPDATE,
        _T_UPDATE.replace(" @ C", ""),
        _UPDATE,
        "Q^(-1/2) missing after Polar(M)",
    ),
    _planted(
        "unwhitening-missing",
        _T_UPDATE,
        "update = apply_orthogonalizer(M, orthogonalize)",
        _UPDATE,
        "Polar(M) not mapped back",
    ),
    _planted("momentum-missing", _T_MOMENTUM, "M = A @ G.to(P.dtype) @ C", _MOMENTUM, "no momentum"),
    _planted(
        "momentum-undamped",
        _T_MOMENTUM,
        _T_MOMENTUM.replace("beta * state", "state"),
        _MOMENTUM,
        "old momentum has weight 1, not beta",
    ),
    _planted(
        "momentum-raw",
        f"{_T_MOMENTUM}\n    {_T_UPDATE}",
        "M = beta * state.M + (1.0 - beta) * G.to(P.dtype)\n"
        "    update = A @ apply_orthogonalizer(A @ M @ C, orthogonalize) @ C",
        _MOMENTUM,
        "raw gradients are averaged and the average whitened",
    ),
    _planted("sign", _T_UPDATE, _T_UPDATE.replace("= A", "= -A"), _UPDATE, "ascends"),
    _planted("not-orthogonalised", _T_UPDATE, "update = A @ M @ C", _UPDATE, "no polar factor"),
)

#: Changes that leave every step as it is, with the reason: the checks must not report them.
EQUIVALENT = (
    _planted(
        "momentum-sum",
        _T_MOMENTUM,
        _T_MOMENTUM.replace("(1.0 - beta) * (A", "(A"),
        _MOMENTUM,
        "sum in the place of the average: Polar ignores scale",
    ),
    _planted(
        "momentum-scaled",
        _T_UPDATE,
        _T_UPDATE.replace("(M,", "(M / (1.0 - beta),"),
        _UPDATE,
        "bias correction of M: Polar ignores scale",
    ),
    _planted(
        "data-symmetrised",
        _T_P,
        _T_P.replace("unit_mean(gamma", "unit_mean(1.0 * gamma"),
        _AVERAGE,
        "a product with 1",
    ),
)

"""Faults of SOFIM for the conformance checks to find, planted into our own optimizer."""

from proofs_checks.mutants import Mutant

__all__ = ["PLANTED"]

_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) g_t"
_CORRECTED = "M_hat_t = M_t / (1 - beta^t)"
_DIRECTION = "U_t = M_hat_t / (rho + |M_hat_t|^2)"

_T = "torch_impl.optim.sofim"
_T_NU = "nu = torch.stack([sofim.squared_norm(M_hat).to(device) for *_, M_hat in averages]).sum()"
_T_UPDATE = 'sofim.preconditioned(M_hat, nu.to(M_hat.device), gradient.group["rho"])'
_T_M = "M = sofim.average(old, gradient.value, beta)"
_T_HAT = "averages.append((M, t, sofim.corrected(M, t, beta)))"


def _planted(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"torch-sofim.{name}", _T, old, new, equation, description)


_RHO = 'gradient.group["rho"]'
_EQUATION_6 = f"M_hat / {_RHO} - M_hat * (nu / ({_RHO} ** 2 * (1 + nu / {_RHO}))).to(M_hat.dtype)"

#: Faults of our own optimizer; `proofs_checks.mutants.mutated(m)` and its `SOFIM`.
PLANTED = (
    _planted(
        "norm-per-layer",
        _T_UPDATE,
        'sofim.preconditioned(M_hat, sofim.squared_norm(M_hat), gradient.group["rho"])',
        _DIRECTION,
        "one norm per parameter",
    ),
    _planted("norm-not-squared", _T_NU, f"{_T_NU}.sqrt()", _DIRECTION, "|M_hat| in the place of its square"),
    _planted(
        "norm-of-raw-momentum",
        _T_NU,
        _T_NU.replace("(M_hat)", "(M)").replace("*_, M_hat", "M, *_"),
        _DIRECTION,
        "|M|^2 in the place of |M_hat|^2",
    ),
    _planted(
        "rho-missing",
        _T_UPDATE,
        _T_UPDATE.replace('gradient.group["rho"]', "1e-30"),
        _DIRECTION,
        "no regularisation",
    ),
    _planted(
        "norm-missing",
        _T_UPDATE,
        _T_UPDATE.replace("nu.to(M_hat.device)", "0.0 * nu"),
        _DIRECTION,
        "the rank-one term is missing",
    ),
    _planted(
        "bias-correction-missing", _T_HAT, "averages.append((M, t, M))", _CORRECTED, "no bias correction"
    ),
    _planted(
        "bias-correction-late",
        _T_HAT,
        _T_HAT.replace("(M, t, beta)", "(M, t + 1, beta)"),
        _CORRECTED,
        "bias correction counts one step too many",
    ),
    _planted(
        "momentum-missing",
        _T_M,
        "M = sofim.average(torch.zeros_like(old), gradient.value, beta)",
        _MOMENTUM,
        "no momentum",
    ),
    _planted(
        "momentum-swapped",
        _T_M,
        _T_M.replace(", beta)", ", 1.0 - beta)"),
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _planted(
        "equation-6",
        _T_UPDATE,
        _EQUATION_6,
        _DIRECTION,
        "equation 6 evaluated as printed: cancels",
    ),
    _planted("sign", _T_UPDATE, f"-{_T_UPDATE}", _DIRECTION, "ascends"),
)

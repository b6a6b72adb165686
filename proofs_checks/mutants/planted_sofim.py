"""Faults of SOFIM for the conformance checks to find, planted into our own optimizer."""

from proofs_checks.mutants import Mutant

__all__ = ["PLANTED"]

_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) g_t"
_CORRECTED = "M_hat_t = M_t / (1 - beta^t)"
_DIRECTION = "U_t = M_hat_t / (rho + |M_hat_t|^2)"

_T = "torch_impl.optim.sofim"
_T_NU = "average_and_sum(batch.M, g, beta) / c[0] ** 2"
_T_SCOPE = '{"global": "", "group"'
_T_DENOMINATOR = "c * (rho + nu[batch.scope].to(batch.M[0].device))"
_T_M = 'beta, c = batch.group["beta"], batch.corrections'
_T_CORRECTION = 'batch.corrections.append(1.0 - group["beta"] ** t)'
_T_STEP = "writing.descend(batch.group, batch.W, batch.M, [lr / x for x in denominators], accept)"


def _planted(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"torch-sofim.{name}", _T, old, new, equation, description)


#: The two terms one after the other; c is the bias correction.
_EQUATION_6 = """for c in batch.corrections:
                first, second = lr / (c * rho), nu[batch.scope] / (1 + nu[batch.scope] / rho)
                writing.descend(batch.group, batch.W, batch.M, [first], accept)
                writing.descend(batch.group, batch.W, batch.M, [-first / rho * second], accept)"""

#: Faults of our own optimizer; `proofs_checks.mutants.mutated(m)` and its `SOFIM`.
PLANTED = (
    _planted("norm-per-layer", _T_SCOPE, '{"global": where, "group"', _DIRECTION, "one norm per parameter"),
    _planted(
        "norm-not-squared",
        _T_DENOMINATOR,
        _T_DENOMINATOR.replace("nu[batch.scope]", "nu[batch.scope].sqrt()"),
        _DIRECTION,
        "|M_hat| in the place of its square",
    ),
    _planted(
        "norm-of-raw-momentum",
        _T_NU,
        _T_NU.replace(" / c[0] ** 2", ""),
        _DIRECTION,
        "|M|^2 in the place of |M_hat|^2",
    ),
    _planted(
        "rho-missing",
        _T_DENOMINATOR,
        _T_DENOMINATOR.replace("rho", "1e-30"),
        _DIRECTION,
        "no regularisation",
    ),
    _planted(
        "norm-missing",
        _T_DENOMINATOR,
        _T_DENOMINATOR.replace("nu[", "0.0 * nu["),
        _DIRECTION,
        "the rank-one term is missing",
    ),
    _planted(
        "bias-correction-missing",
        _T_CORRECTION,
        "batch.corrections.append(1.0)",
        _CORRECTED,
        "no bias correction",
    ),
    _planted(
        "bias-correction-late",
        _T_CORRECTION,
        _T_CORRECTION.replace("** t", "** (t + 1)"),
        _CORRECTED,
        "bias correction counts one step too many",
    ),
    _planted(
        "momentum-missing", _T_M, f"{_T_M}\n    torch._foreach_zero_(batch.M)", _MOMENTUM, "no momentum"
    ),
    _planted(
        "momentum-swapped",
        _T_M,
        _T_M.replace("batch.group[", "1.0 - batch.group["),
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _planted("equation-6", _T_STEP, _EQUATION_6, _DIRECTION, "equation 6 evaluated as printed: cancels"),
    _planted("sign", _T_STEP, _T_STEP.replace("[lr /", "[-lr /"), _DIRECTION, "ascends"),
)

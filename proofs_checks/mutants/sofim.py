"""Known faults of SOFIM in the reference: what a failing target may behave like."""

from proofs_checks.mutants import Mutant

__all__ = ["REFERENCE_FAULTS"]

_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) g_t"
_CORRECTED = "M_hat_t = M_t / (1 - beta^t)"
_DIRECTION = "U_t = M_hat_t / (rho + |M_hat_t|^2)"

_AVERAGED = "M = beta * state.M + (1 - beta) * g"
_STEP = "return direction(M / (1 - beta**t), rho=rho), SofimState(M, t)"
_BODY = f"{_AVERAGED}\n    {_STEP}"


def _reference(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"sofim.{name}", "reference.sofim", old, new, equation, description)


def _direction(formula: str) -> str:
    return (
        f"M_hat = M / (1 - beta**t)\n    nu = np.square(M_hat).sum()\n    return {formula}, SofimState(M, t)"
    )


REFERENCE_FAULTS = (
    _reference(
        "bias-correction-missing",
        _STEP,
        "return direction(M, rho=rho), SofimState(M, t)",
        _CORRECTED,
        "no bias correction",
    ),
    _reference(
        "bias-correction-late",
        _STEP,
        _STEP.replace("beta**t", "beta ** (t + 1)"),
        _CORRECTED,
        "bias correction counts one step too many",
    ),
    _reference(
        "bias-correction-in-state",
        _BODY,
        f"{_AVERAGED}\n    M = M / (1 - beta**t)\n    return direction(M, rho=rho), SofimState(M, t)",
        _CORRECTED,
        "the corrected momentum is kept as the state",
    ),
    _reference(
        "momentum-missing",
        _BODY,
        "M = g\n    return direction(g, rho=rho), SofimState(M, t)",
        _MOMENTUM,
        "no momentum",
    ),
    _reference(
        "momentum-forgotten",
        _AVERAGED,
        "M = (1 - beta) * g",
        _MOMENTUM,
        "the old momentum is dropped, its bias correction kept",
    ),
    _reference(
        "norm-per-parameter",
        "class SofimState(NamedTuple):",
        "PER_PARAMETER = True\n\n\nclass SofimState(NamedTuple):",
        _DIRECTION,
        "a norm for every parameter in the place of the global one",
    ),
    _reference(
        "momentum-sum", _AVERAGED, "M = beta * state.M + g", _MOMENTUM, "sum in the place of the average"
    ),
    _reference(
        "momentum-swapped",
        _AVERAGED,
        "M = (1 - beta) * state.M + beta * g",
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _reference(
        "norm-not-squared",
        _STEP,
        _direction("M_hat / (rho + np.sqrt(nu))"),
        _DIRECTION,
        "|M_hat| in the place of its square",
    ),
    _reference(
        "norm-of-raw-momentum",
        _STEP,
        _direction("M_hat / (rho + np.square(M).sum())"),
        _DIRECTION,
        "|M|^2 in the place of |M_hat|^2",
    ),
    _reference(
        "norm-of-gradient",
        _STEP,
        _direction("M_hat / (rho + np.square(g).sum())"),
        _DIRECTION,
        "|g|^2 in the place of |M_hat|^2",
    ),
    _reference(
        "gradient-direction",
        _STEP,
        _direction("g / (rho + nu)"),
        _DIRECTION,
        "the gradient in the place of M_hat",
    ),
    _reference(
        "rho-missing", _STEP, _direction("M_hat / nu if nu else M_hat"), _DIRECTION, "no regularisation"
    ),
    _reference(
        "rho-squared", _STEP, _direction("M_hat / (rho**2 + nu)"), _DIRECTION, "rho^2 in the place of rho"
    ),
    _reference(
        "norm-missing",
        _STEP,
        _direction("M_hat / rho"),
        _DIRECTION,
        "the rank-one term is missing: momentum with step lr/rho",
    ),
    _reference(
        "fisher-applied",
        _STEP,
        _direction("M_hat * (rho + nu)"),
        _DIRECTION,
        "F M_hat in the place of F^-1 M_hat",
    ),
    _reference(
        "root", _STEP, _direction("M_hat / np.sqrt(rho + nu)"), _DIRECTION, "F^(-1/2) in the place of F^-1"
    ),
    _reference(
        "element-wise",
        _STEP,
        _direction("M_hat / (rho + np.square(M_hat))"),
        _DIRECTION,
        "the diagonal of M_hat M_hat^T in the place of the matrix",
    ),
    _reference(
        "anisotropic",
        _STEP,
        _direction("(g - M_hat * ((M_hat * g).sum() / (rho + nu))) / rho"),
        _DIRECTION,
        "F^-1 applied to the gradient (DP-FedSOFIM, anisotropic)",
    ),
    _reference(
        "denominator-shifted",
        _STEP,
        _direction("M_hat / rho - M_hat * nu / (rho**2 * (1 + nu / rho) + 1e-8)"),
        _DIRECTION,
        "1e-8 added to the denominator of equation 6",
    ),
    _reference("sign", _STEP, _direction("-M_hat / (rho + nu)"), _DIRECTION, "ascends"),
)

"""Known faults of Muon in the reference: what a failing target may behave like."""

from proofs_checks.mutants import Mutant

__all__ = ["REFERENCE_FAULTS"]

_MOMENTUM = "V_t = beta V_{t-1} + (1 - beta) G_t"
_NESTEROV = "B_t = G_t + beta (V_t - G_t)"
_ITERATION = "X = B/|B|_F, then five times X <- (a I + b X X^T + c (X X^T)^2) X"
_SCALE = "a = sqrt(max(1, m/n))"
_DECAY = "W_t = (1 - lr wd) W_{t-1} - lr U_t"

_AVERAGED = "V = beta * state.V + ((1 - beta) * G if average else G)"
_SEEN = "polar.orthogonalize(ahead if nesterov else V, orthogonalize)"
_RETURN = "return update, MuonState(V)"
_SCALED = 'return sqrt(max(1.0, m / n)) if scale == "original" else 0.2 * sqrt(max(m, n))'
_DECAYED = "with_weight_decay(update, W, weight_decay)"


def _reference(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"muon.{name}", "reference.muon", old, new, equation, description)


def _steps(count: int) -> str:
    return f"polar.newton_schulz(ahead if nesterov else V, polar.JORDAN_QUINTIC, steps={count})"


def _spectral(B: str) -> str:
    return f"polar.newton_schulz(({B}) / np.linalg.norm({B}, 2), polar.JORDAN_QUINTIC, normalize=False)"


REFERENCE_FAULTS = (
    _reference(
        "buffer-normalised",
        _RETURN,
        "return update, MuonState(V if nesterov else V / (np.linalg.norm(V) or 1.0))",
        _MOMENTUM,
        "the iteration divides the momentum buffer itself by its norm, in place",
    ),
    _reference(
        "buffer-orthogonalised",
        _RETURN,
        f"return update, MuonState({_SEEN})",
        _MOMENTUM,
        "the orthogonalised matrix is kept as the momentum",
    ),
    _reference(
        "buffer-ahead",
        _RETURN,
        "return update, MuonState(ahead)",
        _MOMENTUM,
        "the Nesterov look-ahead is kept as the momentum",
    ),
    _reference("momentum-missing", _AVERAGED, "V = G", _MOMENTUM, "no momentum"),
    _reference(
        "momentum-swapped",
        _AVERAGED,
        "V = (1 - beta) * state.V + beta * G",
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _reference(
        "momentum-undamped",
        _AVERAGED,
        "V = state.V + (1 - beta) * G",
        _MOMENTUM,
        "old momentum has weight 1, not beta",
    ),
    _reference(
        "nesterov-missing", _SEEN, "polar.orthogonalize(V, orthogonalize)", _NESTEROV, "no Nesterov momentum"
    ),
    _reference(
        "nesterov-unasked",
        _SEEN,
        "polar.orthogonalize(ahead, orthogonalize)",
        "B_t = V_t",
        "Nesterov momentum although it is switched off",
    ),
    _reference(
        "nesterov-swapped",
        "ahead = G + beta * (V - G if average else V)",
        "ahead = V + beta * (G - V)",
        _NESTEROV,
        "V_t + beta (G_t - V_t)",
    ),
    _reference(
        "nesterov-double",
        "ahead = G + beta * (V - G if average else V)",
        "ahead = G + beta * V",
        _NESTEROV,
        "G_t + beta V_t, the form that belongs to the sum",
    ),
    _reference("four-steps", _SEEN, _steps(4), _ITERATION, "four iterations in the place of five"),
    _reference("six-steps", _SEEN, _steps(6), _ITERATION, "six iterations in the place of five"),
    _reference(
        "exact-polar",
        _SEEN,
        "polar.polar_factor(ahead if nesterov else V)",
        _ITERATION,
        "the exact polar factor",
    ),
    _reference("not-orthogonalised", _SEEN, "(ahead if nesterov else V)", _ITERATION, "no orthogonalisation"),
    _reference(
        "spectral-norm",
        _SEEN,
        _spectral("ahead if nesterov else V"),
        _ITERATION,
        "divided by the spectral norm in the place of the Frobenius norm",
    ),
    _reference(
        "scale-inverted", _SCALED, _SCALED.replace("m / n", "n / m"), _SCALE, "n/m in the place of m/n"
    ),
    _reference(
        "scale-unclamped",
        _SCALED,
        _SCALED.replace("max(1.0, m / n)", "m / n"),
        _SCALE,
        "sqrt(m/n) without the floor at 1",
    ),
    _reference("scale-missing", _SCALED, "return 1.0", _SCALE, "no shape factor"),
    _reference("scale-swapped", _SCALED, _SCALED.replace("==", "!="), _SCALE, "the other shape factor"),
    _reference("decay-missing", _DECAYED, "with_weight_decay(update, W, 0.0)", _DECAY, "no weight decay"),
    _reference("decay-sign", _DECAYED, "with_weight_decay(update, W, -weight_decay)", _DECAY, "weights grow"),
    _reference(
        "decay-halved",
        _DECAYED,
        "with_weight_decay(update, W, 0.5 * weight_decay)",
        _DECAY,
        "half the weight decay",
    ),
    # The update does not know lr; the conformance checks run with lr = 1/2, which is written out here.
    _reference(
        "decay-without-lr",
        _DECAYED,
        "with_weight_decay(update, W, weight_decay / 0.5)",
        _DECAY,
        "decay not multiplied by lr",
    ),
    _reference(
        "decay-after",
        _DECAYED,
        "with_weight_decay(update, None if W is None else W - 0.5 * update, weight_decay)",
        _DECAY,
        "decay applied after the step",
    ),
    _reference(
        "decay-coupled",
        _AVERAGED,
        "V = beta * state.V + (1 - beta) * (G if W is None else G + weight_decay * W)",
        _DECAY,
        "decay added to the gradient as well",
    ),
    _reference("sign", "update = _shape_scale", "update = -_shape_scale", "U = a NS(B)", "ascends"),
)

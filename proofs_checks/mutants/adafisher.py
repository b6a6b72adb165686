"""Known faults of AdaFisher in the reference: what a failing target may behave like.

Readings of the paper other than the default are among them: a target that follows one is told its name, and
the option that declares it.
"""

from proofs_checks.mutants import Mutant

__all__ = ["REFERENCE_FAULTS"]

_F = "F_jk = s'_j h'_k + lam"
_UPDATE = "U_t = M_hat_t / F_t"
_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) G_t"
_CORRECTED = "M_hat_t = M_t / (1 - beta^t)"
_AVERAGE = "h_D <- gamma h_D + (1 - gamma) fresh, s_D likewise, from the first measurement"
_MINMAX = "x' = (x - min x) / (max x - min x)"
_ORDER = "h' = minmax(average of h_D)"
_MEASURE = "h_D = mean of h^2 over all rows, with a 1 for the bias; s_D = mean of s^2"
_DECAY = "W_t = W_{t-1} - lr (U_t + wd W_{t-1})"
_LAYER = "h_D of a layer as its kind has it"

_FACTORS = "h if ready else normalised(h), s if ready else normalised(s)"
_DENOMINATOR = f"F = denominator({_FACTORS}, lam=lam, pairing=pairing)"
_AVERAGED = 'M = beta * state.M + (1 - beta) * like("G", G, F.shape)'
_QUOTIENT = "update = M / (1 - beta**t) / F"
_DECAYED = "update = update if W is None else update + weight_decay * W"
_QUIET = 'with np.errstate(over="ignore", invalid="ignore"):'
_BODY = f"{_AVERAGED}\n    {_QUIET}\n        {_QUOTIENT}\n        {_DECAYED}"
_MEAN = "mean = average(old, new, gamma=gamma, gamma_on=gamma_on)"
_KEPT = "return new.copy() if first else mean"
_NORMALISED = "return minmax_normalize(d, epsilon=epsilon, relative=relative, axes=factor_axes)"
_STATE = "class AdaFisherState(NamedTuple):"


def _reference(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"adafisher.{name}", "reference.adafisher", old, new, equation, description)


def _body(update: str, *, momentum: str = _AVERAGED) -> str:
    return f"{momentum}\n    update = {update}\n    {_DECAYED}"


def _before_state(code: str) -> str:
    """Functions put into the module before its first class."""
    return f"{code}\n\n\n{_STATE}"


def _measured(h_D: str, s_D: str) -> str:
    """Another measurement of linear layers; `h_D` does not hold the bias."""
    return _before_state(
        "def linear_factors(h, s, *, bias=True):\n"
        f"    h_D, s_D = {h_D}, {s_D}\n"
        "    return (np.append(h_D, 1.0) if bias else h_D), s_D"
    )


def _biased(h: str) -> str:
    """Another normalised activation factor where there is a bias."""
    return _before_state(
        "_right_factors, _right_denominator, _biases = linear_factors, denominator, []\n\n\n"
        "def linear_factors(h, s, *, bias=True):\n"
        "    _biases.append(bias)\n"
        "    return _right_factors(h, s, bias=bias)\n\n\n"
        "def denominator(h, s, **options):\n"
        f"    return _right_denominator({h} if _biases and _biases[-1] else h, s, **options)"
    )


def _pooled(calls: str) -> str:
    """Another rule for which calls of a layer are measured."""
    return _before_state(f"def pooled(calls):\n    return {calls}")


_OF_THE_UPDATE = (
    _reference(
        "root", _QUOTIENT, f"{_QUOTIENT.replace('/ F', '/ np.sqrt(F)')}", _UPDATE, "a square root on F"
    ),
    _reference("denominator-missing", _QUOTIENT, "update = M / (1 - beta**t)", _UPDATE, "not divided by F"),
    _reference("sign", _QUOTIENT, _QUOTIENT.replace("= M", "= -M"), _UPDATE, "ascends"),
    _reference(
        "bias-correction-missing",
        _QUOTIENT,
        "update = M / F",
        _CORRECTED,
        "no bias correction of the momentum",
    ),
    _reference(
        "bias-correction-late",
        _QUOTIENT,
        _QUOTIENT.replace("beta**t", "beta ** (t + 1)"),
        _CORRECTED,
        "bias correction counts one step too many",
    ),
    _reference("momentum-missing", _BODY, _body("G / F"), _MOMENTUM, "no momentum"),
    _reference(
        "momentum-forgotten",
        _AVERAGED,
        "M = (1 - beta) * G",
        _MOMENTUM,
        "the old momentum is dropped, its bias correction kept",
    ),
    _reference(
        "momentum-sum", _AVERAGED, "M = beta * state.M + G", _MOMENTUM, "sum in the place of the average"
    ),
    _reference(
        "momentum-swapped",
        _AVERAGED,
        "M = (1 - beta) * state.M + beta * G",
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _reference(
        "momentum-of-steps",
        _BODY,
        _body("M / (1 - beta**t)", momentum="M = beta * state.M + (1 - beta) * (G / F)"),
        _UPDATE,
        "momentum after preconditioning: an average of G / F",
    ),
    _reference("decay-missing", _DECAYED, "update = update", _DECAY, "no weight decay"),
    _reference(
        "decay-coupled",
        _BODY,
        f"M = beta * state.M + (1 - beta) * (G if W is None else G + weight_decay * W)\n    {_QUOTIENT}",
        _DECAY,
        "decay added to the gradient: the variant decay=coupled, the released AdaFisher without W",
    ),
    _reference(
        "decay-divided",
        _DECAYED,
        "update = update if W is None else update + weight_decay * W / F",
        _DECAY,
        "decay divided by F",
    ),
    # The update does not know lr; the conformance checks run with lr = 1/2, which is written out here.
    _reference(
        "decay-without-lr",
        _DECAYED,
        _DECAYED.replace("weight_decay", "weight_decay / 0.5"),
        _DECAY,
        "decay not multiplied by lr",
    ),
)

_OF_THE_FACTORS = (
    _reference(
        "gamma-exchanged",
        _MEAN,
        _MEAN.replace("gamma_on=gamma_on", 'gamma_on="new" if gamma_on == "old" else "old"'),
        _AVERAGE,
        "gamma weighs the new factor: the variant gamma_on=new (or the old one, for new)",
    ),
    _reference(
        "order-exchanged",
        'choice("normalise", normalise, ("after", "before"))',
        'normalise = "before" if normalise == "after" else "after"',
        _ORDER,
        "normalised before it is averaged: the variant normalise=before (or after, for before)",
    ),
    _reference(
        "normalised-twice",
        'new = normalised(new) if normalise == "before" else new',
        "new = normalised(new)",
        _ORDER,
        "every measurement normalised as well as their average",
    ),
    _reference(
        "averaging-exchanged",
        '("paper", "released")) == "released"',
        '("paper", "released")) != "released"',
        _AVERAGE,
        "the released averaging: the variant averaging=released (or the paper's, for released)",
    ),
    _reference(
        "initial-exchanged",
        'initial == "first"',
        'initial != "first"',
        _AVERAGE,
        "the average starts from ones, or from zeros, which min-max cannot tell apart: the variant "
        "initial=ones (or from the first measurement, for ones)",
    ),
    _reference("average-missing", _KEPT, "return new.copy()", _AVERAGE, "only the newest measurement"),
    _reference(
        "factors-frozen", _KEPT, "return new.copy() if first else old", _AVERAGE, "only the first measurement"
    ),
    _reference(
        "average-sum",
        _KEPT,
        "return new.copy() if first else old + new",
        _AVERAGE,
        "measurements are summed up",
    ),
    _reference(
        "factors-stale",
        _DENOMINATOR,
        "if refreshes:\n"
        "        F = denominator(normalised(state.h_D), normalised(state.s_D), lam=lam, pairing=pairing)\n"
        f"    else:\n        {_DENOMINATOR}",
        _UPDATE,
        "divided by the F of the step before",
    ),
    _reference(
        "refresh-ignored",
        "        if not refresh:\n            return old.copy()\n",
        "",
        "the factors are measured every K steps",
        "measured at every step",
    ),
    _reference("minmax-missing", _NORMALISED, "return d", _MINMAX, "no normalisation"),
    _reference(
        "minimum-kept",
        _NORMALISED,
        "return d / (d.max() or 1.0)",
        _MINMAX,
        "divided by the maximum, the minimum not subtracted",
    ),
    _reference(
        "range-missing", _NORMALISED, "return d - d.min()", _MINMAX, "the minimum subtracted, not divided"
    ),
    _reference(
        "epsilon-absolute",
        _NORMALISED,
        _NORMALISED.replace("epsilon=epsilon, relative=relative", "epsilon=1e-6, relative=False"),
        _MINMAX,
        "1e-6 added to the range, whatever its scale: the variant epsilon=1e-6 relative=False",
    ),
    _reference(
        "constant-one",
        _NORMALISED,
        "d = minmax_normalize(d, epsilon=epsilon, relative=relative, axes=factor_axes)\n"
        "        return d if d.any() else d + 1",
        _MINMAX,
        "a constant factor becomes 1 in the place of 0",
    ),
    _reference(
        "lam-inside",
        _DENOMINATOR,
        "a, b = (np.sqrt(lam) + (d if ready else normalised(d)) for d in (h, s))\n"
        "    F = denominator(a, b, lam=1e-300, pairing=pairing)",
        _F,
        "the root of lam added to each factor in the place of lam to their product",
    ),
    _reference(
        "lam-doubled", _DENOMINATOR, _DENOMINATOR.replace("=lam", "=2 * lam"), _F, "lam counted twice"
    ),
    _reference(
        "lam-squared", _DENOMINATOR, _DENOMINATOR.replace("=lam", "=lam**2"), _F, "lam^2 in the place of lam"
    ),
    _reference(
        "transposed",
        _DENOMINATOR,
        f"h, s = s, h\n    {_DENOMINATOR}\n    h, s = s, h",
        _F,
        "F transposed: inputs x outputs",
    ),
    _reference(
        "product-sum",
        _DENOMINATOR,
        f"{_DENOMINATOR}\n"
        "    a, b = (d if ready else normalised(d) for d in (h, s))\n"
        '    F = (b[..., :, None] + a[..., None, :] if pairing == "outer" else a + b) + lam',
        _F,
        "sum of the factors in the place of their product",
    ),
)

_OF_THE_MEASUREMENT = (
    _reference(
        "bias-left-out",
        _STATE,
        _biased("np.append(minmax_normalize(h[:-1]), 0.0)"),
        _MEASURE,
        "the bias takes no part in the normalisation, and its F is lam",
    ),
    _reference(
        "bias-one",
        _STATE,
        _biased("np.append(minmax_normalize(h[:-1]), 1.0)"),
        _MEASURE,
        "the bias takes no part in the normalisation, and its h' is 1",
    ),
    _reference(
        "rows-summed",
        _STATE,
        _before_state(
            "_means = linear_factors\n\n\n"
            "def linear_factors(h, s, *, bias=True):\n"
            "    h_D, s_D = _means(h, s, bias=bias)\n"
            "    return h_D, len(s) * s_D"
        ),
        _MEASURE,
        "s_D summed over the rows: a batch counts for more the larger it is",
    ),
    _reference(
        "inputs-summed",
        _STATE,
        _measured("np.square(h).sum(axis=0)", "np.square(s).mean(axis=0)"),
        _MEASURE,
        "h_D summed over the rows, next to a 1 for the bias",
    ),
    _reference(
        "absolute-values",
        _STATE,
        _measured("np.abs(h).mean(axis=0)", "np.abs(s).mean(axis=0)"),
        _MEASURE,
        "mean absolute values in the place of mean squares",
    ),
    _reference(
        "squared-means",
        _STATE,
        _measured("np.square(h.mean(axis=0))", "np.square(s.mean(axis=0))"),
        _MEASURE,
        "squares of means in the place of means of squares",
    ),
    _reference(
        "last-call",
        _STATE,
        _pooled("[call for call in calls if call.counts][-1:]"),
        _MEASURE,
        "only the last call of a step is measured",
    ),
    _reference(
        "first-call",
        _STATE,
        _pooled("[call for call in calls if call.counts][:1]"),
        _MEASURE,
        "only the first call of a step is measured",
    ),
    # Gradients of zero for the calls that have none scale s_D, which min-max removes.
    _reference(
        "evaluation-counted",
        _STATE,
        _pooled("[call if call.counts else call.without_gradients() for call in calls]"),
        _MEASURE,
        "inputs of calls without gradients count",
    ),
    _reference(
        "patch-averaged",
        _STATE,
        _before_state(
            "_patches = convolution_factors\n\n\n"
            "def convolution_factors(x, s, *, kernel_size, bias=True, **options):\n"
            "    h_D, s_D = _patches(x, s, kernel_size=kernel_size, bias=False, **options)\n"
            "    size = int(np.prod(kernel_size))\n"
            "    mean = h_D.reshape(*h_D.shape[:-1], -1, size).mean(axis=-1).repeat(size, axis=-1)\n"
            "    return (np.append(mean, np.ones((*mean.shape[:-1], 1)), axis=-1) if bias else mean), s_D"
        ),
        _LAYER,
        "one h_D per channel of a convolution, averaged over the kernel",
    ),
    _reference(
        "grouping-exchanged",
        'beta, weight_decay = fraction("beta", beta)',
        "if state.h_D.ndim > 1:\n        factor_axes = 3 - factor_axes\n    "
        'beta, weight_decay = fraction("beta", beta)',
        _LAYER,
        "groups of a convolution normalised apart: the variant grouping=group (or together, for group)",
    ),
    _reference(
        "submission",
        _STATE,
        _before_state(
            "_sites = normalization_factors\n\n\n"
            "def normalization_factors(h, s):\n"
            '    return _sites(h, s, form="submission")'
        ),
        _LAYER,
        "the submission's h_D of a normalisation layer: the square of the mean activation",
    ),
    _reference(
        "shift-scaled",
        _STATE,
        _before_state(
            "_sites = normalization_factors\n\n\n"
            "def normalization_factors(h, s):\n"
            "    found = _sites(h, s)\n"
            "    return found._replace(shift=found.scale)"
        ),
        _LAYER,
        "the shift of a normalisation layer divided by the F of its scale",
    ),
)

REFERENCE_FAULTS = (*_OF_THE_UPDATE, *_OF_THE_FACTORS, *_OF_THE_MEASUREMENT)

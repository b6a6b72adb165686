"""AdaFisher's printed numbers: golden layer, released bands, variants of the average, min-max epsilon."""

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio, yes_no
from proofs_checks.reproduction.printed import agrees
from reference.adafisher import (
    RELEASED_EPSILON,
    AdaFisherState,
    conv2d_factors,
    denominator,
    init,
    linear_factors,
    minmax_normalize,
    step,
)

__all__ = ["golden", "minmax_epsilon", "variants_of_the_average"]

Array = NDArray[np.float64]

#: The golden layer: inputs without the bias entry, gradients, and the denominator with lam = 1/1000.
_INPUTS, _GRADIENTS = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[0.5, -1.0], [1.5, 1.0]])
_DENOMINATOR = "1.001 0.251 0.001 0.001 0.001 0.001"

#: Ends of the denominator after one, two and three released refreshes with fresh factors in [0, 1].
_BANDS = ("0.0074 0.008744", "0.0010409600 0.0012262016", "0.0010003 0.0010847")

#: Fresh diagonals that attain the ends; so large that the absolute epsilon does not show.
_FRESH = np.array([0.0, 1e12])

#: Refreshes after which the released factor has settled: 0.08^20 is below roundoff.
_SETTLED = 20


@evidence(faults=("bias-left-out", "paper-averaging"), scope="region")
def golden(*, fault: str | None = None) -> Finding:
    """The golden denominator from two samples; the released bands, fixed point and product.

    Faults: the layer is taken without its bias; the paper's averaging in place of the released one.
    """
    h_D, s_D = linear_factors(_INPUTS, _GRADIENTS)
    if fault == "bias-left-out":
        h_D[-1] = 0.0
    rounding = ORDER_ONE * DOUBLE
    F = denominator(minmax_normalize(h_D), minmax_normalize(s_D))
    ratios = [
        agrees("h_D", h_D, "5 2 1", rounding=rounding),
        agrees("s_D", s_D, "1.25 1", rounding=rounding),
        agrees("golden denominator", F, _DENOMINATOR, rounding=rounding),
    ]
    state, G = init((2, 2)), np.ones((2, 2))
    averaging: Literal["paper", "released"] = "paper" if fault == "paper-averaging" else "released"
    for k in range(_SETTLED):
        update, state = step(G, state, h_D=_FRESH, s_D=_FRESH, beta=0.0, averaging=averaging)
        if k < len(_BANDS):
            ends = 1 / update[[0, 1], [0, 1]]
            ratios.append(agrees(f"band after refresh {k + 1}", ends, _BANDS[k], rounding=rounding))
    top = state.h_D[1]
    ratios += [
        agrees("fixed point", top, "0.00869565", rounding=rounding),
        agrees("product over the default damping, in per cent", 100 * top * top / 1e-3, "7.56"),
    ]
    return Finding(
        tuple(ratios),
        "golden denominator of 2 x 3 and three released bands agree, worst "
        f"{max(r.value for r in ratios):.2f} of print and rounding; the released factor settles at {top:.8f}",
        figures={ratio.name: ratio.value for ratio in ratios},
    )


#: Least relative difference of denominators or steps that counts as a different method.
_VISIBLE = 1e-2

#: The submission's weights of the old and the new factor: gamma_1 and 1 - gamma_2.
_SUBMISSION = (0.92, 1 - 0.008)


def _run(h: Array, s: Array, *, every: int = 1, **options: object) -> tuple[Array, AdaFisherState]:
    """The last denominator of a run on measurements (steps, n) and (steps, m), and the state."""
    G = np.ones((s.shape[1], h.shape[1]))
    state = init(G)
    for t in range(len(h)):
        refresh = t % every == 0
        update, state = step(G, state, h_D=h[t], s_D=s[t], beta=0.0, refresh=refresh, **options)  # type: ignore[arg-type]
    return 1 / update, state


@evidence(faults=("constant-measurements", "submission-sums-to-one"), scope="region")
def variants_of_the_average(*, fault: str | None = None) -> Finding:
    """Place of gamma, order, start and number of constants: each gives another denominator.

    Eight measurements of a 3 x 4 layer whose factors drift; every pair of variants differs visibly somewhere.
    So do the runs with another gamma, lam or refresh period, each of which the caller must choose.
    Faults: the measurements do not change; the submission's second constant is taken to be 0.08.
    """
    rng = np.random.default_rng(20240810)
    h, s = 10.0 ** rng.uniform(-2, 2, (8, 4)), 10.0 ** rng.uniform(-2, 2, (8, 3))
    if fault == "constant-measurements":
        h[:], s[:] = h[0], s[0]
    old, new = (0.92, 0.08) if fault == "submission-sums-to-one" else _SUBMISSION
    raw = [h[0], s[0]]
    for k in range(1, len(h)):
        raw = [old * raw[0] + new * h[k], old * raw[1] + new * s[k]]
    found = {
        "v3, gamma on the old factor": _run(h, s)[0],
        "v3, gamma on the new factor": _run(h, s, gamma_on="new")[0],
        "normalised before averaging": _run(h, s, normalise="before")[0],
        "from ones": _run(h, s, initial="ones", normalise="before")[0],
        "submission, two constants": denominator(*(minmax_normalize(d) for d in raw)),
        "released": _run(h, s, averaging="released")[0],
    }
    plain = found["v3, gamma on the old factor"]
    choices = {
        "gamma": _run(h, s, gamma=0.92)[0],
        "lam": _run(h, s, lam=3e-3)[0],
        "T_cov": _run(h, s, every=5)[0],
    }
    pairs = [_apart(found[a], found[b]) for a, b in combinations(found, 2)]
    ratios: list[Ratio] = [
        at_least("difference of every two variants", pairs, _VISIBLE, rounding=0.0),
        at_least(
            "difference made by gamma, lam and T_cov",
            [_apart(F, plain) for F in choices.values()],
            _VISIBLE,
            rounding=0.0,
        ),
        agrees("sum of the submission's weights", old + new, "1.91", rounding=DOUBLE),
        agrees(
            "sum of the released weights", _released_weights().sum(), "0.088", rounding=ORDER_ONE * DOUBLE
        ),
    ]
    return Finding(
        tuple(ratios),
        f"{len(found)} variants on 8 measurements: every two differ by {min(pairs):.0%} or more in some "
        "entry of F, so do other gamma, lam or T_cov; weights sum to 1 (v3), 1.912 (submission), 0.088 "
        "(released)",
        figures={"least difference of two variants": min(pairs)},
    )


def _apart(F: Array, other: Array) -> float:
    """Largest relative difference of two denominators."""
    return float(np.abs(F / other - 1).max())


def _released_weights() -> Array:
    """Weights of the old and the fresh factor, read off from one refresh of a factor of ones."""
    _, state = step(np.ones((2, 2)), init((2, 2)), h_D=_FRESH, s_D=_FRESH, averaging="released")
    return np.array([state.h_D[0], state.h_D[1] - state.h_D[0]])


#: Ranges of the convolution gradient factors of ResNet-18 at initialisation, batch 256, random data, and what
#: min-max with an absolute 1e-6 makes of their largest entry; the least and the largest of the layers.
_RANGES = ("6.6e-11 7.7e-10", "6.6e-5 7.7e-4")

#: An entry that should be 1 and is at least this is not flattened.
_NOT_FLAT = 0.5

#: Batch, image side, channels in and out, and classes of our own small network.
_BATCH, _SIDE, _CHANNELS, _OUTPUTS, _CLASSES = 256, 16, 3, 8, 10


@evidence(faults=("relative-epsilon", "gradients-of-single-samples"), scope="region")
def minmax_epsilon(*, fault: str | None = None) -> Finding:
    """An absolute 1e-6 in the min-max range flattens convolution factors; a relative one does not.

    The printed ranges give the printed maxima. Own network: one 3 x 3 convolution, ReLU, mean over the image,
    softmax, random images, loss averaged over a batch of 256; its gradient factor is measured by the
    reference.
    Faults: the epsilon is relative after all; the gradients are those of the samples, 256 times larger.
    """
    relative = fault == "relative-epsilon"
    ratios: list[Ratio] = []
    ranges = np.array([float(text) for text in _RANGES[0].split()])
    top = minmax_normalize(
        np.column_stack([np.zeros(2), ranges]), epsilon=RELEASED_EPSILON, relative=relative
    )[:, 1]
    ratios.append(agrees("largest entry at the printed ranges", top, _RANGES[1]))
    x, s = _convolution(np.random.default_rng(20240811))
    if fault == "gradients-of-single-samples":
        s = s * _BATCH
    h_D, s_D = conv2d_factors(x, s, kernel_size=3, padding=1)
    flat = minmax_normalize(s_D, epsilon=RELEASED_EPSILON, relative=relative)
    kept = minmax_normalize(s_D, epsilon=RELEASED_EPSILON)
    small = minmax_normalize(s_D, epsilon=RELEASED_EPSILON**2, relative=False)
    F = denominator(minmax_normalize(h_D, epsilon=RELEASED_EPSILON, relative=relative), flat)
    spread = float(F.max() / F.min())
    single = minmax_normalize(s_D * _BATCH**2, epsilon=RELEASED_EPSILON)
    ratios += [
        at_most("largest entry with an absolute 1e-6", flat.max(), _VISIBLE, rounding=0.0),
        at_most("spread of F over 1", spread - 1, 1.0, rounding=0.0),
        at_least("largest entry with an absolute 1e-12", small.max(), _NOT_FLAT, rounding=0.0),
        agrees("largest entry with a relative 1e-6", kept.max(), "0.999999", rounding=ORDER_ONE * DOUBLE),
        yes_no("a relative epsilon cancels the batch size exactly", bool((kept == single).all())),
    ]
    return Finding(
        tuple(ratios),
        f"own convolution at batch {_BATCH}: gradient factor of range {np.ptp(s_D):.1e}, normalised to at "
        f"most {flat.max():.1e} with an absolute 1e-6, so that F varies by {spread - 1:.1%} (a relative "
        f"epsilon: {kept.max():.6f}); printed ranges give the printed {_RANGES[1]}",
        figures={"range": float(np.ptp(s_D)), "largest": float(flat.max()), "spread": spread},
    )


def _convolution(rng: np.random.Generator) -> tuple[Array, Array]:
    """Inputs of the convolution and gradients of the mean loss at its output, backpropagated by hand."""
    x = rng.standard_normal((_BATCH, _CHANNELS, _SIDE, _SIDE))
    scale = np.sqrt(2 / (9 * _CHANNELS))
    kernel = scale * rng.standard_normal((_OUTPUTS, _CHANNELS, 3, 3))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    patches = sliding_window_view(padded, (3, 3), axis=(-2, -1))
    z = np.einsum("ncyxab,mcab->nmyx", patches, kernel, optimize=True)
    W = rng.standard_normal((_CLASSES, _OUTPUTS)) / np.sqrt(_OUTPUTS)
    logits = np.maximum(z, 0).mean(axis=(-2, -1)) @ W.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(_BATCH), rng.integers(0, _CLASSES, _BATCH)] -= 1
    pooled = (p / _BATCH) @ W
    return x, np.where(z > 0, pooled[:, :, None, None] / _SIDE**2, 0.0)

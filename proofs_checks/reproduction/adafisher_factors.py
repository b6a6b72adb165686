"""AdaFisher's factors in training: the released averaging, the epsilon of min-max, what is off-diagonal.

Network of the first two: two convolutions with batch normalisation and a head, on the digits, float64, the
released defaults (lr and ``lam`` 1e-3, refresh every 100 steps). Its *twin* is momentum SGD whose denominator
is one number per refresh, the geometric mean of all entries of the denominator F that AdaFisher has there.
What is asserted held for five starts of the networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, unfold

from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio
from proofs_checks.reproduction.fisher_blocks import model_with
from proofs_checks.reproduction.networks import digits, initialised
from torch_impl import AdaFisher
from torch_impl.adafisher import RELEASED_EPSILON, minmax_normalize

__all__ = ["diagonal_dominance", "epsilon_in_training", "legacy_twin"]

Array = NDArray[np.float64]

#: The released defaults, and the weights that its averages start from: 1.
_LR, _LAM, _BETA, _REFRESH = 1e-3, 1e-3, 0.9, 100

#: Steps after which parameters are compared, seeds, and batch size.
_MARKS, _SEEDS, _BATCH = (100, 400), (0, 1), 64

#: Distances over the norm of the parameters: at most at each mark, and Adam's at least; loss difference.
_NEAR, _FAR, _LOSS = (0.02, 0.1), 0.3, 2e-3

#: The figure for 100 steps that an earlier measurement gave, on a network that is not known.
_EARLIER = 0.002

#: Batch sizes of the factors, how much their largest entry falls at least from one to the next, what
#: is left of it at most at the start in the largest batch, and what counts as flat.
_BATCHES, _FALL, _HALF, _FLAT = (32, 128, 512), 1.1, 0.5, 0.1

#: Share of the squared norm off the diagonal that every activation factor exceeds.
_OFF_DIAGONAL = 0.4

#: Proved band of the denominator after the first refresh, its largest entry over its least.
_BAND = 0.008744 / 0.0074


def _network(seed: int) -> nn.Module:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )

    return initialised(make, seed)


@dataclass(frozen=True)
class _Path:
    """Parameters after each of `_MARKS`, loss on all data at the end, F of every parameter by refresh."""

    marks: dict[int, Tensor]
    loss: float
    F: list[list[Tensor]]


#: A step on the parameters, given the number of the step.
_Step = Callable[[int], None]


def _follow(model: nn.Module, step: _Step, seed: int, after: Callable[[int], None] = lambda t: None) -> _Path:
    """Train `model` in place on the batches of a seed."""
    images, labels = digits()
    rng = np.random.default_rng(seed + 10)
    marks = {}
    for t in range(_MARKS[-1]):
        chosen = torch.from_numpy(rng.integers(0, len(labels), _BATCH))
        model.zero_grad()
        cross_entropy(model(images[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
        step(t)
        after(t)
        if t + 1 in _MARKS:
            marks[t + 1] = torch.cat([p.detach().flatten() for p in model.parameters()])
    with torch.no_grad():
        return _Path(marks, float(cross_entropy(model(images), labels)), [])


@cache
def _released(seed: int, averaging: str = "released") -> _Path:
    model = _network(seed)
    optimizer = AdaFisher(model, lr=_LR, lam=_LAM, averaging=averaging, refresh=_REFRESH)
    F: list[list[Tensor]] = []

    def after(t: int) -> None:
        if t % _REFRESH == 0:
            F.append([_denominator(optimizer.state[p], p) for p in model.parameters()])

    path = _follow(model, lambda t: optimizer.step(), seed, after)
    return _Path(path.marks, path.loss, F)


@cache
def _adam(seed: int) -> _Path:
    model = _network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LR)
    return _follow(model, lambda t: optimizer.step(), seed)


def _momentum(seed: int, F: Sequence[Sequence[Tensor]]) -> _Path:
    """Bias-corrected momentum over given denominators, by refresh and parameter."""
    model = _network(seed)
    parameters = list(model.parameters())
    M = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(t: int) -> None:
        for p, m, f in zip(parameters, M, F[t // _REFRESH], strict=True):
            m.mul_(_BETA).add_((1 - _BETA) * (p.grad if p.grad is not None else torch.zeros_like(p)))
            p.sub_(_LR / (1 - _BETA ** (t + 1)) * m / f)

    return _follow(model, step, seed)


@cache
def _twin(seed: int, kind: str) -> _Path:
    """The twin with one number per refresh ("scalar"), or with F itself ("exact")."""
    F = _released(seed).F
    if kind == "scalar":
        F = [[torch.cat([f.flatten() for f in row]).log().mean().exp()] * len(row) for row in F]
    return _momentum(seed, F)


def _denominator(state: Any, p: Tensor) -> Tensor:
    """F of a parameter from AdaFisher's averaged, normalised factors (releases keep them so)."""
    h, s = state["h_D"], state["s_D"]
    if p.ndim > 1:
        return torch.outer(s, h[:-1]).reshape(p.shape) + _LAM  # the last input is the constant 1 of the bias
    return s * (h if h.shape == s.shape else h[-1]) + _LAM


def _distance(path: _Path, other: _Path, mark: int) -> float:
    return float((path.marks[mark] - other.marks[mark]).norm() / path.marks[mark].norm())


@evidence(faults=("paper-averaging", "Adam-for-the-twin", "spread-of-the-paper"), scope="region", tier="full")
def legacy_twin(*, fault: str | None = None) -> Finding:
    """The released averaging trains like momentum SGD with one number for a denominator, and unlike Adam.

    A twin with the exact denominators reproduces the run to rounding, so that the difference is the
    preconditioner's and nothing else's.
    Faults: the averaging of the paper; Adam in the place of the twin; the band of the paper's average.
    """
    ratios: list[Ratio] = []
    near: dict[int, list[float]] = {mark: [] for mark in _MARKS}
    far, spread, gaps = [], [], []
    for seed in _SEEDS:
        run = _released(seed, "paper" if fault == "paper-averaging" else "released")
        twin = _adam(seed) if fault == "Adam-for-the-twin" else _twin(seed, "scalar")
        for mark in _MARKS:
            near[mark].append(_distance(run, twin, mark))
        far.append(_distance(run, _adam(seed), _MARKS[-1]))
        gaps.append(abs(run.loss - twin.loss))
        rows = [torch.cat([f.flatten() for f in row]) for row in run.F]
        spread.append([float(row.max() / row.min()) for row in rows])
    exact = _distance(_released(_SEEDS[0]), _twin(_SEEDS[0], "exact"), _MARKS[0])
    # momentum and parameters round once per step; 100 steps may double an error every ten
    rounding = ORDER_ONE * _MARKS[0] * 2.0 ** (_MARKS[0] / 10) * DOUBLE
    widest = [max(row[k] for row in spread) for k in range(len(spread[0]))]
    band = 1.0 if fault == "spread-of-the-paper" else _BAND
    ratios = [
        at_most("twin with the exact denominators", exact, 0.0, rounding=rounding),
        at_most("distance of the twin after 100 steps", near[_MARKS[0]], _NEAR[0], rounding=0.0),
        at_most("distance of the twin after 400 steps", near[_MARKS[1]], _NEAR[1], rounding=0.0),
        at_most("difference of the losses", gaps, _LOSS, rounding=0.0),
        at_least("distance of Adam after 400 steps", far, _FAR, rounding=0.0),
        at_least("the earlier 0.2 % after 100 steps is exceeded", near[_MARKS[0]], _EARLIER, rounding=0.0),
        at_most("F in its band after one refresh", widest[0], band, rounding=ORDER_ONE * DOUBLE),
    ]
    return Finding(
        tuple(ratios),
        f"conv-BN net, {len(_SEEDS)} seeds: parameters within {max(near[100]):.1%} of the scalar twin after "
        f"100 steps and {max(near[400]):.1%} after 400 (Adam {min(far):.0%} away), losses within "
        f"{max(gaps):.0e}; F varies by "
        + ", ".join(f"{x - 1:.1%}" for x in widest)
        + " after the four refreshes",
        figures={
            "distance, 100 steps": max(near[100]),
            "distance, 400 steps": max(near[400]),
            "distance of Adam": min(far),
            "loss": _released(_SEEDS[0]).loss,
            "loss of the twin": _twin(_SEEDS[0], "scalar").loss,
            "loss of Adam": _adam(_SEEDS[0]).loss,
            **{f"spread of F, refresh {k + 1}": x for k, x in enumerate(widest)},
        },
    )


def layer_rows(model: nn.Module, chosen: Tensor, *, mean: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows of layer inputs (as the layer multiplies them) and of output gradients, of linear and convolution.

    Gradients of the sum of the losses, or of their `mean`.
    """
    model.zero_grad()
    images, labels = digits()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            output.retain_grad()
            seen[name] = (inputs[0].detach(), output)

        return hook

    layers = {name: x for name, x in model.named_modules() if isinstance(x, nn.Linear | nn.Conv2d)}
    for name, layer in layers.items():
        handles.append(layer.register_forward_hook(keep(name)))
    loss = cross_entropy(model(images[chosen]), labels[chosen], reduction="mean" if mean else "sum")
    loss.backward()  # type: ignore[no-untyped-call]
    for handle in handles:
        handle.remove()
    return {name: _rows(layers[name], *seen[name]) for name in layers}


def _rows(layer: nn.Module, inputs: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    gradient = output.grad
    assert gradient is not None
    if isinstance(layer, nn.Conv2d):
        k, stride, padding = layer.kernel_size, layer.stride, layer.padding
        assert not isinstance(padding, str)
        patches = unfold(inputs, k, stride=stride, padding=padding)
        return patches.mT.flatten(0, 1), gradient.flatten(2).mT.flatten(0, 1)
    return inputs.flatten(0, -2), gradient.flatten(0, -2)


@evidence(faults=("relative-epsilon", "gradients-of-the-sum"), scope="region", tier="full")
def epsilon_in_training(*, fault: str | None = None) -> Finding:
    """What an absolute 1e-6 in the min-max range does to convolution factors of a network in training.

    The largest entry should be 1. At initialisation it falls with the batch size; after 400 steps, when
    gradients are small, the factors are flat. A relative epsilon leaves them alone at every batch size.
    Faults: the epsilon is relative after all; gradients of the sum of losses, which do not shrink.
    """
    images, _ = digits()
    top: dict[str, list[float]] = {}
    relative: list[float] = []
    for phase, model in (("start", _network(0)), ("trained", _trained())):
        for batch in _BATCHES:
            chosen = torch.from_numpy(np.random.default_rng(6).permutation(len(images))[:batch])
            seen = layer_rows(model, chosen, mean=fault != "gradients-of-the-sum")
            for name in ("0", "3"):
                s_D = seen[name][1].square().mean(dim=0)
                kept = minmax_normalize(s_D, epsilon=RELEASED_EPSILON, relative=fault == "relative-epsilon")
                top.setdefault(f"{phase}, convolution {name}", []).append(float(kept.max()))
                relative.append(float(minmax_normalize(s_D, epsilon=RELEASED_EPSILON, relative=True).max()))
    start = np.array([row for name, row in top.items() if name.startswith("start")])
    trained = np.array([row for name, row in top.items() if name.startswith("trained")])
    return Finding(
        (
            at_least("falls with the batch size", start[:, :-1], _FALL * start[:, 1:], rounding=0.0),
            at_most("largest entry at the start, batch 512", start[:, -1], _HALF, rounding=0.0),
            at_most("largest entry after training", trained, _FLAT, rounding=0.0),
            at_least(
                "largest entry with a relative epsilon", relative, 1 - 2 * RELEASED_EPSILON, rounding=0.0
            ),
        ),
        "largest entry of the normalised factor at batch 32, 128, 512: "
        + "; ".join(f"{name} " + ", ".join(f"{x:.2g}" for x in row) for name, row in top.items())
        + f"; relative epsilon {min(relative):.6f}",
        figures={
            f"{name}, batch {b}": x for name, row in top.items() for b, x in zip(_BATCHES, row, strict=True)
        },
    )


@cache
def _trained() -> nn.Module:
    """The network after the released run."""
    model = _network(0)
    parameters = _released(0).marks[_MARKS[-1]].clone()
    torch.nn.utils.vector_to_parameters(parameters, model.parameters())
    return model


def off_diagonal(rows: Tensor) -> tuple[float, float]:
    """Share of the squared Frobenius norm off the diagonal of ``E[x x^T]``, and of rows that dominate it.

    A row dominates if its diagonal entry is at least the sum of the absolute values of the others; rows of
    zeros, such as those of unlit pixels, do not count.
    """
    factor = rows.T @ rows / len(rows)
    diagonal = factor.diagonal()
    others = factor.abs().sum(dim=1) - diagonal
    mass = 1 - diagonal.square().sum() / factor.square().sum()
    return float(mass), float((diagonal >= others)[diagonal > 0].double().mean())


@evidence(faults=("whitened-activations", "gradient-factors"), scope="region", tier="full")
def diagonal_dominance(*, fault: str | None = None) -> Finding:
    """No row of any activation factor is diagonally dominant, in three trained networks.

    More than 40 % of the squared norm of every activation factor lies off its diagonal, because activations
    after a ReLU have a mean. Gradient factors range from nearly diagonal to not at all.
    Faults: activations are whitened first; gradient factors are taken for activation factors.
    """
    images, _ = digits()
    chosen = torch.from_numpy(np.random.default_rng(8).permutation(len(images))[:600])
    H: dict[str, tuple[float, float]] = {}
    S: dict[str, tuple[float, float]] = {}
    for network in ("linear", "convolution", "attention"):
        model = model_with(network)
        for name, (h, s) in layer_rows(model, chosen).items():
            if fault == "whitened-activations":
                h = torch.linalg.svd(h, full_matrices=False).U
            if fault == "gradient-factors":
                h = s
            H[f"{network} {name}"], S[f"{network} {name}"] = off_diagonal(h), off_diagonal(s)
    mass, dominant = np.array(list(H.values())).T
    mass_S, dominant_S = np.array(list(S.values())).T
    return Finding(
        (
            at_least("off-diagonal share of activation factors", mass, _OFF_DIAGONAL, rounding=0.0),
            at_most("rows of activation factors that dominate", dominant, 0.0, rounding=0.0),
        ),
        f"{len(H)} layers: off-diagonal share of the squared norm {mass.min():.2f} to {mass.max():.2f} in "
        f"activation factors, no row dominant; {mass_S.min():.2f} to {mass_S.max():.2f} in gradient factors, "
        f"{np.mean(dominant_S == 1):.0%} of which are diagonally dominant",
        figures={
            f"{name}, {kind}": values[0]
            for kind, found in (("activations", H), ("gradients", S))
            for name, values in found.items()
        },
    )

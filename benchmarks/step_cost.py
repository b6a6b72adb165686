"""What a step of our optimizers costs, as a ratio to the optimizer of PyTorch a user would compare it with.

Run with ``python -m benchmarks.step_cost [--out FILE] [--only NAME ...]``. Two equal models take the same
gradients in one process and on one thread, in turn, so that the ratio survives a busy machine; medians over
the repeats of ``ours / theirs``. A step is timed alone; for AdaFisher, whose hooks work while the model runs,
forward and backward are timed as well, against those of a model without hooks.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon, Optimizer

from benchmarks.machine import describe
from torch_impl import FISMO, SOFIM
from torch_impl.optim.adafisher import AdaFisher

__all__ = ["MODELS", "PAIRS", "measure"]

REPEATS, WARM_UP = 15, 3

#: A repeat takes as many steps as bring it to about this many parameters, so that small models can be timed.
NUMBERS_PER_REPEAT = 2_000_000

Maker = Callable[[nn.Module], Optimizer]


class Attention(nn.Module):
    """Causal self-attention from plain linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.inputs(x).chunk(3, dim=-1))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(y.transpose(1, 2).flatten(-2))


class Residual(nn.Module):
    """``x + f(x)``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the layers make of x."""
        return x + self.layers(x)


def mlp() -> tuple[nn.Module, Tensor]:
    """Three linear layers, 670 thousand numbers."""
    widths = [(784, 512), (512, 512)]
    hidden = [layer for a, b in widths for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(512, 10)), torch.randn(64, 784)


def convolutional() -> tuple[nn.Module, Tensor]:
    """Convolutions and norms of ResNet18, in 11 million numbers, without its shortcuts."""
    widths = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(zip([3, *widths], widths, strict=False)):
        stride = 2 if index and a != b else 1
        layers += [nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(*layers), torch.randn(4, 3, 16, 16)


def transformer(width: int = 320, depth: int = 8, words: int = 4096) -> tuple[nn.Module, Tensor]:
    """Decoder blocks of GPT-2, by default in 11 million numbers, without position embeddings."""

    def block() -> nn.Module:
        inner = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        return nn.Sequential(
            Residual(nn.LayerNorm(width), Attention(width, width // 32)),
            Residual(nn.LayerNorm(width), *inner),
        )

    head = nn.Linear(width, 64)
    layers = [nn.Embedding(words, width), *(block() for _ in range(depth)), nn.LayerNorm(width), head]
    return nn.Sequential(*layers), torch.randint(words, (2, 64))


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """What Muon and FISMO are for: the weights of the linear layers but the last."""
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    return [layer.weight for layer in linear[:-1]]


def _fismo(**options: Any) -> Maker:
    return lambda model: FISMO(matrices(model), lr=1e-5, **options)


def _muon(model: nn.Module) -> Optimizer:
    return Muon(matrices(model), lr=1e-5)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "mlp": mlp,
    "convolutional": convolutional,
    "transformer": transformer,
    "small transformer": partial(transformer, width=128, depth=4, words=512),
}

#: Name, ours, theirs, and the models they are compared on.
PAIRS: list[tuple[str, Maker, Maker, list[str]]] = [
    (
        "SOFIM / SGD(momentum, foreach)",
        lambda model: SOFIM(model.parameters(), lr=1e-5),
        lambda model: SGD(model.parameters(), lr=1e-5, momentum=0.9, foreach=True),
        ["mlp", "convolutional", "transformer"],
    ),
    (
        "AdaFisher / AdamW",
        lambda model: AdaFisher(model, lr=1e-5),
        lambda model: AdamW(model.parameters(), lr=1e-5),
        ["mlp", "convolutional", "transformer"],
    ),
    ("FISMO / Muon", _fismo(), _muon, ["mlp", "small transformer"]),
    ("FISMO(jordan) / Muon", _fismo(orthogonalize="jordan"), _muon, ["mlp", "small transformer"]),
    ("FISMO(refresh=10) / Muon", _fismo(refresh=10), _muon, ["mlp", "small transformer"]),
    (
        "FISMO(jordan, refresh=10) / Muon",
        _fismo(orthogonalize="jordan", refresh=10),
        _muon,
        ["mlp", "small transformer"],
    ),
]


def measure(name: str, ours: Maker, theirs: Maker, model_name: str) -> dict[str, Any]:
    """Median times of a step and of a forward and backward pass, and the ratios of ours to theirs."""
    torch.manual_seed(0)
    model, data = MODELS[model_name]()
    models = [model, copy.deepcopy(model)]
    optimizers = [ours(models[0]), theirs(models[1])]
    count = sum(p.numel() for p in model.parameters())
    inner = max(1, NUMBERS_PER_REPEAT // count)
    passes: list[list[float]] = [[], []]
    steps: list[list[float]] = [[], []]
    for repeat in range(WARM_UP + REPEATS):
        totals = [[0.0, 0.0], [0.0, 0.0]]
        for _ in range(inner):
            for index, optimizer in enumerate(optimizers):
                optimizer.zero_grad()
                totals[0][index] += _seconds(partial(_run, models[index], data))
                totals[1][index] += _seconds(optimizer.step)
        if repeat >= WARM_UP:
            for kept, total in zip((passes, steps), totals, strict=True):
                for index in range(2):
                    kept[index].append(total[index] / inner)
    return {
        "pair": name,
        "model": model_name,
        "parameters": count,
        "tensors": len(list(model.parameters())),
        **_compared("step", *steps),
        **_compared("pass", *passes),
    }


def _run(model: nn.Module, data: Tensor) -> None:
    model(data).square().mean().backward()


def _seconds(work: Callable[[], Any]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _compared(what: str, ours: list[float], theirs: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        f"{what}_ours_s": statistics.median(ours),
        f"{what}_theirs_s": statistics.median(theirs),
        f"{what}_ratio": statistics.median(ratios),
        f"{what}_ratio_min": min(ratios),
        f"{what}_ratio_max": max(ratios),
    }


def main() -> None:
    """Print the table; write it with the machine's description if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the result as JSON, with the machine")
    parser.add_argument("--only", nargs="*", default=[], help="pairs whose name begins with one of these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(
        f"{'pair':34} {'model':18} {'step, ours':>11} {'theirs':>10} {'ratio':>6} {'(range)':>14} pass ratio"
    )
    for name, ours, theirs, models in PAIRS:
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        for model_name in models:
            rows.append(row := measure(name, ours, theirs, model_name))
            print(
                f"{name:34} {model_name:18} "
                f"{row['step_ours_s'] * 1e3:9.3f}ms {row['step_theirs_s'] * 1e3:8.3f}ms "
                f"{row['step_ratio']:6.2f} ({row['step_ratio_min']:.2f} to {row['step_ratio_max']:.2f}) "
                f"{row['pass_ratio']:6.2f}",
                flush=True,
            )
    if arguments.out is not None:
        result = {
            "benchmark": "step_cost",
            "repeats": REPEATS,
            "torch": torch.__version__,
            "machine": describe(),
            "rows": rows,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()

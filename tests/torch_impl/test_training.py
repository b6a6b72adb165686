"""Both optimizers train a small network on real data: the scikit-learn digits."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_impl import FISMO, SOFIM

#: Share of unseen digits that must be recognised; a requirement on the optimizers, not a measurement.
REQUIRED_ACCURACY = 0.95

TRAINING_SHARE, BATCH = 0.75, 64


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; pixels in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    X, y = torch.tensor(images / 16.0, dtype=torch.float32)[order], torch.tensor(labels)[order]
    cut = int(TRAINING_SHARE * len(y))
    return X[:cut], y[:cut], X[cut:], y[cut:]


def network(seed: int, *, bias: bool) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(64, 64, bias=bias),
            nn.ReLU(),
            nn.Linear(64, 64, bias=bias),
            nn.ReLU(),
            nn.Linear(64, 10, bias=bias),
        )


def train(model, optimizers, X: Tensor, y: Tensor, *, epochs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=generator).split(BATCH):
            for optimizer in optimizers:
                optimizer.zero_grad()
            cross_entropy(model(X[batch]), y[batch]).backward()
            for optimizer in optimizers:
                optimizer.step()


@torch.no_grad()
def accuracy(model, X: Tensor, y: Tensor) -> float:
    return float((model(X).argmax(dim=1) == y).float().mean())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factor_scaling": "unit", "damping": "theorem", "mu": 0.1},
        {"orthogonalize": "polar-express"},
        {"orthogonalize": "jordan", "refresh": 10},
    ],
    ids=["default", "unit-theorem", "polar-express", "jordan-refresh"],
)
def test_fismo_learns_the_digits_next_to_adamw_for_the_biases(digits, options):
    X, y, unseen, labels = digits
    model = network(0, bias=True)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizers = [FISMO(matrices, lr=0.02, **options), torch.optim.AdamW(vectors, lr=1e-3)]
    assert accuracy(model, unseen, labels) < REQUIRED_ACCURACY, "nothing was left to learn"
    train(model, optimizers, X, y, epochs=8)
    assert accuracy(model, unseen, labels) > REQUIRED_ACCURACY


@pytest.mark.parametrize("scope", ["global", "parameter"])
def test_sofim_learns_the_digits(digits, scope):
    X, y, unseen, labels = digits
    model = network(0, bias=True)
    train(model, [SOFIM(model.parameters(), lr=0.5, scope=scope)], X, y, epochs=30)
    assert accuracy(model, unseen, labels) > REQUIRED_ACCURACY


@pytest.mark.parametrize("optimizer_class", [FISMO, SOFIM])
def test_training_the_wrong_way_fails_the_same_test(digits, optimizer_class):
    X, y, unseen, labels = digits
    model = network(0, bias=False)
    train(model, [optimizer_class(model.parameters(), maximize=True)], X, y, epochs=1)
    assert accuracy(model, unseen, labels) < REQUIRED_ACCURACY

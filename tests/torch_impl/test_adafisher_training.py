"""AdaFisher trains models: every parameter that has a gradient moves, and the loss falls."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from torch_impl.optim.adafisher import AdaFisher, AdaFisherW


class Residual(nn.Module):
    """A convolution with groups, one used twice, and one that training skips."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding="same", padding_mode="circular")
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.GroupNorm(2, 4)])
        self.twice = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.skipped = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = F.relu(self.norms[0](self.first(x)), inplace=True)
        x = x + self.twice(F.relu(self.norms[1](self.twice(x)), inplace=True))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """Predicts the next of 17 grey levels from those before it; the table is the head."""

    def __init__(self, norm=nn.LayerNorm):
        super().__init__()
        self.table, self.places = nn.Embedding(17, 24), nn.Embedding(64, 24)
        self.norm, self.last = norm(24), norm(24)
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24, bias=False)
        self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 24)
        self.head = nn.Linear(24, 17, bias=False)
        self.head.weight = self.table.weight
        nn.init.normal_(self.table.weight, std=0.1)

    def attend(self, x):
        q, k, v = (
            part.unflatten(-1, (2, 12)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(self, tokens):
        x = self.table(tokens) + self.places(torch.arange(tokens.shape[1]))
        x = x + checkpoint(self.attend, x, use_reentrant=False)
        return self.head(self.last(x + self.down(F.gelu(self.up(x)))))


class Recurrent(nn.Module):
    """Layers the method has no factor for, between a table and a head that it has."""

    def __init__(self):
        super().__init__()
        self.table, self.cell = nn.Embedding(17, 8), nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.head = nn.Linear(8, 17)

    def forward(self, tokens):
        x, _ = self.cell(self.table(tokens))
        x, _ = self.attention(x, x, x)
        return self.head(self.norm(x))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Embedding(17, 8), layer, nn.Linear(8, 17))


def images():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def tokens():
    return torch.randint(0, 17, (5, 9), generator=torch.Generator().manual_seed(1))


ZOO = {
    "cnn": (cnn, images, None),
    "residual": (Residual, images, None),
    "transformer": (Transformer, tokens, None),
    "transformer with RMSNorm": (lambda: Transformer(nn.RMSNorm), tokens, None),
    "recurrent": (Recurrent, tokens, 0.5),
    "encoder": (encoder, tokens, 0.5),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_that_has_a_gradient_moves(name, dtype):
    build, data, fallback = ZOO[name]
    torch.manual_seed(0)
    model = build().to(dtype)
    optimizer = AdaFisher(model, 0.25, fallback=fallback)
    x = data()
    x = x.to(dtype) if x.is_floating_point() else x
    model(x).square().sum().backward()
    before = copy.deepcopy(dict(model.named_parameters()))
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == with_gradient
    assert len(moved) > 0
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    idle = {n for n, p in model.named_parameters() if p.grad is None}
    assert idle == {n for n, p in model.named_parameters() if p not in optimizer.state}


def digits():
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16.0
    return x, torch.tensor(data.target)


def epochs(model, optimizer, loss, rows, *, count, batch=64):
    """Mean loss over the first and over the last epoch."""
    generator, means = torch.Generator().manual_seed(0), []
    for _ in range(count):
        values = []
        for part in torch.randperm(rows, generator=generator).split(batch):
            optimizer.zero_grad()
            value = loss(part)
            value.backward()
            optimizer.step()
            values.append(value.item())
        means.append(sum(values) / len(values))
    return means[0], means[-1]


#: Digits in the training part.
TRAINED = 1500


@pytest.mark.parametrize("kind", [AdaFisher, AdaFisherW])
def test_a_convolutional_network_learns_digits(kind):
    x, y = digits()
    torch.manual_seed(0)
    model = cnn()
    optimizer = kind(model, 1e-3)
    first, last = epochs(
        model, optimizer, lambda part: F.cross_entropy(model(x[part]), y[part]), TRAINED, count=8
    )
    model.eval()
    with torch.no_grad():
        wrong = int((model(x[TRAINED:]).argmax(-1) != y[TRAINED:]).sum())
    held_out = len(y) - TRAINED
    allowed = held_out // 10
    assert last < first
    assert wrong < allowed, f"{wrong} of {held_out} held-out digits wrong; loss {first} to {last}"


def test_a_transformer_with_a_tied_head_learns_to_draw_digits():
    levels = (digits()[0].flatten(1) * 16.0).long()
    torch.manual_seed(0)
    model = Transformer()
    optimizer = AdaFisher(model, 1e-2)

    def loss(part):
        logits = model(levels[part, :-1])
        return F.cross_entropy(logits.flatten(0, 1), levels[part, 1:].flatten())

    first, last = epochs(model, optimizer, loss, 640, count=4)
    counts = levels[:640, 1:].flatten().bincount(minlength=17).double() / 640 / 63
    blind = -(counts * counts.clamp_min(torch.finfo().tiny).log()).sum().item()
    assert last < first
    assert last < blind, f"no better than frequencies: {last} against {blind}"

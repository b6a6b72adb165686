"""AdamW against torch and optax, step by step."""

import pytest
import torch

from proofs_checks.reproduction.comparators import adamw_path, gradients, same_path, torch_path
from tests.peers.extra import optax_path
from tests.reference.cases import check

SETTINGS = [
    {"lr": 1e-3},
    {"lr": 0.1, "betas": (0.5, 0.9), "epsilon": 1e-3, "weight_decay": 0.3},
    {"lr": 0.01, "betas": (0.0, 0.99), "weight_decay": 0.0},
    {"lr": 0.02, "betas": (0.95, 0.95), "epsilon": 1.0, "weight_decay": 0.1},
]
SHAPES = [(1,), (5, 7), (2, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("variant", [{}, {"foreach": True}, {"foreach": False}, {"fused": True}])
def test_torch_takes_the_same_path(options, shape, variant):
    W, G = gradients(shape, seed=len(shape))
    ours, terms = adamw_path(W, G, **options)
    renamed = {("eps" if name == "epsilon" else name): value for name, value in options.items()}
    check(same_path("AdamW", torch_path(torch.optim.AdamW, W, G, **renamed, **variant), ours, terms))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", SETTINGS)
def test_optax_takes_the_same_path(options, shape):
    W, G = gradients(shape, seed=len(shape))
    ours, terms = adamw_path(W, G, **options)
    b1, b2 = options.get("betas", (0.9, 0.999))
    theirs = optax_path(
        "adamw",
        W,
        G,
        learning_rate=options["lr"],
        b1=b1,
        b2=b2,
        eps=options.get("epsilon", 1e-8),
        weight_decay=options.get("weight_decay", 1e-2),
    )
    check(same_path("AdamW", theirs, ours, terms))

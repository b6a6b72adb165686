"""SGD against torch and optax, step by step."""

from itertools import product

import pytest
import torch

from proofs_checks.reproduction.comparators import gradients, same_path, sgd_path, sgd_terms, torch_path
from tests.peers.extra import optax_path
from tests.reference.cases import check

LR = 0.05
SETTINGS = [
    {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": weight_decay}
    for momentum, dampening, nesterov, weight_decay in product(
        (0.0, 0.9), (0.0, 0.5, 0.9), (False, True), (0.0, 0.1)
    )
    if not nesterov or (momentum and not dampening)  # torch refuses the others
]


@pytest.mark.parametrize("options", SETTINGS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("variant", [{}, {"foreach": True}, {"fused": True}])
def test_torch_takes_the_same_path(options, variant):
    W, G = gradients((4, 6), seed=3)
    mine = options if options["momentum"] else {**options, "dampening": 0.0}  # without a buffer, none
    ours = sgd_path(W, G, lr=LR, **mine)
    theirs = torch_path(torch.optim.SGD, W, G, lr=LR, **options, **variant)
    check(same_path("SGD", theirs, ours, sgd_terms(W, G, lr=LR, **mine)))


@pytest.mark.parametrize(("momentum", "nesterov"), list(product((0.0, 0.5, 0.9), (False, True))))
def test_optax_takes_the_same_path(momentum, nesterov):
    W, G = gradients((4, 6), seed=4)
    options = {"momentum": momentum, "nesterov": nesterov}
    theirs = optax_path("sgd", W, G, learning_rate=LR, **options)
    check(same_path("SGD", theirs, sgd_path(W, G, lr=LR, **options), sgd_terms(W, G, lr=LR, **options)))


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_the_average_is_torchs_sum_with_a_smaller_step(momentum):
    W, G = gradients((4, 6), seed=5)
    theirs = torch_path(torch.optim.SGD, W, G, lr=LR * (1 - momentum), momentum=momentum)
    ours = sgd_path(W, G, lr=LR, momentum=momentum, form="ema")
    check(same_path("SGD, average", theirs, ours, sgd_terms(W, G, lr=LR, momentum=momentum)))

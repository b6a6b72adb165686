"""AdaHessian against pytorch-optimizer with a diagonal handed to both, step by step."""

import numpy as np
import pytest
import torch

from proofs_checks.reproduction.comparators import adamw_terms, gradients, same_path
from reference import adahessian
from tests.peers.extra import peer
from tests.reference.cases import check


def path_of(optimizer, W, G, D, **options):
    """Parameters after each step of the package's optimizer."""
    parameter = torch.nn.Parameter(torch.tensor(W))
    stepper, found = optimizer([parameter], **options), []
    for g, d in zip(G, D, strict=True):
        parameter.grad = torch.tensor(g)
        stepper.step(hessian=[torch.tensor(d)])
        found.append(parameter.detach().numpy().copy())
    return np.array(found)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("epsilon", [1e-16, 1e-4])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("foreach", [False, True])
def test_the_package_takes_the_same_path(shape, power, epsilon, decay, foreach):
    optimizer = peer("pytorch_optimizer").AdaHessian
    start, G = gradients(shape, seed=10)
    _, D = gradients(shape, seed=11)
    lr, betas = 0.05, (0.9, 0.99)
    theirs = path_of(
        optimizer,
        start,
        G,
        D,
        lr=lr,
        betas=betas,
        eps=epsilon,
        hessian_power=power,
        weight_decay=decay,
        foreach=foreach,
    )
    W, state, ours, updates, below = start, adahessian.init(start), [], [], []
    for t, (g, d) in enumerate(zip(G, D, strict=True), start=1):
        update, state = adahessian.step(
            g,
            d,
            state,
            beta1=betas[0],
            beta2=betas[1],
            epsilon=epsilon,
            power=power,
            weight_decay=decay,
            W=W,
        )
        W = W - lr * update
        ours.append(W)
        updates.append(update)
        below.append((state.v / (1 - betas[1] ** t)) ** (power / 2) + epsilon)
    given = np.array(updates), np.array(below)
    terms = adamw_terms(start, G, *given, lr=lr, betas=betas, decay=lr * decay)
    check(same_path("AdaHessian", theirs, np.array(ours), terms))

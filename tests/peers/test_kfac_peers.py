"""K-FAC against curvlinops, layer by layer (written for curvlinops-for-pytorch 3.0.1, torch 2.13).

Both take the exact labels' distribution ("type-2"), weights and biases together. curvlinops floors each
damping at 1e-8 and does without the split where the gradient factor is zero; neither happens here.
"""

import warnings

import numpy as np
import pytest
import torch

from reference.kfac import factors, init, pi_split, step
from reference.natural_gradient import categorical_fisher, linear_jacobian, softmax
from tests.peers.extra import peer
from tests.reference.cases import check, condition, distance, formula_budget, size

#: Samples, and the sides of the two layers.
N, SIDES = 7, (4, 3, 5)


@pytest.fixture(scope="module")
def network():
    """A two-layer classifier, its loss, parameters and data."""
    rng = np.random.default_rng(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(SIDES[0], SIDES[1]), torch.nn.Tanh(), torch.nn.Linear(SIDES[1], SIDES[2])
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.tensor(rng.standard_normal(tuple(parameter.shape))))
    data = [(torch.tensor(rng.standard_normal((N, SIDES[0]))), torch.tensor(rng.integers(0, SIDES[2], N)))]
    return model, torch.nn.CrossEntropyLoss(), list(model.parameters()), data


def operator(network):
    model, loss, parameters, data = network
    return peer("curvlinops").KFACLinearOperator(
        model,
        loss,
        parameters,
        data,
        fisher_type="type-2",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )


def layers(network):
    """Inputs and output gradients of every layer for every sample and label, by hand."""
    model, _, _, data = network
    x = data[0][0].numpy()
    (W1, b1, W2, b2) = (parameter.detach().numpy() for parameter in model.parameters())
    hidden = np.tanh(x @ W1.T + b1)
    p = softmax(hidden @ W2.T + b2)
    k = SIDES[2]
    scores = np.sqrt(k * p)[..., None] * (np.eye(k) - p[:, None, :])  # (N, label, output), weighted
    back = (scores @ W2) * (1 - hidden**2)[:, None, :]
    return [(np.repeat(a, k, axis=0), s.reshape(N * k, -1)) for a, s in ((x, back), (hidden, scores))]


@pytest.mark.claim("COMP-oracles")
def test_the_factors_are_those_of_curvlinops(network):
    op = operator(network)
    op.compute_kronecker_factors()
    theirs = op.state_dict()
    for name, (a, s) in zip(("0", "2"), layers(network), strict=True):
        A, S = factors(a, s)
        for label, got, want in (
            ("A", A, theirs["input_covariances"][name]),
            ("S", S, theirs["gradient_covariances"][name]),
        ):
            want = want.numpy()
            check(
                distance(
                    f"{label} of layer {name}", got, want, budget=formula_budget(size(want), N * SIDES[2])
                )
            )


@pytest.mark.claim("COMP-oracles")
@pytest.mark.parametrize("lam", [1e-3, 1e-1, 10.0])
def test_the_damped_step_is_that_of_curvlinops(network, lam):
    rng = np.random.default_rng(2)
    shapes = [tuple(parameter.shape) for parameter in network[2]]
    gradients = [rng.standard_normal(shape) for shape in shapes]
    inverse = peer("curvlinops").KFACInverseLinearOperator(
        operator(network), damping=lam, use_heuristic_damping=True
    )
    flat = np.concatenate([g.reshape(-1) for g in gradients])
    got = inverse @ torch.tensor(flat)
    theirs = np.split(got.numpy(), np.cumsum([g.size for g in gradients])[:-1])
    for i, (a, s) in enumerate(layers(network)):
        W, b = gradients[2 * i], gradients[2 * i + 1]
        G = np.concatenate([W, b[:, None]], axis=1)
        A, S = factors(a, s)
        update, _ = step(G, init(G), A=A, S=S, lam=lam)
        damping = pi_split(A, S, lam=lam)
        kappa = [condition(X + d * np.eye(len(X))) for X, d in zip((A, S), damping, strict=True)]
        want = np.concatenate([theirs[2 * i].reshape(W.shape), theirs[2 * i + 1][:, None]], axis=1)
        budget = formula_budget(size(want), max(G.shape), kappa[0] * kappa[1])
        check(distance(f"layer {i}", update, want, budget=budget))


@pytest.mark.claim("COMP-oracles")
def test_the_exact_fisher_matrix_is_that_of_curvlinops():
    """For a linear softmax model; theirs is the Gauss-Newton matrix. It uses a part of torch that warns."""
    rng = np.random.default_rng(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False)).double()
    x = rng.standard_normal((N, 3))
    data = [(torch.tensor(x), torch.tensor(rng.integers(0, 4, N)))]
    package = peer("curvlinops")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        op = package.GGNLinearOperator(
            model, torch.nn.CrossEntropyLoss(), list(model.parameters()), data, check_deterministic=False
        )
        want = (op @ torch.eye(12, dtype=torch.float64)).detach().numpy()
    z = x @ model[0].weight.detach().numpy().T
    F = categorical_fisher(linear_jacobian(x, outputs=4), z)
    check(distance("F", F, want, budget=formula_budget(size(want), 12 * N)))

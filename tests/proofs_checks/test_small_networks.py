"""The small networks behind the reproductions: data, rules, blocks, factors, counts."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from proofs_checks.adversarial.verdicts import at_most, same, vanishing
from proofs_checks.ratios import ORDER_ONE
from proofs_checks.reproduction import convolution_shapes, factor_orders, fisher_blocks, networks
from proofs_checks.reproduction.adafisher_factors import layer_rows, off_diagonal
from proofs_checks.reproduction.costs import counted
from proofs_checks.reproduction.update_conditioning import budgets
from reference import fismo
from reference.kronecker import fixed_point, logdet_divergence

U = 2.0**-53


def test_the_digits_need_scikit_learn_and_say_so(monkeypatch):
    networks.digits.cache_clear()
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"fisherproof\[test\]"):
        networks.digits()
    monkeypatch.undo()
    assert networks.digits().images.shape == (1797, 1, 8, 8)


def test_a_start_follows_from_its_seed_and_leaves_the_generator_alone():
    before = torch.random.get_rng_state()
    one, two, other = (networks.mlp(64, 8, 10, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(one.parameters(), two.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) and not torch.equal(a, c) for a, b, c in pairs)


def test_biases_start_at_zero_and_scales_at_one():
    model = networks.initialised(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), seed=0)
    assert not model[0].bias.any()
    assert not model[1].bias.any()
    assert (model[1].weight == 1).all()


def test_a_condition_is_that_of_the_numerical_range():
    X = torch.diag(torch.tensor([4.0, 2.0, 0.0], dtype=torch.float64))
    kappa, seen = networks.condition(X)
    assert (kappa, 3 * seen) == (2, 2)
    assert networks.condition(torch.zeros(2, 3, dtype=torch.float64)) == (1, 0)


def test_the_rules_are_the_optimizers():
    rng = np.random.default_rng(0)
    W = nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
    optimizer, rule = torch.optim.Adam([W], lr=1.0), networks.Adam((3, 4))
    own, state = networks.Fismo((3, 4), beta=0.9, gamma=0.5, mu=0.1), fismo.init((3, 4))
    total = torch.zeros(3, 4, dtype=torch.float64)
    for _ in range(5):
        G = rng.standard_normal((3, 4))
        W.grad = torch.from_numpy(G)
        optimizer.step()
        total -= rule.update(W.grad)
        update, state = fismo.step(G, state, beta=0.9, gamma=0.5, mu=0.1)
        got = own.update(torch.from_numpy(G)).numpy()
        budget = ORDER_ONE * 5 * 7 * U * float(np.linalg.cond(state.M)) * np.linalg.norm(update)
        assert same("FISMO", got, update, budget=budget).passed
    assert same("Adam", total.numpy(), W.detach().numpy(), budget=ORDER_ONE * 25 * U * 12).passed


def test_training_stops_where_a_factor_is_singular():
    class Fails:
        def update(self, G):
            raise torch.linalg.LinAlgError("singular")

    run = networks.train(networks.mlp(64, 4, 10, seed=0), lambda shape: Fails(), lr=0.1, steps=3, seed=0)
    assert (run.steps, run.conditions.shape) == (0, (0, 2))
    start = networks.mlp(64, 4, 10, seed=0)
    images, labels = networks.digits()
    assert run.loss == float(cross_entropy(start(images), labels).detach()), "nothing was changed"


def test_an_unwatched_run_trains_the_same():
    runs = [
        networks.train(networks.mlp(64, 4, 10, seed=0), networks.Muon, lr=0.02, steps=3, seed=0, watch=watch)
        for watch in (True, False)
    ]
    assert runs[0].loss == runs[1].loss
    assert (runs[0].squares.shape, runs[1].squares.shape) == ((3, 2), (3, 0))


@pytest.mark.claim("FISMO-T5-near-muon")
def test_the_budget_of_the_first_step_is_the_formula():
    run = networks.train(networks.mlp(64, 4, 10, seed=0), networks.Muon, lr=0.01, steps=2, seed=0)
    (m, n), squares = run.shapes[0], run.squares[0, 0]
    want = 0.05 / 0.95 * ((1 - 1 / m) / n + (1 - 1 / n) / m) * squares
    assert vanishing("S_1", budgets(run)[0, 0] - want, rounding=ORDER_ONE * U * want).passed


# ---- Fisher blocks


@pytest.mark.claim("FISMO-MECH-kronecker")
def test_the_gradients_of_a_block_are_those_of_the_samples():
    block, model = fisher_blocks.blocks()["convolution"], fisher_blocks.model_with("convolution")
    images, labels = networks.digits()
    chosen = np.random.default_rng(5).permutation(len(labels))[: fisher_blocks.IMAGES]
    for k in (0, 7):
        i = int(chosen[k])
        loss = cross_entropy(model(images[i : i + 1]), labels[i : i + 1])
        (G,) = torch.autograd.grad(loss, [model[2].weight])
        budget = ORDER_ONE * 600 * U * float(G.norm())
        assert same("gradient", block.gradients[k], G.flatten(1).numpy(), budget=budget).passed


@pytest.mark.claim("FISMO-MECH-kronecker")
def test_the_fisher_block_is_the_mean_over_the_labels_of_the_model():
    block, model = fisher_blocks.blocks()["normalisation"], fisher_blocks.model_with("linear")
    images, labels = networks.digits()
    chosen = np.random.default_rng(5).permutation(len(labels))[: fisher_blocks.IMAGES]
    want = np.zeros_like(block.exact)
    for i in chosen:
        log_p = model(images[int(i) : int(i) + 1]).log_softmax(dim=1)[0]
        for k in range(10):
            g = torch.autograd.grad(log_p[k], [model[2].weight, model[2].bias], retain_graph=True)
            v = torch.cat(g).numpy()
            want += float(log_p[k].detach().exp()) * np.outer(v, v) / len(chosen)
    budget = ORDER_ONE * 6000 * U * np.linalg.norm(want)
    assert same("Fisher block", block.exact, want, budget=budget).passed


@pytest.mark.claim("FISMO-MECH-kronecker")
def test_log_det_factors_are_the_fixed_point_of_the_reference():
    G = np.random.default_rng(1).standard_normal((5, 3, 4))
    g = G.reshape(5, -1)
    P, Q = fisher_blocks.log_det_optimal(g.T @ g / 5, (3, 4), mu=0.1)
    want = fixed_point(G, mu=0.1)
    product_, right = np.kron(P, Q), np.kron(want.P, want.Q)
    budget = 10 * fisher_blocks.SETTLED * np.linalg.norm(right)
    assert same("P kron Q", product_, right, budget=budget).passed


def test_the_nearest_product_of_a_product_is_itself():
    rng = np.random.default_rng(2)
    A, B = (X @ X.T for X in (rng.standard_normal((3, 3)), rng.standard_normal((4, 4))))
    F = np.kron(A, B)
    budget = ORDER_ONE * 144 * U * np.linalg.norm(F)
    assert same("product", np.kron(*fisher_blocks.least_squares(F, (3, 4))), F, budget=budget).passed


def test_the_divergence_is_the_reference_s_over_the_dimension():
    rng = np.random.default_rng(3)
    X, Y = (A @ A.T + np.eye(4) for A in rng.standard_normal((2, 4, 4)))
    want = float(logdet_divergence(X, Y)) / 4
    budget = ORDER_ONE * 16 * U * float(np.linalg.cond(X) + np.linalg.cond(Y))
    assert vanishing("divergence", fisher_blocks.divergence(X, Y) - want, rounding=budget).passed
    assert fisher_blocks.divergence(X, -Y) == np.inf


@pytest.mark.claim("FISMO-OPEN-conv")
def test_three_factors_of_a_product_of_three_are_found():
    rng = np.random.default_rng(4)
    factors = [A @ A.T + np.eye(len(A)) for A in map(rng.standard_normal, ((2, 2), (3, 3), (2, 2)))]
    F = np.kron(np.kron(factors[0], factors[1]), factors[2])
    found = convolution_shapes.three_factors(F, (2, 3, 2), 0.0)
    got = np.kron(np.kron(found[0], found[1]), found[2])
    budget = ORDER_ONE * 144 * U * float(np.linalg.cond(F)) * np.linalg.norm(F)
    assert same("product of three", got, F, budget=budget).passed


@pytest.mark.claim("FISMO-OPEN-conv")
@pytest.mark.parametrize("form", ["rows", "columns", "positions"])
def test_a_shaped_kernel_returns_updates_where_the_gradient_was(form):
    G = torch.from_numpy(np.random.default_rng(5).standard_normal((4, 27)))
    rule = convolution_shapes.Shaped((4, 27), form, channels=4, sites=9, beta=0.0, gamma=1.0)
    update, own = rule.update(G), rule.matrices(G)
    U_, _, Vh = torch.linalg.svd(own, full_matrices=False)
    polar = rule.matrices(update)  # gamma = 1: Muon in that form
    assert same("update", polar.numpy(), (U_ @ Vh).numpy(), budget=ORDER_ONE * 81 * U * 100).passed


@pytest.mark.claim("FISMO-OPEN-conv")
def test_rows_of_a_convolution_make_its_gradient():
    model, chosen = fisher_blocks.model_with("convolution"), torch.arange(3)
    p, s = layer_rows(model, chosen)["2"]
    want = model[2].weight.grad.flatten(1)
    budget = ORDER_ONE * len(p) * U * float(want.norm()) * 10
    assert same("gradient", (s.mT @ p).numpy(), want.numpy(), budget=budget).passed


# ---- statistics and counts


@pytest.mark.claim("ADAF-diagonal")
def test_off_diagonal_shares():
    eye = torch.eye(4, dtype=torch.float64)
    assert off_diagonal(eye) == (0, 1)
    mass, dominant = off_diagonal(torch.ones(3, 4, dtype=torch.float64))
    assert (4 * mass, dominant) == (3, 0)


def test_the_sign_flip_test_counts_all_flips():
    d = np.array([1.0, 2.0, 3.0])
    sums = [abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in product((-1, 1), repeat=3)]
    assert factor_orders.sign_flip_p(d) == np.mean([x == 6 for x in sums])
    assert factor_orders.sign_flip_p(np.zeros(3)) == 1
    assert at_most(
        "symmetric", factor_orders.sign_flip_p(-d), factor_orders.sign_flip_p(d), rounding=0.0
    ).passed


@pytest.mark.claim("SOFIM-cost")
def test_counts_of_a_known_step():
    count, state = counted(lambda parameters: torch.optim.SGD(parameters, lr=0.1, foreach=False), (3, 4))
    assert (state, count.products, count.read) == (0, 0, 24)  # one addition, of the gradient to the weight

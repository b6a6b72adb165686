"""`FISMO` and `SOFIM` as users of PyTorch know optimizers, and what they refuse."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import reference.fismo
import reference.sofim
from proofs_checks.ratios import recursion, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import DTYPES, FLOATS, array, distance, norm, seeds, tensor
from tests.torch_impl.test_fismo import StepBudget, in_float64
from torch_impl import FISMO, SOFIM, fismo

BOTH = pytest.mark.parametrize("optimizer_class", [FISMO, SOFIM])
SHAPES = ((3, 4), (2, 5), (3, 4))


def parameters(seed=0, dtype=torch.float64, shapes=SHAPES, device="cpu"):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(tensor(rng.standard_normal(shape), dtype, device)) for shape in shapes]


def give_gradients(params, seed=1):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = tensor(rng.standard_normal(tuple(p.shape)), p.dtype, p.device)


def run(optimizer, params, steps, seed=1):
    for k in range(steps):
        give_gradients(params, seed=seed + k)
        optimizer.step()


def photograph(optimizer):
    """Everything a step could change, copied."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    values = [p.detach().clone() for p in params]
    gradients = [None if p.grad is None else p.grad.clone() for p in params]
    return values, gradients, copy.deepcopy(optimizer.state_dict())


def same(a, b):
    """Bitwise, dtypes included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# ---- the step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("maximize", [False, True])
def test_fismo_steps_every_matrix_as_the_reference_does(device, dtype, maximize):
    params = parameters(dtype=dtype, device=device)
    optimizer = FISMO(params, lr=0.1, mu=0.5, gamma=0.5, weight_decay=0.25, maximize=maximize)
    u = unit_roundoff(dtype)
    for k in range(3):
        give_gradients(params, seed=k)
        if k == 1:
            params[0].grad = None  # stacked with its equal in the other steps
        before = [(p.detach().clone(), copy.deepcopy(optimizer.state.get(p))) for p in params]
        optimizer.step()
        for p, (W, state) in zip(params, before, strict=True):
            if p.grad is None:
                assert torch.equal(p, W)
                assert same(optimizer.state[p], state)
                continue
            start = fismo.FismoState(**state) if state else fismo.init(W)
            G = -array(p.grad) if maximize else array(p.grad)
            update, after = reference.fismo.step(G, in_float64(start), mu=0.5, gamma=0.5)
            budget = StepBudget(G, in_float64(start), after, dtype=dtype, beta=0.9, gamma=0.5, mu=0.5)
            want = (1.0 - 0.1 * 0.25) * array(W) - 0.1 * update
            rounding = 4 * u * (norm(array(W)) + 0.1 * norm(update))
            assert distance(p, want, budget=0.1 * budget.update + rounding).passed
            for name in "PQM":
                value, allowed = getattr(after, name), getattr(budget, name)
                assert distance(optimizer.state[p][name], value, budget=allowed, name=name).passed


@pytest.mark.parametrize("method", ["polar", "jordan", "polar-express"])
@pytest.mark.parametrize("damping", ["algorithm", "theorem"])
@pytest.mark.parametrize("order", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize("factor_scaling", ["none", "unit"])
def test_fismo_hands_every_option_to_the_function(method, damping, order, factor_scaling):
    options = {
        "beta": 0.5,
        "gamma": 0.7,
        "mu": 0.3,
        "damping": damping,
        "order": order,
        "factor_scaling": factor_scaling,
        "orthogonalize": method,
    }
    (W,) = parameters(shapes=[(3, 4)])
    optimizer, start, state = FISMO([W], lr=0.5, **options), W.detach().clone(), fismo.init(W)
    want = start
    for k in range(2):
        give_gradients([W], seed=k)
        optimizer.step()
        # Stacked as a batch of one, which is what the optimizer computes.
        batch = fismo.FismoState(*(x[None] for x in state))
        update, batch = fismo.step(W.grad[None], batch, **options)
        state, want = fismo.FismoState(*(x[0] for x in batch)), want - 0.5 * update[0]
    assert torch.equal(W, want)
    assert same(optimizer.state[W], state._asdict())


@given(
    seed=seeds,
    steps=st.integers(1, 4),
    beta=st.sampled_from([0.0, 0.5, 0.9]),
    rho=st.sampled_from([0.1, 0.5, 3.0]),
    dtype=st.sampled_from(FLOATS),
    maximize=st.booleans(),
)
def test_sofim_is_the_reference_on_the_flat_vector_of_all_groups(
    device, seed, steps, beta, rho, dtype, maximize
):
    params = parameters(seed, dtype, [(3, 4), (5,), (), (2, 1, 2)], device)
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    optimizer = SOFIM(groups, lr=0.1, beta=beta, rho=rho, weight_decay=0.25, maximize=maximize)

    def flat(tensors):
        return np.concatenate([array(x).reshape(-1) for x in tensors])

    d, u = sum(p.numel() for p in params), unit_roundoff(dtype)
    state, terms = reference.sofim.init(np.zeros(d)), np.zeros(d)
    for t in range(1, steps + 1):
        give_gradients(params, seed=seed // 2 + t)
        g = flat([p.grad for p in params]) * (-1.0 if maximize else 1.0)
        W = flat(params)
        optimizer.step()
        update, state = reference.sofim.step(g, state, beta=beta, rho=rho)
        terms = beta * terms + (1.0 - beta) * np.abs(g)
        M_hat, wide = state.M / (1.0 - beta**t), terms / (1.0 - beta**t)
        denominator = rho + M_hat @ M_hat
        moved = wide / denominator + np.abs(M_hat) * 2 * norm(M_hat) * norm(wide) / denominator**2
        want = (1.0 - 0.1 * 0.25) * W - 0.1 * update
        operations = math.ceil(4 * t + d + 12 + 4 / (1.0 - beta))
        assert recursion(flat(params), want, np.abs(W) + 0.1 * moved, operations=operations, u=u).passed
        stored = flat([optimizer.state[p]["M"] for p in params])
        assert recursion(stored, state.M, terms, operations=4 * t, u=u).passed
        assert {optimizer.state[p]["t"] for p in params} == {t}


def test_one_global_norm_is_not_a_norm_per_parameter():
    together, apart = parameters(shapes=[(2, 2), (2, 2)]), parameters(shapes=[(2, 2), (2, 2)])
    for params in (together, apart):
        give_gradients(params)
    SOFIM(together).step()
    for p in apart:
        SOFIM([p]).step()
    assert not torch.equal(together[0], apart[0])


def test_sofim_groups_share_the_norm_and_keep_their_own_options():
    a, b = parameters(shapes=[(2,), (3,)])
    start = [p.detach().clone() for p in (a, b)]
    optimizer = SOFIM([{"params": [a], "lr": 0.5, "rho": 2.0}, {"params": [b], "lr": 0.25, "rho": 1.0}])
    give_gradients([a, b])
    nu = float(a.grad.square().sum() + b.grad.square().sum())  # the first corrected momentum is the gradient
    optimizer.step()
    for p, W, lr, rho in ((a, start[0], 0.5, 2.0), (b, start[1], 0.25, 1.0)):
        g = array(p.grad)
        terms = np.abs(array(W)) + 3 * lr * np.abs(g) / (rho + nu)
        want = array(W) - lr * g / (rho + nu)
        assert recursion(array(p), want, terms, operations=16, u=cases.DOUBLE).passed


def test_sofim_counts_steps_per_parameter_and_skips_what_has_no_gradient():
    a, b = parameters(shapes=[(2,), (2,)])
    optimizer = SOFIM([a, b], beta=0.5, rho=1.0, lr=1.0)
    give_gradients([a])
    optimizer.step()
    assert b not in optimizer.state
    a.grad, before = None, a.detach().clone()
    b.grad, start = torch.tensor([3.0, 4.0], dtype=torch.float64), b.detach().clone()
    optimizer.step()
    assert torch.equal(a, before)
    assert (optimizer.state[a]["t"], optimizer.state[b]["t"]) == (1, 1)
    # Its first step: corrected momentum (3, 4), norm 5, and nothing of a in it.
    assert distance(start - b, np.array([3.0, 4.0]) / 26.0, budget=16 * cases.DOUBLE).passed


# ---- precision --------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_are_stepped_in_float32_and_rounded_on_storing(optimizer_class, dtype):
    narrow = parameters(dtype=dtype)
    wide = [nn.Parameter(p.detach().float()) for p in narrow]
    options = {"lr": 0.1, "weight_decay": 0.25}
    small, large = optimizer_class(narrow, **options), optimizer_class(wide, **options)
    for k in range(3):
        give_gradients(narrow, seed=k)
        for p, q in zip(narrow, wide, strict=True):
            q.data.copy_(p)  # the twin starts every step from the rounded parameter
            q.grad = p.grad.float()
        small.step()
        large.step()
        for p, q in zip(narrow, wide, strict=True):
            assert torch.equal(p, q.to(dtype))
            assert same(small.state[p], large.state[q])
            assert all(v.dtype == torch.float32 for v in small.state[p].values() if torch.is_tensor(v))


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_left_alone(optimizer_class, dtype):
    params = parameters(dtype=dtype)
    optimizer = optimizer_class(params, maximize=True)
    give_gradients(params)
    before = [p.grad.clone() for p in params]
    optimizer.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(params, before, strict=True))
    own = {v.data_ptr() for p in params for v in optimizer.state[p].values() if torch.is_tensor(v)}
    assert not own & {p.grad.data_ptr() for p in params}, "the state is the gradient"


def test_float16_gradients_do_not_overflow_the_global_norm():
    p = nn.Parameter(torch.zeros(64, dtype=torch.float16))
    p.grad = torch.full((64,), 3e4, dtype=torch.float16)
    optimizer = SOFIM([p], lr=1e6)
    optimizer.step()
    want = np.full(64, -1e6 * 3e4 / (0.5 + 64 * 9e8))
    g = float(p.grad[0])
    want = np.full(64, -1e6 * g / (0.5 + 64 * g * g))
    assert distance(p, want, budget=2.0 * cases.stored(want, torch.float16)).passed


# ---- habits -----------------------------------------------------------------------------------------------


@BOTH
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(optimizer_class):
    (W,) = parameters(shapes=[(3, 3)])
    optimizer = optimizer_class([W], lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = W.square().sum()
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5
    assert optimizer.step() is None


@BOTH
def test_weight_decay_is_decoupled_and_does_not_reach_the_state(optimizer_class):
    plain, decayed = parameters(), parameters()
    optimizers = [optimizer_class(plain, lr=0.5), optimizer_class(decayed, lr=0.5, weight_decay=0.5)]
    for params, optimizer in zip((plain, decayed), optimizers, strict=True):
        give_gradients(params)
        optimizer.step()
    for p, q, W in zip(plain, decayed, parameters(), strict=True):
        assert same(optimizers[0].state[p], optimizers[1].state[q])
        want = array(p) - 0.25 * array(W)
        terms = 4 * (np.abs(array(p)) + np.abs(array(W)))
        assert recursion(array(q), want, terms, operations=4, u=cases.DOUBLE).passed


@BOTH
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5), torch.tensor([0.5], dtype=torch.float64)])
def test_the_learning_rate_is_a_number_or_a_tensor_and_obeys_schedulers(optimizer_class, lr):
    params = parameters()
    optimizer = optimizer_class(params, lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    fixed = parameters()
    other = optimizer_class(fixed, lr=0.5)
    for k in range(3):
        other.param_groups[0]["lr"] = 0.5 * 0.5**k
        for ps, o in ((params, optimizer), (fixed, other)):
            give_gradients(ps, seed=k)
            o.step()
        scheduler.step()
    assert all(map(torch.equal, params, fixed))


@BOTH
def test_schedulers_that_leave_marks_in_the_groups_are_welcome(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params, lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4, cycle_momentum=False)
    for _ in range(4):
        give_gradients(params)
        optimizer.step()
        schedule.step() if schedule.last_epoch + 1 < 4 else None
    copied = optimizer_class(parameters())
    copied.load_state_dict(optimizer.state_dict())
    assert same(copied.state_dict(), optimizer.state_dict())


@BOTH
def test_groups_may_differ_and_be_added(optimizer_class):
    a, b = parameters(shapes=[(2, 3), (2, 3)])
    optimizer = optimizer_class([{"params": [a], "lr": 0.25}], lr=0.5)
    added = {"params": [b], "beta": 0.5}
    optimizer.add_param_group(added)
    assert added == {"params": [b], "beta": 0.5}, "the caller's group was modified"
    assert [(g["lr"], g["beta"]) for g in optimizer.param_groups] == [(0.25, 0.9), (0.5, 0.5)]
    before = [p.detach().clone() for p in (a, b)]
    give_gradients([a, b])
    optimizer.step()
    assert not any(map(torch.equal, (a, b), before))
    optimizer.zero_grad()
    assert a.grad is None


@BOTH
def test_hooks_run_where_pytorch_runs_them(optimizer_class):
    params = parameters()
    optimizer, calls = optimizer_class(params), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    run(optimizer, params, 1)
    assert calls == ["pre", "post"]
    saved = optimizer.state_dict()

    def rename(_, incoming):
        calls.append("load")
        return {"state": incoming["saved"], "param_groups": incoming["param_groups"]}

    seen = []
    optimizer.register_load_state_dict_pre_hook(rename)
    optimizer.register_load_state_dict_post_hook(
        lambda o: seen.append(copy.deepcopy(o.state_dict()["state"]))
    )
    optimizer.load_state_dict({"saved": saved["state"], "param_groups": saved["param_groups"]})
    assert calls[2:] == ["load"]
    assert same(seen[0], saved["state"])


@BOTH
def test_gradient_scaling_skips_overflowed_steps(optimizer_class):
    params = parameters(dtype=torch.float32)
    optimizer = optimizer_class(params)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(sum(p.sum() for p in params)).backward()
    scaler.step(optimizer)
    scaler.update()
    before = photograph(optimizer)
    for p in params:
        p.grad.fill_(math.inf)
    scaler.scale(torch.ones(()))
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert same(photograph(optimizer)[0], before[0])


# ---- saving and loading -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_dict_continues_bit_for_bit_and_keeps_its_dtypes(optimizer_class, dtype):
    params = parameters(dtype=dtype)
    optimizer = optimizer_class(params, lr=0.1)
    run(optimizer, params, 2)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    other = optimizer_class(copies)
    untouched = copy.deepcopy(saved)
    other.load_state_dict(saved)
    assert same(other.state_dict(), optimizer.state_dict())
    run(optimizer, params, 2, seed=9)
    run(other, copies, 2, seed=9)
    assert all(map(torch.equal, params, copies))
    assert same(other.state_dict(), optimizer.state_dict())
    assert same(saved, untouched), "loading or stepping modified the caller's dictionary"


@BOTH
def test_loading_before_the_first_step_and_partial_state(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params)
    fresh = optimizer.state_dict()
    give_gradients(params[:1])
    optimizer.step()
    partial = copy.deepcopy(optimizer.state_dict())
    assert set(partial["state"]) == {0}
    other = optimizer_class(parameters())
    other.load_state_dict(partial)
    assert same(other.state_dict(), partial)
    other.load_state_dict(fresh)
    assert not other.state_dict()["state"]


@BOTH
def test_copies_and_pickles_continue_bit_for_bit(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params, lr=0.1)
    run(optimizer, params, 2)
    copies = [copy.deepcopy((params, optimizer)), pickle.loads(pickle.dumps((params, optimizer)))]
    run(optimizer, params, 2, seed=9)
    for other_params, other in copies:
        run(other, other_params, 2, seed=9)
        assert all(map(torch.equal, params, other_params))
        assert same(other.state_dict(), optimizer.state_dict())


def altered(change):
    """A function that applies `change` to a copy of a state dict."""

    def alter(saved):
        saved = copy.deepcopy(saved)
        return change(saved) or saved

    return alter


FOREIGN = {
    "another number of parameters": (
        altered(lambda s: s["param_groups"][0]["params"].append(3)),
        r"sizes \[3\], got \[4\]",
    ),
    "another number of groups": (
        altered(lambda s: s["param_groups"].append({"params": []})),
        r"sizes \[3\], got \[3, 0\]",
    ),
    "other shapes": (
        altered(lambda s: s["state"][1].update(M=torch.zeros(5, 2, dtype=torch.float64))),
        r"state 'M' of parameter 1 of group 0 must have shape \(2, 5\), got \(5, 2\)",
    ),
    "state in half precision": (
        altered(
            lambda s: s["state"][0].update({k: v.bfloat16() for k, v in s["state"][0].items() if k in "PQM"})
        ),
        "must be float32 or float64 throughout, got torch.bfloat16",
    ),
    "state that is missing": (altered(lambda s: s["state"][2].pop("M") and None), r"must hold \['M'.*, got"),
    "state of nobody": (altered(lambda s: s["state"].update({7: {}})), "listed parameters only, got keys"),
    "a missing option": (altered(lambda s: s["param_groups"][0].pop("beta") and None), "got none for beta"),
    "an option out of range": (altered(lambda s: s["param_groups"][0].update(beta=2.0)), "beta must be"),
    "no state dict at all": (lambda s: {"model": {}}, "must hold 'state' and 'param_groups'"),
}


@BOTH
@pytest.mark.parametrize("kind", FOREIGN)
def test_the_state_of_another_model_is_refused_before_anything_changes(optimizer_class, kind):
    alter, message = FOREIGN[kind]
    params = parameters()
    optimizer = optimizer_class(params)
    run(optimizer, params, 1)
    before = photograph(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(alter(optimizer.state_dict()))
    assert same(photograph(optimizer), before)
    run(optimizer, params, 1)  # and it still works


def test_the_state_of_another_optimizer_is_refused():
    params = parameters()
    first, second = SOFIM(params), FISMO(params)
    run(first, params, 1)
    with pytest.raises(ValueError, match="got none for damping"):
        second.load_state_dict(first.state_dict())


# ---- refusals ---------------------------------------------------------------------------------------------


def nan(p):
    p.grad[-1] = math.nan


def infinity(p):
    p.grad[-1] = -math.inf


def sparse(p):
    p.grad = p.grad.to_sparse()


def reshaped(p):
    p.data, data = p.data.new_zeros(1, 1), p.data
    p.grad = torch.ones_like(p)
    p.data = data


BAD_GRADIENTS = {
    nan: "must be finite",
    infinity: "must be finite",
    sparse: "must be dense",
    reshaped: "shape",
}


@BOTH
@pytest.mark.parametrize("spoil", BAD_GRADIENTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bad_gradient_anywhere_changes_nothing(optimizer_class, spoil, dtype):
    params = parameters(dtype=dtype)
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    optimizer = optimizer_class(groups)
    run(optimizer, params, 1)
    give_gradients(params, seed=5)
    spoil(params[2])
    gradient, params[2].grad = params[2].grad, None
    before = photograph(optimizer)
    params[2].grad = gradient
    with pytest.raises(
        ValueError, match=f"gradient of parameter 1 of group 1 {BAD_GRADIENTS[spoil]}|{BAD_GRADIENTS[spoil]}"
    ):
        optimizer.step()
    params[2].grad = None
    assert same(photograph(optimizer), before)


@BOTH
def test_a_named_parameter_is_named(optimizer_class):
    (W,) = parameters(shapes=[(2, 2)])
    optimizer = optimizer_class([("layer.weight", W)])
    W.grad = torch.full_like(W, math.nan)
    with pytest.raises(ValueError, match=r"parameter 0 of group 0 \(layer\.weight\)"):
        optimizer.step()


def test_a_singular_factor_is_refused_as_a_whole():
    good, bad = parameters(shapes=[(2, 3), (3, 3)])
    optimizer = FISMO([{"params": [good]}, {"params": [bad], "gamma": 0.0, "mu": 0.0}])
    give_gradients([good, bad])
    bad.grad.copy_(torch.diag(torch.tensor([1.0, 1.0, 0.0])))
    before = photograph(optimizer)
    with pytest.raises(ValueError, match=r"parameter 0 of group 1.*nothing was changed"):
        optimizer.step()
    assert same(photograph(optimizer), before)


def test_a_failing_factorisation_is_refused_as_a_whole():
    params = parameters(shapes=[(2, 3), (3, 3)])
    optimizer = FISMO(params)
    run(optimizer, params, 1)
    optimizer.state[params[1]]["Q"].mul_(-1.0)
    before = photograph(optimizer)
    with pytest.raises(ValueError, match="nothing was changed"):
        optimizer.step()
    assert same(photograph(optimizer), before)


def test_overflowing_factors_are_refused_as_a_whole():
    params = parameters(dtype=torch.float32, shapes=[(2, 3)])
    optimizer = FISMO(params)
    params[0].grad = torch.full((2, 3), 1e30)
    before = photograph(optimizer)
    with pytest.raises(ValueError, match="nothing was changed"):
        optimizer.step()
    assert same(photograph(optimizer), before)


BAD_OPTIONS = [
    (FISMO, "lr", -0.1, ValueError, "lr must be .*>= 0, got -0.1"),
    (FISMO, "lr", math.nan, ValueError, "lr must be"),
    (
        FISMO,
        "lr",
        torch.tensor([0.1, 0.2]),
        ValueError,
        "lr must be a number or a real tensor of one element",
    ),
    (FISMO, "lr", torch.tensor(-1.0), ValueError, "lr must be"),
    (FISMO, "lr", "0.1", TypeError, "lr must be a real number, got str"),
    (FISMO, "beta", 1.0, ValueError, "beta must be .*< 1, got 1.0"),
    (FISMO, "beta", -0.1, ValueError, "beta must be"),
    (FISMO, "gamma", 1.1, ValueError, "gamma must be .*<= 1, got 1.1"),
    (FISMO, "mu", -1e-3, ValueError, "mu must be"),
    (FISMO, "damping", "paper", ValueError, "damping must be one of 'algorithm', 'theorem', got 'paper'"),
    (FISMO, "order", "none", ValueError, "order must be one of"),
    (FISMO, "factor_scaling", "rms", ValueError, "factor_scaling must be one of"),
    (FISMO, "orthogonalize", "svd", ValueError, "orthogonalize must be one of"),
    (FISMO, "weight_decay", -0.1, ValueError, "weight_decay must be"),
    (FISMO, "maximize", 1, TypeError, "maximize must be True or False, got int"),
    (SOFIM, "lr", -0.1, ValueError, "lr must be"),
    (SOFIM, "beta", math.nan, ValueError, "beta must be"),
    (SOFIM, "rho", 0.0, ValueError, "rho must be .*> 0, got 0.0"),
    (SOFIM, "weight_decay", math.inf, ValueError, "weight_decay must be"),
    (SOFIM, "maximize", None, TypeError, "maximize must be"),
]


@pytest.mark.parametrize(("optimizer_class", "name", "value", "error", "message"), BAD_OPTIONS)
def test_options_out_of_range_are_refused_wherever_they_enter(optimizer_class, name, value, error, message):
    a, b = parameters(shapes=[(2, 2), (2, 2)])
    with pytest.raises(error, match=message):
        optimizer_class([a], **{name: value})
    with pytest.raises(error, match=message + r".*\(parameter group 1\)"):
        optimizer_class([{"params": [a]}, {"params": [b], name: value}])
    optimizer = optimizer_class([a])
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": [b], name: value})
    assert len(optimizer.param_groups) == 1
    give_gradients([a])
    optimizer.param_groups[0][name] = value
    before = a.detach().clone()
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(a, before)
    assert not optimizer.state


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (4, 3, 3, 3)])
def test_fismo_takes_matrices_only(shape):
    good, bad = parameters(shapes=[(2, 2), shape])
    with pytest.raises(ValueError, match=r"params must be matrices, got shape .* for parameter 1 of group 0"):
        FISMO([good, bad])
    optimizer = FISMO([good])
    with pytest.raises(ValueError, match="AdamW"):
        optimizer.add_param_group({"params": [bad]})
    assert len(optimizer.param_groups) == 1


@BOTH
@pytest.mark.parametrize("dtype", [torch.complex64, torch.float64])
def test_complex_and_sparse_parameters_are_refused(optimizer_class, dtype):
    p = torch.ones(2, 2, dtype=dtype)
    p = p if p.is_complex() else p.to_sparse()
    with pytest.raises(ValueError, match="parameter 0 of group 0 must be (real|dense)"):
        optimizer_class([p.requires_grad_()])


@BOTH
def test_what_pytorch_refuses_is_still_refused(optimizer_class):
    (W,) = parameters(shapes=[(2, 2)])
    with pytest.raises(ValueError, match="empty parameter list"):
        optimizer_class([])
    with pytest.raises(TypeError):
        optimizer_class(W)
    with pytest.raises(TypeError):
        optimizer_class([W], momentum=0.9)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer_class([{"params": [W]}, {"params": [W]}])


# ---- edges ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 4), (4, 1), (1, 1)])
def test_empty_and_thin_parameters_are_stepped(optimizer_class, shape):
    params = parameters(shapes=[shape, (2, 2)])
    optimizer = optimizer_class(params, lr=0.1)
    before = params[0].detach().clone()
    run(optimizer, params, 2)
    assert params[0].isfinite().all()
    assert torch.equal(params[0], before) == (0 in shape)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_gradients_do_not_move_anything(optimizer_class, dtype):
    params = parameters(dtype=dtype)
    before = [p.detach().clone() for p in params]
    optimizer = optimizer_class(params)
    for _ in range(2):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(map(torch.equal, params, before))


@BOTH
def test_without_any_gradient_a_step_does_nothing(optimizer_class):
    optimizer = optimizer_class(parameters())
    before = photograph(optimizer)
    optimizer.step()
    assert same(photograph(optimizer), before)


def test_the_state_of_fismo_has_the_promised_size():
    m, n = 5, 3
    (W,) = parameters(shapes=[(m, n)])
    optimizer = FISMO([W])
    run(optimizer, [W], 1)
    assert sum(x.numel() for x in optimizer.state[W].values()) == m * m + n * n + m * n
    assert all(x.untyped_storage().nbytes() == x.nbytes for x in optimizer.state[W].values())

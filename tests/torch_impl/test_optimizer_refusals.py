"""What `FISMO` and `SOFIM` refuse, and that nothing has changed when they do."""

import math

import pytest
import torch

from tests.torch_impl.cases import DTYPES
from tests.torch_impl.optimizer_cases import BOTH, give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, SOFIM


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


def complex_valued(p):
    p.data, data = p.data.to(torch.complex64), p.data
    p.grad = p.data.clone()
    p.data = data


BAD_GRADIENTS = {
    nan: "be finite",
    infinity: "be finite",
    sparse: "be dense",
    reshaped: "have shape",
    complex_valued: "be real",
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
    values, _, state = photograph(optimizer)
    with pytest.raises(ValueError, match=f"gradient of parameter 1 of group 1 must {BAD_GRADIENTS[spoil]}"):
        optimizer.step()
    after, _, state_after = photograph(optimizer)
    assert same((after, state_after), (values, state))


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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_update_that_is_not_finite_is_refused_as_a_whole(value):
    params = parameters(shapes=[(2, 2), (2, 3)])
    groups = [{"params": params[:1]}, {"params": params[1:], "orthogonalize": lambda M: M * value}]
    optimizer = FISMO(groups)
    give_gradients(params)
    values, _, state = photograph(optimizer)
    with pytest.raises(
        ValueError, match=r"update of parameter 0 of group 1 must be finite.*nothing was changed"
    ):
        optimizer.step()
    after, _, state_after = photograph(optimizer)
    assert same((after, state_after), (values, state))


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
    (FISMO, "refresh", 0, ValueError, "refresh must be at least 1, got 0"),
    (FISMO, "refresh", 2.0, TypeError, "refresh must be"),
    (FISMO, "reshape", "yes", TypeError, "reshape must be True or False, got str"),
    (FISMO, "nonfinite", "ignore", ValueError, "nonfinite must be one of 'raise', 'skip', got 'ignore'"),
    (FISMO, "capturable", 1, TypeError, "capturable must be True or False, got int"),
    (SOFIM, "lr", -0.1, ValueError, "lr must be"),
    (SOFIM, "scope", "layer", ValueError, "scope must be one of 'global', 'group', 'parameter', got 'layer'"),
    (SOFIM, "nonfinite", True, ValueError, "nonfinite must be one of"),
    (SOFIM, "capturable", None, TypeError, "capturable must be"),
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
    with pytest.raises(ValueError, match=r"parameter 0 of group 0 must be (real|dense)"):
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


@BOTH
def test_a_parameter_that_changed_its_shape_is_refused(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params)
    run(optimizer, params, 1)
    params[1].data = torch.zeros(5, 2, dtype=torch.float64)
    params[1].grad = torch.ones_like(params[1])
    before = photograph(optimizer)
    with pytest.raises(
        ValueError, match=r"of parameter 1 of group 0 must have shape \(5, .*changed its shape"
    ):
        optimizer.step()
    assert same(photograph(optimizer), before)
    del optimizer.state[params[1]]
    optimizer.step()

"""Options of `FISMO` that the paper does not have: refresh, reshape; and the memory all of them take."""

import copy

import pytest
import torch
from torch import nn

from tests.torch_impl.cases import DTYPES
from tests.torch_impl.optimizer_cases import give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, _checks

M, N = 5, 3


def numbers(state):
    """How many numbers a parameter's state holds, the step count apart."""
    return sum(x.numel() for name, x in state.items() if name != "step")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("refresh", "expected"), [(1, M * M + N * N + M * N), (4, 2 * (M * M + N * N) + M * N)]
)
def test_the_state_has_the_promised_size(dtype, refresh, expected):
    params = parameters(dtype=dtype, shapes=[(M, N), (M, N)])  # stepped as one batch
    optimizer = FISMO(params, refresh=refresh)
    for _ in range(2):
        run(optimizer, params, 1)
        state = optimizer.state[params[1]]
        assert numbers(state) == expected
        assert {x.dtype for name, x in state.items() if name != "step"} == {_checks.working(dtype)}
        assert all(x.untyped_storage().nbytes() == x.nbytes for x in state.values()), "a view of a batch"


def test_refresh_one_is_the_paper_bit_for_bit_at_the_steps_that_refresh():
    every, held = parameters(), parameters()
    first, second = FISMO(every, lr=0.1), FISMO(held, lr=0.1, refresh=3)
    run(first, every, 1), run(second, held, 1)
    assert all(map(torch.equal, every, held))
    run(first, every, 1, seed=2), run(second, held, 1, seed=2)
    assert not any(map(torch.equal, every, held)), "the roots were computed again"


def test_matrices_with_roots_of_different_age_are_stepped_apart():
    """The second parameter joins a step later; each must refresh in its own steps 1, 4, ..."""
    together, apart = (parameters(shapes=[(2, 3), (2, 3)]) for _ in range(2))
    one = FISMO(together, lr=0.1, refresh=3)
    two = [FISMO([p], lr=0.1, refresh=3) for p in apart]
    for k in range(5):
        for params in (together, apart):
            give_gradients(params, seed=k)
            if k == 0:
                params[1].grad = None
        one.step()
        for optimizer in two:
            optimizer.step()
        assert all(map(torch.equal, together, apart))


def test_a_changed_refresh_makes_and_drops_the_roots():
    (W,) = parameters(shapes=[(2, 3)])
    optimizer = FISMO([W])
    run(optimizer, [W], 2)
    assert "A" not in optimizer.state[W]
    optimizer.param_groups[0]["refresh"] = 10
    run(optimizer, [W], 1)
    roots = optimizer.state[W]["A"].clone()
    run(optimizer, [W], 2)
    assert torch.equal(optimizer.state[W]["A"], roots)
    optimizer.param_groups[0]["refresh"] = 1
    run(optimizer, [W], 1)
    assert "A" not in optimizer.state[W]


def test_held_roots_are_saved_and_continued_from():
    params = parameters()
    optimizer = FISMO(params, lr=0.1, refresh=4)
    run(optimizer, params, 2)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    other = FISMO(copies)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert same(other.state_dict(), optimizer.state_dict())
    run(optimizer, params, 4, seed=9), run(other, copies, 4, seed=9)
    assert all(map(torch.equal, params, copies))
    saved = optimizer.state_dict()
    del saved["state"][0]["A"]
    with pytest.raises(ValueError, match=r"the state of parameter 0 of group 0 must hold .*'A'"):
        other.load_state_dict(saved)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        *(
            (s, torch.contiguous_format)
            for s in [(4, 2, 3), (4, 2, 3, 3), (4, 2, 1, 2, 2), (3, 0, 2, 2), (0, 2, 2)]
        ),
        ((4, 2, 3, 3), torch.channels_last),
        ((4, 2, 1, 2, 2), torch.channels_last_3d),
    ],
)
def test_a_kernel_is_stepped_as_the_matrix_of_its_rows(shape, layout):
    (kernel,) = parameters(shapes=[shape])
    rows = kernel.detach().flatten(1)
    kernel.data = kernel.detach().contiguous(memory_format=layout)
    matrix = nn.Parameter(rows.clone())
    options = {"lr": 0.1, "weight_decay": 0.5, "refresh": 2}
    first, second = FISMO([kernel], reshape=True, **options), FISMO([matrix], **options)
    for k in range(3):
        give_gradients([matrix], seed=k)
        kernel.grad = matrix.grad.reshape(shape).contiguous(memory_format=layout)
        first.step(), second.step()
        assert torch.equal(kernel.flatten(1), matrix)
        assert same(first.state[kernel], second.state[matrix])
    restored = FISMO([kernel], reshape=True)
    restored.load_state_dict(first.state_dict())
    assert same(restored.state_dict(), first.state_dict())


@pytest.mark.parametrize("shape", [(), (3,)])
def test_vectors_and_scalars_are_refused_even_so(shape):
    good, bad = parameters(shapes=[(2, 2), shape])
    with pytest.raises(ValueError, match="params must be matrices"):
        FISMO([good, bad], reshape=True)


def test_reshape_is_an_option_of_the_group():
    matrix, kernel = parameters(shapes=[(2, 2), (2, 2, 2)])
    with pytest.raises(ValueError, match=r"reshape=True to use them as matrices \(out, rest\)"):
        FISMO([matrix, kernel])
    optimizer = FISMO([{"params": [matrix]}, {"params": [kernel], "reshape": True}])
    before = photograph(optimizer)[0]
    run(optimizer, [matrix, kernel], 1)
    assert not any(map(torch.equal, (matrix, kernel), before))

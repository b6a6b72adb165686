"""The models are the published ones: sizes, shapes, wiring; every parameter learns."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from benchmarks.train.models import GPT, MLP, DigitsConv, LeNet5, ResNet9, ResNet18, SimpleDLA, gpt2
from benchmarks.train.models.gpt import GPT2_VOCABULARY, PADDED_VOCABULARY, causal_attention
from proofs_checks.ratios import Ratio, recursion, unit_roundoff

COLOUR = (3, 32, 32)

#: Model, shape of one input, classes, parameters.
CLASSIFIERS = {
    "mlp": (lambda: MLP(64, 128, 128, 10), (1, 8, 8), 10, 26_122),
    "digits-conv": (DigitsConv, (1, 8, 8), 10, 6_082),
    "lenet5": (lambda: LeNet5(classes=10), COLOUR, 10, 62_006),
    "lenet5-100": (lambda: LeNet5(classes=100), COLOUR, 100, 69_656),
    "resnet9": (lambda: ResNet9(classes=10), COLOUR, 10, 6_573_120),
    "resnet9-100": (lambda: ResNet9(classes=100), COLOUR, 100, 6_619_200),
    "resnet18": (lambda: ResNet18(classes=10), COLOUR, 10, 11_173_962),
    "resnet18-100": (lambda: ResNet18(classes=100), COLOUR, 100, 11_220_132),
    "simpledla": (lambda: SimpleDLA(classes=10), COLOUR, 10, 15_142_970),
    "simpledla-100": (lambda: SimpleDLA(classes=100), COLOUR, 100, 15_189_140),
}


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def small_gpt(*, seed: int = 0, fused: bool = False, layers: int = 2) -> GPT:
    torch.manual_seed(seed)
    return GPT(vocabulary=19, context=12, layers=layers, heads=3, width=12, fused=fused)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_has_the_published_number_of_parameters(name):
    build, _, _, parameters = CLASSIFIERS[name]
    with torch.device("meta"):
        assert size(build()) == parameters


def test_gpt2_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert size(gpt2()) == 124_439_808
        assert size(gpt2(vocabulary=PADDED_VOCABULARY)) == 124_475_904
    assert PADDED_VOCABULARY % 64 == 0
    assert PADDED_VOCABULARY - GPT2_VOCABULARY in range(64)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 30), st.integers(1, 20))
def test_a_gpt_has_the_stated_number_of_parameters(layers, heads, head_width, vocabulary, context):
    width = heads * head_width
    with torch.device("meta"):
        model = GPT(vocabulary=vocabulary, context=context, layers=layers, heads=heads, width=width)
    blocks = layers * (12 * width**2 + 13 * width)
    assert size(model) == (vocabulary + context) * width + blocks + 2 * width


@pytest.mark.parametrize("name", [n for n in CLASSIFIERS if not n.endswith("-100")])
def test_every_parameter_of_a_classifier_gets_a_gradient_and_none_is_used_in_place(name):
    build, shape, classes, _ = CLASSIFIERS[name]
    torch.manual_seed(0)
    model = build()
    inputs = torch.randn(2, *shape)
    before = inputs.clone()
    logits = model(inputs)
    assert logits.shape == (2, classes)
    functional.cross_entropy(logits, torch.tensor([0, classes - 1])).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("family", [ResNet9, ResNet18, SimpleDLA])
def test_a_narrow_model_has_the_same_layers_as_the_published_one(family):
    with torch.device("meta"):
        full, narrow = family(classes=10), family(classes=10, width=4)
    assert [n for n, _ in full.named_parameters()] == [n for n, _ in narrow.named_parameters()]
    factor = next(full.parameters()).shape[0] // 4
    for p, q in zip(full.parameters(), narrow.parameters(), strict=True):
        # Sides that are channels grow by the factor; colours, classes and kernel sides stay.
        assert all(a in (b, factor * b) for a, b in zip(p.shape, q.shape, strict=True))


@pytest.mark.parametrize(
    ("family", "sides"), [(ResNet18, [32, 16, 8, 4]), (SimpleDLA, [32, 16, 8, 4]), (ResNet9, [32, 16, 8, 4])]
)
def test_feature_maps_shrink_as_published(family, sides):
    model = family(classes=10, width=4)
    seen: list[int] = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[-1]))
    model(torch.randn(2, *COLOUR))
    assert list(dict.fromkeys(seen)) == sides  # in the order of their first appearance
    assert seen == sorted(seen, reverse=True)


def test_the_logits_of_resnet9_are_an_eighth_of_its_classifiers_result():
    model = ResNet9(classes=10, width=4)
    outputs: list[torch.Tensor] = []
    model.classifier.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    logits = model(torch.randn(2, *COLOUR))
    assert torch.equal(8 * logits, outputs[0])  # powers of two are exact
    assert model.classifier.bias is None


@pytest.mark.parametrize("fused", [False, True])
def test_every_parameter_of_a_gpt_gets_a_gradient(fused):
    model = small_gpt(fused=fused)
    tokens = torch.arange(24).reshape(2, 12) % 19
    logits = model(tokens)
    assert logits.shape == (2, 12, 19)
    functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("fused", [False, True])
def test_later_tokens_do_not_influence_earlier_logits(fused):
    model = small_gpt(fused=fused).double().eval()
    tokens = torch.randint(19, (1, 12), generator=torch.Generator().manual_seed(1))
    logits = model(tokens)
    for place in range(12):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 19
        other = model(changed)
        assert torch.equal(other[:, :place], logits[:, :place])
        # The place itself and everything after it see the change.
        assert (other[:, place:] != logits[:, place:]).any(dim=-1).all()


def test_the_gradient_of_a_logit_reaches_no_later_position():
    model = small_gpt()
    model(torch.zeros(1, 12, dtype=torch.int64))[0, 4].sum().backward()
    reached = model.position_embedding.weight.grad.any(dim=1)
    assert reached.tolist() == [True] * 5 + [False] * 7


def attention_by_hand(q, k, v):
    """Attention from its definition, in float64, and the terms that its rounding is relative to."""
    T, d = q.shape
    attended, absolute, largest = np.zeros((T, d)), np.zeros((T, d)), 0.0
    for i in range(T):
        scores = np.array([q[i] @ k[j] / math.sqrt(d) for j in range(i + 1)])
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        attended[i] = weights @ v[: i + 1]
        absolute[i] = weights @ np.abs(v[: i + 1])
        largest = max(largest, *(np.abs(q[i]) @ np.abs(k[j]) / math.sqrt(d) for j in range(i + 1)))
    return attended, absolute, largest


def attention_ratio(got, q, k, v, u) -> Ratio:
    """Componentwise error of attention over its budget.

    A score is a sum of d products, scaled: its absolute error is at most (d + 2) u times S, the largest sum
    of absolute terms over sqrt(d). Shifted by their maximum, which doubles that, scores enter an exponential,
    so the same number is the relative error of a weight's numerator; a sum of at most T of them divides it,
    which doubles it again and adds T + 3 roundings (sum, exponential, quotient); the last product adds T.
    """
    attended, absolute, S = attention_by_hand(q, k, v)
    T, d = q.shape
    operations = math.ceil(4 * (d + 2) * S) + 2 * T + 3
    return recursion(got, attended, absolute, operations=operations, u=u)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_the_causal_softmax_average_up_to_rounding(fused, dtype):
    rng = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 9, 4, generator=rng, dtype=dtype)
    got = causal_attention(q, k, v, fused=fused)
    for n in range(2):
        for head in range(3):
            inputs = [x[n, head].double().numpy() for x in (q, k, v)]
            u = unit_roundoff(dtype)
            ratio = attention_ratio(got[n, head].double().numpy(), *inputs, u)
            assert ratio.passed, ratio
            # Controls: without the scale, and with a view of the future.
            wrong = causal_attention(2 * q, k, v, fused=fused)
            assert not attention_ratio(wrong[n, head].double().numpy(), *inputs, u).passed
            wrong = functional.scaled_dot_product_attention(q, k, v)
            assert not attention_ratio(wrong[n, head].double().numpy(), *inputs, u).passed


def gpt2_restated(weights, tokens, *, layers, heads):
    """GPT-2 from its description, on the weights by name, with torch's functions for each operation."""
    linear, norm = functional.linear, functional.layer_norm

    def layer(x, name):
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normed(x, name):
        return norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    places = torch.arange(tokens.shape[1])
    x = weights["token_embedding.weight"][tokens] + weights["position_embedding.weight"][places]
    for i in range(layers):
        mixed = layer(normed(x, f"blocks.{i}.attention_norm"), f"blocks.{i}.attention.inputs")
        width = x.shape[-1]
        q, k, v = (
            mixed[..., part * width : (part + 1) * width]
            .unflatten(-1, (heads, width // heads))
            .transpose(1, 2)
            for part in range(3)
        )
        together = causal_attention(q, k, v, fused=False).transpose(1, 2).flatten(2)
        x = x + layer(together, f"blocks.{i}.attention.output")
        wide = functional.gelu(
            layer(normed(x, f"blocks.{i}.perceptron_norm"), f"blocks.{i}.widen"), approximate="tanh"
        )
        x = x + layer(wide, f"blocks.{i}.narrow")
    return linear(normed(x, "final_norm"), weights["token_embedding.weight"])


def test_a_gpt_is_wired_as_gpt2_is():
    model = small_gpt().double()
    with torch.no_grad():
        for p in model.parameters():  # biases and norms too, so that none is left at 0 or 1
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype))
        tokens = torch.randint(19, (3, 12))
        expected = gpt2_restated(dict(model.named_parameters()), tokens, layers=2, heads=3)
        # The same operations on the same numbers in the same order: equal to the last bit.
        assert torch.equal(model(tokens), expected)


def test_head_and_token_embedding_are_one_parameter_and_stay_one():
    model = small_gpt()
    assert model.head.weight is model.token_embedding.weight
    assert "head.weight" not in dict(model.named_parameters())
    with torch.no_grad():
        model.head.weight.zero_()
    assert not model.token_embedding.weight.any()
    copy = small_gpt(seed=1)
    copy.load_state_dict(small_gpt(seed=2).state_dict())
    assert copy.head.weight is copy.token_embedding.weight
    assert torch.equal(copy.head.weight, small_gpt(seed=2).head.weight)


def test_weights_come_from_the_global_generator_alone():
    first, again, other = (list(small_gpt(seed=seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


#: Standard errors allowed to a measured deviation: exceeded by a normal variable once in 1e15 draws.
SIGMAS = 8


def test_weights_start_with_the_deviations_of_gpt2():
    torch.manual_seed(0)
    layers = 8
    model = GPT(vocabulary=500, context=100, layers=layers, heads=2, width=64)
    residual = 0.02 / math.sqrt(2 * layers)
    wanted = {"token_embedding.weight": 0.02, "position_embedding.weight": 0.01}
    for i in range(layers):
        wanted |= {f"blocks.{i}.attention.inputs.weight": 0.02, f"blocks.{i}.widen.weight": 0.02}
        wanted |= {f"blocks.{i}.attention.output.weight": residual, f"blocks.{i}.narrow.weight": residual}
    for name, p in model.named_parameters():
        if name in wanted:
            # The mean square of N normal numbers has the standard error sqrt(2 / N), relative.
            square = p.square().double().mean().item() / wanted[name] ** 2
            assert Ratio(name, abs(square - 1), SIGMAS * math.sqrt(2 / p.numel())).passed, name
        elif name.endswith("bias"):
            assert not p.any(), name
        else:
            assert (p == 1).all(), name


def test_the_unfused_model_can_be_differentiated_twice():
    model = small_gpt()
    tokens = torch.arange(12)[None] % 19
    loss = functional.cross_entropy(model(tokens)[0], tokens[0])
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    twice = torch.autograd.grad(sum(g.square().sum() for g in gradients), parameters)
    assert all(g.isfinite().all() and g.any() for g in twice)


def test_a_window_that_is_too_long_and_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at most 12 tokens, got 13"):
        small_gpt()(torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(ValueError, match="5 heads for 12"):
        GPT(vocabulary=2, context=2, layers=1, heads=5, width=12)

"""Which parameters go to the matrix method, why, and what a user can say against it."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.utils import parametrizations
from torch.testing._internal.distributed.fake_pg import FakeStore

from torch_impl import FISMO
from torch_impl.split import split_parameters


def where(model, **options):
    split = split_parameters(model, verbose=False, **options)
    names = {
        "matrices": [name for name, _ in split.matrices],
        "others": [name for name, _ in split.others],
        "frozen": [name for name, _ in split.frozen],
    }
    return names, split.reasons


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


class Transformer(nn.Module):
    """A language model whose head is tied to its embedding."""

    def __init__(self, tied=True):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(11, 4), nn.Embedding(6, 4)
        self.pos_embed = nn.Parameter(torch.zeros(6, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, enable_nested_tensor=False
        )
        self.decoder = nn.Linear(4, 11, bias=False)
        if tied:
            self.decoder.weight = self.wte.weight


class Convolutional(nn.Module):
    """In the manner of torchvision: features, a numbered classifier, depthwise kernels."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 8, 3),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.GroupNorm(2, 8),
        )
        self.classifier = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))


# ---- the rule ---------------------------------------------------------------------------------------------


def test_hidden_matrices_go_to_the_method_and_the_rest_elsewhere():
    names, reasons = where(network())
    assert names["matrices"] == ["0.weight", "2.weight"]
    assert names["others"] == ["0.bias", "1.weight", "1.bias", "2.bias", "4.weight", "4.bias"]
    assert reasons["4.weight"] == "head: the last linear layer"
    assert reasons["1.weight"] == "normalisation (LayerNorm)"
    assert reasons["0.bias"] == "vector"


def test_embeddings_and_what_is_tied_to_them_are_no_matrices():
    names, reasons = where(Transformer())
    assert {name.split(".")[-1] for name in names["matrices"]} == {"in_proj_weight", "weight"}
    assert len(names["matrices"]) == 2 * 4  # per block: projections in and out, two of the feed-forward part
    assert reasons["wte.weight"] == "embedding, tied to decoder.weight"
    assert reasons["wpe.weight"] == "embedding"
    assert reasons["pos_embed"] == "embedding, by its name 'pos_embed'"
    assert reasons["cls_token"] == "embedding, by its name 'cls_token'"
    assert "decoder.weight" not in reasons  # the tied weight appears once


def test_what_is_no_matrix_keeps_its_reason_when_it_is_the_head_as_well():
    tied = nn.ModuleDict({"wte": nn.Embedding(5, 4), "lm_head": nn.Linear(4, 5), "body": nn.Linear(4, 4)})
    tied["lm_head"].weight = tied["wte"].weight
    assert where(tied)[1]["wte.weight"] == "embedding, tied to lm_head.weight"
    assert where(nn.Sequential(nn.Linear(4, 1)))[1]["0.weight"] == "vector (1 x 4)"


def test_an_untied_head_is_the_last_linear_layer():
    names, reasons = where(Transformer(tied=False))
    assert "decoder.weight" in names["others"]
    assert reasons["decoder.weight"] == "head: the last linear layer"
    assert reasons["wte.weight"] == "embedding"


def test_kernels_count_as_matrices_unless_they_have_one_channel():
    names, reasons = where(Convolutional())
    assert names["matrices"] == ["features.2.weight", "classifier.0.weight"]
    assert reasons["features.0.weight"] == "kernel of one channel (Conv2d)"
    assert reasons["features.2.weight"] == "kernel as 8 x 54 (Conv2d)"
    assert reasons["features.3.weight"] == "kernel of one channel (Conv2d)"
    assert reasons["features.1.weight"] == "normalisation (BatchNorm2d)"
    assert reasons["classifier.2.weight"] == "head, by its name 'classifier'"


@pytest.mark.parametrize(
    ("modules", "heads"),
    [
        ({"fc1": (4, 4), "fc2": (4, 3)}, {"fc2"}),  # no name: the last one
        ({"fc": (4, 3), "extra": (4, 4)}, {"fc"}),  # a name beats the order
        ({"lm_head": (4, 9), "body": (4, 4)}, {"lm_head"}),
        ({"score": (4, 2), "head": (4, 3), "body": (4, 4)}, {"score", "head"}),  # two heads
        ({"body": (4, 4), "out": (4, 1)}, {"out"}),  # a head of one output is no matrix, but it is the head
    ],
)
def test_the_head_is_found_by_name_or_order(modules, heads):
    model = nn.ModuleDict({name: nn.Linear(*shape) for name, shape in modules.items()})
    names, _ = where(model)
    assert {name.removesuffix(".weight") for name in names["matrices"]} == modules.keys() - heads


def test_names_of_heads_inside_numbered_blocks_mean_nothing():
    block = nn.ModuleDict({"output": nn.Linear(4, 4), "fc": nn.Linear(4, 4)})
    names, _ = where(nn.ModuleDict({"layers": nn.ModuleList([block]), "last": nn.Linear(4, 3)}))
    assert names["matrices"] == ["layers.0.output.weight", "layers.0.fc.weight"]


def test_a_fully_convolutional_model_ends_in_a_convolution():
    names, reasons = where(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)))
    assert names["matrices"] == ["0.weight"]
    assert reasons["1.weight"] == "head: the last convolution"


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        (torch.zeros(()), "scalar"),
        (torch.zeros(5), "vector"),
        (torch.zeros(1, 5), "vector (1 x 5)"),
        (torch.zeros(5, 1), "vector (5 x 1)"),
        (torch.zeros(0, 5), "vector (0 x 5)"),
        (torch.zeros(3, 4, dtype=torch.complex64), "not real (torch.complex64)"),
        (torch.zeros(2, 3, 4), "3 dimensions, and no convolution kernel (Raw)"),
    ],
)
def test_raw_parameters_that_are_no_matrices(parameter, reason):
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(parameter)

    names, reasons = where(Raw())
    assert (names["others"], reasons["gate"]) == (["gate"], reason)


def test_two_dimensional_scales_of_a_normalisation_are_no_matrices():
    class OddNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3, 4))

    for model in (nn.LayerNorm((3, 4)), OddNorm()):
        names, _ = where(model)
        assert not names["matrices"]


def test_recurrent_weights_are_matrices():
    names, _ = where(nn.ModuleDict({"rnn": nn.LSTM(4, 5), "head": nn.Linear(5, 2)}))
    assert names["matrices"] == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]


def test_weights_of_transposed_shape_are_matrices_as_well():
    class Conv1D(nn.Module):  # what transformers calls a linear layer with weights (in, out)
        def __init__(self, out, into):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.zeros(into, out)), nn.Parameter(torch.zeros(out))

    names, reasons = where(nn.Sequential(Conv1D(6, 4), Conv1D(3, 6)))
    assert names["matrices"] == ["0.weight"]
    assert reasons["1.weight"] == "head: the last linear layer"


def test_parametrized_weights_belong_to_the_layer_they_make():
    model = network()
    parametrizations.weight_norm(model[0])
    parametrizations.orthogonal(model[2])
    parametrizations.spectral_norm(model[4])
    names, reasons = where(model)
    assert names["matrices"] == [
        "0.parametrizations.weight.original1",
        "2.parametrizations.weight.original",
    ]
    assert reasons["2.parametrizations.weight.original"] == "matrix (Linear)"
    assert reasons["0.parametrizations.weight.original0"] == "vector (8 x 1)"
    assert reasons["4.parametrizations.weight.original"] == "head: the last linear layer"


def test_frozen_parameters_go_nowhere_and_a_frozen_head_remains_the_head():
    model = network()
    model[4].requires_grad_(False)
    names, reasons = where(model)
    assert names["frozen"] == ["4.weight", "4.bias"]
    assert names["matrices"] == ["0.weight", "2.weight"]
    assert reasons["4.weight"] == "needs no gradient"


# ---- models of every kind ---------------------------------------------------------------------------------


def test_every_trainable_parameter_is_somewhere_once():
    for model in (network(), Transformer(), Convolutional()):
        split = split_parameters(model, verbose=False)
        given = [p for _, p in split.matrices + split.others]
        assert {id(p) for p in given} == {id(p) for p in model.parameters()}
        assert len(given) == len(list(model.parameters()))
        assert set(split.reasons) == {name for name, _ in model.named_parameters()}


def test_a_meta_model_splits_as_a_real_one():
    with torch.device("meta"):
        empty = Transformer()
    assert where(empty) == where(Transformer())


@pytest.fixture
def mesh():
    """Four processes, of which this is the first and the others do not exist."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


@pytest.mark.parametrize("dimension", [0, 1])
def test_sharded_parameters_count_by_their_global_shape(mesh, dimension):
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    for layer in model:
        layer.weight = nn.Parameter(distribute_tensor(layer.weight, mesh, [Shard(dimension)]))
    assert model[0].weight.to_local().shape[dimension] == 1
    assert where(model)[0] == {"matrices": ["0.weight"], "others": ["1.weight"], "frozen": []}


def test_a_compiled_model_splits_as_the_model():
    names, _ = where(torch.compile(network(), backend="eager"))
    assert names["matrices"] == ["_orig_mod.0.weight", "_orig_mod.2.weight"]


def test_lazy_parameters_are_refused_until_they_have_a_shape():
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"lazy parameter '0.weight': run it once"):
        split_parameters(model, verbose=False)
    model(torch.zeros(1, 3))
    assert where(model)[0]["matrices"] == ["0.weight"]


def test_a_model_without_parameters_gives_empty_lists():
    names, reasons = where(nn.ReLU())
    assert (names, reasons) == ({"matrices": [], "others": [], "frozen": []}, {})


def test_the_lists_are_what_optimizers_take():
    model = network()
    split = split_parameters(model, verbose=False)
    before = copy.deepcopy(model.state_dict())
    optimizers = [FISMO(split.matrices, lr=0.1), torch.optim.AdamW(split.others, lr=0.1)]
    assert optimizers[0].param_groups[0]["param_names"] == ["0.weight", "2.weight"]
    model(torch.randn(5, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ---- overrides --------------------------------------------------------------------------------------------


def test_patterns_override_the_rule_and_the_last_match_decides():
    names, reasons = where(network(), overrides={"*.weight": "others", "4.*t": "matrices"})
    assert names["matrices"] == ["4.weight"]
    assert reasons["0.weight"] == "override '*.weight'"
    assert reasons["4.weight"] == "override '4.*t'"


def test_a_function_overrides_the_rule():
    seen = []

    def choose(name, parameter):
        seen.append((name, parameter.ndim))
        return "others" if name == "0.weight" else None

    names, reasons = where(network(), overrides=choose)
    assert names["matrices"] == ["2.weight"]
    assert reasons["0.weight"] == "override"
    assert ("1.bias", 1) in seen


def test_any_name_of_a_tied_parameter_will_do():
    names, _ = where(Transformer(), overrides={"decoder.weight": "matrices"})
    assert "wte.weight" in names["matrices"]


def test_overrides_leave_frozen_parameters_alone():
    model = network()
    model[0].requires_grad_(False)
    assert where(model, overrides={"0.*": "matrices"})[0]["frozen"] == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"0.wieght": "others"}, ValueError, r"got '0.wieght'; near are 0.weight"),
        ({"*.kernel": "others"}, ValueError, r"must match a parameter, got '\*.kernel'"),
        ({"0.weight": "muon"}, ValueError, "must say 'matrices' or 'others', got 'muon' for '0.weight'"),
        ({"0.bias": "matrices"}, ValueError, r"got '0.bias' of shape \(8,\)"),
        (lambda name, parameter: 1, ValueError, "must say 'matrices' or 'others', got 1"),
        ("0.weight", TypeError, "must be a mapping or a function, got str"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(overrides, error, message):
    with pytest.raises(error, match=message):
        split_parameters(network(), overrides=overrides, verbose=False)


# ---- the table --------------------------------------------------------------------------------------------


def test_the_table_is_printed_unless_told_otherwise(capsys):
    split = split_parameters(network())
    assert capsys.readouterr().out == f"{split}\n"
    split_parameters(network(), verbose=False)
    assert capsys.readouterr().out == ""


def test_the_table_says_where_and_why_and_draws_equal_blocks_together():
    lines = str(split_parameters(Transformer(), verbose=False)).splitlines()
    assert lines[0].split() == ["parameter", "number", "shape", "goes", "to", "because"]
    row = next(line for line in lines if "linear1.weight" in line)
    assert row.split() == [
        *("blocks.layers.{0,1}.linear1.weight", "2", "8", "x", "4", "matrices", "matrix", "(Linear)"),
    ]
    assert lines[-1].startswith("matrices: 8 with 256 entries; others: ")


def test_equal_lines_are_drawn_together_by_their_numbers():
    model = nn.Sequential(*(nn.Linear(4, 4, bias=index == 2) for index in range(6)))
    names = [line.split()[0] for line in str(split_parameters(model, verbose=False)).splitlines()[1:-1]]
    assert names == ["{0..4}.weight", "2.bias", "5.weight"]
    alone = str(split_parameters(model, overrides={"2.weight": "others"}, verbose=False))
    assert "\n{0,1,3,4}.weight  4 " in alone
    assert "\n2.weight " in alone


def test_the_short_form_shows_no_tensors():
    assert (
        repr(split_parameters(network(), verbose=False))
        == "ParameterSplit(matrices: 2 with 96 entries, others: 6 with 59 entries)"
    )

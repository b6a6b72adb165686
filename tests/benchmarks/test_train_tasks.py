"""Tasks by name: what they promise to those who train on them."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.train import metrics
from benchmarks.train.data import bpe, stdlib
from benchmarks.train.language import BPE_BYTES, BPE_VOCABULARY, STDLIB_BYTES
from benchmarks.train.tasks import TASKS, Task, task
from proofs_checks.ratios import recursion, unit_roundoff
from tests.benchmarks.published_files import SETS, write_cifar, write_svhn, write_tokens

AT_HAND = ["digits", "digits-conv", "stdlib-lm", "stdlib-lm-bpe"]
FROM_FILES = [name for name in TASKS if name not in AT_HAND]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with small files of every published data set."""
    folder = tmp_path_factory.mktemp("published")
    for this in SETS.values():
        write_cifar(folder, this, binary=False, packed=False)
    write_svhn(folder)
    rng = np.random.default_rng(0)
    write_tokens(folder, train=rng.integers(50257, size=3000), val=rng.integers(50257, size=3000))
    return folder


@pytest.fixture(params=TASKS)
def any_task(request, published) -> Task:
    return task(request.param, data_dir=published)


def test_a_task_says_what_a_record_needs(any_task):
    for word in ("source", "train", "validation", "test", "batch", "model", "parameters"):
        assert any_task.facts[word], word
        assert str(any_task.facts[word]) in any_task.description, word
    assert any_task.steps > 0
    if any_task.name != "tokens":  # too large to be read completely
        assert any_task.facts["sha256"] in any_task.description


def test_one_step_of_training_changes_every_parameter(any_task):
    torch.manual_seed(0)
    model = any_task.model()
    before = [p.clone() for p in model.parameters()]
    assert sum(p.numel() for p in before) == any_task.facts["parameters"]
    loss = any_task.loss(model, next(any_task.batches(torch.Generator().manual_seed(0))))
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not [p for p, q in zip(before, model.parameters(), strict=True) if torch.equal(p, q)]


def test_batches_are_endless_and_the_same_for_the_same_seed(any_task):
    def drawn(seed):
        return list(islice(any_task.batches(torch.Generator().manual_seed(seed)), 4))

    first = drawn(0)
    again = drawn(0)
    assert all(torch.equal(x, z) and torch.equal(y, w) for (x, y), (z, w) in zip(first, again, strict=True))
    assert not all(torch.equal(x, z) for (x, _), (z, _) in zip(first, drawn(1), strict=True))


def test_judging_leaves_the_model_as_it_was_and_needs_no_gradient(any_task):
    torch.manual_seed(0)
    model = any_task.model()
    first = next(model.children())
    first.eval()  # a frozen part stays frozen
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    figures = any_task.evaluate(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert any_task.evaluate(model) == figures
    assert any_task.headline in figures
    assert any_task.test(model).keys() == figures.keys()
    assert any_task.test(model) != figures
    assert all(math.isfinite(value) for value in figures.values())
    assert any_task.better == ("higher" if any_task.headline == "accuracy" else "lower")


@pytest.mark.parametrize("name", TASKS)
def test_full_size_tasks_have_the_published_models(published, name):
    full = task(name, data_dir=published, size="full")
    # Where only the name of the data is given, the model is the one of SOFIM's paper.
    sizes = {"lenet5": 62_006, "resnet9": 6_573_120, "resnet18": 11_173_962, "simpledla": 15_142_970}
    wider = {"lenet5": 90 * 85, "resnet9": 90 * 512, "resnet18": 90 * 513, "simpledla": 90 * 513}
    plain = {"cifar10": "lenet5", "cifar100": "resnet9", "svhn": "resnet9"}
    data, _, model = name.partition("-")
    if data in plain:
        model = model or plain[data]
        assert full.facts["parameters"] == sizes[model] + (wider[model] if data == "cifar100" else 0)
    elif name == "tokens":
        assert full.facts["parameters"] == 124_439_808
    else:
        assert full.steps > task(name).steps


class Fixed(nn.Module):
    """Logits that do not depend on the input."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, x):
        return self.logits.expand(*x.shape, -1)


def test_figures_are_means_over_all_examples_however_they_are_divided():
    model = Fixed([0.0, math.log(3.0)])  # probabilities 1/4 and 3/4
    labels = torch.tensor([0, 1, 1, 1, 0])
    nats = (2 * math.log(4.0) + 3 * math.log(4.0 / 3.0)) / 5
    for parts in ([5], [2, 3], [1, 1, 3]):
        batches = [(chunk, chunk) for chunk in labels.split(parts)]
        found = metrics.classification(model, batches)
        assert found["accuracy"] == 3 / 5
        # Logarithms of each example, their sum and the mean: at most 20 roundings, of terms of the same sign.
        assert recursion(found["loss"], nats, nats, operations=20, u=unit_roundoff("float64")).passed


def test_bits_per_byte_count_bytes_and_perplexity_is_the_exponential():
    model = Fixed([0.0] * 8)  # three bits a token
    windows = [(torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.int64))]
    u = unit_roundoff("float64")
    by_byte = metrics.language(model, windows, size=20)
    assert recursion(by_byte["bits_per_byte"], 1.5, 1.5, operations=20, u=u).passed
    plain = metrics.language(model, windows)
    # The exponential turns the absolute error of the loss, 20 u log 8, into a relative one.
    assert recursion(plain["perplexity"], 8.0, 8.0, operations=20 * math.ceil(math.log(8)) + 1, u=u).passed


@pytest.mark.parametrize("part", ["validation", "test"])
def test_bits_per_byte_of_byte_pairs_count_the_bytes_of_the_predicted_tokens(part):
    this, context = task("stdlib-lm-bpe"), 64
    corpus = stdlib.corpus(**STDLIB_BYTES["small"])
    tokenizer = bpe.learn(corpus.train[:BPE_BYTES], vocabulary=BPE_VOCABULARY)
    ids = tokenizer.encode(getattr(corpus, part))
    predicted = ids[1 : (len(ids) - 1) // context * context + 1]
    text = tokenizer.decode(predicted)
    knows_nothing = Fixed([0.0] * BPE_VOCABULARY)
    found = (this.evaluate if part == "validation" else this.test)(knows_nothing)["bits_per_byte"]
    bits = math.log2(BPE_VOCABULARY) * len(predicted)
    # Each token and their sum: fewer roundings than tokens and 20 more, all of terms of one sign.
    u = unit_roundoff("float64")
    ratio = recursion(found, bits / len(text), bits / len(text), operations=len(predicted) + 20, u=u)
    assert ratio.passed, ratio


def test_a_model_that_diverged_has_figures_that_say_so():
    windows = [(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[0, 1]]))]
    diverged = metrics.language(Fixed([1e6, 0.0]), windows)
    assert diverged["perplexity"] == math.inf
    assert math.isnan(metrics.language(Fixed([math.nan, 0.0]), windows)["loss"])
    assert math.isnan(metrics.classification(Fixed([math.nan, 0.0]), windows)["loss"])


def test_the_small_byte_model_starts_at_eight_bits_a_byte_and_learns():
    lm = task("stdlib-lm")
    torch.manual_seed(0)
    model = lm.model()
    start = lm.evaluate(model)["bits_per_byte"]
    assert round(start) == 8  # weights near 0 know nothing of the 256 bytes
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for batch in islice(lm.batches(torch.Generator().manual_seed(0)), 30):
        optimizer.zero_grad()
        lm.loss(model, batch).backward()
        optimizer.step()
    assert math.floor(lm.evaluate(model)["bits_per_byte"]) in range(1, round(start) - 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", AT_HAND)
def test_batches_follow_the_dtype_of_the_model(name, dtype):
    this = task(name)
    model = this.model().to(dtype)
    loss = this.loss(model, next(this.batches(torch.Generator().manual_seed(0))))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.isfinite()


def test_unknown_names_and_missing_folders_are_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of digits, .*got 'mnist'"):
        task("mnist")
    with pytest.raises(ValueError, match="small or full, got 'huge'"):
        task("digits", size="huge")
    for name in FROM_FILES:
        with pytest.raises(FileNotFoundError, match=f"{name} needs data_dir"):
            task(name)
        with pytest.raises(FileNotFoundError, match=r"put .* there"):
            task(name, data_dir=str(tmp_path))


def test_a_task_reads_its_data_once(published):
    first, second = task("cifar10", data_dir=published), task("cifar10-resnet18", data_dir=published)
    assert first.batches.args[0] is second.batches.args[0]


def test_the_token_task_predicts_the_files_it_was_given(published):
    inputs, targets = next(task("tokens", data_dir=published).batches(torch.Generator().manual_seed(0)))
    stream = np.fromfile(published / "train.bin", dtype="<u2").tolist()
    where = stream.index(inputs[0, 0].item())
    assert stream[where : where + 64] == inputs[0].tolist()
    assert stream[where + 1 : where + 65] == targets[0].tolist()

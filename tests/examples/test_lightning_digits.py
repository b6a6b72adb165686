"""FISMO with AdamW, and AdaFisher, under Lightning: they learn, and resume from Lightning's checkpoints."""

import pytest
import torch

from examples.plain_loop import accuracy, digits
from tests.examples.extra import ecosystem
from tests.examples.test_plain_loop import REQUIRED_ACCURACY
from tests.torch_impl.optimizer_cases import same

pytestmark = [
    # Lightning warns of what it uses of PyTorch, and where there are more cores, of loading with one.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers:UserWarning"),
]

METHODS = pytest.mark.parametrize("method", ["fismo", "adafisher"])

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def example():
    ecosystem("lightning")
    (module,) = ecosystem("examples.lightning_digits")
    return module


@METHODS
def test_it_learns_under_lightning(example, method, tmp_path):
    module = example.train(method, epochs=3, default_root_dir=tmp_path, enable_checkpointing=False, **QUIET)
    _, _, images, labels = digits()
    assert accuracy(module.net, images, labels) > REQUIRED_ACCURACY


# Lightning's warning that the resumed run saves elsewhere, which keeps the first run's files out of it.
@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@METHODS
def test_a_run_resumed_by_lightning_is_the_run(example, method, tmp_path):
    whole, first = run_of_two(example, method, tmp_path)
    resumed = example.train(
        method, epochs=2, resume=str(first), default_root_dir=tmp_path / "resumed", **QUIET
    )
    assert same(dict(resumed.net.state_dict()), dict(whole.net.state_dict()))
    assert not same(torch.load(first, weights_only=True)["state_dict"], dict(whole.state_dict()))


def run_of_two(example, method, folder):
    """What two epochs of training made, and the checkpoint after the first."""
    (callbacks,) = ecosystem("lightning.pytorch.callbacks")
    every = callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trained = example.train(method, epochs=2, callbacks=[every], default_root_dir=folder, **QUIET)
    (first,) = folder.glob("epoch=0*")
    return trained, first


def test_lightnings_checkpoint_holds_both_optimizers_as_one(example, tmp_path):
    _, first = run_of_two(example, "fismo", tmp_path)
    (saved,) = torch.load(first, weights_only=True)["optimizer_states"]
    assert [len(group["params"]) for group in saved["param_groups"]] == [3, 13]
    assert set(saved["state"]) == set(range(16))
    assert set(saved["state"][0]) >= {"P", "Q", "M"}
    assert "exp_avg" in saved["state"][15]

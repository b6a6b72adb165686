"""The plain loop learns, with every precision, and resumes as if it had not stopped."""

import pytest
import torch

from examples.plain_loop import main, train
from tests.torch_impl.optimizer_cases import same

#: Share of unseen digits that must be recognised; a requirement on the example, not a measurement.
REQUIRED_ACCURACY = 0.95


def test_it_learns_and_prints_what_went_where(capsys):
    _, accuracy = main(["--epochs", "3"])
    assert accuracy > REQUIRED_ACCURACY
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed.splitlines() if "matrices  kernel" in line)
    assert " ".join(row) == "{3,6}.weight 2 16 x 16 x 3 x 3 matrices kernel as 16 x 144 (Conv2d)"
    assert printed.count("accuracy") == 3


def test_the_control_untrained_recognises_little():
    _, accuracy = train(epochs=3, until=0, verbose=False)
    assert accuracy < REQUIRED_ACCURACY


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_resumed_run_is_the_run(tmp_path, dtype):
    whole, path = tmp_path / "whole.pt", tmp_path / "resumed.pt"
    train(epochs=2, dtype=dtype, checkpoint=whole, verbose=False)
    train(epochs=2, until=1, dtype=dtype, checkpoint=path, verbose=False)
    assert not same(read(path), read(whole))  # the control: one epoch is not two
    train(epochs=2, dtype=dtype, checkpoint=path, resume=True, verbose=False)
    assert same(read(path), read(whole))


def read(path):
    """All that is in a checkpoint: model, both optimizers, scheduler, scaler, order of the batches."""
    return torch.load(path, weights_only=True)

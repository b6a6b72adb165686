"""FISMO with AdamW under the Hugging Face Trainer: it learns, and resumes from the Trainer's checkpoints."""

import pytest

from tests.examples.extra import ecosystem
from tests.torch_impl.optimizer_cases import same

#: What must be left of the first loss after training; a requirement on the example, not a measurement.
REQUIRED_SHARE = 0.5

QUIET = {"disable_tqdm": True, "use_cpu": True}


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ecosystem("transformers", "accelerate")
    (module,) = ecosystem("examples.huggingface_trainer")
    return module


def parameters(trainer):
    return {name: p.detach() for name, p in trainer.model.named_parameters()}


def test_it_learns_and_resumes_under_the_trainer(example, tmp_path):
    whole = example.trainer(tmp_path, save_steps=example.STEPS // 2, **QUIET)
    whole.train()
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert len(losses) == example.STEPS
    assert losses[-1] < REQUIRED_SHARE * losses[0]
    rates = [entry["learning_rate"] for entry in whole.state.log_history if "learning_rate" in entry]
    assert rates == sorted(rates, reverse=True)

    resumed = example.trainer(tmp_path, save_strategy="no", **QUIET)
    assert not same(parameters(resumed), parameters(whole))
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{example.STEPS // 2}"))
    assert same(parameters(resumed), parameters(whole))
    assert same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())


def test_the_trainer_steps_every_parameter_with_the_optimizer_it_was_given(example, tmp_path):
    trainer = example.trainer(tmp_path, save_strategy="no", **QUIET)
    matrices, others = (
        [name for group in child.param_groups for name in group["param_names"]]
        for child in trainer.optimizer.optimizers
    )
    names = [name for name, _ in trainer.model.named_parameters()]
    assert sorted(matrices + others) == sorted(names)
    assert all(name.startswith("transformer.h.") for name in matrices)
    assert len(matrices) == 2 * 4
    assert "transformer.wte.weight" in others  # which is the head as well

"""FISMO with AdamW in the Hugging Face Trainer: a small GPT-2 learns to count, without any download.

Run it with ``python -m examples.huggingface_trainer``. Needs the extra ``ecosystem``.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here comes from the hub

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from torch_impl import FISMO, Composite, split_parameters

VOCABULARY, LENGTH, STEPS = 32, 16, 40


class Counting(Dataset[dict[str, Tensor]]):
    """Sequences that count up by one, two or three, modulo the size of the vocabulary."""

    def __len__(self) -> int:
        return 3 * VOCABULARY

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        start, step = index % VOCABULARY, 1 + index // VOCABULARY
        tokens = (start + step * torch.arange(LENGTH)) % VOCABULARY
        return {"input_ids": tokens, "labels": tokens}


def model() -> GPT2LMHeadModel:
    """A GPT-2 with random weights, from a configuration."""
    set_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            n_embd=32,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            loss_type="ForCausalLM",
        )
    )


def trainer(folder: Path, **options: Any) -> Trainer:
    """A Trainer that steps both optimizers as one, with a scheduler of torch; `options` are its arguments."""
    gpt2 = model()
    split = split_parameters(gpt2, verbose=False)  # the blocks' matrices; embeddings and the tied head apart
    optimizer = Composite(
        [
            FISMO(split.matrices, lr=0.1),
            torch.optim.AdamW(split.others, lr=3e-2),
        ]
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=16,
        logging_steps=1,
        report_to="none",
        **options,
    )
    return Trainer(gpt2, arguments, train_dataset=Counting(), optimizers=(optimizer, scheduler))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trainer(Path(folder), save_strategy="no").train()

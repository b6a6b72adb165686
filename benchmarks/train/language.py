"""Tasks that predict the next token: Python's own library, and files of GPT-2 tokens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.train import metrics
from benchmarks.train.data import bpe, stdlib, tokens
from benchmarks.train.data.batches import Batch, Tokens, all_windows, window_batches
from benchmarks.train.models import GPT, gpt2
from benchmarks.train.models.gpt import GPT2_VOCABULARY
from benchmarks.train.task import Size, Task, describe_model

__all__ = ["BPE_BYTES", "BPE_VOCABULARY", "STDLIB_BYTES", "stdlib_task", "token_task"]

#: Tokens of the byte-pair variant, and the bytes of training text they are learnt from.
BPE_VOCABULARY, BPE_BYTES = 1024, 2**20


@dataclass(frozen=True)
class _Setting:
    """Windows of `context` tokens, `batch` of them a step; judged by at most `judged` windows."""

    context: int
    batch: int
    steps: int
    judged: int


#: Bytes of library source in each part.
STDLIB_BYTES: dict[Size, dict[str, int]] = {
    "small": {"train": 2**20, "validation": 2**15, "test": 2**16},
    "full": {"train": 6 * 2**20, "validation": 2**18, "test": 2**18},
}

#: Every window of the held-out text is judged: there are fewer than bytes.
STDLIB: dict[Size, _Setting] = {
    "small": _Setting(context=64, batch=16, steps=300, judged=2**18),
    "full": _Setting(context=256, batch=64, steps=5000, judged=2**18),
}

#: Small: seconds a run on one core. Full: the model size and window of nanoGPT's example on characters.
STDLIB_MODELS: dict[Size, dict[str, int]] = {
    "small": {"layers": 3, "heads": 4, "width": 64},
    "full": {"layers": 6, "heads": 6, "width": 384},
}

#: Small: the same vocabulary, for a CPU. Full: GPT-2 124M; batch and steps are ours, for one GPU, and far
#: below nanoGPT's reproduction, 600 000 steps of half a million tokens.
TOKENS: dict[Size, _Setting] = {
    "small": _Setting(context=64, batch=8, steps=200, judged=64),
    "full": _Setting(context=1024, batch=16, steps=10_000, judged=128),
}


@dataclass(frozen=True)
class _Text:
    """Three streams of tokens, the number of bytes that each token stands for if known, and facts.

    `what` says what is predicted, `unit` in what the facts count the parts.
    """

    train: Tokens
    validation: Tokens
    test: Tokens
    vocabulary: int
    lengths: Tokens | None
    facts: dict[str, str | int]
    what: str
    unit: str


def stdlib_task(name: str, *, byte_pairs: bool, size: Size) -> Task:
    """A language model of the source text of the Python standard library.

    Parameters
    ----------
    name : str
    byte_pairs : bool
        Predict tokens of a byte-pair encoding learnt from the training text, in place of bytes.
    size : "small" or "full"
    """
    setting, text = STDLIB[size], _library(byte_pairs, size)
    model = partial(GPT, vocabulary=text.vocabulary, context=setting.context, **STDLIB_MODELS[size])
    return _task(name, model, text, setting)


@lru_cache(maxsize=4)
def _library(byte_pairs: bool, size: Size) -> _Text:
    corpus = stdlib.corpus(**STDLIB_BYTES[size])
    facts, texts = dict(corpus.facts), [corpus.train, corpus.validation, corpus.test]
    if not byte_pairs:
        streams = [np.frombuffer(text, dtype=np.uint8) for text in texts]
        return _Text(*streams, bpe.BYTES, np.ones(bpe.BYTES, dtype=np.int64), facts, "byte", "bytes")
    tokenizer = bpe.learn(corpus.train[:BPE_BYTES], vocabulary=BPE_VOCABULARY)
    lengths = np.array([len(token) for token in tokenizer.tokens])
    facts["tokenizer"] = (
        f"byte-pair encoding of {len(lengths)} tokens learnt from the first {BPE_BYTES} training bytes"
    )
    streams = [tokenizer.encode(text) for text in texts]
    return _Text(*streams, len(lengths), lengths, facts, f"byte-pair token of {len(lengths)}", "bytes")


def token_task(name: str, *, size: Size, data_dir: Path) -> Task:
    """A language model of files of GPT-2 tokens; in the full size GPT-2 124M.

    The full model uses fused attention and can be differentiated once only.

    Raises
    ------
    FileNotFoundError, ValueError
        If the files are missing or too short. A token out of the vocabulary is found when it is read.
    """
    setting = TOKENS[size]
    streams = tokens.load(data_dir, context=setting.context)
    facts: dict[str, str | int] = {
        "source": f"GPT-2 token files: {streams.source}",
        "train": len(streams.train),
        "validation": len(streams.validation),
        "test": len(streams.test),
    }
    parts = (streams.train, streams.validation, streams.test)
    text = _Text(*parts, GPT2_VOCABULARY, None, facts, "GPT-2 token", "tokens")
    small = partial(GPT, vocabulary=GPT2_VOCABULARY, context=setting.context, layers=2, heads=4, width=64)
    return _task(name, small if size == "small" else gpt2, text, setting)


def _task(name: str, model: Callable[[], nn.Module], text: _Text, setting: _Setting) -> Task:
    def batches(generator: torch.Generator) -> Iterator[Batch]:
        return window_batches(
            text.train,
            generator,
            batch=setting.batch,
            context=setting.context,
            vocabulary=text.vocabulary,
        )

    def judge(stream: Tokens, size: int | None, trained: nn.Module) -> dict[str, float]:
        held_out = all_windows(
            stream,
            count=setting.judged,
            batch=setting.batch,
            context=setting.context,
            vocabulary=text.vocabulary,
        )
        return metrics.language(trained, held_out, size=size)

    facts = {
        **text.facts,
        "batch": setting.batch,
        "context": setting.context,
        **describe_model(model),
    }
    told = {"SHA-256": "sha256", "tokens:": "tokenizer"}
    more = "".join(f"; {word} {facts[key]}" for word, key in told.items() if key in facts)
    return Task(
        name=name,
        kind="language",
        model=model,
        batches=batches,
        loss=metrics.loss,
        evaluate=partial(judge, text.validation, _predicted_bytes(text, text.validation, setting)),
        test=partial(judge, text.test, _predicted_bytes(text, text.test, setting)),
        steps=setting.steps,
        headline="loss" if text.lengths is None else "bits_per_byte",
        better="lower",
        description=(
            f"next {text.what}; {facts['model']} of {facts['parameters']} parameters. "
            f"{facts['train']} {text.unit} for training, {facts['validation']} for validation, "
            f"{facts['test']} for test; batch {setting.batch} windows of {setting.context} tokens. "
            f"Data: {facts['source']}{more}"
        ),
        facts=facts,
    )


def _predicted_bytes(text: _Text, stream: Tokens, setting: _Setting) -> int | None:
    """Bytes of the tokens that are predicted in the windows of a stream, if known."""
    if text.lengths is None:
        return None
    count = min(setting.judged, (len(stream) - 1) // setting.context)
    return int(text.lengths[stream[1 : count * setting.context + 1]].sum())

"""The library's text, byte pairs, token files, and windows on them."""

from itertools import islice, pairwise
from string import ascii_lowercase, ascii_uppercase

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.train.data import bpe, stdlib, tokens
from benchmarks.train.data.batches import all_windows, window_batches, windows
from tests.benchmarks.published_files import write_tokens

SIZES = {"train": 4000, "validation": 300, "test": 500}


@pytest.fixture
def library(tmp_path):
    """A small library with files that do not belong to it."""
    own = {f"{name}.py": f"# {name}\n".encode() * 200 for name in ascii_lowercase}
    own |= {f"package/{name}.py": f"# {name}\r\n".encode() * 200 for name in ascii_uppercase}
    own["odd.py"] = b"# \xff\n" * 200
    other = {
        f"{folder}/foreign.py": b"foreign\n" * 500
        for folder in (
            "site-packages",
            "test",
            "unittest/tests",
            "config-3.11-x86",
            "encodings",
            "__pycache__",
        )
    }
    other["_sysconfigdata__linux.py"] = other["notes.txt"] = b"foreign\n" * 500
    for name, content in (own | other).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_text_is_the_librarys_own_source_in_the_sizes_asked_for(library):
    corpus = stdlib.corpus(**SIZES, root=library)
    for part, size in SIZES.items():
        text = getattr(corpus, part)
        assert len(text) == size == corpus.facts[part]
        assert b"foreign" not in text
        assert b"\r" not in text
    assert len(stdlib.files(library)) == 53


def test_no_file_is_in_two_parts_and_none_fills_one_alone(library):
    corpus = stdlib.corpus(**SIZES, root=library)
    # Each line of a file names it; the last of a part may be cut off.
    names = {part: set(getattr(corpus, part).splitlines()[:-1]) for part in SIZES}
    whole = {part: {name for name in held if len(name) == 3} for part, held in names.items()}
    assert not whole["train"] & whole["validation"]
    assert not whole["train"] & whole["test"]
    assert not whole["validation"] & whole["test"]
    assert all(len(held) >= len(stdlib.PARTS) for held in whole.values())


def test_the_text_is_the_same_each_time_and_its_digest_tells_another(library):
    first = stdlib.corpus(**SIZES, root=library)
    stdlib.corpus.cache_clear()
    assert stdlib.corpus(**SIZES, root=library) == first
    stdlib.corpus.cache_clear()
    used = stdlib.files(library)[0]
    used.write_bytes(used.read_bytes().replace(b"#", b"!"))
    other = stdlib.corpus(**SIZES, root=library)
    assert other.facts["sha256"] != first.facts["sha256"]


def test_the_running_pythons_library_has_enough_text_for_both_sizes():
    corpus = stdlib.corpus(train=6 * 2**20, validation=2**18, test=2**18)
    assert b"def " in corpus.validation
    assert "standard library of Python 3." in corpus.facts["source"]


def test_a_library_that_is_too_small_says_how_much_is_missing(library):
    with pytest.raises(ValueError, match=r"must fill .* bytes early in part 'train'"):
        stdlib.corpus(**{**SIZES, "train": 10**6}, root=library)
    with pytest.raises(ValueError, match="at least 1 byte"):
        stdlib.corpus(**{**SIZES, "test": 0}, root=library)


def test_byte_pairs_of_the_classical_example():
    # Gage (1994): aaabdaaabac becomes XdXac with X = ZY, Z = aa, Y = ab.
    tokenizer = bpe.learn(b"aaabdaaabac", vocabulary=259)
    assert tokenizer.tokens[256:] == [b"aa", b"ab", b"aaab"]
    assert tokenizer.encode(b"aaabdaaabac").tolist() == [258, ord("d"), 258, ord("a"), ord("c")]


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(256, 400))
def test_byte_pairs_give_back_every_text(learnt, text, vocabulary):
    tokenizer = bpe.learn(learnt, vocabulary=vocabulary)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids.dtype == np.uint16
    assert len(tokenizer.tokens) <= vocabulary
    assert all(i < len(tokenizer.tokens) for i in ids.tolist())


@given(st.text(alphabet="ab_ \n(1", max_size=80), st.integers(0, 12))
def test_each_merge_is_of_the_pair_that_is_most_frequent_in_the_text_as_encoded_so_far(text, merges):
    content = text.encode()
    tokenizer = bpe.learn(content, vocabulary=256 + merges)
    for i, merge in enumerate(tokenizer.merges):
        partial = bpe.Tokenizer(tokenizer.merges[:i])
        counts: dict[bpe.Pair, int] = {}
        for piece in bpe.PIECE.findall(content):
            ids = partial.encode(piece).tolist()
            for pair in pairwise(ids):
                counts[pair] = counts.get(pair, 0) + 1
        assert counts[merge] == max(counts.values())
        assert merge == min(pair for pair, count in counts.items() if count == counts[merge])


def test_byte_pairs_shorten_the_text_they_were_learnt_from_and_stay_in_their_words():
    text = b"def f(self):\n    return self.value\n" * 50
    tokenizer = bpe.learn(text, vocabulary=300)
    assert len(tokenizer.encode(text)) * len(stdlib.PARTS) <= len(text)
    assert all(bpe.PIECE.fullmatch(token) for token in tokenizer.tokens[256:])


@pytest.mark.parametrize("vocabulary", [255, 65537])
def test_a_vocabulary_that_bytes_or_16_bits_do_not_fit_is_refused(vocabulary):
    with pytest.raises(ValueError, match=f"256 to 65536, got {vocabulary}"):
        bpe.learn(b"text", vocabulary=vocabulary)


def test_token_files_are_mapped_and_half_of_val_is_held_out(tmp_path):
    write_tokens(tmp_path, train=range(100), val=range(200, 241))
    streams = tokens.load(tmp_path, context=8)
    assert isinstance(streams.train, np.memmap)
    assert streams.train.tolist() == list(range(100))
    assert streams.validation.tolist() == list(range(200, 220))
    assert streams.test.tolist() == list(range(220, 241))
    write_tokens(tmp_path, test=range(300, 320))
    streams = tokens.load(tmp_path, context=8)
    assert streams.validation.tolist() == list(range(200, 241))
    assert streams.test.tolist() == list(range(300, 320))


def test_missing_short_and_odd_token_files_say_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}: put train\.bin and val\.bin there"):
        tokens.load(tmp_path, context=8)
    write_tokens(tmp_path, train=range(100), val=[])
    with pytest.raises(ValueError, match=r"validation part .* more than 8 tokens, got 0"):
        tokens.load(tmp_path, context=8)
    write_tokens(tmp_path, val=range(17))
    with pytest.raises(ValueError, match=r"validation part .* more than 8 tokens, got 8"):
        tokens.load(tmp_path, context=8)
    (tmp_path / "train.bin").write_bytes(b"odd")
    with pytest.raises(ValueError, match=r"train\.bin must hold 16-bit tokens"):
        tokens.load(tmp_path, context=8)


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_targets_are_the_tokens_that_follow(length, context, batch, seed):
    stream = np.arange(max(length, context + 1), dtype=np.uint16)
    rng = torch.Generator().manual_seed(seed)
    drawn = list(islice(window_batches(stream, rng, batch=batch, context=context, vocabulary=60), 3))
    for inputs, targets in drawn:
        assert inputs.shape == targets.shape == (batch, context)
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(targets, inputs + 1)
    rng = torch.Generator().manual_seed(seed)
    again = window_batches(stream, rng, batch=batch, context=context, vocabulary=60)
    assert all(torch.equal(inputs, next(again)[0]) for inputs, _ in drawn)


def test_training_windows_reach_the_first_and_the_last_token():
    stream = np.arange(10, dtype=np.uint8)
    batches = window_batches(stream, torch.Generator().manual_seed(0), batch=100, context=4, vocabulary=10)
    inputs, targets = next(batches)
    assert inputs.min() == 0
    assert targets.max() == len(stream) - 1


@given(st.integers(2, 200), st.integers(1, 12), st.integers(1, 6), st.integers(1, 30))
def test_held_out_windows_predict_each_token_once(length, context, batch, count):
    stream = np.arange(length, dtype=np.uint16)
    found = list(all_windows(stream, count=count, batch=batch, context=context, vocabulary=200))
    predicted = [token for _, targets in found for token in targets.flatten().tolist()]
    whole = min(count, (length - 1) // context) * context
    assert predicted == list(range(1, whole + 1))


def test_a_token_out_of_the_vocabulary_is_refused():
    stream = np.array([1, 2, 50256, 50257], dtype=np.uint16)
    windows(stream[:3], np.array([0]), context=2, vocabulary=50257)
    with pytest.raises(ValueError, match="below the vocabulary of 50257, got 50257"):
        windows(stream, np.array([0]), context=3, vocabulary=50257)

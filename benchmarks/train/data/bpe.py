"""Byte-pair encoding, learnt from a text and small enough to read.

Source: Gage, "A New Algorithm for Data Compression" (1994); Sennrich, Haddow and Birch, "Neural Machine
Translation of Rare Words with Subword Units" (2016); on bytes as in Radford et al., "Language Models are
Unsupervised Multitask Learners" (2019).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tokenizer", "learn"]

BYTES = 256

#: No token crosses these borders: identifiers, numbers and signs with one space before them, and white space.
#: Every byte belongs to one of them, so the pieces of a text joined are the text.
PIECE = re.compile(rb" ?[A-Za-z_]+| ?[0-9]+| ?[^\sA-Za-z0-9_]+|\s+(?!\S)|\s+")

Pair = tuple[int, int]


@dataclass(frozen=True)
class Tokenizer:
    """Tokens 0 to 255 are bytes; token ``256 + i`` joins the pair ``merges[i]``."""

    merges: tuple[Pair, ...]

    @property
    def tokens(self) -> list[bytes]:
        """The bytes that each token stands for."""
        known = [bytes([value]) for value in range(BYTES)]
        for left, right in self.merges:
            known.append(known[left] + known[right])
        return known

    def encode(self, text: bytes) -> NDArray[np.uint16]:
        """Tokens of a text: in each piece the merges are applied in the order in which they were learnt."""
        rank = {pair: BYTES + i for i, pair in enumerate(self.merges)}
        known: dict[bytes, list[int]] = {}
        found: list[int] = []
        for piece in PIECE.findall(text):
            if piece not in known:
                known[piece] = _apply(list(piece), rank)
            found += known[piece]
        return np.array(found, dtype=np.uint16)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> bytes:
        """The text of a sequence of tokens."""
        tokens = self.tokens
        return b"".join(tokens[i] for i in ids)


def learn(text: bytes, *, vocabulary: int) -> Tokenizer:
    """The merges of byte-pair encoding: again and again the most frequent pair of neighbours becomes a token.

    Equally frequent pairs are taken in the order of their numbers, so the result depends on the text alone.

    Parameters
    ----------
    text : bytes
    vocabulary : int
        Tokens wanted, 256 to 65536. A text too short to have that many gets fewer.

    Returns
    -------
    tokenizer : Tokenizer

    Raises
    ------
    ValueError
        If `vocabulary` is out of range.
    """
    if vocabulary not in range(BYTES, 2**16 + 1):
        raise ValueError(f"vocabulary must be 256 to 65536, got {vocabulary}")
    pieces = Counter(PIECE.findall(text))
    words, weights = [list(piece) for piece in pieces], list(pieces.values())
    counts: Counter[Pair] = Counter()
    homes: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += weights[i]
            homes[pair].add(i)
    merges: list[Pair] = []
    while counts and BYTES + len(merges) < vocabulary:
        most = max(counts.values())
        best = min(pair for pair, count in counts.items() if count == most)
        for i in homes.pop(best):
            for pair in pairwise(words[i]):
                counts[pair] -= weights[i]
                if not counts[pair]:
                    del counts[pair]
            words[i] = _merge(words[i], best, BYTES + len(merges))
            for pair in pairwise(words[i]):
                counts[pair] += weights[i]
                homes[pair].add(i)
        merges.append(best)
    return Tokenizer(tuple(merges))


def _merge(word: Sequence[int], pair: Pair, token: int) -> list[int]:
    """`word` with every occurrence of the pair, from the left, replaced by the token."""
    merged: list[int] = []
    position = 0
    while position < len(word):
        here = tuple(word[position : position + 2]) == pair
        merged.append(token if here else word[position])
        position += 1 + here
    return merged


def _apply(word: list[int], rank: dict[Pair, int]) -> list[int]:
    """All merges of one piece, earliest learnt first."""
    while possible := [rank[pair] for pair in pairwise(word) if pair in rank]:
        token = min(possible)
        pair = next(pair for pair in pairwise(word) if rank.get(pair) == token)
        word = _merge(word, pair, token)
    return word

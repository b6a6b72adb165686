"""The 1797 handwritten digits that scikit-learn ships, 8x8 pixels of 17 grey levels."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch

from benchmarks.train.data.parts import Part, Splits, digest, order

__all__ = ["SEED", "digits"]

#: Names the split, see `order`.
SEED = 0

#: One fifth each for validation and test.
SHARE = 5


@cache
def digits() -> Splits:
    """Digits split 1079 / 359 / 359, standardised by the mean and deviation of all training pixels.

    Returns
    -------
    splits : Splits
        Inputs ``(N, 1, 8, 8)`` float32, labels 0 to 9. The facts hold the SHA-256 of raw pixels and labels.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.

    Notes
    -----
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (1998), test part, as shipped.
    """
    if find_spec("sklearn") is None:
        raise ModuleNotFoundError('digits needs scikit-learn: pip install "fisherproof[test]"')
    pixels, classes = import_module("sklearn.datasets").load_digits(return_X_y=True)
    raw = torch.tensor(pixels, dtype=torch.uint8).reshape(-1, 1, 8, 8)
    labels = torch.tensor(classes, dtype=torch.int64)
    shuffled = order(len(labels), seed=SEED)
    held_out = len(labels) // SHARE
    validation, test, train = shuffled.split([held_out, held_out, len(labels) - 2 * held_out])
    deviation, mean = torch.std_mean(raw[train].double(), correction=0)
    examples = Part(((raw.double() - mean) / deviation).float(), labels)
    facts = {
        "source": f"scikit-learn load_digits, split in the SHA-256 order of seed {SEED}",
        "sha256": digest(raw, labels),
        "train": len(train),
        "validation": len(validation),
        "test": len(test),
    }
    return Splits(*(examples.take(rows) for rows in (train, validation, test)), facts=facts)

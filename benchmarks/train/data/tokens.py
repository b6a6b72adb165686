"""Files of GPT-2 tokens: flat, unsigned 16-bit, little-endian numbers, in the convention of nanoGPT.

OpenWebText prepared so has 9 035 582 198 tokens in ``train.bin`` and 4 434 897 in ``val.bin``. The convention
has no test part: unless there is a ``test.bin``, the second half of ``val.bin`` is held out for it.
Source: Karpathy, nanoGPT, ``data/openwebtext``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Streams", "load"]

TOKEN = np.dtype("<u2")


@dataclass(frozen=True)
class Streams:
    """Three streams of tokens, mapped from their files and read where they are used."""

    train: NDArray[np.uint16]
    validation: NDArray[np.uint16]
    test: NDArray[np.uint16]
    source: str


def load(data_dir: Path, *, context: int) -> Streams:
    """Map the token files.

    Parameters
    ----------
    data_dir : Path
        Holds ``train.bin`` and ``val.bin``, and perhaps ``test.bin``.
    context : int
        Every part must hold at least one window of this many tokens and the token after it.

    Returns
    -------
    streams : Streams
        Read-only.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file has an odd number of bytes or is too short.
    """
    missing = [name for name in ("train.bin", "val.bin") if not (data_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"token files are not in {data_dir}: put {' and '.join(missing)} there, flat uint16 GPT-2 tokens "
            "as written by nanoGPT's data/openwebtext/prepare.py"
        )
    train, validation = _stream(data_dir / "train.bin"), _stream(data_dir / "val.bin")
    if (data_dir / "test.bin").is_file():
        test, source = _stream(data_dir / "test.bin"), "train.bin, val.bin, test.bin"
    else:
        half = len(validation) // 2
        validation, test = validation[:half], validation[half:]
        source = "train.bin; first half of val.bin for validation, second half for test"
    for part, stream in (("training", train), ("validation", validation), ("test", test)):
        if len(stream) <= context:
            raise ValueError(
                f"the {part} part in {data_dir} must have more than {context} tokens, got {len(stream)}"
            )
    return Streams(train, validation, test, source)


def _stream(file: Path) -> NDArray[np.uint16]:
    size = file.stat().st_size
    if size % TOKEN.itemsize:
        raise ValueError(f"{file} must hold 16-bit tokens, got an odd number of bytes: {size}")
    if not size:  # an empty file cannot be mapped
        return np.empty(0, dtype=TOKEN)
    return np.memmap(file, dtype=TOKEN, mode="r")

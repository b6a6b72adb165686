"""Reading the pickled batches of CIFAR without running what a pickle may ask for.

A pickle is a program. Here it can call three constructors, which stand in for NumPy's and only collect plain
data; every other name is refused before it is imported.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_batch"]

#: Names under which NumPy 1 and 2 pickle an array's constructor.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")

#: Places in the unpickler's memory, which is as long as the highest place a pickle names. The largest of the
#: published files, train of CIFAR-100, uses one for each of its 50 000 file names and few more.
_PLACES = 2**20


class _Dtype:
    """Stands for ``numpy.dtype``: an unsigned byte, or nothing."""

    __slots__ = ()

    def __new__(cls, code: object, align: object = False, copy: object = True) -> "_Dtype":
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"arrays must hold unsigned bytes, got dtype {code!r}")
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Byte order and flags say nothing about a byte."""


class _Array:
    """Stands for ``numpy.ndarray``: `value` is set by the state that follows the constructor."""

    __slots__ = ("value",)

    def __new__(cls, subtype: object = None, shape: object = (), code: object = None) -> "_Array":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, columns_first, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("arrays must hold unsigned bytes")
        if any(side < 0 for side in shape) or math.prod(shape) != len(data):
            raise pickle.UnpicklingError(f"an array of shape {shape} cannot hold {len(data)} bytes")
        self.value = np.frombuffer(data, dtype=np.uint8).reshape(shape, order="F" if columns_first else "C")


class _Bytes:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes in protocol 2."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes must be written in latin1, got {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("bytes have no state")


_ALLOWED: dict[tuple[str, str], type] = {
    **{(module, "_reconstruct"): _Array for module in _MODULES},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it asks for an object from elsewhere")


def read_batch(data: bytes, label_key: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels and labels of a pickled CIFAR batch.

    Parameters
    ----------
    data : bytes
        The file: a dictionary with `label_key` (a list of integers) and ``b"data"`` (bytes, 3072 a row).
    label_key : bytes
        ``b"labels"`` (CIFAR-10) or ``b"fine_labels"`` (CIFAR-100).

    Returns
    -------
    pixels : (N, 3072) uint8
    labels : list of int

    Raises
    ------
    ValueError
        If it is no such pickle, is cut short, or asks for anything that these files do not contain.
    """
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name.endswith("PUT") and (argument or 0) >= _PLACES:
                raise pickle.UnpicklingError(f"it asks for {argument} places of memory")
        batch = _BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise almost anything
        raise ValueError(f"it is no pickled batch: {error or type(error).__name__}") from error
    if not isinstance(batch, dict):
        raise ValueError(f"a batch must be a dictionary, got {type(batch).__name__}")
    # Python 2 wrote byte strings as keys; what Python 3 saved again has text.
    named = {key.encode() if isinstance(key, str) else key: value for key, value in batch.items()}
    for key in (b"data", label_key):
        if key not in named:
            raise ValueError(f"a batch must have {key!r}, got the keys {sorted(map(str, named))}")
    pixels, labels = getattr(named[b"data"], "value", None), named[label_key]
    if pixels is None:
        raise ValueError(f"{b'data'!r} must be an array of bytes")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{label_key!r} must be a list of integers")
    return pixels, labels

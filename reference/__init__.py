"""Float64 reference: every equation once, in NumPy, readable, with its source.

Pure functions on float64 arrays with leading batch axes ``(..., m, n)``: no global state, no argument is
modified, and a ``ValueError`` names the argument that is out of order. An optimizer is a pair of functions,
``init`` and ``step``, over a small immutable state; ``W_new = W - lr * update``.
"""

from reference import (
    adafisher,
    fismo,
    kronecker,
    muon,
    polar,
    schedules,
    sofim,
)

__all__ = [
    "adafisher",
    "fismo",
    "kronecker",
    "muon",
    "polar",
    "schedules",
    "sofim",
]

"""Float64 reference: every equation once, in NumPy, readable, with its source.

Pure functions on float64 arrays with leading batch axes ``(..., m, n)``: no global state, no argument is
modified, and a ``ValueError`` names the argument that is out of order. An optimizer is a pair of functions,
``init`` and ``step``, over a small immutable state; ``W_new = W - lr * update``.
"""

from reference import (
    adafisher,
    adahessian,
    adamw,
    bounds,
    dykaf,
    fismo,
    isotropic_curvature,
    kfac,
    kl_shampoo,
    kronecker,
    lbfgs,
    mousse,
    muon,
    natural_gradient,
    noise,
    nystrom_sgd,
    polar,
    problems,
    schedules,
    sgd,
    shampoo,
    sofim,
)

__all__ = [
    "adafisher",
    "adahessian",
    "adamw",
    "bounds",
    "dykaf",
    "fismo",
    "isotropic_curvature",
    "kfac",
    "kl_shampoo",
    "kronecker",
    "lbfgs",
    "mousse",
    "muon",
    "natural_gradient",
    "noise",
    "nystrom_sgd",
    "polar",
    "problems",
    "schedules",
    "sgd",
    "shampoo",
    "sofim",
]

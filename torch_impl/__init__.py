"""PyTorch implementations: batched twins of `reference` in any precision, and optimizers people train with.

`FISMO`, `SOFIM`, `AdaFisher` and `AdaFisherW` are `torch.optim.Optimizer` subclasses; `split_parameters` says
which parameters go to a method for matrices, and `Composite` steps several optimizers as one. The modules
hold the functions that the optimizers are made of.
"""

from torch_impl import adafisher, fismo, kronecker, muon, polar, sofim
from torch_impl.optim import FISMO, SOFIM, AdaFisher, AdaFisherW, Composite
from torch_impl.split import ParameterSplit, split_parameters

__all__ = [
    "FISMO",
    "SOFIM",
    "AdaFisher",
    "AdaFisherW",
    "Composite",
    "ParameterSplit",
    "adafisher",
    "fismo",
    "kronecker",
    "muon",
    "polar",
    "sofim",
    "split_parameters",
]

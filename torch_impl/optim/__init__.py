"""Optimizers people train with, as `torch.optim.Optimizer` subclasses."""

from torch_impl.optim.adafisher import AdaFisher, AdaFisherW
from torch_impl.optim.composite import Composite
from torch_impl.optim.fismo import FISMO
from torch_impl.optim.sofim import SOFIM

__all__ = ["FISMO", "SOFIM", "AdaFisher", "AdaFisherW", "Composite"]

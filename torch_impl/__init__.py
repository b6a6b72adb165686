"""PyTorch implementations: batched twins of `reference` in any precision, and optimizers people train with.

`FISMO` and `SOFIM` are `torch.optim.Optimizer` subclasses; the modules hold the functions they are made of.
"""

from torch_impl import fismo, kronecker, muon, polar, sofim
from torch_impl.optim import FISMO, SOFIM

__all__ = ["FISMO", "SOFIM", "fismo", "kronecker", "muon", "polar", "sofim"]

"""The models of the papers, from their published descriptions, and small ones for a quick run.

Weights are drawn from torch's global generator when a model is built.
"""

from benchmarks.train.models.dla import SimpleDLA
from benchmarks.train.models.gpt import GPT, gpt2
from benchmarks.train.models.lenet import DigitsConv, LeNet5
from benchmarks.train.models.mlp import MLP
from benchmarks.train.models.resnet import ResNet9, ResNet18

__all__ = ["GPT", "MLP", "DigitsConv", "LeNet5", "ResNet9", "ResNet18", "SimpleDLA", "gpt2"]

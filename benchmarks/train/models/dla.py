"""Deep layer aggregation in the simplified form that is common on CIFAR."""

import torch
from torch import Tensor, nn

from benchmarks.train.models.resnet import BasicBlock, convolution

__all__ = ["SimpleDLA"]


class _Tree(nn.Module):
    """Two subtrees one after the other, and a 1x1 convolution that joins the results of both.

    At depth 1 the subtrees are basic blocks. Only the first changes the number of channels and the size.
    """

    def __init__(self, inputs: int, outputs: int, *, depth: int, stride: int = 1) -> None:
        super().__init__()
        if depth == 1:
            self.first: nn.Module = BasicBlock(inputs, outputs, stride=stride)
            self.second: nn.Module = BasicBlock(outputs, outputs)
        else:
            self.first = _Tree(inputs, outputs, depth=depth - 1, stride=stride)
            self.second = _Tree(outputs, outputs, depth=depth - 1)
        self.root = convolution(2 * outputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(first)
        return self.root(torch.cat([first, second], dim=1)).relu()


class SimpleDLA(nn.Module):
    """Three convolutions, four trees of depth 1, 2, 2, 1, the mean over all places, a linear layer.

    Channels are 1, 1, 2, then 4, 8, 16 and 32 times `width`; each tree but the first halves the image.
    Width 16 is the usual one: 15 142 970 parameters with 10 classes, 15 189 140 with 100. Against the paper,
    a root joins its two subtrees only: nothing reaches it from further down or from other stages.
    Source: Yu, Wang, Shelhamer and Darrell, "Deep Layer Aggregation" (2018); the simplification and its name
    are those of the collection kuangliu/pytorch-cifar.
    """

    def __init__(self, *, classes: int, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(3, width), nn.ReLU(),
            convolution(width, width), nn.ReLU(),
            convolution(width, 2 * width), nn.ReLU(),
            _Tree(2 * width, 4 * width, depth=1),
            _Tree(4 * width, 8 * width, depth=2, stride=2),
            _Tree(8 * width, 16 * width, depth=2, stride=2),
            _Tree(16 * width, 32 * width, depth=1, stride=2),
        )  # fmt: skip
        self.classifier = nn.Linear(32 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        return self.classifier(self.features(x).mean(dim=(-2, -1)))

"""A multilayer perceptron."""

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers of the given widths with ReLU between them; every input is flattened.

    Widths 64, 128, 128, 10 have 26 122 parameters. Initialised as `torch.nn.Linear` is.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, widths[-1]) of inputs (N, ...) with widths[0] entries each."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)

"""LeNet-5 for colour images, and a small relative for the digits."""

from torch import Tensor, nn

__all__ = ["DigitsConv", "LeNet5"]


class LeNet5(nn.Module):
    """LeNet-5 in the form used on CIFAR: ReLU, max pooling and a plain linear output; 62 006 parameters.

    Two 5x5 convolutions of 6 and 16 channels, each followed by pooling of 2, then layers of 120 and 84.
    The original has squashing units, trained averages in place of maxima, sparse connections between the two
    convolutions and radial basis functions at the end. With 100 classes: 69 656 parameters.
    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition"
    (1998).
    """

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, 32, 32)."""
        return self.classifier(self.features(x).flatten(1))


class DigitsConv(nn.Module):
    """A convolutional net for 8x8 grey images in the manner of LeNet-5, with BatchNorm; 6 082 parameters.

    Two 3x3 convolutions of 8 and 16 channels, each with BatchNorm, ReLU and pooling of 2, then a layer of 64.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(16 * 2 * 2, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8)."""
        return self.classifier(self.features(x).flatten(1))

"""Residual networks for images of 32x32 pixels. Initialised as torch's layers are."""

from torch import Tensor, nn

__all__ = ["BasicBlock", "ResNet9", "ResNet18", "convolution"]


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the size up to `stride`, and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class BasicBlock(nn.Module):
    """``relu(shortcut(x) + F(x))``, F two 3x3 convolutions; the shortcut is a 1x1 one where shapes change.

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2016), figure 5, option B.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            convolution(inputs, outputs, stride=stride), nn.ReLU(), convolution(outputs, outputs)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, outputs, H / stride, W / stride) of (N, inputs, H, W)."""
        return (self.shortcut(x) + self.residual(x)).relu()


class ResNet18(nn.Module):
    """ResNet-18 in the form used on CIFAR: the stem is one 3x3 convolution, without pooling.

    Four stages of two basic blocks with `width`, 2, 4 and 8 times `width` channels, then the mean over all
    places. Width 64 is the published one: 11 173 962 parameters with 10 classes, 11 220 132 with 100.
    Source: He, Zhang, Ren and Sun (2016), table 1, stem as in section 4.2.
    """

    def __init__(self, *, classes: int, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, width), nn.ReLU())
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        blocks: list[nn.Module] = []
        for stage in range(4):
            inputs, outputs = channels[stage], channels[stage + 1]
            blocks += [
                BasicBlock(inputs, outputs, stride=1 if stage == 0 else 2),
                BasicBlock(outputs, outputs),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        return self.classifier(self.blocks(self.stem(x)).mean(dim=(-2, -1)))


class _Residual(nn.Module):
    """``x + F(x)``, F two 3x3 convolutions, each with ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(width, width), nn.ReLU(), convolution(width, width), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResNet9(nn.Module):
    """The nine-layer network that won the DAWNBench race on CIFAR-10 in 2018.

    Convolutions of `width`, 2, 4 and 8 times `width` channels; the last three halve the image by pooling, the
    second and the fourth are followed by a residual pair. Then the maximum over all places and a linear layer
    without bias, whose result is multiplied by 1/8. Width 64 is the published one: 6 573 120 parameters with
    10 classes, 6 619 200 with 100.
    Source: Page, "How to Train Your ResNet 4: Architecture" (2018).
    """

    SCALE = 0.125

    def __init__(self, *, classes: int, width: int = 64) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(3, width), nn.ReLU(),
            convolution(width, 2 * width), nn.ReLU(), nn.MaxPool2d(2), _Residual(2 * width),
            convolution(2 * width, 4 * width), nn.ReLU(), nn.MaxPool2d(2),
            convolution(4 * width, 8 * width), nn.ReLU(), nn.MaxPool2d(2), _Residual(8 * width),
        )  # fmt: skip
        self.classifier = nn.Linear(8 * width, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        return self.SCALE * self.classifier(self.features(x).amax(dim=(-2, -1)))

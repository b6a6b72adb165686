"""Colour images for training: split, augmentation and normalisation of CIFAR-10, CIFAR-100 and SVHN.

Sources: He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2, for crops and flips;
DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout" (2017).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.train.data import cifar, svhn
from benchmarks.train.data.parts import Part, Splits, digest, order

__all__ = ["RECIPES", "SEED", "Recipe", "augment", "crop_and_flip", "cutout", "load", "normalise", "prepared"]

#: Names the split of the published training images, see `order`.
SEED = 0

#: One tenth of the published training images are held out for validation.
SHARE = 10


@dataclass(frozen=True)
class Recipe:
    """How the images of one data set are prepared.

    Attributes
    ----------
    mean, deviation : tuple of three floats
        Of each channel over all published training images, pixels in 0 to 1.
    padding : int
        Black border before a random crop to the old size; 0 for no crop.
    flip : bool
        Mirror half of the images.
    hole : int
        Side of the cutout square in pixels.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    padding: int
    flip: bool
    hole: int


#: Means and deviations are the commonly published ones of the training files, rounded to four places. Crops,
#: flips and one hole of 16 on CIFAR are in the settings of AdaFisher's authors; on SVHN digits are not
#: mirrored, and a hole of 20 without crops is what DeVries and Taylor chose.
RECIPES = {
    "cifar10": Recipe((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), padding=4, flip=True, hole=16),
    "cifar100": Recipe((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), padding=4, flip=True, hole=16),
    "svhn": Recipe((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), padding=0, flip=False, hole=20),
}


@lru_cache(maxsize=1)
def load(name: str, data_dir: Path) -> Splits:
    """Raw images of one data set; a tenth of the published training images become the validation part.

    Parameters
    ----------
    name : str
        "cifar10", "cifar100" or "svhn".
    data_dir : Path
        Where the published files lie, see `cifar.load` and `svhn.load`.

    Returns
    -------
    splits : Splits
        Inputs ``(N, 3, 32, 32)`` uint8. The facts hold the SHA-256 of the pixels and labels of all parts.

    Raises
    ------
    FileNotFoundError, ValueError
        As the loaders say; ValueError too for fewer than two training images.
    """
    if name == "svhn":
        published, test = svhn.load(data_dir)
    else:
        published, test = cifar.load({"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}[name], data_dir)
    count = len(published)
    if count < 1 + 1:
        raise ValueError(f"{name} must have at least two training images, got {count}")
    shuffled = order(count, seed=SEED)
    held_out = max(1, count // SHARE)
    validation, train = published.take(shuffled[:held_out]), published.take(shuffled[held_out:])
    facts = {
        "source": f"published {name} files; validation is the first tenth of the training images "
        f"in the SHA-256 order of seed {SEED}",
        "sha256": digest(published.inputs, published.labels, test.inputs, test.labels),
        "train": len(train),
        "validation": held_out,
        "test": len(test),
    }
    return Splits(train, validation, test, facts)


def normalise(pixels: Tensor, recipe: Recipe) -> Tensor:
    """``(pixels / 255 - mean) / deviation`` of each channel.

    Parameters
    ----------
    pixels : (N, 3, H, W) uint8 Tensor
    recipe : Recipe

    Returns
    -------
    inputs : (N, 3, H, W) float32 Tensor
    """
    mean, deviation = (torch.tensor(value).view(3, 1, 1) for value in (recipe.mean, recipe.deviation))
    return (pixels.float() / 255 - mean) / deviation


def crop_and_flip(images: Tensor, generator: torch.Generator, *, padding: int, flip: bool) -> Tensor:
    """Each image moved by up to `padding` pixels both ways, black where nothing was, and mirrored by a coin.

    Parameters
    ----------
    images : (N, C, H, W) Tensor
        Not modified.
    generator : torch.Generator
        Of the CPU; 2 numbers an image are drawn if `padding`, 1 if `flip`.
    padding : int
        At least 0.
    flip : bool
        Whether to mirror left and right.

    Returns
    -------
    moved : (N, C, H, W) Tensor
        Same dtype.
    """
    count, _, height, width = images.shape
    rows, columns = torch.arange(height).expand(count, -1), torch.arange(width).expand(count, -1)
    if padding:
        images = functional.pad(images, [padding] * 4)
        rows, columns = (
            index + torch.randint(2 * padding + 1, (count, 1), generator=generator)
            for index in (rows, columns)
        )
    if flip:
        mirrored = torch.randint(2, (count, 1), generator=generator, dtype=torch.bool)
        columns = torch.where(mirrored, columns.flip(1), columns)
    which = torch.arange(count).view(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, generator: torch.Generator, *, hole: int) -> Tensor:
    """Each image with a square of side `hole` set to 0; its centre is any pixel, what sticks out is cut off.

    Parameters
    ----------
    images : (N, C, H, W) Tensor
        Normalised, so that 0 is the mean colour. Not modified.
    generator : torch.Generator
        Of the CPU; 2 numbers an image are drawn.
    hole : int
        Even side in pixels.

    Returns
    -------
    cut : (N, C, H, W) Tensor

    Notes
    -----
    Source: DeVries and Taylor (2017), section 3.
    """
    count, _, height, width = images.shape
    inside = []
    for side in (height, width):
        start = torch.randint(side, (count, 1), generator=generator) - hole // 2
        index = torch.arange(side)
        inside.append((index >= start) & (index < start + hole))
    return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0.0)


def augment(pixels: Tensor, generator: torch.Generator, *, recipe: Recipe) -> Tensor:
    """Training inputs of raw pixels: crop and flip, normalise, cut out."""
    moved = crop_and_flip(pixels, generator, padding=recipe.padding, flip=recipe.flip)
    return cutout(normalise(moved, recipe), generator, hole=recipe.hole)


def prepared(part: Part, recipe: Recipe) -> Part:
    """A part whose inputs are normalised, for validation and test."""
    return Part(normalise(part.inputs, recipe), part.labels)

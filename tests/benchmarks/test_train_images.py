"""Splits, batches, augmentation and normalisation of images."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.train.data import images, parts
from benchmarks.train.data.batches import example_batches
from benchmarks.train.data.digits import digits
from benchmarks.train.data.parts import Part
from proofs_checks.ratios import recursion, unit_roundoff
from tests.benchmarks.published_files import SETS, write_cifar, write_svhn

#: Roundings of (pixel / 255 - mean) / deviation: both constants, two divisions, one difference.
NORMALISE_ROUNDINGS = 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 300), st.integers(0, 10))
def test_the_order_of_a_split_is_a_permutation_that_the_seed_names(count, seed):
    order = parts.order(count, seed=seed)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, parts.order(count, seed=seed))


def test_the_order_of_a_split_is_the_same_everywhere():
    assert parts.order(8, seed=0).tolist() == [7, 4, 3, 2, 6, 0, 5, 1]  # by sha256sum
    assert parts.order(8, seed=1).tolist() != parts.order(8, seed=0).tolist()


def test_the_digits_are_those_of_scikit_learn_split_without_overlap_and_standardised():
    splits = digits()
    three = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in three] == [1079, 359, 359]
    assert splits.facts["sha256"] == "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"
    rows = torch.cat([part.inputs.flatten(1) for part in three])
    assert len(rows.unique(dim=0)) == len(rows)  # no two of the 1797 images are equal
    assert torch.cat([part.labels for part in three]).bincount().tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


def test_the_training_digits_have_mean_0_and_deviation_1_and_no_other_part_was_used():
    pixels = digits().train.inputs.double().numpy().ravel()
    terms = np.abs(pixels)
    # One rounding to float32 of each; the sum in float64 is charged by the rule.
    assert recursion(pixels.mean(), 0.0, terms.mean(), operations=1, u=unit_roundoff("float32")).passed
    square = (pixels**2).mean()
    assert recursion(square, 1.0, square, operations=3, u=unit_roundoff("float32")).passed
    assert digits().validation.inputs.double().mean().item() != pixels.mean()


def numbered(count: int) -> Part:
    return Part(torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count))


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**31))
def test_an_epoch_shows_each_example_at_most_once_and_only_whole_batches(count, batch, seed):
    size = min(count, batch)
    per_epoch = count // size
    drawn = list(islice(example_batches(numbered(count), generator(seed), batch=batch), 2 * per_epoch))
    for epoch in (drawn[:per_epoch], drawn[per_epoch:]):
        seen = torch.cat([labels for _, labels in epoch])
        assert len(seen) == size * per_epoch
        assert len(seen.unique()) == len(seen)
    assert all(torch.equal(inputs[:, 0], labels.float()) for inputs, labels in drawn)


def test_batches_depend_on_their_generator_alone():
    def drawn(seed):
        return [
            labels.tolist()
            for _, labels in islice(example_batches(numbered(30), generator(seed), batch=7), 9)
        ]

    state = torch.get_rng_state()
    first = drawn(0)
    torch.rand(3)
    assert drawn(0) == first
    assert drawn(1) != first
    torch.set_rng_state(state)
    drawn(0)
    assert torch.equal(torch.get_rng_state(), state)


def pictures(count: int, side: int) -> torch.Tensor:
    return torch.randint(1, 256, (count, 3, side, side), generator=generator(), dtype=torch.uint8)


def moved_by_hand(image: torch.Tensor, padding: int, down: int, right: int, mirrored: bool) -> torch.Tensor:
    side = image.shape[-1]
    framed = torch.zeros(3, side + 2 * padding, side + 2 * padding, dtype=image.dtype)
    framed[:, padding : padding + side, padding : padding + side] = image
    window = framed[:, down : down + side, right : right + side]
    return window.flip(-1) if mirrored else window


def test_a_crop_is_every_window_of_the_framed_image_and_its_mirror_image_and_nothing_else():
    padding, side = 1, 4
    image = pictures(1, side)[0]
    possible = [
        moved_by_hand(image, padding, down, right, mirrored)
        for down in range(2 * padding + 1)
        for right in range(2 * padding + 1)
        for mirrored in (False, True)
    ]
    # 18 equally likely outcomes: one is missed by 2000 draws with probability 18 (17/18)^2000 < 1e-48.
    draws = images.crop_and_flip(image.expand(2000, -1, -1, -1), generator(), padding=padding, flip=True)
    found = {next(i for i, window in enumerate(possible) if torch.equal(window, draw)) for draw in draws}
    assert found == set(range(len(possible)))


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (4, False), (0, True), (4, True)])
def test_a_crop_keeps_shape_and_dtype_and_leaves_its_input_alone(padding, flip):
    raw = pictures(5, 32)
    before = raw.clone()
    moved = images.crop_and_flip(raw, generator(), padding=padding, flip=flip)
    assert moved.shape == raw.shape
    assert moved.dtype == torch.uint8
    assert torch.equal(raw, before)
    assert torch.equal(moved, raw) == (not padding and not flip)


@pytest.mark.parametrize("hole", [2, 16, 20])
def test_cutout_blanks_one_square_in_all_channels_cut_off_at_the_border(hole):
    side = 32
    cut = images.cutout(torch.ones(400, 3, side, side), generator(), hole=hole) == 0
    assert torch.equal(cut[:, 0], cut[:, 1])
    assert torch.equal(cut[:, 0], cut[:, 2])
    rows, columns = cut[:, 0].any(dim=2), cut[:, 0].any(dim=1)
    assert torch.equal(cut[:, 0], rows[:, :, None] & columns[:, None, :])  # a rectangle
    assert not torch.equal(rows, columns)  # the centre is not on the diagonal
    for lines in (rows, columns):
        lengths = lines.sum(dim=1)
        assert lengths.max() == hole
        assert lengths.min() == hole // 2  # a centre on the border
        assert ((lines[:, 1:] & ~lines[:, :-1]).sum(dim=1) <= 1).all()  # in one piece
        assert lines.any(dim=0).all()  # every place is reached


@pytest.mark.parametrize("name", images.RECIPES)
def test_normalisation_is_that_of_the_recipe_up_to_rounding(name):
    recipe, raw = images.RECIPES[name], pictures(6, 8)
    got = images.normalise(raw, recipe)
    assert got.dtype == torch.float32
    mean, deviation = (np.array(value).reshape(3, 1, 1) for value in (recipe.mean, recipe.deviation))
    scaled = raw.double().numpy() / 255
    ratio = recursion(
        got.double().numpy(),
        (scaled - mean) / deviation,
        (scaled + mean) / deviation,
        operations=NORMALISE_ROUNDINGS,
        u=unit_roundoff("float32"),
    )
    assert ratio.passed, ratio
    swapped = images.normalise(raw.flip(1), recipe).flip(1)  # the constants of the wrong channels
    assert not recursion(
        swapped.double().numpy(),
        (scaled - mean) / deviation,
        (scaled + mean) / deviation,
        operations=NORMALISE_ROUNDINGS,
        u=unit_roundoff("float32"),
    ).passed


@pytest.mark.parametrize("name", images.RECIPES)
def test_augmented_batches_are_of_training_shape_and_decided_by_the_generator(name):
    part = Part(pictures(9, 32), torch.arange(9))

    def drawn(seed):
        batches = example_batches(
            part,
            generator(seed),
            batch=4,
            augment=lambda raw, rng: images.augment(raw, rng, recipe=images.RECIPES[name]),
        )
        return [inputs for inputs, _ in islice(batches, 3)]

    first = drawn(0)
    assert all(inputs.shape == (4, 3, 32, 32) and inputs.dtype == torch.float32 for inputs in first)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(0), strict=True))
    assert not torch.equal(first[0], drawn(1)[0])


@pytest.mark.parametrize("name", images.RECIPES)
def test_a_tenth_of_the_published_training_images_is_for_validation_and_none_is_in_both(tmp_path, name):
    if name == "svhn":
        write_svhn(tmp_path)
    else:
        write_cifar(tmp_path, SETS[name], binary=False, packed=False)
    splits = images.load(name, tmp_path)
    count = len(splits.train) + len(splits.validation)
    assert len(splits.validation) == max(1, count // 10)
    both = torch.cat([splits.train.inputs, splits.validation.inputs]).flatten(1)
    assert len(both.unique(dim=0)) == count
    assert splits.facts["train"] == len(splits.train)
    assert len(splits.facts["sha256"]) == 64

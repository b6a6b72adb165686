"""The published image files are read as their authors describe them; damaged and hostile ones are refused."""

import codecs
import os
import pickle

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.train.data import cifar, svhn
from benchmarks.train.data.cifar import CIFAR10, CIFAR100
from benchmarks.train.data.pickles import read_batch
from tests.benchmarks.published_files import (
    COUNT,
    SETS,
    cifar_files,
    example,
    pack,
    python2_pickle,
    write_cifar,
    write_svhn,
)

BINARY = pytest.mark.parametrize("binary", [False, True], ids=["python", "binary"])
NAMES = pytest.mark.parametrize("name", SETS)


@NAMES
@BINARY
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_every_version_of_cifar_gives_the_same_images_and_labels_in_order(tmp_path, name, binary, packed):
    this = SETS[name]
    write_cifar(tmp_path, this, binary=binary, packed=packed)
    train, test = cifar.load(this, tmp_path)
    files = len(this.pickled.train)
    for part, seeds in ((train, range(files)), (test, [files])):
        held = [example(this, seed=seed) for seed in seeds]
        pixels = np.concatenate([pixels for pixels, _ in held]).reshape(-1, 3, 32, 32)
        assert torch.equal(part.inputs, torch.from_numpy(pixels))
        assert part.labels.tolist() == [label for _, labels in held for label in labels]
        assert part.labels.dtype == torch.int64


def test_the_first_1024_bytes_of_an_image_are_its_red_rows(tmp_path):
    pixels = np.zeros((1, cifar.PIXELS), dtype=np.uint8)
    pixels[0, 32 + 3] = 255  # second row, fourth column of the first plane
    write_cifar(tmp_path, CIFAR100, binary=True, packed=False)
    (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(bytes([3, 42]) + pixels.tobytes())
    _, test = cifar.load(CIFAR100, tmp_path)
    assert test.inputs.nonzero().tolist() == [[0, 0, 1, 3]]
    assert test.labels.tolist() == [42]  # the fine label, not the coarse 3


@NAMES
def test_a_pickle_as_python_2_wrote_it_is_read(name):
    this = SETS[name]
    pixels, labels = example(this, seed=5)
    data = python2_pickle(pixels, labels, this.label_key)
    assert np.array_equal(pickle.loads(data, encoding="bytes")[b"data"], pixels)  # a control of the writer
    got, classes = read_batch(data, this.label_key)
    assert np.array_equal(got, pixels)
    assert classes == labels


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_that_python_3_saved_again_is_read(protocol, order):
    pixels, labels = example(CIFAR10, seed=1)
    saved = pickle.dumps({"data": np.array(pixels, order=order), "labels": labels}, protocol=protocol)
    got, classes = read_batch(saved, b"labels")
    assert np.array_equal(got, pixels)
    assert classes == labels


class _Call:
    """Pickled, it asks for a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


HOSTILE = {
    "command": lambda path: _Call(os.mkdir, str(path)),
    "evaluation": lambda path: _Call(eval, f"__import__('os').mkdir({str(path)!r})"),
    "other codec": lambda path: _Call(codecs.encode, "cbrk", "rot13"),
    "other dtype": lambda path: np.array([None, 1], dtype=object),
    "numpy function": lambda path: _Call(np.load, str(path)),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", ["data", "labels", "filenames"])
def test_a_pickle_that_asks_for_anything_else_is_refused_and_runs_nothing(tmp_path, kind, place):
    marker = tmp_path / "ran"
    batch = {"data": example(CIFAR10, seed=0)[0], "labels": [0] * COUNT, place: HOSTILE[kind](marker)}
    with pytest.raises(ValueError, match="no pickled batch"):
        read_batch(pickle.dumps(batch, protocol=2), b"labels")
    assert not marker.exists()


ARRAY = pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (ARRAY + pickle.NONE + pickle.EMPTY_DICT + pickle.TUPLE2 + pickle.BUILD, "no pickled batch"),
        (pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff", "places of memory"),
        (b"P42\n", "object from elsewhere"),
        (pickle.GLOBAL + b"benchmarks.train.data.pickles\nread_batch\n", "asks for benchmarks"),
        (pickle.EMPTY_LIST, "must be a dictionary, got list"),
        (pickle.EMPTY_DICT, "must have b'data'"),
    ],
    ids=["state of a class", "memory", "persistent", "our own function", "list", "no keys"],
)
def test_a_pickle_cannot_change_what_it_is_given_or_ask_for_more(program, message):
    with pytest.raises(ValueError, match=message):
        read_batch(pickle.PROTO + b"\2" + program + pickle.STOP, b"labels")


@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_with_one_kind_of_error(data):
    content = bytearray(cifar_files(CIFAR10, binary=False)["test_batch"])
    ends = [*range(200), *range(len(content) - 300, len(content))]  # the pixels in between are arbitrary
    for place in data.draw(st.lists(st.sampled_from(ends), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    kept = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    try:
        pixels, labels = read_batch(bytes(content[:kept]), b"labels")
    except ValueError:
        return
    assert pixels.dtype == np.uint8
    assert isinstance(labels, list)


@NAMES
def test_missing_files_say_what_to_put_where(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}: put one of .*python\.tar\.gz") as caught:
        cifar.load(SETS[name], tmp_path)
    for version in (SETS[name].pickled, SETS[name].binary):
        assert version.folder in str(caught.value)
        assert version.archive in str(caught.value)


@NAMES
@BINARY
def test_a_folder_without_one_of_its_files_names_it(tmp_path, name, binary):
    folder = write_cifar(tmp_path, SETS[name], binary=binary, packed=False)
    lost = next(iter(cifar_files(SETS[name], binary=binary)))
    (folder / lost).unlink()
    with pytest.raises(FileNotFoundError, match=f"{folder} lacks {lost}"):
        cifar.load(SETS[name], tmp_path)


@BINARY
@pytest.mark.parametrize("damage", ["short", "empty", "label"])
def test_a_damaged_file_is_named(tmp_path, binary, damage):
    folder = write_cifar(tmp_path, CIFAR10, binary=binary, packed=False)
    file = folder / ("test_batch.bin" if binary else "test_batch")
    if damage == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "empty":
        empty = {"data": np.empty((0, cifar.PIXELS), dtype=np.uint8), "labels": []}
        file.write_bytes(b"" if binary else pickle.dumps(empty, protocol=2))
    else:
        pixels, labels = example(CIFAR10, seed=0)
        wrong = {"data": pixels, "labels": [10, *labels[1:]]}
        file.write_bytes(bytes([10]) + pixels[0].tobytes() if binary else pickle.dumps(wrong, protocol=2))
    with pytest.raises(ValueError, match=f"{file} is not a file of CIFAR-10"):
        cifar.load(CIFAR10, tmp_path)


@pytest.mark.parametrize(
    "labels", [[0] * (COUNT - 1), [-1] * COUNT, [2**80] * COUNT, [0.0] * COUNT, b"\0" * COUNT]
)
def test_labels_that_do_not_fit_the_images_are_refused(tmp_path, labels):
    folder = write_cifar(tmp_path, CIFAR10, binary=False, packed=False)
    batch = {"data": example(CIFAR10, seed=0)[0], "labels": labels}
    (folder / "data_batch_3").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(ValueError, match=r"data_batch_3 is not a file of CIFAR-10"):
        cifar.load(CIFAR10, tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    archive = write_cifar(tmp_path, CIFAR100, binary=False, packed=True)
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", b""):
        archive.write_bytes(damaged)
        with pytest.raises((ValueError, FileNotFoundError), match=str(archive)):
            cifar.load(CIFAR100, tmp_path)


def test_an_archive_entry_of_the_right_name_but_elsewhere_or_no_file_is_not_taken(tmp_path):
    pack(tmp_path / CIFAR100.pickled.archive, {"train": b"", "../cifar-100-python/test": b""})
    with pytest.raises(FileNotFoundError, match="lacks train, test"):
        cifar.load(CIFAR100, tmp_path)


def test_svhn_is_read_and_label_10_means_0(tmp_path):
    held = write_svhn(tmp_path)
    for part, (images, digits) in zip(svhn.load(tmp_path), held.values(), strict=True):
        assert torch.equal(part.inputs, torch.from_numpy(images))
        assert part.labels.tolist() == digits
        assert part.labels.dtype == torch.int64


def test_missing_svhn_files_say_what_to_put_where(tmp_path):
    write_svhn(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}: put test_32x32\.mat there"):
        svhn.load(tmp_path)


X = np.zeros((32, 32, 3, 2), dtype=np.uint8)
Y = np.array([[1], [10]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": X}, "must hold X and y"),
        ({"X": X.astype(float), "y": Y}, "X must be uint8"),
        ({"X": X[:, :16], "y": Y}, "X must be uint8"),
        ({"X": X, "y": Y[:1]}, "y must hold 2 rows"),
        ({"X": X, "y": Y * 0}, "labels 1 to 10"),
        ({"X": X, "y": Y + 1}, "labels 1 to 10"),
    ],
)
def test_a_matlab_file_of_something_else_is_refused(tmp_path, content, message):
    write_svhn(tmp_path)
    scipy.io.savemat(tmp_path / "train_32x32.mat", content)
    with pytest.raises(ValueError, match=rf"train_32x32\.mat is not a file of SVHN: .*{message}"):
        svhn.load(tmp_path)


def test_a_damaged_matlab_file_is_named(tmp_path):
    write_svhn(tmp_path)
    file = tmp_path / "train_32x32.mat"
    for damaged in (b"", b"no matrix", file.read_bytes()[:300]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"train_32x32\.mat is damaged"):
            svhn.load(tmp_path)

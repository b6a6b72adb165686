"""Street View House Numbers, cropped digits, from the published MATLAB files.

Source: Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning" (2011), format 2;
http://ufldl.stanford.edu/housenumbers describes the files.
"""

from pathlib import Path

import numpy as np
import scipy.io
import torch

from benchmarks.train.data.parts import Part

__all__ = ["load"]

FILES = ("train_32x32.mat", "test_32x32.mat")


def load(data_dir: Path) -> tuple[Part, Part]:
    """Training and test images; the additional easy ones (``extra``) are not used.

    Parameters
    ----------
    data_dir : Path
        Holds ``train_32x32.mat`` and ``test_32x32.mat``.

    Returns
    -------
    train, test : Part
        Inputs ``(N, 3, 32, 32)`` uint8; labels 0 to 9, where the files write 10 for the digit 0.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged or not of this format.
    """
    missing = [name for name in FILES if not (data_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"SVHN is not in {data_dir}: put {' and '.join(missing)} there, "
            "from http://ufldl.stanford.edu/housenumbers"
        )
    train, test = (_part(data_dir / name) for name in FILES)
    return train, test


def _part(file: Path) -> Part:
    try:
        content = scipy.io.loadmat(file, variable_names=["X", "y"])
    except Exception as error:  # a damaged file may raise almost anything
        raise ValueError(f"{file} is damaged or no MATLAB file of version 4 to 7.2: {error}") from error
    if not {"X", "y"} <= content.keys():
        raise ValueError(f"{file} is not a file of SVHN: it must hold X and y, got {sorted(content)}")
    X, y = content["X"], content["y"]
    if X.dtype != np.uint8 or X.ndim != 4 or X.shape[:3] != (32, 32, 3) or not X.shape[3]:
        raise ValueError(
            f"{file} is not a file of SVHN: X must be uint8 (32, 32, 3, N), got {X.dtype} {X.shape}"
        )
    if y.shape != (X.shape[3], 1) or not np.isin(y, np.arange(1, 11)).all():
        raise ValueError(
            f"{file} is not a file of SVHN: y must hold {X.shape[3]} rows of labels 1 to 10, got {y.shape}"
        )
    # Rows, columns, channels, images become images, channels, rows, columns.
    inputs = torch.from_numpy(np.ascontiguousarray(X.transpose(3, 2, 0, 1)))
    return Part(inputs, torch.from_numpy(y[:, 0].astype(np.int64) % 10))

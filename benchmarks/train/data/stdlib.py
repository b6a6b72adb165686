"""The source text of the Python standard library: a corpus that every Python brings along.

Another version of Python has another text, so results are comparable only where the SHA-256 agrees.
"""

import hashlib
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from platform import python_version

__all__ = ["PARTS", "Corpus", "corpus", "files"]

#: The running Python's own library.
LIBRARY = Path(sysconfig.get_paths()["stdlib"])

#: Folders whose files are not the library's own source, or are tests, or tables that a program wrote.
LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings", "pydoc_data"}
)

#: Files and folders written when Python is built begin so: they tell about the machine, not the version.
BUILD_RECORDS = ("_sysconfigdata", "config-")

#: One file makes up at most this part of a text, so that no text is that of a single author or topic.
SHARE = 8

#: Parts in the order in which they are filled.
PARTS = ("validation", "test", "train")


@dataclass(frozen=True)
class Corpus:
    """Three texts that share no file, and what a result must say about them."""

    train: bytes
    validation: bytes
    test: bytes
    facts: Mapping[str, str | int]


def files(root: Path) -> list[Path]:
    """The ``*.py`` files of a library, sorted by the SHA-256 of their path below `root`.

    The order mixes the topics, and is the same on every machine.
    """
    names = [path.relative_to(root) for path in root.rglob("*.py")]
    own = [
        name
        for name in names
        if not LEFT_OUT & set(name.parts) and not any(part.startswith(BUILD_RECORDS) for part in name.parts)
    ]
    return [root / name for name in sorted(own, key=lambda n: hashlib.sha256(n.as_posix().encode()).digest())]


@lru_cache(maxsize=4)
def corpus(*, train: int, validation: int, test: int, root: Path = LIBRARY) -> Corpus:
    """Texts of exactly the asked sizes, from files one after the other; no file is used in two texts.

    A file gives at most an eighth of a text, from its beginning; the last file is cut to fit.

    Parameters
    ----------
    train, validation, test : int
        Bytes, at least 1.
    root : Path
        The library.

    Returns
    -------
    corpus : Corpus
        Line ends are line feeds. The facts name the Python version, and the SHA-256 of the validation, test
        and training text, joined.

    Raises
    ------
    ValueError
        If a size is below 1, or the library has less text than that.
    """
    sizes = {"validation": validation, "test": test, "train": train}
    if min(sizes.values()) < 1:
        raise ValueError(f"every part must have at least 1 byte, got {sizes}")
    texts = _fill(files(root), [sizes[part] for part in PARTS])
    for part, text in zip(PARTS, texts, strict=True):
        if len(text) < sizes[part]:
            raise ValueError(
                f"the library source in {root} must fill {sizes} bytes, but ends {sizes[part] - len(text)} "
                f"bytes early in part {part!r}"
            )
    facts: dict[str, str | int] = {
        "source": f"standard library of Python {python_version()}, *.py without tests",
        "sha256": hashlib.sha256(b"".join(texts)).hexdigest(),
        **sizes,
    }
    return Corpus(**dict(zip(PARTS, texts, strict=True)), facts=facts)


def _fill(paths: Sequence[Path], sizes: Sequence[int]) -> list[bytes]:
    remaining = iter(paths)
    texts = []
    for size in sizes:
        text = bytearray()
        while len(text) < size and (path := next(remaining, None)) is not None:
            text += path.read_bytes().replace(b"\r\n", b"\n")[: -(-size // SHARE)]
        texts.append(bytes(text[:size]))
    return texts

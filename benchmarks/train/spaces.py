"""Ranges that a random search draws hyper-parameters from."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Choice", "Config", "Integers", "LogUniform", "Range", "Value", "draw", "middle"]

Value = float | int | str | bool
Config = dict[str, Value]

#: Entropy of every search; a draw depends on this, the method's name and the number of the trial only.
SEARCH_ENTROPY = 20_261


#: Part of a range, on its logarithmic scale, that counts as its end.
END = 0.05


@dataclass(frozen=True)
class LogUniform:
    """Numbers whose logarithm is uniform; rounded to three digits, so that a report can print them whole."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One number."""
        return _three_digits(self.low * (self.high / self.low) ** rng.random())

    def middle(self) -> float:
        """Geometric mean of the ends."""
        return _three_digits((self.low * self.high) ** 0.5)

    def at_an_end(self, value: float) -> bool:
        """Whether the value lies in the outermost part (`END`) of the range at either end."""
        place = math.log(value / self.low) / math.log(self.high / self.low)
        return not END < place < 1.0 - END

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log-uniform"


@dataclass(frozen=True)
class Integers:
    """Integers from `low` to `high`, small ones as likely as large ones on a logarithmic scale."""

    low: int
    high: int

    def draw(self, rng: np.random.Generator) -> int:
        """One integer."""
        return min(self.high, int(self.low * ((self.high + 1) / self.low) ** rng.random()))

    def middle(self) -> int:
        """Geometric mean of the ends, rounded."""
        return round((self.low * self.high) ** 0.5)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}, log-uniform integer"


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely."""

    values: tuple[Value, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """One value."""
        return self.values[int(rng.integers(len(self.values)))]

    def middle(self) -> Value:
        """The value in the middle of the list."""
        return self.values[len(self.values) // 2]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


Range = LogUniform | Integers | Choice


def draw(name: str, space: Mapping[str, Range], trial: int) -> Config:
    """Configuration of one trial: the same for ever, whatever other trials or methods there are.

    Parameters
    ----------
    name : str
        Of the method.
    space : mapping from hyper-parameter to range
    trial : int
        At least 0.
    """
    rng = np.random.default_rng([SEARCH_ENTROPY, zlib.crc32(name.encode()), trial])
    return {key: range_.draw(rng) for key, range_ in space.items()}


def middle(space: Mapping[str, Range]) -> Config:
    """The middle of every range, for measurements before there is a winner."""
    return {key: range_.middle() for key, range_ in space.items()}


def _three_digits(x: float) -> float:
    return float(f"{x:.3g}")

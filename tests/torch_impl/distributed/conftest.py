"""One world per size for all tests of a test process."""

from collections.abc import Callable, Iterator

import pytest

from tests.torch_impl.distributed.world import World


@pytest.fixture(scope="session")
def world() -> Iterator[Callable[..., World]]:
    """``world(size)``: the world of that size, with a process group over gloo unless told otherwise."""
    worlds: dict[tuple[int, str | None], World] = {}

    def of(size: int, *, backend: str | None = "gloo") -> World:
        return worlds.setdefault((size, backend), World(size, backend=backend))

    yield of
    for each in worlds.values():
        each.close()

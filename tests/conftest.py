"""What all tests share: hypothesis profiles, one torch thread, and no marker that names an unknown claim.

Profiles, chosen by the environment variable HYPOTHESIS_PROFILE: ``dev`` (default) a few examples, quick;
``ci`` more, and the same ones every time; ``deep`` many, for nightly runs.
"""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

DEV, CI, DEEP = 15, 40, 1000

# No deadline: the first example pays for imports and just-in-time compilation. The data is often made by a
# drawn seed, so that "too slow" would only ever blame LAPACK.
# Said outright, because hypothesis changes its own default where the environment looks like a CI machine.
settings.register_profile(
    "dev",
    max_examples=DEV,
    derandomize=False,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=CI, derandomize=True, database=None)
settings.register_profile("deep", settings.get_profile("dev"), max_examples=DEEP)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Small matrices gain nothing from threads, and two test processes with threads wait for each other.

    Test modules are imported by now: if none of them needed torch, neither does this.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers ``claim("ID")`` whose id is not in the ledger: a test of nothing would look like one."""
    marked = [(item, marker) for item in items for marker in item.iter_markers("claim")]
    if not marked:
        return
    try:
        from proofs_checks.ledger import load_claims

        known = load_claims()
    except Exception:  # a ledger that cannot be read fails its own tests, and should not stop the others
        return
    problems = [
        f"{item.nodeid}: claim marker names {id!r}, which the ledger does not hold"
        for item, marker in marked
        for id in marker.args or ("",)
        if id not in known
    ]
    if problems:
        raise pytest.UsageError("\n".join(sorted(set(problems))))

"""The guard against markers that name no claim, and the settings every test runs under."""

from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
import torch

from proofs_checks.ledger import load_claims
from tests.conftest import CI, DEEP, DEV, pytest_collection_modifyitems


def item(name: str, *ids: str) -> Any:
    """Something with a node id and claim markers, as pytest's items have."""
    marker = pytest.mark.claim(*ids).mark
    return SimpleNamespace(nodeid=name, iter_markers=lambda kind: [marker] if kind == "claim" else [])


def test_markers_of_known_claims_pass() -> None:
    known = next(iter(load_claims()))
    pytest_collection_modifyitems([item("test_a", known), item("test_b", known, known)])


@pytest.mark.parametrize("ids", [("NO-SUCH-CLAIM",), ("METH-budget", "NO-SUCH-CLAIM"), ("",), ()])
def test_markers_of_unknown_claims_or_of_none_are_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(pytest.UsageError, match="test_a: claim marker names"):
        pytest_collection_modifyitems([item("test_a", *ids)])


def test_profiles_have_no_deadline_and_ci_is_reproducible() -> None:
    profiles = {name: hypothesis.settings.get_profile(name) for name in ("dev", "ci", "deep")}
    assert [profile.max_examples for profile in profiles.values()] == [DEV, CI, DEEP]
    assert all(profile.deadline is None for profile in profiles.values())
    assert profiles["ci"].derandomize
    assert not profiles["dev"].derandomize


def test_torch_has_one_thread() -> None:
    assert torch.get_num_threads() == 1

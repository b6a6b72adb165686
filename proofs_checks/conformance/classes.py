"""A spec's checks as a pytest class in somebody else's test suite."""

from collections.abc import Callable
from typing import Any

import pytest

from proofs_checks.conformance.findings import Finder
from proofs_checks.conformance.manifest import Planned, plan
from proofs_checks.conformance.records import CheckRecord, CheckStatus
from proofs_checks.conformance.run import execute

__all__ = ["conformance_tests"]


def conformance_tests(
    spec: str,
    target: str | Callable[..., Any],
    *,
    rename: dict[str, str] | None = None,
    level: str = "L2",
    device: str = "cpu",
    dtype: str | None = None,
    seed: int = 0,
    **options: object,
) -> type:
    """A test class with one test per check and setting.

    Parameters
    ----------
    spec, target, rename, level, device, dtype, seed
        As in `proofs_checks.conformance.run_check`.
    options
        Variants of the spec and keywords for the constructor.

    Returns
    -------
    type
        Bind it to a name that pytest collects: ``TestMyMuon = conformance_tests("muon", make)``.

    Raises
    ------
    UsageError
        If the target cannot be made or refuses the options.
    """
    manifest = plan(
        target,
        spec,
        options=options,
        rename=rename or {},
        level=level,
        device=device,
        dtype=dtype,
        seed=seed,
    )
    finder = Finder()

    @pytest.mark.conformance
    class TestConformance:
        __doc__ = f"{manifest.target.name} against {spec}."

        @pytest.mark.parametrize("line", [pytest.param(line, id=line.id) for line in manifest.lines])
        def test_check(self, line: Planned) -> None:
            done = execute(line, finder)
            if done.status is CheckStatus.NOT_APPLICABLE:
                pytest.skip(done.message)
            if done.status is not CheckStatus.PASSED:
                pytest.fail(_report(done), pytrace=False)

    return TestConformance


def _report(record: CheckRecord) -> str:
    """What a developer needs to see of a failure."""
    script = record.counterexample.script if record.counterexample else None
    return "\n".join(line for line in (record.message, record.nearest_mutant, script) if line)

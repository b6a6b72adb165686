"""Every spec that can be checked, by name."""

from proofs_checks.conformance.adafisher import ADAFISHER
from proofs_checks.conformance.case import Spec
from proofs_checks.conformance.fismo import FISMO
from proofs_checks.conformance.muon import MUON
from proofs_checks.conformance.sofim import SOFIM

__all__ = ["SPECS"]

SPECS: dict[str, Spec] = {spec.name: spec for spec in (FISMO, SOFIM, ADAFISHER, MUON)}

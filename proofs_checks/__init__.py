"""Evidence: ledger, proofs, certificates, attacks, statistics, conformance checks and the command line."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("fisherproof")

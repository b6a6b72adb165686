"""Golden vectors: inputs, outputs and rounding budgets of every step, for implementations in any language.

`export` writes them, `verify` judges outputs that somebody put in their place.
"""

from proofs_checks.golden.case import GoldenError
from proofs_checks.golden.judging import FunctionResult, Report, verify
from proofs_checks.golden.writing import export

__all__ = ["FunctionResult", "GoldenError", "Report", "export", "verify"]

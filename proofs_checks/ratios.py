"""Every acceptance rule of the project: one non-negative ratio, error over a derived budget.

Skeleton; the rules follow.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EXPLICIT_BUDGET", "ORDER_ONE", "Ratio"]

#: Threshold for budgets whose constants are explicit. Ledger claim: METH-budget.
EXPLICIT_BUDGET = 1.0

#: Threshold for backward-error ratios that theory puts at O(1). Ledger claim: METH-budget.
ORDER_ONE = 30.0


@dataclass(frozen=True)
class Ratio:
    """One acceptance decision.

    Attributes
    ----------
    name : str
        The rule that was applied.
    error : float
        The measured quantity, non-negative.
    budget : float
        What rounding (or a theorem) allows, positive, in the units of `error`.
    threshold : float
        `EXPLICIT_BUDGET` or `ORDER_ONE`.
    figures : mapping of str to float
        What else a reader wants to know (resolved rank, leakage, condition number, ...).
    """

    name: str
    error: float
    budget: float
    threshold: float = EXPLICIT_BUDGET
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Error over budget; infinite when either is not a number or the budget is not positive and finite."""
        if not (math.isfinite(self.budget) and self.budget > 0 and self.error >= 0):
            return math.inf
        return self.error / self.budget

    @property
    def passed(self) -> bool:
        """True only if the ratio is a number at most the threshold; NaN fails."""
        return self.value <= self.threshold

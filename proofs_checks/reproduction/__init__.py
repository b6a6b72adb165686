"""Golden and published numbers, recomputed through `reference`; `printed` makes budgets of printed digits."""

"""Cross-checks against optimizers of other projects: torch always, the rest where the extra is installed."""

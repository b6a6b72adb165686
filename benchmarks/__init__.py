"""Measured speed, as ratios taken in one process; results are committed with the machine's description."""

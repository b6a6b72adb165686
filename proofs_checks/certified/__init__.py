"""Ball arithmetic and exact rationals: ranges of scalar maps, exact runs and counterexamples.

Certificates assert containment and narrowness; a counterexample is printed in rationals or hexadecimal
floats.
"""

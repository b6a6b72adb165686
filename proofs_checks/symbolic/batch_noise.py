"""FISMO-ABS-minibatch: what the batch size does to the noise terms, and to nothing else."""

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.proof import scalar_identity
from reference.bounds import FismoRate, FismoRateT6, UniformBounds, fismo_rate, fismo_rate_t6

__all__ = ["batch_in_the_noise_terms"]


@evidence(faults=("drawn-without-replacement", "noise-squared"))
def batch_in_the_noise_terms(*, fault: str | None = None) -> Finding:
    """The variance of a batch mean is ``sigma^2/B`` and the noise terms scale as ``sigma/sqrt(B)``.

    For independent samples ``E|mean|^2`` is ``1/B^2`` times B equal squares and ``B(B-1)`` products of means,
    which are zero; checked by enumerating all batches of two of three rational samples. In the code of both
    rates a batch four times as large halves the noise terms and leaves the others.
    """
    B = sympy.Symbol("B", positive=True)
    square, product = sympy.symbols("square product", real=True)
    mean_square = (B * square + B * (B - 1) * product) / B**2
    samples = (fmpq(-2), fmpq(-1), fmpq(3))
    distinct = fault == "drawn-without-replacement"
    pairs = [(x + y) / 2 for x in samples for y in samples if not (distinct and x == y)]
    variance, found = (sum((x * x for x in law), fmpq(0)) / len(law) for law in (samples, pairs))
    return Finding(
        (
            scalar_identity("E|mean|^2 of independent samples", mean_square.subs(product, 0), square / B),
            yes_no("all batches of two: half the variance", found == variance / 2),
            *_only_noise_moves(power=2 if fault == "noise-squared" else 1),
        ),
        "variance sigma^2/B of batch means; in both rates a batch four times as large halves the noise terms "
        "and leaves the others",
    )


def _only_noise_moves(*, power: int) -> tuple[Ratio, ...]:
    """The code's terms at batch 4 and 16: powers of two, so that halving is exact."""
    uniform = UniformBounds(p=1.5, q=2.25, Lambda_P=2.0, Lambda_Q=3.0, d_A=0.125, d_C=0.5)
    rates: dict[str, list[FismoRate] | list[FismoRateT6]] = {
        "quoted": [_worked_quoted(batch) for batch in (4, 16)],
        "averaged": [_worked_averaged(batch, uniform) for batch in (4, 16)],
    }
    found = []
    for name, (small, large) in rates.items():
        for term, old in small._asdict().items():
            new = large._asdict()[term]
            factor = 2**power if "noise" in term else 1
            found.append(yes_no(f"{name} rate, {term}", factor * new == old and new > 0))
    return tuple(found)


def _worked_quoted(batch: int) -> FismoRate:
    return fismo_rate(
        m=2,
        n=3,
        D=2.0,
        L=0.5,
        G_star=1.5,
        g=1.0,
        sigma=0.25,
        batch=batch,
        T=64,
        eta=0.125,
        beta=0.75,
        gamma=0.75,
        mu=1.0,
    )


def _worked_averaged(batch: int, uniform: UniformBounds) -> FismoRateT6:
    return fismo_rate_t6(
        r=2,
        D=2.0,
        L=0.5,
        G_f=1.5,
        sigma=0.25,
        batch=batch,
        T=64,
        eta=0.125,
        beta=0.75,
        uniform=uniform,
    )

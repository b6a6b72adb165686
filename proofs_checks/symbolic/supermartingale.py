"""METH-eprocess: why a betting test may be stopped at any time."""

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["any_stopping_rule"]

_s = sympy.symbols


@evidence(faults=("mean-above-bound", "largest-stake-wins", "stake-beyond-ruin"))
def any_stopping_rule(*, fault: str | None = None) -> Finding:
    """The wealth of a bet against a true statement ever reaches ``1/alpha`` with probability at most alpha.

    One factor ``1 + lambda (Y/b - 1)`` with ``lambda <= 1`` and ``Y >= 0`` is not negative and has mean
    ``1 - lambda (b - E Y)/b``, at most 1 under the claim, given any past. A mean over stakes keeps both. Stop
    at the first crossing: each step changes the mean of the stopped wealth by ``E[W; not stopped]`` times
    what is at most 0, so it stays at most 1, and ``1/alpha`` times the probability of a crossing is part of
    it, for every horizon. The support test is the same with ``1 - Y/c``.
    """
    stake, rest, b, y, short, W, c, over = _s("lambda rest b y short W c over", positive=True)
    p1, p2 = _s("p1 p2", positive=True)
    values = _s("y1 y2 y3", positive=True)
    weights = (p1, p2, 1 - p1 - p2)
    mean = sum(p * v for p, v in zip(weights, values, strict=True))
    factor_mean = sum(p * (1 + stake * (v / b - 1)) for p, v in zip(weights, values, strict=True))
    claimed = b + short if fault == "mean-above-bound" else b - short  # E Y
    after = 1 + stake * (claimed / b - 1)
    ceiling = c + over  # Y is at most this, above c
    largest = c / over * (2 if fault == "stake-beyond-ruin" else 1)  # 1 / (ceiling / c - 1)
    return Finding(
        (
            scalar_identity("mean of a factor", factor_mean, 1 + stake * (mean / b - 1)),
            scalar_identity("under the claim it is 1 minus a slack", after, 1 - stake * short / b),
            scalar_identity(
                "a factor is not negative",
                (1 + stake * (y / b - 1)).subs(stake, 1 - rest),
                rest + (1 - rest) * y / b,
            ),
            scalar_identity("support test at the ceiling", 1 + largest * (1 - ceiling / c)),
            scalar_identity(
                "support test: mean of a factor", 1 + stake * (1 - (c + short) / c), 1 - stake * short / c
            ),
            scalar_identity("change of the stopped wealth", W * after - W, -W * stake * short / b),
            *_enumerated(largest=fault == "largest-stake-wins"),
        ),
        "factors have mean at most 1 and are not negative, so the stopped wealth never rises in mean; all "
        "paths of 8 two-point draws enumerated in rationals. Trusted: Markov's inequality",
    )


def _enumerated(*, largest: bool) -> list[Ratio]:
    """Two-point nulls at the boundary, ``Y = b/p`` with probability p: exact law of the stopped wealth."""
    stakes, found = (fmpq(1, 10), fmpq(1, 2), fmpq(1)), []
    for p, alpha in ((fmpq(1, 2), fmpq(1, 3)), (fmpq(1, 5), fmpq(1, 6)), (fmpq(3, 4), fmpq(4, 7))):
        paths, crossed, stopped = [(fmpq(1), [fmpq(1)] * len(stakes))], fmpq(0), fmpq(0)
        for _ in range(8):
            grown = []
            for probability, wealth in paths:
                for chance, payoff in ((p, 1 / p - 1), (1 - p, fmpq(-1))):
                    new = [w * (1 + s * payoff) for w, s in zip(wealth, stakes, strict=True)]
                    total = max(new) if largest else sum(new, fmpq(0)) / len(new)
                    if total * alpha >= 1:
                        crossed += probability * chance
                        stopped += probability * chance * total
                    else:
                        grown.append((probability * chance, new))
            paths = grown
        alive = sum(
            (q * (max(new) if largest else sum(new, fmpq(0)) / len(new)) for q, new in paths), fmpq(0)
        )
        found.append(yes_no(f"mean of the stopped wealth is 1, p = {p}", stopped + alive == 1))
        found.append(yes_no(f"crossing probability at most {alpha}, p = {p}", crossed <= alpha))
    return found

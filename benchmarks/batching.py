"""Stacked FISMO steps of the reference against a loop of single steps.

Run with ``python -m benchmarks.batching [--out FILE]``. Times are processor time of one thread, taken in
turn in one process, so that the ratio survives a busy machine; medians over the repeats. Above 32 the time is
LAPACK's own, and stacking saves nothing but overhead.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.machine import describe
from reference import fismo

__all__ = ["measure"]

PROBLEMS = 1000
#: Single steps timed per repeat; the loop over all problems takes PROBLEMS / SINGLES times as long.
SINGLES = 100
REPEATS = 7
SIDES = (4, 8, 16, 32, 64)


def measure(side: int) -> dict[str, float]:
    """Median times of one step of `PROBLEMS` square problems, stacked and looped, and their ratio."""
    rng = np.random.default_rng(side)
    G = rng.standard_normal((PROBLEMS, side, side))
    state = fismo.init(G)
    singles = [(G[i], fismo.FismoState(*(X[i] for X in state))) for i in range(SINGLES)]

    def stacked() -> None:
        fismo.step(G, state)

    def looped() -> None:
        for g, s in singles:
            fismo.step(g, s)

    stacked(), looped()  # warm up
    pairs = [(_seconds(stacked), _seconds(looped) * PROBLEMS / SINGLES) for _ in range(REPEATS)]
    return {
        "side": side,
        "stacked_s": statistics.median(a for a, _ in pairs),
        "looped_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratio_min": min(b / a for a, b in pairs),
        "ratio_max": max(b / a for a, b in pairs),
    }


def _seconds(work: Callable[[], None]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def main() -> None:
    """Print the table; write it with the machine's description if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the result as JSON, with the machine")
    out = parser.parse_args().out
    rows = []
    print(f"one FISMO step of {PROBLEMS} problems, reference, float64, one thread")
    print(f"{'side':>5} {'stacked':>10} {'looped':>10} {'ratio':>7}  (range)")
    with threadpool_limits(limits=1):  # OpenBLAS spins on small eigenproblems otherwise
        for side in SIDES:
            rows.append(row := measure(side))
            print(
                f"{side:5d} {row['stacked_s']:9.3f}s {row['looped_s']:9.3f}s {row['ratio']:7.1f}"
                f"  ({row['ratio_min']:.1f} to {row['ratio_max']:.1f})"
            )
    if out is not None:
        result = {"benchmark": "batching", "problems": PROBLEMS, "machine": describe(), "rows": rows}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {out}")


if __name__ == "__main__":
    main()

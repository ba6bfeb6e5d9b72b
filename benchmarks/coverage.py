"""Simulations of what the statistics promise: ``python benchmarks/coverage.py [--repeats 1000] [--only intervals]``.

Prints a table: what was simulated, the share found, what is required; the exit status is 1 where one misses. Shares
have a simulation error of their own: with 1,000 repeats a true 95% comes out between 93.6% and 96.4%.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: many small products are slower on several cores

from covering import (
    classification,
    differences,
    finite,
    gates,
    intervals,
    judges,
    labels,
    looks,
    planning,
    repeats,
    sequences,
    shapes,
    shares,
    tests_under_null,
)

TOPICS = {
    "intervals": lambda repeats, seed: intervals.table(5 * repeats, seed),  # quick, and the bounds are close
    "differences": differences.table,
    "classification": classification.table,
    "shares": shares.table,
    "repeats": repeats.table,
    "judges": judges.table,
    "tests": tests_under_null.table,
    "shapes": shapes.table,
    "sequences": sequences.table,
    "finite": finite.table,
    "labels": labels.table,
    "planning": planning.table,
    "looks": looks.table,
    "gates": gates.table,
}


def holds(share: float, required: str) -> bool:
    """Whether a share is as required: ``0.93–0.97``, ``≥ 0.95``, ``≤ 0.055 ± 0.014``; anything else only informs."""
    bound, _, slack = required.partition("±")
    if bound.startswith("≥"):
        return share >= float(bound[1:]) - float(slack or 0)
    if bound.startswith("≤"):
        return share <= float(bound[1:]) + float(slack or 0)
    low, dash, high = bound.partition("–")
    return not dash or float(low) <= share <= float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000, help="simulated data sets; intervals: five times")
    parser.add_argument("--only", choices=sorted(TOPICS), help="one topic")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    missed = 0
    for topic in [arguments.only] if arguments.only else TOPICS:
        started = time.perf_counter()
        print(f"\n{topic}")
        for what, share, required in TOPICS[topic](arguments.repeats, arguments.seed):
            found = holds(share, required)
            missed += not found
            print(f"  {what:<78} {share:6.3f}  {required:<15} {'' if found else 'MISSED'}")
        print(f"  ({time.perf_counter() - started:.0f} s)")
    print(f"\n{missed} missed" if missed else "\nall as required")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()

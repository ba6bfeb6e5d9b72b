"""How long resampling takes and what memory: ``python benchmarks/bootstrap.py [--examples 10000 20000]``.

Five scores of ten models are resampled together: three means, one of 10 statistics (BLEU) and one of 6. Each size runs
in a process of its own, for its peak of memory. The reference is scipy.stats.bootstrap, which knows means only; it is
given a part of the work, and its time is extrapolated to the three means of all models. All on one core, unless
OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: threads of a busy machine wait for each other

import numpy as np

from lumigator_nb.metrics.ngrams import bleu
from lumigator_nb.statistics.bootstrap import difference, intervals
from lumigator_nb.statistics.resampling import Aggregate, FloatArray, pseudo_values, resampled_scores

Result = TypeVar("Result")

MODELS, MEANS, RESAMPLES = 10, 3, 10_000
REFERENCE_RESAMPLES = 200


def mean(totals: FloatArray, n: int | FloatArray) -> FloatArray:
    found: FloatArray = totals[..., 0] / n
    return found


def corpus_bleu(totals: FloatArray, n: int | FloatArray) -> FloatArray:
    return np.asarray(bleu(totals))


def ratio(totals: FloatArray, n: int | FloatArray) -> FloatArray:
    found: FloatArray = totals[..., :3].sum(axis=-1) / totals[..., 3:].sum(axis=-1)
    return found


def scores(n: int) -> list[tuple[FloatArray, Aggregate]]:
    generator = np.random.default_rng(0)
    means: list[tuple[FloatArray, Aggregate]] = [(generator.beta(4, 3, (MODELS, n, 1)), mean) for _ in range(MEANS)]
    length = generator.integers(8, 40, (MODELS, n, 2))
    ngrams = length[..., :1] - np.arange(4)
    matches = generator.binomial(ngrams, [0.6, 0.4, 0.3, 0.2])
    counts = np.concatenate([length, matches, ngrams], axis=-1).astype(np.float64)
    return [*means, (counts, corpus_bleu), (generator.random((MODELS, n, 6)) + 0.1, ratio)]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def decide(given: list[tuple[FloatArray, Aggregate]], replicates: list[FloatArray]) -> None:
    """Read all intervals, and all differences of two models, off the replicates."""
    for (statistics, aggregate), draws in zip(given, replicates, strict=True):
        overall = aggregate(statistics.sum(axis=1), statistics.shape[1])
        own = pseudo_values(statistics, aggregate)
        intervals(overall, draws, own)
        for i, j in combinations(range(MODELS), 2):
            difference(overall[i] - overall[j], draws[i] - draws[j], own[i] - own[j])


def measure(n: int) -> dict[str, float]:
    given = scores(n)
    before = peak()
    drawing, replicates = timed(lambda: [resampled_scores(*each, n_resamples=RESAMPLES) for each in given])
    growth = peak() - before
    deciding, _ = timed(lambda: decide(given, replicates))
    return {"drawing": drawing, "growth": growth, "deciding": deciding, "reference": reference(given[0][0][0, :, 0])}


def reference(values: FloatArray) -> float:
    from scipy.stats import bootstrap

    seconds, _ = timed(
        lambda: bootstrap((values,), np.mean, n_resamples=REFERENCE_RESAMPLES, method="percentile", batch=50)
    )
    return seconds * RESAMPLES / REFERENCE_RESAMPLES * MODELS * MEANS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    print(f"{MODELS} models, {MEANS + 2} scores, {RESAMPLES:,} resamples")
    for n in arguments.examples:
        command = [sys.executable, str(Path(__file__)), "--one", str(n)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(f"{n:>7,} examples: {found['drawing']:5.1f} s, peak memory + {found['growth']:.0f} MiB")
        print(f"   BCa intervals of all, and of all {MODELS * (MODELS - 1) // 2} pairs: {found['deciding']:.1f} s")
        print(
            f"   scipy.stats.bootstrap of the {MEANS} means alone, extrapolated from {REFERENCE_RESAMPLES} resamples "
            f"of one model's: {found['reference']:.0f} s = {found['reference'] / found['drawing']:.0f} x"
        )


if __name__ == "__main__":
    main()

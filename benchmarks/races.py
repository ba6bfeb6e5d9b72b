"""Races: how often they are wrong, and what they save: ``python benchmarks/races.py [--races 1000]``.

Simulated scores, and recorded ones: five extractive summarizers over 1,200 texts made by rule, scored by rougeL. Each
race runs over the examples in another random order. Model calls are a share of the full grid, which asks every model
for every example.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import lumigator_nb as lm
from lumigator_nb.models import predict
from lumigator_nb.statistics.resampling import FloatArray

EXAMPLES = 1_200
SYLLABLES = ("ba", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu")
Draw = Callable[[np.random.Generator], FloatArray]
Bounds = tuple[float, float] | None


def simulated(leads: tuple[float, ...], *, bounded: bool, correlation: float) -> Draw:
    """Five models or more whose means lead by so many standard deviations; hard examples are hard for all."""

    def draw(random: np.random.Generator) -> FloatArray:
        common, own = random.normal(size=EXAMPLES), random.normal(size=(len(leads), EXAMPLES))
        scores = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own + np.array(leads)[:, None]
        return np.clip(0.5 + 0.15 * scores, 0, 1) if bounded else scores

    return draw


def recorded() -> FloatArray:
    """(models, examples) rougeL of real answers: the first N sentences, against a blurred summary of the first two."""
    random = np.random.default_rng(0)
    words = [f"{start}{end}" for start in SYLLABLES for end in "nrstlmkd"]

    def sentence() -> str:
        return " ".join(random.choice(words, random.integers(4, 14))).capitalize() + "."

    texts, truths = [], []
    for _ in range(EXAMPLES):
        sentences = [sentence() for _ in range(7)]
        kept = [word for word in " ".join(sentences[:2]).split() if random.random() > 0.3]
        texts.append(" ".join(sentences))
        truths.append(" ".join(kept))
    answers = {f"lead-{n}": [each.text for each in predict(f"baseline/lead-{n}", texts)] for n in (1, 2, 3, 4, 6)}
    frame = lm.score(answers, truths, metrics=["rouge"])
    return np.stack([frame.loc[frame["model"] == name, "rougeL"].to_numpy() for name in answers])


def shuffled(scores: FloatArray) -> Draw:
    return lambda random: scores[:, random.permutation(scores.shape[1])]


def run(name: str, draw: Draw, races: int, *, best: set[int] | None, bounds: Bounds,
        indifference: float = 0.0) -> bool:  # fmt: skip
    ends, wrong, used = Counter(), 0, 0.0
    for number in range(races):
        scores = draw(np.random.default_rng(number))
        found = lm.statistics.race(scores, bounds=bounds, indifference=indifference, total=EXAMPLES)
        ends[found.conclusion] += 1
        named = found.conclusion == "best"
        wrong += named and (best is None or found.leader not in best or len(best) > 1)
        used += sum(found.used) / scores.size
    share, calls = wrong / races, used / races
    text = ", ".join(f"{kind} {count / races:.0%}" for kind, count in ends.most_common())
    decided = best is not None and len(best) == 1
    good = share <= 0.05 and (not decided or calls <= 0.5)
    print(f"  {name:<66} wrong {share:6.1%}   calls {calls:6.1%}   {text}{'' if good else '   MISSED'}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=1000)
    races = parser.parse_args().races
    print(f"{races:,} races each; wrong: a winner is certified that is not the one best model (at most 5%);")
    print("calls: of the full grid (at most 50% where one model leads by a quarter of a standard deviation)\n")
    quarter, none, two = (0.25, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0.25, 0.25, 0, 0, 0)
    good = [
        run("bounded scores, correlation 0.5, the best leads by 0.25 sd",
            simulated(quarter, bounded=True, correlation=0.5), races, best={0}, bounds=(0, 1)),
        run("bounded scores, independent, the best leads by 0.25 sd",
            simulated(quarter, bounded=True, correlation=0), races, best={0}, bounds=(0, 1)),
        run("normal scores without bounds, correlation 0.5, leads by 0.25 sd",
            simulated(quarter, bounded=False, correlation=0.5), races, best={0}, bounds=None),
        run("normal scores without bounds, independent, leads by 0.25 sd",
            simulated(quarter, bounded=False, correlation=0), races, best={0}, bounds=None),
        run("ten models in steps of 0.1 sd, bounded, correlation 0.5",
            simulated(tuple(-0.1 * n for n in range(10)), bounded=True, correlation=0.5), races, best={0},
            bounds=(0, 1)) or True,
        run("all equal, bounded", simulated(none, bounded=True, correlation=0.5), races, best=None, bounds=(0, 1)),
        run("all equal, normal", simulated(none, bounded=False, correlation=0.5), races, best=None, bounds=None),
        run("all equal, bounded, indifference 0.03 (0.2 sd)",
            simulated(none, bounded=True, correlation=0.5), races, best=None, bounds=(0, 1), indifference=0.03),
        run("two equal best lead by 0.25 sd, bounded",
            simulated(two, bounded=True, correlation=0.5), races, best={0, 1}, bounds=(0, 1)),
    ]  # fmt: skip
    scores = recorded()
    means = scores.mean(axis=1)
    leads = (means.max() - np.sort(means)[-2]) / scores.std(axis=1).mean()
    print(f"\n  recorded: five summarizers, {EXAMPLES:,} examples; the best leads by {leads:.2f} sd")
    best = {int(means.argmax())}
    good.append(run("recorded rougeL, random orders", shuffled(scores), races, best=best, bounds=(0, 1)))
    # Moved so that the best leads by just a quarter; means of answers beside it stay as they are.
    closer = scores.copy()
    gap = (means.max() - np.sort(means)[-2]) - 0.25 * scores.std(axis=1).mean()
    closer[means.argmax()] = closer[means.argmax()] - gap
    low, high = min(0.0, closer.min()), 1.0
    good.append(run("the same with the best moved to lead by 0.25 sd", shuffled(closer), races, best=best,
                    bounds=(low, high)))  # fmt: skip
    twin = np.vstack([scores[means.argmax()], np.roll(scores[means.argmax()], 1), scores[means.argmin()]])
    good.append(run("recorded, the best and its shuffled twin (equal means)", shuffled(twin), races, best={0, 1},
                    bounds=(0, 1)))  # fmt: skip
    print("\nall as required" if all(good) else "\nmissed")
    sys.exit(not all(good))


if __name__ == "__main__":
    main()

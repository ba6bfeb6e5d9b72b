"""How the batch size and the number format decide the speed of a small chat model on this machine.

    python benchmarks/batching.py [--examples 32] [--repeats 2] [--batch-sizes 1 4 8 16 32]

Prints tokens per second and the ratio to batch size 1. Every repeat goes through all settings, and the best of each
counts, because another process can only slow one down.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import lumigator_nb
from lumigator_nb import models
from lumigator_nb.specs import Model, Task

NAME = "hf/HuggingFaceTB/SmolLM2-135M-Instruct"


def main() -> None:
    arguments = parsed()
    texts = dialogues(arguments.examples)
    words = sum(len(text.split()) for text in texts)
    print(f"{NAME}: {len(texts)} dialogues, {words} words, max_new_tokens {arguments.max_new_tokens}")
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for setting in settings(arguments):
        speed, seconds = measured(*setting, texts, arguments.max_new_tokens)
        print(f"  {setting[0]:>9} batch {setting[1]:>3}: {speed:6.1f} tokens/s, {seconds:6.1f} s", flush=True)
        best[setting] = max(best.get(setting, (0.0, 0.0)), (speed, seconds))
    show(best)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=60)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    return parser.parse_args()


def settings(arguments: argparse.Namespace) -> Iterator[tuple[str, int]]:
    for _ in range(arguments.repeats):
        yield from product(arguments.dtypes, arguments.batch_sizes)


def dialogues(n: int) -> list[str]:
    sample = Path(lumigator_nb.__file__).parent / "samples" / "dialogues.jsonl"
    return [json.loads(line)["dialogue"] for line in sample.read_text(encoding="utf-8").splitlines()[:n]]


def measured(dtype: str, batch_size: int, texts: list[str], max_new_tokens: int) -> tuple[float, float]:
    """Return tokens per second and seconds for all texts, after a warm-up, without loading."""
    model = Model(NAME, max_new_tokens=max_new_tokens, options={"dtype": dtype, "batch_size": batch_size})
    loaded = models.load(model, Task())
    loaded.predict(texts[:1])
    started = time.perf_counter()
    predictions = loaded.predict(texts)
    seconds = time.perf_counter() - started
    return sum(each.completion_tokens or 0 for each in predictions) / seconds, seconds


def show(best: dict[tuple[str, int], tuple[float, float]]) -> None:
    base = next(iter(best.values()))[0]
    print(f"\n{'dtype':>9} {'batch':>5} {'tokens/s':>9} {'seconds':>8} {'ratio':>6}")
    for (dtype, batch_size), (speed, seconds) in best.items():
        print(f"{dtype:>9} {batch_size:>5} {speed:>9.1f} {seconds:>8.1f} {speed / base:>6.2f}")


if __name__ == "__main__":
    main()

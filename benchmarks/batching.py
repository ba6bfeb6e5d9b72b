"""What batching brings on this machine: short inputs through our models against transformers called one by one.

    python benchmarks/batching.py [--examples 200] [--alone 24] [--rows 8 16 32 64]

Prints tokens generated per second and the ratio to `generate` with one input at a time, in the same process and on the
same inputs (`--alone` of them, since that takes long). Two models: SmolLM2-135M-Instruct as its package ships it, and a
T5 of 60 million random weights, whose answers always have the full length.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import torch
import transformers

from lumigator_nb import models
from lumigator_nb.models import Conversation
from lumigator_nb.specs import Example, Model, Summarization

TASK = Summarization("Say in one sentence what it is about.")
NEW_TOKENS = 24
SUBJECTS = ("The bus", "A parcel", "My neighbour", "The heating", "Our printer", "The new tram")
EVENTS = ("came late again", "was lost for a week", "made noise all night", "stopped on Monday", "works since noon")


def short_inputs(n: int) -> list[str]:
    return [f"{SUBJECTS[i % 6]} {EVENTS[i % 5]}, and nobody told us why. Note {i}." for i in range(n)]


def small_t5(folder: str) -> str:
    """A random T5 of the size of t5-small with a tokenizer of words."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    words = sorted({word for text in short_inputs(60) for word in text.replace(",", " ,").replace(".", " .").split()})
    vocabulary = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = transformers.T5Config(vocab_size=32128, decoder_start_token_id=0, pad_token_id=0, eos_token_id=None)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return f"hf/{folder}"


def ours(name: str, texts: list[str], rows: int) -> float:
    """Tokens per second through our model, after a warm-up."""
    loaded = models.load(Model(name, max_new_tokens=NEW_TOKENS, options={"batch_size": rows, "device": "cpu"}), TASK)
    ask(loaded, texts[:1])
    return speed(lambda: (prediction.completion_tokens or 0 for _, prediction in ask(loaded, texts)))


def ask(loaded: models.LanguageModel, texts: list[str]) -> list[tuple[models.Request, models.Prediction]]:
    conversation = Conversation(TASK)
    return list(loaded.answer(conversation.request(Example(row, text)) for row, text in enumerate(texts)))


def one_by_one(name: str, texts: list[str]) -> float:
    """Tokens per second of transformers' own `generate`, one input at a time, on the same prompts."""
    loaded = models.load(Model(name, max_new_tokens=NEW_TOKENS, options={"device": "cpu"}), TASK)
    prompts = [prediction.prompt for _, prediction in sorted(ask(loaded, texts), key=lambda pair: pair[0].row)]
    network, tokenizer = loaded._model, loaded._tokenizer
    apart = network.config.is_encoder_decoder

    def generate(prompt: str) -> int:
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=apart)
        with torch.inference_mode():
            output = network.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False
            )
        return output.shape[1] - (1 if apart else inputs["input_ids"].shape[1])

    generate(prompts[0])
    return speed(lambda: map(generate, prompts))


def speed(work: Callable[[], Iterable[int]]) -> float:
    started = time.perf_counter()
    tokens = sum(work())
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--alone", type=int, default=24)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 32, 64])
    given = parser.parse_args()
    texts = short_inputs(given.examples)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("hf/HuggingFaceTB/SmolLM2-135M-Instruct", small_t5(folder)):
            print(name if "Smol" in name else "T5, 60 million random weights")
            base = one_by_one(name, texts[: given.alone])
            print(f"  transformers, one by one   {base:7.1f} tokens/s")
            for rows in given.rows:
                found = ours(name, texts, rows)
                print(f"  ours, up to {rows:>3} together   {found:7.1f} tokens/s   {found / base:5.2f} x", flush=True)


if __name__ == "__main__":
    main()

"""The models of the Hugging Face hub that Lumigator's tests, notebooks and UI ask for, under their names.

They are tiny and their weights are random, but real code loads them and they answer in words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = [f"{first}{second}" for first in ("room", "heat", "plumb", "week", "call", "cold") for second in "aeiou"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
SIZE = len(SPECIAL) + len(WORDS)
COMMIT = "0" * 40
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}


def fill(folder: Path) -> None:
    """Fill a folder, which is to be HF_HOME, as a download does."""
    import torch

    torch.manual_seed(0)
    for name, build in MODELS.items():
        repository = folder / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        build().save_pretrained(snapshot)
        _tokenizer().save_pretrained(snapshot)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip


def _bart() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    halves = {f"{half}_{what}": size for half in ("encoder", "decoder") for what, size in sizes.items()}
    config = BartConfig(
        vocab_size=SIZE, d_model=16, max_position_embeddings=512, forced_eos_token_id=None, **halves, **TOKENS
    )
    return BartForConditionalGeneration(config)


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(vocab_size=SIZE, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **TOKENS)
    )


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {name: token for name, token in TOKENS.items() if name != "decoder_start_token_id"}
    return LlamaForCausalLM(LlamaConfig(vocab_size=SIZE, max_position_embeddings=4096, **sizes, **tokens))


def _roberta() -> Any:
    from transformers import RobertaConfig, RobertaModel

    # BERTScore compares the output of the 17th layer.
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 17, "num_attention_heads": 2}
    return RobertaModel(RobertaConfig(vocab_size=SIZE, max_position_embeddings=514, pad_token_id=0, **sizes))


MODELS: dict[str, Callable[[], Any]] = {
    "hf-internal-testing/tiny-random-BARTForConditionalGeneration": _bart,
    "hf-internal-testing/tiny-random-LlamaForCausalLM": _llama,
    "facebook/bart-large-cnn": _bart,
    "facebook/m2m100_418M": _t5,
    "Helsinki-NLP/opus-mt-en-de": _t5,
    "roberta-large": _roberta,
}

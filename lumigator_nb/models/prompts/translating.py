"""How a sequence-to-sequence model is told from which language into which.

Three families: a prefix in words (T5, Flan-T5, mT0), codes as tokens (M2M100, NLLB, mBART), and those trained for one
pair (FSMT, most of Marian), of which the Marian models for several take the target as ``>>xxx<<`` in front of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.specs import Task, language_name

PREFIX_TYPES = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
# Of models told by tokens. Others may have words in their vocabulary that only look like those tokens.
_CODE_TYPES = {"m2m_100", "mbart", "nllb-moe"}
# On the hub only: a folder is the one model that it holds.
GENERIC_MARIAN = re.compile(r"([\w.-]+/)?opus-mt")

# What a token of a language looks like, and how to read a BCP 47 tag from it: M2M100, NLLB, mBART-50.
_TOKENS = (r"__([a-z]{2,3})__", r"([a-z]{3}_[A-Z][a-z]{3})", r"([a-z]{2,3}_[A-Z]{2})")
# Members that models name where people name the whole, as far as langcodes does not know them: Norwegian, Pashto,
# Fulah, Quechua.
_WHOLE = {"nb": "no", "pbt": "ps", "fuv": "ff", "quy": "qu"}


@dataclass(frozen=True)
class Route:
    """How a model is told the languages.

    Attributes:
        prefix: text before each example.
        first_token: what the decoder must begin with; None leaves it to the model.
        described: for the record.
    """

    prefix: str = ""
    first_token: int | None = None
    described: str = ""


def pair_name(name: str, task: Task) -> str:
    """Return the name of the Marian model for a task's languages where `name` is the generic one, else `name`.

    Raises:
        InvalidInputError: the generic name, and another task.
    """
    if not GENERIC_MARIAN.fullmatch(name):
        return name
    if task.kind != "translation":
        raise InvalidInputError(
            f"{name!r} stands for one translation model per pair of languages, and the task is {task.kind}",
            "take another model, or a task such as lm.Translation('English', 'German')",
        )
    return f"{name}-{_short(task.source)}-{_short(task.target)}"


def route(name: str, config: Any, tokenizer: Any, task: Task) -> Route:
    """Set the tokenizer to the source language and return how the model is told the rest.

    Raises:
        InvalidInputError: the model does not know one of the languages, or cannot be told any.
    """
    if config.model_type in PREFIX_TYPES:
        words = f"translate {language_name(task.source)} to {language_name(task.target)}: "
        return Route(prefix=words, described=f"text, after {words!r}")
    if config.model_type == "marian":
        return _marian(name, tokenizer, task)
    if config.model_type == "fsmt":
        return _one_pair(name, (tokenizer.src_lang, tokenizer.tgt_lang), task)
    codes = _codes(tokenizer) if config.model_type in _CODE_TYPES else {}
    if codes:
        source, target = (_matched(name, code, codes) for code in (task.source, task.target))
        # Its own spelling: "de" for M2M100, "deu_Latn" for NLLB, "de_DE" for mBART.
        tokenizer.src_lang = source.strip("_")
        return Route(
            first_token=tokenizer.convert_tokens_to_ids(target),
            described=f"text, {source} to {target} by language token",
        )
    raise InvalidInputError(
        f"model {name!r} ({config.model_type}) cannot be told languages",
        "take a translation model (T5, M2M100, NLLB, mBART, Marian) or a chat model",
    )


def _marian(name: str, tokenizer: Any, task: Task) -> Route:
    listed = getattr(tokenizer, "supported_language_codes", None) or []
    if not listed:
        return _one_pair(name, (tokenizer.source_lang, tokenizer.target_lang), task)
    tags = {_tag(token.strip("<>")): token for token in listed}
    token = _matched(name, task.target, tags)
    return Route(prefix=f"{token} ", described=f"text, after {token!r}")


def _one_pair(name: str, pair: tuple[str | None, str | None], task: Task) -> Route:
    """Refuse other languages than the model's, as far as its files name them."""
    for own, wanted in zip(pair, (task.source, task.target), strict=True):
        # Longer codes stand for groups of languages too, such as "gmq" or "ROMANCE".
        if own is not None and len(own) == 2:
            _matched(name, wanted, {own: own})
    return Route(described="text; the model knows one pair of languages")


def _codes(tokenizer: Any) -> dict[str, str]:
    """The tokenizer's language tokens by BCP 47 tag; of several families the one with the most counts."""
    # M2M100 keeps its language tokens apart from its vocabulary.
    vocabulary = [*tokenizer.get_vocab(), *getattr(tokenizer, "lang_code_to_token", {}).values()]
    families = [
        {_tag(found[1]): token for token in vocabulary if (found := re.fullmatch(pattern, token))}
        for pattern in _TOKENS
    ]
    largest = max(families, key=len)
    return largest if len(largest) > 1 else {}


def _tag(code: str) -> str:
    return code.replace("_", "-")


def _matched(name: str, code: str | None, tokens: Mapping[str, str]) -> str:
    """Return the token of a language: the same one in the same script, of the nearest region where that is open."""
    from langcodes import tag_distance

    known = {tag: token for tag, token in tokens.items() if _is_tag(tag)}
    wanted = _identity(code or "und")
    same = [tag for tag in known if _identity(tag) == wanted]
    if not same:
        some = ", ".join(sorted(known)[:12]) + (", …" if len(known) > 12 else "")
        raise InvalidInputError(
            f"model {name!r} does not know {language_name(code)} ({code})",
            f"it knows {len(known)} {'language' if len(known) == 1 else 'languages'}: {some}",
        )
    return known[min(same, key=lambda tag: tag_distance(code or "und", tag))]


def _identity(tag: str) -> tuple[str | None, str | None]:
    """Language and script, however a tag spells them.

    The distances of langcodes tell what a reader would understand, and let Croatian pass for Bosnian.
    """
    from langcodes import Language

    full = Language.get(tag).prefer_macrolanguage().maximize()
    # NLLB writes "kor_Hang", while the script of Korean is said to be "Kore", Hangul and Chinese characters.
    script = "Kore" if full.script == "Hang" else full.script
    return _WHOLE.get(full.language or "", full.language), script


def _is_tag(tag: str) -> bool:
    from langcodes import tag_is_valid

    return bool(tag_is_valid(tag))


def _short(code: str | None) -> str:
    """The code as OPUS-MT writes it in names: two letters where there are two, without region."""
    from langcodes import Language

    return str(Language.get(code or "").language)

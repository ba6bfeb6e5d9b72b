"""How a sequence-to-sequence model is told from which language into which.

Three families: a prefix in words (T5, Flan-T5, mT0), codes as tokens (M2M100, NLLB, mBART), and Marian, which knows one
pair, or takes the target as ``>>xxx<<`` in front of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.specs import Task, language_name

PREFIX_TYPES = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
GENERIC_MARIAN = re.compile(r"(.*/)?opus-mt")

# What a token of a language looks like, and how to read a BCP 47 tag from it: M2M100, NLLB, mBART-50.
_TOKENS = (r"__([a-z]{2,3})__", r"([a-z]{3}_[A-Z][a-z]{3})", r"([a-z]{2,3}_[A-Z]{2})")
# Farthest that langcodes may go: "pt-BR" is understood where there is only "pt", another script is not.
_FARTHEST = 9


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
    """Return the name of the Marian model for a task's languages where `name` is the generic one, else `name`."""
    if task.kind == "translation" and GENERIC_MARIAN.fullmatch(name):
        return f"{name}-{_short(task.source)}-{_short(task.target)}"
    return name


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
    codes = _codes(tokenizer)
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
        return Route(described="text; the model knows one pair of languages")
    tags = {_tag(token.strip("<>")): token for token in listed}
    token = _matched(name, task.target, tags)
    return Route(prefix=f"{token} ", described=f"text, after {token!r}")


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
    from langcodes import LanguageTagError, closest_match

    known = {tag: token for tag, token in tokens.items() if _is_tag(tag)}
    try:
        tag, distance = closest_match(code or "", list(known), max_distance=_FARTHEST)
    except LanguageTagError:
        tag, distance = "und", 1000
    if distance > _FARTHEST or tag not in known:
        some = ", ".join(sorted(known)[:12])
        raise InvalidInputError(
            f"model {name!r} does not know {language_name(code)} ({code})",
            f"it knows {len(known)} languages: {some}, …",
        )
    return known[tag]


def _is_tag(tag: str) -> bool:
    from langcodes import tag_is_valid

    return bool(tag_is_valid(tag))


def _short(code: str | None) -> str:
    """The code as OPUS-MT writes it in names: two letters where there are two, without region."""
    from langcodes import Language

    return str(Language.get(code or "").language)

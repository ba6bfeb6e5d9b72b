"""How sequence-to-sequence models take the languages of a translation.

There are three families: models with a prefix in words (T5, Flan-T5, mT0), models with a token per language (M2M100,
NLLB, mBART), and models trained for one pair (FSMT, most Marian models). Marian models for several target languages
take the target as ``>>xxx<<`` before the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.specs import Task, language_name

PREFIX_TYPES = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
# Models with language tokens. Other vocabularies may have words that only look like such tokens.
_CODE_TYPES = {"m2m_100", "mbart", "nllb-moe"}
# The name without a pair of languages. Only a name on the hub: a local folder holds one particular model.
GENERIC_MARIAN = re.compile(r"([\w.-]+/)?opus-mt")

# The form of language tokens, with the tag in brackets: M2M100, NLLB, mBART-50.
_TOKENS = (r"__([a-z]{2,3})__", r"([a-z]{3}_[A-Z][a-z]{3})", r"([a-z]{2,3}_[A-Z]{2})")
# Members of macrolanguages that models name, and langcodes does not map: Norwegian, Pashto, Fulah, Quechua.
_MACROLANGUAGES = {"nb": "no", "pbt": "ps", "fuv": "ff", "quy": "qu"}


@dataclass(frozen=True)
class Route:
    """How a model takes the languages.

    Attributes:
        prefix: text before each example.
        first_token: id of the token that the decoder must begin with; None leaves it to the model.
        described: description for the workflow's details.
    """

    prefix: str = ""
    first_token: int | None = None
    described: str = ""


def pair_name(name: str, task: Task) -> str:
    """Return the Marian model for the task's languages if `name` is "opus-mt" without a pair; otherwise `name`.

    Raises:
        InvalidInputError: `name` has no pair, and the task is not a translation.
    """
    if not GENERIC_MARIAN.fullmatch(name):
        return name
    if task.kind != "translation":
        raise InvalidInputError(
            f"{name!r} stands for one translation model per pair of languages, and the task is {task.kind}",
            "take another model, or a task such as lm.Translation('English', 'German')",
        )
    from langcodes import Language

    # OPUS-MT's names have language codes without regions: two letters if the language has such a code.
    source, target = (Language.get(code or "").language for code in (task.source, task.target))
    return f"{name}-{source}-{target}"


def route(name: str, config: Any, tokenizer: Any, task: Task) -> Route:
    """Set the tokenizer to the source language and return how the model takes the target language.

    Args:
        name: the model's name, for errors.
        config: the model's configuration (transformers' ``PretrainedConfig``).
        tokenizer: the model's tokenizer; the source language is set on it.
        task: a translation.

    Raises:
        InvalidInputError: the model does not know one of the languages, or it is not a translation model.
    """
    if config.model_type in PREFIX_TYPES:
        words = f"translate {language_name(task.source)} to {language_name(task.target)}: "
        return Route(prefix=words, described=f"text, after {words!r}")
    if config.model_type == "marian":
        # Only models for several target languages have such tokens.
        tokens = getattr(tokenizer, "supported_language_codes", None) or []
        if not tokens:
            return _one_pair(name, (tokenizer.source_lang, tokenizer.target_lang), task)
        token = _language_token(name, task.target, {_tag(token.strip("<>")): token for token in tokens})
        return Route(prefix=f"{token} ", described=f"text, after {token!r}")
    if config.model_type == "fsmt":
        return _one_pair(name, (tokenizer.src_lang, tokenizer.tgt_lang), task)
    by_tag = _language_tokens(tokenizer) if config.model_type in _CODE_TYPES else {}
    if by_tag:
        source, target = (_language_token(name, code, by_tag) for code in (task.source, task.target))
        # In the model's spelling: "de" for M2M100, "deu_Latn" for NLLB, "de_DE" for mBART.
        tokenizer.src_lang = source.strip("_")
        return Route(
            first_token=tokenizer.convert_tokens_to_ids(target),
            described=f"text, {source} to {target} by language token",
        )
    raise InvalidInputError(
        f"model {name!r} ({config.model_type}) does not take languages",
        "take a translation model (T5, M2M100, NLLB, mBART, Marian) or a chat model",
    )


def _one_pair(name: str, pair: tuple[str | None, str | None], task: Task) -> Route:
    """Refuse other languages than the model's, as far as its files name them."""
    for own, wanted in zip(pair, (task.source, task.target), strict=True):
        # A longer code may be a group of languages, such as "gmq" or "ROMANCE", so it proves nothing.
        if own is not None and len(own) == 2:
            _language_token(name, wanted, {own: own})
    return Route(described="text; the model knows one pair of languages")


def _language_tokens(tokenizer: Any) -> dict[str, str]:
    """The tokenizer's language tokens by BCP 47 tag, in the form that most of them have."""
    # M2M100's language tokens are not part of its vocabulary.
    vocabulary = [*tokenizer.get_vocab(), *getattr(tokenizer, "lang_code_to_token", {}).values()]
    families = [
        {_tag(match[1]): token for token in vocabulary if (match := re.fullmatch(pattern, token))}
        for pattern in _TOKENS
    ]
    largest = max(families, key=len)
    return largest if len(largest) > 1 else {}


def _tag(code: str) -> str:
    return code.replace("_", "-")


def _language_token(name: str, code: str | None, tokens: Mapping[str, str]) -> str:
    """Return the token for a language: same language and script, and of several regions the nearest."""
    from langcodes import tag_distance, tag_is_valid

    by_tag = {tag: token for tag, token in tokens.items() if tag_is_valid(tag)}
    wanted = _language_and_script(code or "und")
    matches = [tag for tag in by_tag if _language_and_script(tag) == wanted]
    if not matches:
        some = ", ".join(sorted(by_tag)[:12]) + (", …" if len(by_tag) > 12 else "")
        raise InvalidInputError(
            f"model {name!r} does not know {language_name(code)} ({code})",
            f"it knows {len(by_tag)} {'language' if len(by_tag) == 1 else 'languages'}: {some}",
        )
    return by_tag[min(matches, key=lambda tag: tag_distance(code or "und", tag))]


def _language_and_script(tag: str) -> tuple[str | None, str | None]:
    """Language and script, normalized.

    Not the distance of langcodes alone, which measures what a reader would understand: by it, Croatian passes for
    Bosnian.
    """
    from langcodes import Language

    full = Language.get(tag).prefer_macrolanguage().maximize()
    # NLLB writes "kor_Hang"; the likely script of Korean is "Kore", Hangul with Chinese characters.
    script = "Kore" if full.script == "Hang" else full.script
    return _MACROLANGUAGES.get(full.language or "", full.language), script

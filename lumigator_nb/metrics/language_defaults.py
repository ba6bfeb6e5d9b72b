"""Settings that follow from the language of the texts, where none were given."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping

from lumigator_nb.specs import MetricSpec

# Languages that do not put spaces between words.
WITHOUT_SPACES = frozenset({"zh", "yue", "wuu", "ja", "th", "lo", "km", "my", "bo"})
# As sacrebleu chooses for the target language of a translation; without the dictionaries, characters.
_SACREBLEU = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
_DICTIONARIES = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}


def localized(spec: MetricSpec, language: str | None) -> MetricSpec:
    """Return a metric with the settings for a language.

    Args:
        language: code; None where it is not known.
    """
    base = (language or "").partition("-")[0]
    rule = _RULES.get(spec.name)
    found = rule(base) if base and rule else {}
    return spec.model_copy(update={"options": {**found, **spec.options}}) if found else spec


def _bertscore(language: str) -> dict[str, str]:
    return {} if language == "en" else {"language": language}


def _bleu(language: str) -> dict[str, str]:
    chosen = _SACREBLEU.get(language, "char" if language in WITHOUT_SPACES else None)
    dictionary = _DICTIONARIES.get(chosen or "")
    if dictionary and importlib.util.find_spec(dictionary) is None:
        chosen = "char"
    return {"tokenize": chosen} if chosen else {}


def _meteor(language: str) -> dict[str, bool]:
    return {} if language == "en" else {"synonyms": False}


def _rouge(language: str) -> dict[str, str]:
    return {"tokenize": "characters"} if language in WITHOUT_SPACES else {}


_RULES: dict[str, Callable[[str], Mapping[str, str | bool]]] = {
    "bertscore": _bertscore,
    "bleu": _bleu,
    "meteor": _meteor,
    "rouge": _rouge,
}

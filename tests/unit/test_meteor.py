"""METEOR, its tokens and its synonyms equal NLTK's."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nltk.data
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer
from nltk.translate.meteor_score import single_meteor_score

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.metrics.kernels import treebank, wordnet
from lumigator_nb.metrics.meteor import Meteor
from lumigator_nb.specs import MetricSpec


def _missing(*, synonyms: bool = True) -> str | None:
    try:
        Meteor(synonyms=synonyms).prepare()
    except ConfigurationError as error:
        return str(error)
    return None


needs_data = pytest.mark.skipif(_missing() is not None, reason=f"METEOR IS NOT TESTED: {_missing()}")
needs_punkt = pytest.mark.skipif(
    _missing(synonyms=False) is not None, reason=f"METEOR IS NOT TESTED: {_missing(synonyms=False)}"
)

PAIRS = [
    ("", ""),
    ("", "something"),
    ("something", ""),
    (" \n\t ", "white space"),
    ("the cat sat on the mat", "on the mat sat the cat"),
    ("the the the the", "the cat the dog the"),
    ("The dogs were running quickly.", "A dog ran fast; the hound was quick."),
    ("He purchased a large automobile.", "He bought a big car."),
    ("He said: 'It's the dogs' house'.", "\"It's the dogs' kennel,\" he said."),
    ("I can't, won't and shouldn't; I'm gonna go 'cause they've left.", "I cannot go since they left, d'ye see?"),
    ("It cost $3.88 (about 3,36 euros) at 10:30 a.m.", "At 10:30 a.m. it cost around 3.36 euros."),
    ("Dr. Smith of the U.S. met J. S. Bach. He left at 5 p.m. Nobody cared.", "Mr. Smith met Bach. Nobody minded!"),
    ("What?! Really... Yes -- it's true. (He said so.)", "Is it true? Yes, really."),
    ('First paragraph\n\nSecond one.\nThird "quoted".', 'Third paragraph.\n"Second" one.'),
    ("Der Zug fährt früh; Müller zahlt 3,50 €. Das ist z.B. teuer.", "Müller zahlt für den Zug 3,50 €."),
    ("会議は三時に始まります。遅れないで。", "会議は三時から始まる。"),
    ("naïve café — “curly” ‘quotes’ «chevrons»…", "naive cafe - \"curly\" 'quotes' <<chevrons>>..."),
    ("🙂 see you tomorrow 🙂 \ud800", "see you tomorrow 🙂"),
    ("geese mice men better worst wolves", "goose mouse man good bad wolf"),
    ("ice_cream New_York 's 'd", "ice cream in New York"),
    ("STRASSE İstanbul ſtop", "straße istanbul stop"),
]
WORDS = [
    *("the", "a", "of", "and", "to", "in", "big", "large", "huge", "small", "little", "buy", "buys", "bought"),
    *("purchase", "purchased", "car", "cars", "automobile", "house", "home", "run", "runs", "running", "ran", "quick"),
    *("quickly", "fast", "rapid", "speak", "talk", "talks", "say", "said", "tell", "begin", "start", "started"),
    *("commence", "end", "finish", "child", "children", "kid", "kids", "woman", "women", "man", "men", "doctor"),
    *("physician", "happy", "glad", "unhappy", "sad", "Monday", "London", "émigré", "well-known", "Dr.", "Mr.", "U.S."),
    *("e.g.", "i.e.", "cannot", "can't", "gonna", "it's", "dogs'", "'tis", "don't", "we'll", "they've", "3.5", "$5"),
    *("10,000", "50%", "10:30", "--", "..."),
]
MARKS = [" "] * 30 + [
    *(". ", ".\n", "? ", "! ", ", ", "; ", ": ", "\n", "  ", ' "', '" ', " (", ") ", "' ", " '"),
    "’s ",
    " “",
]


# Words that only look English, words that share an English stem, and what splits words in each language.
FOREIGN = {
    "de": "Das der Gift Rat Hat Kind Kinder die Hunde Hund rote Männer Straße läuft laufen z.B. d.h. Müller's geht's "
    "schnell schneller 3,50 € Bank Banken „gut“ – Ärger",
    "es": "El la los perro perros gato gatos ¿Cómo estás? ¡Hola! niño niñas come comes comiendo 1.000,50 Sr. once red "
    "sin pan «bien» del al está",
    "fr": "L'homme l'eau d'accord chat chats aujourd'hui qu'il n'est pain main but français mangent mangés M. 5% "
    "« oui » chien chiens c'est à",
    "pl": "pies psy psa kot koty żółw żółwie idzie idą tak nie jest są pan panowie dr. 12.05 że",
    "ru": "Собака собаки кошка кошек бежит бежал дом дома не да и в на г. 5 рублей",
    "ko": "개가 개는 고양이가 집에 갔다 간다 빨리 그리고 3시에 .",
}


def generated(seed: int, pairs: int, words: Sequence[str] = WORDS) -> list[tuple[str, str]]:
    chance = random.Random(seed)

    def text() -> str:
        length = chance.randrange(40)
        return "".join(chance.choice(words) + chance.choice(MARKS) for _ in range(length)) + chance.choice(
            ["", ".", "?"]
        )

    return [(text(), text()) for _ in range(pairs)]


class DebianReader(WordNetCorpusReader):  # type: ignore[misc]
    """NLTK's own reader for Debian's files: outside NLTK's folders, and without the names of lexicographers' files."""

    def open(self, file: str) -> io.StringIO:
        if file == "lexnames":
            return io.StringIO("".join(f"{number} unnamed 1\n" for number in range(45)))
        return io.StringIO(wordnet.find()(file).decode("ascii"))

    def map_wn(self, version: str = "wordnet") -> None:
        """Other versions and languages do not matter."""


@cache
def nltk_wordnet() -> WordNetCorpusReader:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The multilingual functions")
        try:
            return WordNetCorpusReader(nltk.data.find("corpora/wordnet"), None)
        except LookupError:
            folder = str(wordnet.SYSTEM_FOLDERS[0])
        patch.setattr(nltk.data, "path", [folder])
        return DebianReader(folder, None)


@cache
def nltk_punkt() -> PunktSentenceTokenizer:
    return PunktSentenceTokenizer(treebank._punkt()._params)


def nltk_tokens(text: str) -> list[str]:
    """``nltk.word_tokenize``, wherever punkt's parameters are from."""
    split = NLTKWordTokenizer().tokenize
    return [token for sentence in nltk_punkt().tokenize(text) for token in split(sentence)]


def nltk_meteor(prediction: str, references: Sequence[str], *, wordnet: Any = None, **options: float) -> float:
    tokens, chosen = nltk_tokens(prediction), {"alpha": 0.9, "beta": 3, "gamma": 0.5, **options}
    return max(
        float(single_meteor_score(nltk_tokens(reference), tokens, wordnet=wordnet or nltk_wordnet(), **chosen))
        for reference in references
    )


class NoSynsets:
    """A WordNet of a language that has none."""

    def synsets(self, word: str) -> list[Any]:
        return []


def score(predictions: Sequence[str], references: Sequence[Any], **options: Any) -> Any:
    (scores,) = Meteor(**options).score(predictions, references, [""] * len(predictions))
    return scores.values


@needs_data
@pytest.mark.parametrize(("prediction", "reference"), PAIRS)
def test_equals_nltk_on_odd_texts(prediction: str, reference: str) -> None:
    for pair in [(prediction, reference), (reference, prediction), (reference, reference)]:
        assert score([pair[0]], [pair[1]]) == pytest.approx(nltk_meteor(pair[0], [pair[1]]), abs=1e-12)


@needs_data
def test_equals_nltk_on_generated_texts() -> None:
    predictions, references = zip(*generated(seed=1, pairs=500), strict=True)
    wanted = [
        nltk_meteor(prediction, [reference]) for prediction, reference in zip(predictions, references, strict=True)
    ]
    np.testing.assert_allclose(score(predictions, references), wanted, rtol=0, atol=1e-12)
    assert 0.05 < np.mean(wanted) < 0.9


@needs_punkt
@pytest.mark.parametrize("language", FOREIGN)
def test_without_synonyms_it_equals_nltk_with_a_wordnet_that_has_none(language: str) -> None:
    pairs = [*PAIRS, *generated(seed=2, pairs=120, words=FOREIGN[language].split())]
    predictions, references = zip(*pairs, strict=True)
    wanted = [nltk_meteor(one, [other], wordnet=NoSynsets()) for one, other in pairs]
    np.testing.assert_allclose(score(predictions, references, synonyms=False), wanted, rtol=0, atol=1e-12)
    assert 0.05 < np.mean(wanted) < 0.9


@needs_data
def test_english_synonyms_of_words_that_only_look_english_do_not_count() -> None:
    poison, talent = ["Das ist ein Gift."], ["Das ist ein Talent."]
    assert score(poison, talent)[0] > score(poison, talent, synonyms=False)[0] > 0


@needs_punkt
def test_the_language_decides_on_synonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    poison, talent = "Das ist ein Gift.", "Das ist ein Talent."
    german = lm.score([poison], [talent], metrics="meteor", language="German")
    assert german["meteor"][0] == pytest.approx(nltk_meteor(poison, [talent], wordnet=NoSynsets()))
    assert "wordnet:none" in german.attrs["signatures"]["meteor"]
    assert "without synonyms" in german.attrs["notes"]["meteor"]
    asked = MetricSpec(name="meteor")
    assert metrics.localized(asked, "de").key != asked.key, "scores of both would be taken for the same"
    assert metrics.localized(asked, "en-GB") == metrics.localized(asked, None) == asked
    given = MetricSpec(name="meteor", options={"synonyms": True})
    assert metrics.localized(given, "de") == given, "what was asked for stays"
    monkeypatch.setattr(wordnet, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr(nltk.data, "path", [])
    Meteor(synonyms=False).prepare()  # which needs no WordNet


@pytest.mark.parametrize("language", ["Japanese", "zh-Hant", "th"])
def test_languages_without_spaces_are_refused(language: str) -> None:
    with pytest.raises(InvalidInputError, match=r"'meteor' counts words, and \w+(.|\n)* not separate(.|\n)*'chrf'"):
        lm.score(["a"], ["b"], metrics=["meteor"], language=language)


@needs_data
@pytest.mark.parametrize("options", [{"alpha": 0.5}, {"beta": 1}, {"gamma": 0}, {"alpha": 0, "beta": 0, "gamma": 1}])
def test_settings_are_nltk_s(options: dict[str, float]) -> None:
    for prediction, reference in PAIRS:
        assert score([prediction], [reference], **options) == pytest.approx(
            nltk_meteor(prediction, [reference], **options)
        )


@needs_data
def test_the_best_reference_counts_and_missing_texts_are_not_scored() -> None:
    references = [("A dog ran.", "He bought a large car."), None, "a b", "a b"]
    values = score(["He purchased a big automobile.", "x", None, ""], references)  # type: ignore[list-item]
    assert values[0] == nltk_meteor("He purchased a big automobile.", references[0] or ())
    assert values[0] > nltk_meteor("He purchased a big automobile.", ["A dog ran."])
    assert np.isnan(values[1:3]).all()
    assert values[3] == 0


@needs_data
def test_no_examples() -> None:
    assert score([], []).shape == (0,)


@needs_data
@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"abX1 .,:;?!'\"`()[]{}<>-“”‘’«»%$&\n\t\x1c\u3000éſ日"])
        | st.sampled_from(
            ["can't", "cannot", "wanna", " 'tis", "d'ye", "'s'\n", "'s ", "n't", "''", "``", "...", ". ", "Mr. "]
        )
        | st.characters(),
        max_size=25,
    ).map("".join)
)
def test_tokens_equal_nltk_s(text: str) -> None:
    assert treebank.Tokenizer()(text) == nltk_tokens(text)


@needs_data
def test_tokens_equal_nltk_s_around_abbreviations_and_sentence_starters() -> None:
    known, chance = nltk_punkt()._params, random.Random(5)
    abbreviations, starters = sorted(known.abbrev_types), sorted(known.sent_starters)
    pairs = [word for pair in sorted(known.collocations) for word in pair]
    words = [*abbreviations, *starters, *pairs, "house", "Swam", "x", "I", "3", "7.5", "well-co", "wanna", "re-gonna"]
    cases: list[Callable[[str], str]] = [str, str.title, str.upper]
    tokens = treebank.Tokenizer()
    for _ in range(1500):
        chosen = [chance.choice(cases)(word) for word in chance.choices(words, k=8)]
        text = "".join(
            word + chance.choice([". ", ". ", ".", "? ", "! ", ".\n", " ", ", ", "... ", '." ']) for word in chosen
        )
        assert tokens(text) == nltk_tokens(text), text


@needs_data
def test_synonyms_equal_nltk_s() -> None:
    ours, theirs = wordnet.WordNet(wordnet.find()), nltk_wordnet()
    words = sorted(theirs.all_lemma_names())[::400]
    inflected = [word + ending for word in words for ending in ("s", "es", "ed", "ing", "er", "est")]
    for word in [*words, *inflected, "geese", "men", "better", "were", "quickly", "'", "é", "", " "]:
        names = {name for synset in theirs.synsets(word) for name in synset.lemma_names()}
        assert ours.synonyms(word) == {name for name in names if "_" not in name and name == name.lower()}, word


@needs_data
def test_asking_for_unknown_words_leaves_nothing_behind() -> None:
    parameters = treebank._punkt()._params
    before = len(parameters.ortho_context)
    treebank.Tokenizer()("Qwxzv. Zzyxq went. Blorpt. 7 qqq! Vvvk.")
    assert len(parameters.ortho_context) == before


@pytest.mark.parametrize("lacking", ["wordnet", "punkt", "old wordnet"])
def test_missing_data_are_named_with_the_remedy(lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nltk.data, "path", [])
    folder = tmp_path if lacking == "old wordnet" else tmp_path / "nowhere"
    (tmp_path / "data.adv").write_text("  1 WordNet 2.1 Copyright 2005\n")
    if lacking == "punkt":
        monkeypatch.setattr(wordnet, "find", lambda: None)
        monkeypatch.setattr(treebank, "_has_package", lambda: False)
        treebank._punkt.cache_clear()
    else:
        monkeypatch.setattr(wordnet, "SYSTEM_FOLDERS", (folder,))
    with pytest.raises(ConfigurationError, match="python -m nltk.downloader wordnet punkt_tab") as caught:
        Meteor().prepare()
    assert ("WordNet 3.0" in caught.value.message) == (lacking != "punkt")


@needs_data
def test_wordnet_is_found_packed_in_nltk_s_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "corpora").mkdir()
    with zipfile.ZipFile(tmp_path / "corpora" / "wordnet.zip", "w") as packed:
        packed.writestr("wordnet/data.adv", wordnet.find()("data.adv"))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(wordnet, "SYSTEM_FOLDERS", ())
    assert b"quickly" in wordnet.find()("data.adv")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("alpha", 1.1), ("alpha", -0.1), ("alpha", "0.9"), ("gamma", 2), ("gamma", True)],
        *[("beta", -1), ("beta", float("inf")), ("beta", float("nan")), ("synonyms", 1), ("synonyms", "de")],
    ],
)
def test_settings_are_checked(option: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"{option!r} of metric 'meteor' cannot be"):
        Meteor(**{option: value})


def test_the_signature_names_data_and_settings() -> None:
    signature = Meteor(alpha=0.8, beta=2).signature
    assert "wordnet:3.0" in signature
    assert "alpha:0.8|beta:2|gamma:0.5" in signature
    assert signature != Meteor().signature
    assert "wordnet:none" in Meteor(synonyms=False).signature
    assert (Meteor().note, "not comparable" in str(Meteor(synonyms=False).note)) == (None, True)

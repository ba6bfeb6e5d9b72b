"""Values equal those of the reference packages, per example and overall."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.errors import InvalidInputError, MissingFieldsError, UnknownMetricError
from lumigator_nb.specs import MetricSpec

LONG = "\n".join(f"Sentence {n} says that the {n % 7} cats, dogs and birds met at {n % 24}:00." for n in range(60))
PAIRS = [
    ("the cat sat on the mat", "the cat sat on the mat"),
    ("the cat sat on the mat", "a dog lay in the sun"),
    ("", "something"),
    ("something", ""),
    ("", ""),
    ("the the the the the", "the cat the dog the bird the"),
    ("Two", "Two"),
    ("one two three", "one two four"),
    ("First line.\nSecond line here.", "Second line here.\nFirst line."),
    ('It\'s "quoted" -- $3.50, 50% (or so)!', "It is quoted: $3.50, about 50%."),
    ("Der Zug fährt früh; Müller steigt für 3,50 € ein.", "Müller nimmt für 3,50 € den frühen Zug."),
    ("会議は三時に始まります。", "会議は三時から始まる。"),
    ("🙂 see you tomorrow 🙂", "see you tomorrow 🙂"),
    ("naïve café", "naive cafe"),
    ("   spaces   around   ", "spaces around"),
    ("UPPER lower", "upper LOWER"),
    ("words ending in a full stop .", "words ending in a full stop."),
    ("two dogs were running home", "a dog runs home twice"),
    (LONG, LONG[::-1]),
    (LONG, LONG[100:2000]),
]
FOREIGN = [pair for pair in PAIRS if "会議" in pair[1]]
VOWELS = """
import numpy as np
from lumigator_nb.metrics import Metric, ScoreInfo, Scores

class Vowels(Metric):
    name = "vowels"
    needs = frozenset()
    infos = (ScoreInfo("vowels", "vowels of the prediction", None, (0.0, np.inf)),)
    signature = "vowels"

    def _score(self, rows):
        counts = [sum(text.count(vowel) for vowel in "aeiou") for text in rows.predictions]
        return [Scores.of(self.infos[0], counts)]
"""
PREDICTIONS, TRUTH = map(list, zip(*PAIRS, strict=True))


def values(name: str, score: str, predictions=PREDICTIONS, truth=TRUTH, **options) -> tuple[np.ndarray, float]:
    metric = metrics.create(MetricSpec(name=name, options=options))
    found = {s.info.name: s for s in metric.score(predictions, truth, [""] * len(truth))}[score]
    return found.values, found.overall


@pytest.mark.parametrize("stemmer", [False, True])
@pytest.mark.parametrize("score", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_equals_rouge_score(score, stemmer) -> None:
    scorer = RougeScorer([score], use_stemmer=stemmer)
    known = [pair for pair in PAIRS if pair not in FOREIGN]
    expected = [scorer.score(truth, prediction)[score].fmeasure for prediction, truth in known]
    found, overall = values("rouge", score, *map(list, zip(*known, strict=True)), stemmer=stemmer)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert overall == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"lowercase": True}, {"tokenize": "char"}, {"tokenize": "intl"}, {"tokenize": "zh"}]
)
def test_bleu_equals_sacrebleu(options) -> None:
    expected = [sacrebleu.sentence_bleu(p, [t], **options).score for p, t in PAIRS]
    found, overall = values("bleu", "bleu", **options)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert overall == pytest.approx(sacrebleu.corpus_bleu(PREDICTIONS, [TRUTH], **options).score, abs=1e-9)


@pytest.mark.parametrize("options", [{}, {"word_order": 2}, {"lowercase": True}])
def test_chrf_equals_sacrebleu(options) -> None:
    reference = sacrebleu.metrics.CHRF(**options)
    expected = [reference.sentence_score(p, [t]).score for p, t in PAIRS]
    found, overall = values("chrf", "chrf", **options)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert overall == pytest.approx(reference.corpus_score(PREDICTIONS, [TRUTH]).score, abs=1e-9)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: repr(pair[0][:12]))
def test_the_corpus_score_of_every_single_pair_is_smoothed_as_sacrebleus(pair) -> None:
    prediction, truth = pair
    _, overall = values("bleu", "bleu", [prediction], [truth])
    assert overall == pytest.approx(sacrebleu.corpus_bleu([prediction], [[truth]]).score, abs=1e-9)


words = st.text(alphabet="abc .,\n'é会🙂", max_size=40)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_no_text_makes_a_difference(pairs) -> None:
    predictions, truth = map(list, zip(*pairs, strict=True))
    bleu, corpus_bleu = values("bleu", "bleu", predictions, truth)
    chrf, corpus_chrf = values("chrf", "chrf", predictions, truth)
    np.testing.assert_allclose(bleu, [sacrebleu.sentence_bleu(p, [t]).score for p, t in pairs], atol=1e-9)
    np.testing.assert_allclose(chrf, [sacrebleu.sentence_chrf(p, [t]).score for p, t in pairs], atol=1e-9)
    assert corpus_bleu == pytest.approx(sacrebleu.corpus_bleu(predictions, [truth]).score, abs=1e-9)
    assert corpus_chrf == pytest.approx(sacrebleu.corpus_chrf(predictions, [truth]).score, abs=1e-9)


def test_length_counts_words() -> None:
    frame = lm.score(["one two", ""], examples=["one two three four", "one"], metrics="length")
    assert frame["words"].tolist() == [2, 0]
    assert frame["compression"].tolist() == [0.5, 0]
    assert frame.attrs["overall"] == {"words": 1.0, "compression": 0.25}


@pytest.mark.parametrize("examples", [None, ["", "one two"]])
def test_compression_needs_words_to_compress(examples) -> None:
    frame = lm.score(["one two", None], examples=examples, metrics=["length"])
    assert frame.isna().to_numpy().tolist() == [[False, True], [True, True]]
    assert np.isnan(frame.attrs["overall"]["compression"])


def test_what_cannot_be_scored_is_left_out_and_never_zero() -> None:
    frame = lm.score(["a b c d", None, "x", ""], ["a b c d", "y", None, "z"])
    assert frame["rougeL"].isna().tolist() == [False, True, True, False]
    assert frame["bleu"].isna().tolist() == [False, True, True, False]
    assert frame.attrs["overall"]["rougeL"] == 0.5


def test_what_pandas_calls_missing_is_missing() -> None:
    frame = lm.score(pd.Series(["a", np.nan, "c"]), pd.Series(["a", "b", None], dtype="string"), metrics=["rouge"])
    assert frame["rouge1"].isna().tolist() == [False, True, True]


def test_nothing_scored_is_no_number() -> None:
    frame = lm.score([None, None], ["a", "b"])
    assert frame.isna().all(axis=None)
    assert np.isnan(frame.attrs["overall"]["bleu"])


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge", "meteor", "token_f1", "exact_match", "edit_distance"])
def test_no_answer_scores_out_of_the_range(name) -> None:
    texts = ["one word more than that", "seven words that are all the same", "two words", "x", "a b c d e f g h i"]
    for found in metrics.create(MetricSpec(name=name)).score(texts, texts, texts):
        low, high = found.info.range
        assert found.values.min() >= low
        assert found.values.max() <= high
        assert low <= found.overall <= high


def test_only_rounding_errors_are_put_back_into_the_range() -> None:
    info = metrics.ScoreInfo("share", "of something", True, (0.0, 1.0))
    found = metrics.Scores.of(info, [1 + 1e-12, -1e-12, 1.5, np.nan, 0.5])
    np.testing.assert_array_equal(found.values, [1, 0, 1.5, np.nan, 0.5])
    np.testing.assert_array_equal(found.statistics[:, 0], found.values)


def test_signatures_name_implementation_version_and_settings() -> None:
    frame = lm.score(["a"], ["a"], metrics=[MetricSpec(name="bleu", options={"tokenize": "char"}), "rouge"])
    assert f"version:{sacrebleu.__version__}" in frame.attrs["signatures"]["bleu"]
    assert "tok:char" in frame.attrs["signatures"]["bleu"]
    assert "stemmer:no" in frame.attrs["signatures"]["rouge"]


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        ("rogue", UnknownMetricError, "did you mean 'rouge'"),
        ("rougeL", UnknownMetricError, "'rougeL' is a score, not a metric\nHint: the metric 'rouge' reports it"),
        (MetricSpec(name="rouge", options={"stemer": True}), InvalidInputError, "did you mean 'stemmer'"),
        (MetricSpec(name="length", options={"x": 1}), InvalidInputError, "takes no options"),
        (MetricSpec(name="regex"), InvalidInputError, "pattern"),
        (MetricSpec(name="regex", options={"pattern": "("}), InvalidInputError, "malformed"),
        (MetricSpec(name="ter", options={"no_punct": 1}), InvalidInputError, "cannot be 1"),
        (MetricSpec(name="bleu", options={"tokenize": "13b"}), InvalidInputError, "cannot be '13b'"),
    ],
)
def test_mistakes_are_refused_with_advice(metric, error, message) -> None:
    with pytest.raises(error, match=message):
        metrics.parse(metric)


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="the dictionary is installed")
def test_a_tokenizer_without_its_dictionary_is_refused_before_anything_is_scored() -> None:
    with pytest.raises(InvalidInputError, match=r"sacrebleu\[ja\]"):
        metrics.parse(MetricSpec(name="bleu", options={"tokenize": "ja-mecab"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": ["a", 2], "ground_truth": ["a", "b"]}, "predictions, row 1: 2 is not a text"),
        ({"predictions": "abc", "ground_truth": "abd"}, "predictions is a single text"),
        ({"predictions": ["a"], "ground_truth": ["b"], "metrics": ["bleu", "chrf", "bleu"]}, "'bleu' is named twice"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused(arguments, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        lm.score(**arguments)


def test_other_packages_add_metrics_and_a_broken_one_takes_none_away(tmp_path) -> None:
    (tmp_path / "vowels.py").write_text(VOWELS)
    info = tmp_path / "vowels-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vowels\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lumigator_nb.metrics]\nvowels = vowels:Vowels\nbad = absent:Bad\n")
    code = """
import sys, warnings
import lumigator_nb as lm
from lumigator_nb import metrics
lm.score(["a"], ["a"], metrics=["rouge"]); metrics.info("rougeL")
assert "vowels" not in sys.modules, "a built-in metric must not load others"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(lm.score(["aeb"], metrics=["vowels"]).attrs["overall"], metrics.known(), *(w.message for w in caught))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "{'vowels': 2.0}" in done.stdout
    assert "'vowels')" in done.stdout
    assert "the metric 'bad' (absent:Bad) cannot be loaded" in done.stdout


def test_missing_ground_truth_names_the_metrics_that_need_it() -> None:
    with pytest.raises(MissingFieldsError, match=r"(?s)rouge, bleu.*length"):
        metrics.check([metrics.parse(name) for name in ("rouge", "length", "bleu")], has_ground_truth=False)


def test_lengths_must_agree() -> None:
    with pytest.raises(InvalidInputError, match="2 predictions, but 1 ground_truth"):
        lm.score(["a", "b"], ["a"])


def test_score_names_are_unique() -> None:
    judges = [lm.Judge("quality", name).model_dump() for name in ("baseline/copy", "baseline/lead-1")]
    options = {
        "check": {"max_words": 1},
        "regex": {"pattern": "a"},
        "judge": {"criterion": "coherence"},
        "jury": {"judges": judges},
    }
    specs = [MetricSpec(name=name, options=options.get(name, {})) for name in metrics.known()]
    names = [info.name for spec in specs for info in metrics.create(spec).infos]
    assert len(names) == len(set(names))
    assert metrics.info("rougeL").name == "rougeL"

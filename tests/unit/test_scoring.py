"""Exactness against the reference packages, several references, functions as metrics, and what cannot be scored."""

from __future__ import annotations

import copy
import random
import threading

import numpy as np
import pandas as pd
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from varied import pairs

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.errors import ConfigurationError, InvalidInputError, LumigatorError, MissingFieldsError
from lumigator_nb.metrics.base import NO_GROUND_TRUTH, NO_PREDICTION
from lumigator_nb.metrics.kernels import counting
from lumigator_nb.metrics.rouge import NO_WORDS, Rouge
from lumigator_nb.specs import MetricSpec

SHORT, LONG = pairs(600), pairs(40, seed=1, longest=700)
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def spec(name: str, **options) -> MetricSpec:
    return MetricSpec(name=name, options=options)


def columns(rows) -> tuple[list[str], list[str]]:
    predictions, truth = map(list, zip(*rows, strict=True))
    return predictions, truth


@pytest.mark.parametrize("rows", [SHORT, LONG], ids=["600 short", "40 long"])
@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_equals_rouge_score_on_varied_texts(rows, stemmer) -> None:
    predictions, truth = columns(rows)
    frame = lm.score(predictions, truth, metrics=[spec("rouge", stemmer=stemmer)])
    scorer = RougeScorer(list(ROUGE), use_stemmer=stemmer)
    expected = [scorer.score(t, p) for p, t in rows]
    known = frame["rouge1"].notna().to_numpy()
    assert known.mean() > 0.7
    for name in ROUGE:
        values = np.array([each[name].fmeasure for each in expected])
        np.testing.assert_allclose(frame[name][known], values[known], atol=1e-9)
        assert not values[~known].any(), "only where the reference gives zero may we give none"


@pytest.mark.parametrize("rows", [SHORT, LONG], ids=["600 short", "40 long"])
@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        (spec("bleu"), sacrebleu.BLEU(effective_order=True)),
        (spec("bleu", lowercase=True), sacrebleu.BLEU(effective_order=True, lowercase=True)),
        (spec("bleu", tokenize="intl"), sacrebleu.BLEU(effective_order=True, tokenize="intl")),
        (spec("chrf"), sacrebleu.CHRF()),
        (spec("chrf", word_order=2), sacrebleu.CHRF(word_order=2)),
    ],
    ids=["bleu", "bleu lowercase", "bleu intl", "chrf", "chrf++"],
)
def test_bleu_and_chrf_equal_sacrebleu_on_varied_texts(rows, metric, reference) -> None:
    predictions, truth = columns(rows)
    frame = lm.score(predictions, truth, metrics=metric)
    expected = [reference.sentence_score(p, [t]).score for p, t in rows]
    np.testing.assert_allclose(frame[metric.name], expected, atol=1e-9)
    reference = copy.copy(reference)
    reference.effective_order = False
    corpus = reference.corpus_score(predictions, [truth]).score
    assert frame.attrs["overall"][metric.name] == pytest.approx(corpus, abs=1e-9)


@pytest.mark.parametrize("options", [{}, {"normalized": True, "asian_support": True}, {"case_sensitive": True}])
def test_ter_equals_sacrebleu(options) -> None:
    rows = pairs(120, longest=20)
    frame = lm.score(*columns(rows), metrics=spec("ter", **options))
    reference = sacrebleu.TER(**options)
    np.testing.assert_allclose(frame["ter"], [reference.sentence_score(p, [t]).score for p, t in rows], atol=1e-9)
    predictions, truth = columns(rows)
    corpus = reference.corpus_score(predictions, [truth]).score
    assert frame.attrs["overall"]["ter"] == pytest.approx(corpus, abs=1e-9)


LINES = st.text(alphabet="ab1 .,-\n&'é会\u00a0\u0130", max_size=60)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(LINES, LINES), min_size=1, max_size=5))
def test_no_text_makes_a_difference(rows) -> None:
    predictions, truth = columns(rows)
    frame = lm.score(predictions, truth, metrics=["rouge", "bleu", "chrf"])
    scorer = RougeScorer(list(ROUGE))
    for row, (prediction, reference) in enumerate(rows):
        expected = scorer.score(reference, prediction)
        for name in ROUGE:
            if not np.isnan(frame[name][row]):
                assert frame[name][row] == pytest.approx(expected[name].fmeasure, abs=1e-9)
        assert frame["bleu"][row] == pytest.approx(sacrebleu.sentence_bleu(prediction, [reference]).score, abs=1e-9)
        assert frame["chrf"][row] == pytest.approx(sacrebleu.sentence_chrf(prediction, [reference]).score, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3))), min_size=1, max_size=8))
def test_both_ways_of_counting_agree_with_counting_by_hand(rows) -> None:
    left, right = counting.number((a for a, _ in rows), (b for _, b in rows))
    found = counting.shared(left, right, 3)
    # So many different symbols that three of them do not fit into an integer.
    wide = [counting.Sequences(side.symbols * 2**30, side.lengths) for side in (left, right)]
    np.testing.assert_array_equal(counting.shared(*wide, 3), found)
    for row, (a, b) in enumerate(rows):
        for order in (1, 2, 3):
            grams = [[tuple(s[i : i + order]) for i in range(len(s) - order + 1)] for s in (a, b)]
            assert found[row, order - 1] == sum(min(grams[0].count(g), grams[1].count(g)) for g in set(grams[0]))


def test_of_several_references_the_conventions_of_the_reference_packages_hold() -> None:
    chosen = random.Random(3)
    rows = pairs(80, seed=2)
    references = [[t, *(chosen.choice(rows)[1] for _ in range(row % 3))] for row, (_, t) in enumerate(rows)]
    predictions = [p for p, _ in rows]
    frame = lm.score(predictions, references, metrics=["rouge", "bleu", "chrf", "ter"])
    scorer = RougeScorer(list(ROUGE))
    for row, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
        expected = scorer.score_multi(texts, prediction)
        if not np.isnan(frame["rougeL"][row]):
            for name in ROUGE:
                assert frame[name][row] == pytest.approx(expected[name].fmeasure, abs=1e-9)
        assert frame["bleu"][row] == pytest.approx(sacrebleu.sentence_bleu(prediction, texts).score, abs=1e-9)
        assert frame["chrf"][row] == pytest.approx(sacrebleu.sentence_chrf(prediction, texts).score, abs=1e-9)
        assert frame["ter"][row] == pytest.approx(sacrebleu.sentence_ter(prediction, texts).score, abs=1e-9)


def test_a_script_that_rouge_does_not_know_is_not_scored_as_zero() -> None:
    frame = lm.score(["会議は三時", "the cat", "x"], ["会議は三時に", "the cat", "🙂"], metrics=["rouge"])
    assert frame["rougeL"].isna().tolist() == [True, False, False]
    assert frame.attrs["unscored"]["rougeL"] == {NO_WORDS: 1}
    for tokenize in ("words", "characters"):
        found = lm.score(["会議は 三時"], ["会議は 三時に"], metrics=spec("rouge", tokenize=tokenize))
        assert 0 < found["rouge1"][0] < 1


def test_what_is_missing_is_counted_by_its_reason() -> None:
    frame = lm.score(["a", None, "c", ""], ["a", "b", None, "d"], metrics=["rouge", "length"])
    assert frame.attrs["unscored"]["rouge1"] == {NO_PREDICTION: 1, NO_GROUND_TRUTH: 1}
    assert frame.attrs["unscored"]["words"] == {NO_PREDICTION: 1}
    assert frame["rouge1"][3] == 0, "an empty answer is an answer"


def test_short_answers() -> None:
    names = ["exact_match", "token_f1", "edit_distance", spec("json", required=["a"]), spec("regex", pattern=r"\d+")]
    frame = lm.score(
        ["Paris", "The Paris!", '{"a": 1}', "12 or so"], [["Paris", "paris"], "paris", '{"a": 2}', "12"], metrics=names
    )
    assert frame["exact_match"].tolist() == [1, 0, 0, 0]
    assert frame["token_f1"].tolist() == pytest.approx([1, 1, 0, 0.5])
    assert frame["edit_distance"].tolist() == [0, 6, 1, 6]
    assert frame["edit_similarity"].tolist() == pytest.approx([1, 0.4, 7 / 8, 0.25])
    assert frame["valid_json"].tolist() == [0, 0, 1, 0]
    assert frame["valid_json.reason"][3].startswith("not JSON")
    assert frame["regex_match"].tolist() == [0, 0, 1, 1]
    exact = lm.score(["The Paris!"], ["paris"], metrics=spec("exact_match", normalize=True))
    assert exact["exact_match"].tolist() == [1]


def test_several_models_are_scored_together() -> None:
    frame = lm.score({"one": ["a b", "c"], "two": ["a", None]}, ["a b", "c d"], metrics=["rouge"])
    assert frame["model"].tolist() == ["one", "one", "two", "two"]
    assert frame.attrs["overall"]["one"]["rouge1"] == pytest.approx((1 + 2 / 3) / 2)
    assert frame.attrs["unscored"]["two"]["rouge1"] == {NO_PREDICTION: 1}


def test_a_function_is_a_metric() -> None:
    @lm.metric(range=(0, 1))
    def starts_alike(prediction, ground_truth):
        return prediction[0] == ground_truth[0]

    @lm.metric(name="found", higher_is_better=None)
    def looked_up(prediction, product, **metadata):
        return {"product": product in prediction, "length": len(prediction) / metadata["limit"]}

    @lm.metric
    def explained(prediction, example):
        return lm.Score(len(example), "as long as the example") if prediction else None

    metadata = pd.DataFrame({"product": ["tea", "cup"], "limit": [10, 5]})
    frame = lm.score(
        ["a tea", ""], ["abc", "x"], examples=["four", "five!"], metadata=metadata,
        metrics=[starts_alike, looked_up, "explained"],
    )  # fmt: skip
    assert frame["starts_alike"].tolist()[0] == 1
    assert frame.attrs["unscored"]["starts_alike"] == {"IndexError: string index out of range": 1}
    assert frame["found_product"].tolist() == [1, 0]
    assert frame["found_length"].tolist() == [0.5, 0]
    assert frame["explained"].tolist()[0] == 4
    assert frame["explained.reason"].tolist()[0] == "as long as the example"
    assert frame.attrs["signatures"]["found"].startswith("function|name:found|code:")
    assert starts_alike("ab", "ac"), "it can be called as before"
    assert metrics.parse(explained) == metrics.parse("explained")


def test_what_is_no_number_is_no_score() -> None:
    @lm.metric(name="odd")
    def odd(prediction):
        return {"inf": float("inf"), "nan": float("nan"), "word": "many", "none": None}[prediction]

    frame = lm.score(["inf", "nan", "word", "none"], metrics=[odd])
    assert frame["odd"].isna().all()
    assert set(frame.attrs["unscored"]["odd"]) == {
        "the function gave inf",
        "the function gave nan",
        "ValueError: could not convert string to float: 'many'",
        "the function gave no value",
    }


def test_a_column_that_a_function_needs_is_asked_for_beforehand() -> None:
    @lm.metric(name="by_product")
    def named(prediction, product, limit=3):
        return product in prediction

    with pytest.raises(MissingFieldsError, match="'by_product' needs the column 'product'"):
        lm.score(["a"], metrics=[named])
    with pytest.raises(MissingFieldsError, match="did you mean 'products'"):
        lm.score(["a"], metrics=[named], metadata=pd.DataFrame({"products": ["a"]}))
    assert lm.score(["a"], metrics=[named], metadata=pd.DataFrame({"product": ["a"]}))["by_product"].tolist() == [1]


def test_a_function_that_cannot_go_along_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(InvalidInputError, match="cannot be sent to the cluster"):

        @lm.metric
        def locked(prediction):
            return lock.locked()

    with pytest.raises(InvalidInputError, match="a metric 'rouge' exists already"):
        lm.metric(name="rouge")(len)


def test_a_metric_is_refused_only_where_the_language_is_known(monkeypatch) -> None:
    monkeypatch.setattr(Rouge, "languages", frozenset({"en"}))
    with pytest.raises(InvalidInputError, match="'rouge' does not support German; it supports English"):
        lm.score(["a"], ["b"], metrics=["rouge"], language="German")
    monkeypatch.undo()
    assert lm.score(["a"], ["a"], metrics=["rouge"], language="de")["rouge1"][0] == 1


def test_a_known_language_chooses_words_and_model() -> None:
    japanese = ["会議は三時に始まります。"], ["会議は三時から始まります。"]
    frame = lm.score(*japanese, metrics=["rouge", "bleu"], language="ja")
    assert 0.5 < frame["rougeL"][0] < 1
    assert frame["bleu"][0] > 40
    assert "tok:characters" in frame.attrs["signatures"]["rouge"]
    plain = lm.score(*japanese, metrics=["bleu"], language="German")
    assert "tok:13a" in plain.attrs["signatures"]["bleu"]
    given = lm.score(*japanese, metrics=[spec("bleu", tokenize="zh")], language="ja")
    assert "tok:zh" in given.attrs["signatures"]["bleu"], "what was asked for stays"
    assert metrics.localized(MetricSpec(name="bertscore"), "zh-Hant").options == {"language": "zh"}
    assert metrics.localized(MetricSpec(name="bertscore"), None).options == {}


def test_what_is_missing_here_may_be_there_where_it_is_computed(monkeypatch) -> None:
    def missing(self):
        raise ConfigurationError("no dictionary")

    monkeypatch.setattr(metrics.length.Length, "prepare", missing)
    specs = [metrics.parse("length")]
    with pytest.raises(ConfigurationError, match="no dictionary"):
        metrics.check(specs, has_ground_truth=True)
    metrics.check(specs, has_ground_truth=True, here=False)


def test_one_metric_that_fails_takes_no_other_with_it(monkeypatch) -> None:
    def broken(self, rows):
        raise LumigatorError("no dictionary")

    monkeypatch.setattr(metrics.length.Length, "_score", broken)
    with pytest.warns(UserWarning, match="metric 'length' could not be computed: no dictionary"):
        frame = lm.score(["a"], ["a"], metrics=["rouge", "length"])
    assert frame["rouge1"].tolist() == [1]
    assert frame.attrs["errors"] == {"length": "no dictionary"}
    with pytest.raises(LumigatorError, match="no dictionary"):
        lm.score(["a"], ["a"], metrics=["length"])


def test_slow_metrics_use_several_processes_and_give_the_same() -> None:
    rows = pairs(3200, seed=5, longest=6)
    predictions, truth = columns(rows)
    together = lm.score(predictions, truth, metrics=["ter"])
    apart = pd.concat(
        [lm.score(predictions[i : i + 800], truth[i : i + 800], metrics=["ter"]) for i in range(0, 3200, 800)]
    )
    np.testing.assert_array_equal(together["ter"], apart["ter"])


def test_two_metrics_may_not_report_the_same_score() -> None:
    with pytest.raises(InvalidInputError, match="'rouge' is named twice"):
        lm.score(["a"], ["a"], metrics=["rouge", spec("rouge", stemmer=True)])

"""No sentence, sign or mark of a comparison contradicts its intervals and corrected p-values, in any output."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.display import render
from lumigator_nb.display.html import escape
from lumigator_nb.display.tables import escaped, to_html
from lumigator_nb.presentation.comparison import markup as markup
from lumigator_nb.presentation.comparison.view import Examined
from lumigator_nb.rest.wire import documents
from lumigator_nb.services.comparison import view
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.loading import data_of
from lumigator_nb.services.comparison.markdown import as_markdown
from lumigator_nb.services.comparison.tables import scores
from lumigator_nb.specs import MetricResult, MetricSpec, Model, ScoreResult, Status, Summarization

NAMES = r"((?:m\d|\d others?)(?:(?:, | and )(?:m\d|\d others?))*)"
RATE = ScoreResult(overall=None, n_scored=0, higher_is_better=False, range=(0.0, 1.0))


def compare(values: np.ndarray, confidence: float = 0.95, n_baselines: int = 0) -> Comparison:
    """Compare models m0, m1, … by (models, n) scores: as rougeL, as an error rate, and as a number of words.

    The first `n_baselines` of them are baselines.
    """
    labels, n = [f"m{index}" for index in range(len(values))], values.shape[1]
    workflows = [
        Workflow(experiment_id="e", label=label, fingerprint=label, status=Status.SUCCEEDED,
                 model=Model("baseline/copy" if index < n_baselines else "openai/gpt-4o-mini", label=label))
        for index, label in enumerate(labels)
    ]  # fmt: skip
    frames = {
        label: pd.DataFrame({"row": range(n), "rougeL": own, "error_rate": own, "words": own * 100})
        for label, own in zip(labels, values, strict=True)
    }
    metric, answers = MetricSpec(name="rouge"), [f"answer {row}" for row in range(n)]
    data = data_of(
        Experiment(name="ex", dataset_id="d", task=Summarization(), metrics=(metric,)),
        Dataset(name="notes", filename="notes.csv", content_hash="ab", size_bytes=1, n_examples=n,
                columns={"example": "example"}, profile={"has_ground_truth": False, "preview": [], "metadata": []},
                notes=[]),
        pd.DataFrame({"example": [f"Text {row}." for row in range(n)]}),
        workflows,
        [],
        {label: pd.DataFrame({"row": range(n), "prediction": answers}) for label in labels},
        frames,
        evaluations={labels[0]: [MetricResult(metric=metric, title="x", answers_of=1, scores={"error_rate": RATE})]},
    )  # fmt: skip
    return Comparison(data, confidence=confidence, n_resamples=200)


@st.composite
def tables(draw) -> tuple[np.ndarray, float, int]:
    """Scores of models that differ in mean and spread, some equal, some on a coarse grid; confidence; baselines."""
    n = draw(st.sampled_from([2, 6, 12, 40]))
    means = draw(st.lists(st.sampled_from([0.3, 0.4, 0.45, 0.5]), min_size=2, max_size=4))
    spreads = draw(st.lists(st.sampled_from([0.0, 0.02, 0.2]), min_size=len(means), max_size=len(means)))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    values = np.array(means)[:, None] + np.array(spreads)[:, None] * random.normal(size=(len(means), n))
    values = values.clip(0, 1).round(draw(st.sampled_from([1, 6])))
    if draw(st.booleans()):
        values[-1] = random.permutation(values[0]) if draw(st.booleans()) else values[0]
    return values, draw(st.sampled_from([0.8, 0.95])), draw(st.integers(0, 2))


def beaten_by_another(n: int = 40, seed: int = 1) -> np.ndarray:
    """Scores of m0, which leads but varies much, and of m1, which is steady and surely better than m2."""
    random = np.random.default_rng(seed)
    steady = random.normal(0, 0.03, n)
    scores = [0.54 + random.normal(0, 0.2, n), 0.50 + steady, 0.47 + steady + random.normal(0, 0.02, n)]
    return np.stack(scores).clip(0, 1)


def borderline() -> np.ndarray:
    """Scores whose skewed differences have an interval with 0 in it, and a p-value of 0.03."""
    random = np.random.default_rng(0)
    first = random.normal(0.5, 0.1, 12)
    return np.stack([first, first - 0.08 + random.exponential(0.05, 12)]).clip(0, 1)


class Facts:
    """What a comparison's tables say of one score, against which sentences and marks are held."""

    def __init__(self, comparison: Comparison, score: str) -> None:
        self.score, self.alpha = score, 1 - comparison.confidence
        self.higher = score == "rougeL"
        summary = comparison.summary().query("score == @score").set_index("model")
        self.overall: dict[str, float] = summary["overall"].to_dict()
        self.leader = comparison.best(score)
        self.pairs = {(row["model"], row["other"]): row for row in comparison.pairwise(score).to_dict("records")}

    def differs(self, model: str, other: str) -> bool:
        return self.pairs[model, other]["p_adjusted"] <= self.alpha

    def excludes_zero(self, model: str, other: str) -> bool:
        pair = self.pairs[model, other]
        return bool(pair["low"] > 0 or pair["high"] < 0)

    def leads(self, model: str) -> bool:
        values = self.overall.values()
        return self.overall[model] == (max(values) if self.higher else min(values))

    def check_gap(self, loser: str, winner: str) -> None:
        """Both the corrected p-value and the interval say which of two is better."""
        assert self.differs(loser, winner)
        assert self.excludes_zero(loser, winner)
        assert (self.overall[winner] > self.overall[loser]) == self.higher

    def check_loss(self, model: str, other: str, figures: str) -> None:
        """`figures` such as "0.041 [0.030, 0.050]" are the loss of a model that is shown to be worse."""
        self.check_gap(model, other)
        pair, sign = self.pairs[model, other], -1 if self.higher else 1
        expected = [sign * pair["difference"], *sorted((sign * pair["low"], sign * pair["high"]))]
        assert min(expected) > 0
        check_figures(figures, expected)


def check_figures(text: str, expected: list[float]) -> None:
    found = [float(each.replace("−", "-")) for each in re.findall(r"[−+]?\d[\d.]*", text)]
    assert found == pytest.approx(expected, abs=5.1e-4)
    assert [math.copysign(1, each) for each in found if each] == [
        math.copysign(1, each) for each, figure in zip(expected, found, strict=True) if figure
    ]


def check_sentence(sentence: str, facts: Facts) -> str:
    """Check one sentence of a verdict and return its kind."""
    if found := re.fullmatch(rf"{NAMES} (has|share) the (highest|lowest) {facts.score} \(([\d.]+)\)", sentence):
        assert found[3] == ("highest" if facts.higher else "lowest")
        assert all(facts.leads(model) for model in re.findall(r"m\d", found[1]))
        assert (found[2] == "share") == (sum(map(facts.leads, facts.overall)) > 1)
        return found[2]
    if found := re.fullmatch(rf"(None of the others can|{NAMES} cannot) be told apart from (it|them) at .*", sentence):
        named = re.findall(r"m\d", found[1]) or [model for model in facts.overall if not facts.leads(model)]
        assert not any(facts.differs(model, facts.leader) for model in named)
        return "told apart"
    if found := re.fullmatch(r"(m\d) is worse(?: than (m\d))? by (.*)", sentence):
        facts.check_loss(found[1], found[2] or facts.leader, found[3])
        return "worse"
    near = r"a borderline case against (m\d) \(difference (.*), p [=<] [\d.]+\)"
    not_shown = r"not shown to be worse than (m\d) \(p [=<] [\d.]+\)"
    another = rf"(?:but is worse than (m\d) by (.*)|and {near})"
    if found := re.fullmatch(rf"(m\d) is (?:{not_shown}, {another}|{near})", sentence):
        model, leader, other, figures, rival, differs, border, difference = found.groups()
        if leader:
            assert not facts.differs(model, leader)
        if other:
            facts.check_loss(model, other, figures)
            return "beaten by another"
        against = rival or border
        assert facts.differs(model, against)
        assert not facts.excludes_zero(model, against)
        pair = facts.pairs[model, against]
        check_figures(difference or differs, [pair["difference"], pair["low"], pair["high"]])
        return "borderline"
    raise AssertionError(f"nobody checks {sentence!r}")


def check_verdict(text: str, facts: Facts) -> list[str]:
    sentences = [part for sentence in text.removesuffix(".").split(". ") for part in sentence.split("; ")]
    assert set(re.findall(r"m\d", text)) == set(facts.overall) or "None of the others" in text or " other" in text
    return [check_sentence(each, facts) for each in sentences]


def check_recommendation(comparison: Comparison, score: str, facts: Facts) -> None:
    """The choice is the best model, and what is said of it and others is what the tables say."""
    found, said = comparison.recommend(score), str(comparison.recommend(score))
    models = [model for model in comparison.models if model not in comparison.baselines]
    if not models:
        assert found.choice is None
        assert said.startswith("There is no model to recommend")
        return
    assert found.choice == found.best == (max if facts.higher else min)(models, key=facts.overall.__getitem__)
    if re.search("is better than every other model", said):
        for model in models:
            if model != found.best:
                facts.check_gap(model, found.best)
    elif apart := re.search(rf"{NAMES} cannot be told apart from", said):
        assert not any(facts.differs(model, found.best) for model in re.findall(r"m\d", apart[1]))
    against = "".join(re.findall(r"Against baselines, (.*?[])\d])\.(?: |$)", said))
    alike = re.search(rf"scores exactly like {NAMES}", against)
    assert all(
        facts.overall[model] == facts.overall[found.best] for model in re.findall(r"m\d", alike[1] if alike else "")
    )
    claimed = against.replace(alike[0], "") if alike else against
    for kind, claims in re.findall(
        r"is (better than|worse than|not shown to be better than) (.*?)(?= (?:and )?is |$)", claimed
    ):
        for baseline in re.findall(r"m\d", claims):
            if kind.startswith("not"):
                assert not (facts.differs(found.choice, baseline) and facts.excludes_zero(found.choice, baseline))
            else:
                loser, winner = (baseline, found.choice) if kind == "better than" else (found.choice, baseline)
                facts.check_gap(loser, winner)
    assert set(re.findall(r"m\d", against)) - {found.choice} == set(comparison.baselines)


def check_mark(cell: str, model: str, facts: Facts, best: str) -> None:
    """A cell with "≈" is not told apart from the leading model, and one marked as the best has the best value."""
    assert (best in cell) == facts.leads(model)
    apart = facts.leads(model) or facts.differs(model, facts.leader)
    if best == "<b>":
        assert ("≈" in cell) == (model != facts.leader and not facts.differs(model, facts.leader))
    else:
        assert ("≈" in cell) == (not apart)


def check_marks(comparison: Comparison, score: str, facts: Facts) -> None:
    rows = re.findall(r"<tr><td>(m\d)</td>(.*?)</tr>", to_html(scores(comparison, score)))
    for model, cells in rows:
        check_mark(re.findall(r"<td[^>]*>(.*?)</td>", cells)[0], model, facts, "<b>")
    assert rows[0][0] == facts.leader


def check_everything(comparison: Comparison) -> list[str]:
    """Check what the quick outputs say, and return the kinds of sentences that were met."""
    kinds = []
    for score in ("rougeL", "error_rate"):
        facts, said = Facts(comparison, score), comparison.verdict(score)
        kinds += check_verdict(said, facts)
        check_marks(comparison, score, facts)
        check_recommendation(comparison, score, facts)
        document = documents.of_comparison(comparison, score)
        assert document["verdict"] == said
        for row in document["contrasts"]:
            pair = facts.pairs[row["model"], row["other"]]
            assert row["difference"] == pair["difference"]
            assert row["told_apart"] == facts.differs(row["model"], row["other"])
    facts, text = Facts(comparison, "rougeL"), view.as_text(comparison, 200)
    assert comparison.verdict() in " ".join(text.split())
    main = re.findall(r"^(m\d) +(\S? ?[\d.]+)  .*$", text, re.MULTILINE)[: len(facts.overall)]
    assert main[0][0] == facts.leader
    for model, cell in main:
        check_mark(cell, model, facts, "*")
    assert escaped(comparison.verdict()) in as_markdown(comparison)
    return kinds


def test_no_sentence_or_mark_contradicts_intervals_and_corrected_p_values() -> None:
    kinds: Counter[str] = Counter()

    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(tables())
    @example((beaten_by_another(), 0.95, 0))
    @example((beaten_by_another(), 0.95, 1))
    @example((borderline(), 0.95, 0))
    def check(drawn: tuple[np.ndarray, float, int]) -> None:
        kinds.update(check_everything(compare(*drawn)))

    check()
    assert set(kinds) >= {"has", "share", "told apart", "worse", "beaten by another"}, "each kind was met"


def test_a_model_that_only_another_one_beats_is_not_called_worse_than_the_leading_one() -> None:
    comparison = compare(beaten_by_another())
    facts = Facts(comparison, "rougeL")
    assert facts.leader == "m0"
    assert not facts.differs("m2", "m0")
    assert facts.differs("m2", "m1")
    pair = facts.pairs["m2", "m0"]
    assert pair["low"] < 0 < pair["high"]
    assert re.search(
        r"m2 is not shown to be worse than m0 \(p = 0\.\d+\), but is worse than m1 by 0\.03\d \[0\.0\d\d, 0\.0\d\d\]\.",
        comparison.verdict(),
    )
    check_everything(comparison)


def test_all_outputs_say_the_same_and_nothing_else() -> None:
    comparison = compare(beaten_by_another())
    said, table = escape(comparison.verdict()), to_html(scores(comparison))
    facts = Facts(comparison, "rougeL")
    for output in (
        view.as_html(comparison),
        render.as_page(comparison),
        markup.summary(Examined(comparison), "rougeL"),
    ):
        assert said in output
        assert table in output
        rest = re.sub(r"<[^>]*>", " ", output.replace(said, "").replace(table, ""))
        assert not re.search(r"m2 [^.]*(worse|better)", rest)
    drawn = comparison.plot("pairwise").axes[0]
    dots = {(text.get_position()): "●" in text.get_text() for text in drawn.texts}
    order = comparison.ranking()["model"].tolist()
    assert dots == {(order.index(b), order.index(a)): facts.differs(a, b) for a, b in facts.pairs}


def test_dots_of_the_pairwise_chart_follow_the_confidence() -> None:
    comparison = compare(
        np.stack([np.tile([0.5, 0.6], 20), np.tile([0.5, 0.6], 20) + np.resize([0.05, -0.03], 40)]), 0.999
    )
    texts = [text.get_text() for text in comparison.plot("pairwise").axes[0].texts]
    assert comparison.pairwise()["p_adjusted"].min() > 0.001
    assert not any("●" in text for text in texts)
    comparison.plot("pairwise", "words")  # a score without better or worse has differences, too

"""How things show themselves: escaping, order, marks, wording, and progress wherever it is shown."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from waiting import PATIENCE_S

from lumigator_nb.database import record_views
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.display import html, progress, text
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.display.scores import Contrast, Figures, p_value, score_rows, verdict
from lumigator_nb.display.tables import Cell, Table, to_html, to_markdown, to_text
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.services.comparison import view
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.loading import data_of
from lumigator_nb.services.comparison.report import recipe, report
from lumigator_nb.specs import MetricSpec, Model, Progress, Status, Step, Summarization, now

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"
NAN = float("nan")
START = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
ROUGE = ScoreInfo("rougeL", "F-measure", True, (0.0, 1.0))
BLEU = ScoreInfo("bleu", "precision", True, (0.0, 100.0))
ERROR_RATE = ScoreInfo("error_rate", "edits per word", False, (0.0, np.inf))
WORDS = ScoreInfo("words", "words", None, (0.0, np.inf))
VOID = {"meta", "wbr", "br", "hr", "img", "path", "use", "link"}


class Page(HTMLParser):
    """What a browser would make of markup; refuses elements that are not closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(markup.replace("<wbr>", ""))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data) -> None:
        if not self._open or self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def assert_harmless(markup: str) -> Page:
    """Nothing runs and nothing is loaded, whatever users called their things."""
    page = Page(markup)
    names = {name for name, _ in page.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "embed"}
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")]
        assert not [key for key in ("src", "href", "xlink:href") if (attributes.get(key) or "#")[0] != "#"]
    assert not re.search(r"@import|url\((?!#)", markup)
    return page


def make_dataset(name="tickets", n=40, **profile) -> Dataset:
    words = {"min": 3, "p50": 120, "mean": 131.5, "p95": 210, "max": 1500}
    known = {
        "has_ground_truth": True,
        "n_missing_ground_truth": 0,
        "n_empty_examples": 0,
        "n_duplicate_examples": 0,
        "example_words": words,
        "ground_truth_words": words,
        "metadata": [],
        "preview": [],
    }
    return Dataset(
        name=name,
        filename="tickets.csv",
        content_hash="ab" * 32,
        size_bytes=48_213,
        n_examples=n,
        columns={"example": "body", "ground_truth": "summary"},
        profile=known | profile,
        notes=[],
    )


def make_workflow(label: str, status=Status.SUCCEEDED, **fields) -> Workflow:
    model = Model("openai/gpt-4o-mini", label=label, max_new_tokens=60)
    return Workflow(experiment_id="e", label=label, fingerprint=model.fingerprint, model=model, status=status, **fields)


def make_comparison(
    means: dict[str, float],
    n=40,
    pending=(),
    n_failed=0,
    example="Anna: hello",
    task=None,
    models=None,
    details=None,
    **profile,
):
    """Compare models whose rougeL lies around the given means, noisily but alike; the last `n_failed` rows fail.

    `models` replaces models by label; `details` are those of the first model's inference.
    """
    noise = np.random.default_rng(0).normal(0, 0.02, (len(means) + 1, n))
    base = np.linspace(-0.05, 0.05, n)
    workflows = [make_workflow(label) for label in means]
    scores, predictions, jobs = {}, {}, []
    for index, (label, mean) in enumerate(means.items()):
        values = mean + base + noise[index]
        scores[label] = pd.DataFrame({"row": range(n), "rougeL": values, "words": values * 100})
        texts = [f"{label} says {i}" if i < n - n_failed else None for i in range(n)]
        predictions[label] = pd.DataFrame({"row": range(n), "prediction": texts})
        scores[label].loc[n - n_failed :, ["rougeL", "words"]] = NAN
        signed = {"signatures": {"rouge": "rouge|v1"}, "lumigator_nb": "0.1.0", "python": "3.11.7"}
        common = {"workflow_id": workflows[index].id, "status": Status.SUCCEEDED, "n_examples": n}
        jobs.append(Job(step=Step.INFERENCE, n_failed=n_failed, details={"device": "cpu"}, **common))
        jobs.append(Job(step=Step.EVALUATION, details=signed, **common))
    jobs[0].details = details or jobs[0].details
    for workflow in workflows:
        workflow.model = (models or {}).get(workflow.label, workflow.model)
    metrics = (MetricSpec(name="rouge"),)
    data = data_of(
        Experiment(name="my experiment", dataset_id="d", task=task or Summarization(), metrics=metrics),
        make_dataset(n=n, **profile),
        pd.DataFrame({"example": [example] * n, "ground_truth": ["Hello."] * n}),
        workflows,
        jobs,
        predictions,
        scores,
        pending=pending,
    )
    return Comparison(data, n_resamples=200)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return make_comparison({"weak": 0.3, "strong": 0.5, "strong twin": 0.498})


def rows_of(*models, info=ROUGE, n=40) -> pd.DataFrame:
    """A summary frame from (label, overall, difference, low, high); the first leads."""
    return pd.DataFrame(
        {
            "score": info.name,
            "model": label,
            "overall": overall,
            "low": overall - 0.02,
            "high": overall + 0.02,
            "best": index == 0 and info.higher_is_better is not None,
            "difference": difference,
            "difference_low": low,
            "difference_high": high,
            "p_value": 0.02,
            "p_adjusted": 0.03 if low > 0 or high < 0 else 0.3,
            "told_apart": n > 1 and (low > 0 or high < 0),
            "rank_low": 1 if index == 0 or n < 2 or not (low > 0 or high < 0) else 2,
            "rank_high": len(models),
            "n": n,
        }
        for index, (label, overall, difference, low, high) in enumerate(models)
    )


def said_of(*models, info=ROUGE, n=40, confidence=0.95, beaten=()) -> str:
    """The verdict on models of :func:`rows_of`; `beaten` are contrasts to others than the leading one."""
    found = score_rows(rows_of(*models, info=info, n=n), info)
    to_leader = [
        Contrast(one.model, found[0].model, one.difference, one.difference_low, one.difference_high, one.p_adjusted,
                 one.told_apart)
        for one in found[1:]
    ]  # fmt: skip
    return verdict(found, [*to_leader, *beaten], info, confidence)


LEADER = ("A", 0.213, NAN, NAN, NAN)
CLOSE = ("B", 0.205, -0.008, -0.02, 0.004)
CLOSE_TOO = ("C", 0.204, -0.009, -0.021, 0.003)
EQUAL = ("E", 0.213, 0.0, 0.0, 0.0)
WORSE = ("D", 0.172, -0.041, -0.05, -0.03)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            [LEADER],
            "A reaches 0.213 [0.193, 0.233] on rougeL (40 examples). There is no other model to compare it with.",
        ),
        ([LEADER, WORSE], "A has the highest rougeL (0.213). D is worse by 0.041 [0.030, 0.050]."),
        (
            [LEADER, CLOSE],
            "A has the highest rougeL (0.213). B cannot be told apart from it at 95% confidence with 40 examples.",
        ),
        (
            [LEADER, CLOSE, CLOSE_TOO],
            "A has the highest rougeL (0.213). "
            "None of the others can be told apart from it at 95% confidence with 40 examples.",
        ),
        (
            [LEADER, CLOSE, CLOSE_TOO, WORSE],
            "A has the highest rougeL (0.213). "
            "B and C cannot be told apart from it at 95% confidence with 40 examples. "
            "D is worse by 0.041 [0.030, 0.050].",
        ),
        ([LEADER, EQUAL], "A and E share the highest rougeL (0.213)."),
        ([LEADER, EQUAL, WORSE], "A and E share the highest rougeL (0.213). D is worse by 0.041 [0.030, 0.050]."),
    ],
)
def test_the_verdict_says_no_more_than_the_intervals_allow(models, expected) -> None:
    assert said_of(*models) == expected


def test_the_verdict_keeps_signs_and_says_which_model_beats_which() -> None:
    unclear = ("F", 0.197, -0.016, -0.034, 0.003)
    beaten = Contrast("F", "B", -0.012, -0.02, -0.004, 0.01, True)
    assert said_of(LEADER, CLOSE, unclear, beaten=[beaten]) == (
        "A has the highest rougeL (0.213). B cannot be told apart from it at 95% confidence with 40 examples. "
        "F is not shown to be worse than A (p = 0.30), but is worse than B by 0.012 [0.004, 0.020]."
    )
    # A corrected p-value and an interval, which is not corrected, may disagree at the border.
    leader, border = score_rows(rows_of(LEADER, unclear), ROUGE)
    near = [Contrast("F", "A", -0.016, -0.034, 0.003, 0.047, True)]
    assert verdict([leader, border], near, ROUGE, 0.95).endswith(
        "F is a borderline case against A (difference −0.016 [−0.034, 0.003], p = 0.047)."
    )


def test_models_of_equal_value_share_the_lead_and_others_are_held_against_one_of_them() -> None:
    equal = ("B", 0.213, 0.0, -0.02, 0.02)
    assert said_of(LEADER, equal, WORSE) == (
        "A and B share the highest rougeL (0.213). D is worse than A by 0.041 [0.030, 0.050]."
    )
    assert [one.leads for one in score_rows(rows_of(LEADER, equal, WORSE), ROUGE)] == [True, True, False]


def test_the_verdict_on_a_score_where_lower_is_better() -> None:
    models = ("A", 0.1, NAN, NAN, NAN), ("B", 0.3, 0.2, 0.15, 0.25)
    assert said_of(*models, info=ERROR_RATE, confidence=0.9) == (
        "A has the lowest error_rate (0.100). B is worse by 0.200 [0.150, 0.250]."
    )


def test_the_verdict_names_few_models_of_many() -> None:
    worse = [(f"W{i}", 0.1, -0.11 - i / 100, -0.2, -0.05) for i in range(5)]
    close = [(f"C{i}", 0.2, -0.01, -0.02, 0.01) for i in range(5)]
    said = said_of(LEADER, *close, *worse)
    assert "C0, C1, C2 and 2 others cannot be told apart" in said
    assert said.endswith("2 others are worse, by 0.140 to 0.150.")


@pytest.mark.parametrize(
    ("info", "n", "expected"),
    [
        (ROUGE, 1, "Only one example is scored on rougeL, which cannot tell models apart."),
        (ROUGE, 0, "No example has a value of rougeL for every model, so there is nothing to compare."),
        (WORDS, 40, "words is only descriptive, no value of it is better: A 0.213 and D 0.172."),
    ],
)
def test_the_verdict_where_nothing_can_be_better(info, n, expected) -> None:
    assert said_of(LEADER, WORSE, info=info, n=n) == expected


def test_one_example_tells_no_model_apart() -> None:
    assert score_rows(rows_of(LEADER, WORSE, n=1), ROUGE)[1].tied


def test_models_come_best_first_and_models_without_a_value_last() -> None:
    summary = rows_of(("A", 0.5, NAN, NAN, NAN), ("none", NAN, NAN, NAN, NAN), ("B", 0.1, -0.4, -0.5, -0.3))
    assert [one.model for one in score_rows(summary, ROUGE)] == ["A", "B", "none"]


@pytest.mark.parametrize(
    ("info", "values", "expected"),
    [
        (ROUGE, [0.21349], "0.213"),
        (BLEU, [23.456], "23.5"),
        (WORDS, [123.4], "123"),
        (WORDS, [23.45, 1.0], "23.4"),
        (WORDS, [0.00123], "0.00123"),
        (ROUGE, [-0.04], "−0.040"),
        (ROUGE, [-0.00031], "−0.0003"),
        (ROUGE, [0.0], "0.000"),
        (ROUGE, [NAN], "–"),
    ],
)
def test_figures_have_the_decimals_that_fit_the_range(info, values, expected) -> None:
    assert Figures(info, values).number(values[0]) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0001, "p < 0.001"), (0.0132, "p = 0.013"), (0.0504, "p = 0.0504"), (0.05, "p = 0.050"), (0.31, "p = 0.31")],
)
def test_a_p_value_is_not_rounded_across_a_level(value, expected) -> None:
    assert p_value(value) == expected


def test_the_table_is_best_first_and_marks_the_best_and_what_cannot_be_told_apart(comparison) -> None:
    markup = view.as_html(comparison)
    assert markup.index("<td>strong</td>") < markup.index("<td>strong twin</td>") < markup.index("<td>weak</td>")
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr><td>.*?</tr>", markup)]
    rouge = {row[0]: row[1] for row in cells}
    assert rouge["strong"].startswith("<b>0.")
    assert rouge["strong twin"].startswith("≈ 0.4")
    assert rouge["weak"].startswith("0.2")
    difference = {row[0]: row[2] for row in cells}
    assert re.match(r"−0\.2\d\d .*\[−0\.2\d\d, −0\.\d{3}\], p = 0\.00\d", difference["weak"])
    assert [row[3][:1] for row in cells] == ["5", "4", "2"], "a length has no mark, and no best"


def test_a_single_model_is_neither_bold_nor_compared() -> None:
    markup = view.as_html(make_comparison({"only": 0.4}))
    assert "<b>" not in markup
    assert "≈" not in markup
    assert "to the best" not in markup


def test_notes_say_what_is_missing() -> None:
    failed = make_workflow("late", Status.FAILED, error="OutOfMemoryError: 7 GB\nTraceback")
    small = make_comparison({"A": 0.4, "B": 0.1}, n=7, pending=[failed], n_failed=2)
    said = view.as_text(small)
    assert "Not compared: late (failed: OutOfMemoryError: 7 GB)." in said
    assert "2 of 7 examples have no answer from A and are left out for all models." in said
    assert "rougeL and words: on 5 of 7 examples" in said
    assert "With 5 examples the intervals are rough" in said


def test_the_text_fits_a_terminal_and_names_models_unbroken(comparison) -> None:
    label = "hf/some-organisation/a-model-with-a-very-long-name-7B-Instruct-Q4"
    wide = make_comparison({label: 0.5, "[red]baseline[/red]/copy": 0.3})
    for width in (80, 100):
        drawn = view.as_text(wide, width)
        assert max(map(len, drawn.splitlines())) <= width
        assert label in drawn
        assert "[red]baseline[/red]/copy" in drawn
    assert "\x1b" not in str(comparison)
    assert re.search(r"strong +\* 0\.\d{3}", str(comparison))
    assert re.search(r"strong twin +≈ 0\.\d{3}", str(comparison))


@pytest.mark.parametrize("draw", [view.as_html, report])
def test_a_comparison_runs_nothing_that_users_wrote(draw) -> None:
    evil = make_comparison(
        {EVIL: 0.5, "$x^{$": 0.3},
        pending=[make_workflow(EVIL + "2", Status.FAILED, error=EVIL)],
        example=EVIL * 3,
        name=EVIL,
    )
    experiment = replace(evil.experiment, name=EVIL, task=Summarization(prompt=EVIL))
    dataset = replace(evil.dataset, filename=EVIL)
    evil = Comparison(replace(evil.data, experiment=experiment, dataset=dataset), n_resamples=200)
    page = assert_harmless(draw(evil))
    assert EVIL in page.text
    assert "$x^{$" in page.text, "a dollar in a label is no formula"


def test_the_report_tells_everything_and_needs_no_other_file(comparison) -> None:
    page = assert_harmless(report(comparison))
    facts = ("my experiment", "tickets.csv", "ab" * 32, "rouge|v1", "max_new_tokens=60", "200 resamples", "seed 0")
    missing = [fact for fact in (*facts, "0.1.0", "device cpu", "strong says 19") if fact not in page.text]
    assert missing == []
    assert "strong says 20" not in page.text
    # A chart for each score, and one of the pairs.
    assert sum(name == "svg" for name, _ in page.tags) == len(comparison.scores) + 1


def test_the_report_says_when_models_were_scored_by_different_rules() -> None:
    mixed = make_comparison({"A": 0.4, "B": 0.1})
    mixed.workflows[-1].steps[-1].details["signatures"] = {"rouge": "rouge|v2"}
    assert "rouge|v1 and rouge|v2 (models were scored with different signatures)" in Page(report(mixed)).text


def test_the_recipe_is_python_that_makes_the_same_models() -> None:
    import lumigator_nb as lm

    comparison = make_comparison({"A": 0.4, EVIL: 0.1}, task=Summarization(prompt='It\'s "so"\nlong'))
    lines = recipe(comparison)
    compile(lines, "recipe", "exec")
    listed = lines[lines.index("models=[") + len("models=") : lines.index("])\nws.wait") + 1]
    models = eval(listed, {"lm": lm})
    assert [model.fingerprint for model in models] == [one.fingerprint for one in comparison.workflows]
    assert [model.label for model in models] == list(comparison.models)


def test_the_chart_has_the_best_on_top_and_follows_the_theme(comparison) -> None:
    chart = comparison.plot(score="rougeL")
    axes = chart.axes[0]
    dots = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
    labels = [note.get_text() for note in axes.texts]
    assert labels[:3] == ["strong", "strong twin", "weak"]
    assert dots == [0, 1, 2]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "row 0 is on top"
    markup = chart._repr_html_()
    assert "var(--lm-accent)" in markup
    assert ">strong twin</text>" in markup
    assert markup == chart._repr_html_(), "saving a notebook again changes nothing"


def test_charts_leave_pyplot_alone(comparison) -> None:
    import matplotlib.pyplot as plt

    comparison._repr_html_()
    assert plt.get_fignums() == []


def test_a_chart_without_spread_or_values_can_be_drawn() -> None:
    from lumigator_nb.display.charts import interval_chart

    lonely = rows_of(("A", 0.5, NAN, NAN, NAN), ("B", NAN, NAN, NAN, NAN)).assign(low=NAN, high=NAN)
    assert "0.500" in interval_chart(score_rows(lonely, ROUGE), ROUGE, 0.95)._repr_html_()


@pytest.mark.parametrize(
    ("value", "markup"),
    [("<b>", "&lt;b&gt;"), (html.Html("<b>"), "<b>"), ("a\x1b[31m\r\nb", "a�[31m\nb"), ("\u202eabc", "�abc")],
)
def test_only_markup_made_here_is_markup(value, markup) -> None:
    assert html.escape(value) == markup


def test_a_table_is_drawn_from_the_same_data_for_a_page_a_terminal_and_markdown() -> None:
    rows = [["a/b", Cell("0.5", "[0.4, 0.6]", bold=True), "first"], ["c", "0.1", "*last*"]]
    table = Table(["model", Cell("f1", key="f1"), "rank"], rows, "Scores", "A note.", words=(0, 2))
    page = to_html(table, lambda key, header: html.tag("a", header, href=f"#{key}"))
    assert "<th>Model</th>" in page
    assert '<th class="lm-n"><a href="#f1">f1</a></th>' in page
    assert '<td class="lm-n"><b>0.5</b> <span class="lm-sub">[0.4, 0.6]</span></td><td>first</td>' in page
    assert page.endswith('<div class="lm-note">A note.</div>')
    lines = to_text(table, 80).splitlines()
    assert lines[0] == "Scores"
    assert lines[1].split() == ["model", "f1", "rank"]
    assert lines[3].split() == ["a/b", "0.5", "[0.4,", "0.6]", "first"]
    assert lines[-1] == "A note."
    assert "\n".join(to_markdown(table)).splitlines() == [
        "## Scores", "", "| model | f1 | rank |", "| --- | --- | --- |", r"| a/b | 0.5 \[0.4, 0.6\] | first |",
        r"| c | 0.1 | \*last\* |", "", "A note.",
    ]  # fmt: skip


def test_a_long_text_unfolds_and_a_short_one_is_whole() -> None:
    assert html.clipped("short").startswith("<div")
    long = "word " * 200
    page = Page(html.clipped(long))
    assert page.tags[0][0] == "details"
    assert long.strip() in page.text


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (65, "1 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds, expected) -> None:
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    ("n_bytes", "expected"), [(1, "1 byte"), (999, "999 bytes"), (12_345, "12.3 kB"), (5 * 10**9, "5 GB")]
)
def test_sizes(n_bytes, expected) -> None:
    assert text.size(n_bytes) == expected


def test_a_name_is_shortened_in_the_middle() -> None:
    short = text.elide("hf/organisation/model-7B-Instruct", 20)
    assert len(short) == 20
    assert short.endswith("7B-Instruct")


def test_a_dataset_tells_what_matters() -> None:
    dataset = make_dataset(n_missing_ground_truth=2, n_duplicate_examples=1, metadata=["product"])
    said = str(dataset)
    assert said.startswith("Dataset tickets\n")
    for line in ("40 (1 duplicate)", "for 38 of 40 (2 missing)", "median 120", "tickets.csv (48.2 kB)", "product"):
        assert line in said
    assert "none" in str(make_dataset(has_ground_truth=False, ground_truth_words=None))


def test_times_are_the_readers(monkeypatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert text.moment(START) == "2026-01-02 21:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (make_dataset(EVIL, preview=[{"example": EVIL * 9, "ground_truth": None, EVIL: 7}]), "Dataset"),
        (
            Experiment(name=EVIL, dataset_id="d", task=Summarization(EVIL), metrics=(MetricSpec(name=EVIL),)),
            "Experiment",
        ),
        (make_workflow(EVIL, Status.FAILED, error=EVIL, stale=True, attempt=2), "Workflow"),
        (
            Job(workflow_id="w", step=Step.EVALUATION, error=EVIL, scores={EVIL: 0.5}, details={EVIL: {"a": EVIL}}),
            "Job",
        ),
    ],
    ids=["dataset", "experiment", "workflow", "job"],
)
def test_records_show_what_users_wrote_as_text(record, expected) -> None:
    page = assert_harmless(record._repr_html_())
    assert EVIL in page.text
    assert expected in page.text
    assert expected in str(record)


def test_a_workspace_shows_what_does_not_work() -> None:
    rows = [("Database", "sqlite", True), ("Cluster", f"{EVIL} does not answer", False), ("Versions", "0.1", None)]
    counts = {"datasets": 1, "jobs": 1200}
    page = assert_harmless(record_views.workspace_card("Workspace", rows, counts))
    assert "1 dataset, 1,200 jobs" in page.text
    assert [a["class"] for _, a in page.tags if "lm-chip" in (a.get("class") or "")] == [
        "lm-chip lm-good",
        "lm-chip lm-bad",
    ]
    assert "does not answer  (not working)" in record_views.workspace_text("Workspace", rows, counts)


def report_of(
    done: int, seconds: float, *, total=60, resumed=0, note="", step=Step.INFERENCE, failed=0, cost=None
) -> Progress:
    # It was reported just now: who has said nothing for long is named.
    end = now()
    return Progress(
        step=step,
        attempt=1,
        done=done,
        total=total,
        resumed=resumed,
        started_at=end - timedelta(seconds=seconds),
        first_at=end - timedelta(seconds=seconds),
        first_done=resumed,
        updated_at=end,
        note=note,
        failed=failed,
        cost=cost,
    )


def row_of(status=Status.RUNNING, given: Progress | None = None, label="m", **more) -> ProgressRow:
    return ProgressRow.of(label, status, given, **more)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (row_of(given=report_of(20, 10)), "m: running, inference 20/60, 2 examples/s, 20 s left"),
        (row_of(given=report_of(10, 25)), "m: running, inference 10/60, 2.5 s/example, 2 min 05 s left"),
        (row_of(given=report_of(30, 10, resumed=20)), "m: running, inference 30/60, 1 examples/s, 30 s left"),
        (row_of(given=report_of(0, 3, note="loading the model")), "m: running, inference 0/60, loading the model"),
        (row_of(Status.PENDING), "m: pending"),
        (row_of(Status.SUCCEEDED), "m: succeeded"),
        (row_of(Status.FAILED, error="\nValueError: bad\n  at x"), "m: failed, ValueError: bad"),
        (row_of(Status.STOPPED, error="$0.01 of the budget\nHint: raise it"), "m: stopped, $0.01 of the budget"),
        (
            row_of(given=report_of(20, 10, failed=2, cost=0.0132)),
            "m: running, inference 20/60, 2 examples/s, 20 s left, 2 failed, $0.0132 so far",
        ),
        (row_of(Status.STOPPED, report_of(20, 10, cost=0.0132)), "m: stopped 20/60"),
        (row_of(stale=True), "m: running, cluster unreachable, last known"),
    ],
)
def test_a_row_of_progress_in_words(row, line) -> None:
    assert progress.as_text([row]) == line


@pytest.mark.parametrize(
    ("done", "first_s", "seconds", "left"),
    [
        (0, None, 30, None),
        (1, 20, 20, None),  # loading and the first example took 20 s, which says nothing of the others
        (2, 20, 21, None),
        (8, 20, 27, None),
        (21, 20, 40, 39),
        (3, 1, 3, 57),
    ],
)
def test_the_time_left_is_told_when_it_is_known_and_loading_is_left_out(done, first_s, seconds, left) -> None:
    given = Progress(
        step=Step.INFERENCE, attempt=1, done=done, total=60, started_at=START,
        first_at=None if first_s is None else START + timedelta(seconds=first_s), first_done=min(done, 1),
        updated_at=START + timedelta(seconds=seconds),
    )  # fmt: skip
    assert ProgressRow.of("m", Status.RUNNING, given).seconds_left == left


@pytest.mark.parametrize(
    ("row", "width"),
    [(row_of(given=report_of(15, 5)), "25.0%"), (row_of(Status.SUCCEEDED), "100.0%"), (row_of(Status.PENDING), "0.0%")],
)
def test_the_bar_is_as_long_as_what_is_done(row, width) -> None:
    assert f'style="width:{width}"' in progress.as_html([row])


def test_a_bar_of_nothing_done_says_zero_to_screen_readers() -> None:
    # Without aria-valuenow, a progress bar is announced as one of unknown length.
    assert 'role="progressbar" aria-valuenow="0"' in progress.as_html([row_of(Status.PENDING)])


def test_progress_shows_what_users_wrote_as_text() -> None:
    row = row_of(Status.FAILED, label=EVIL, error=EVIL)
    page = assert_harmless(progress.as_html([row, row_of(given=report_of(1, 1, note=EVIL))]))
    assert page.text.count(EVIL) == 3


def test_nothing_is_shown_when_not_asked_for(capsys) -> None:
    with live_progress(enabled=False) as show:
        show([row_of()])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("interval", "expected"), [(15.0, 3), (0.0, 4)])
def test_a_log_gets_a_line_when_a_status_changes_and_seldom_else(monkeypatch, interval, expected) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", interval)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with live_progress() as show:
        for row in (row_of(Status.PENDING), row_of(given=report_of(1, 1)), row_of(given=report_of(2, 2))):
            show([row])
            show([row])
        show([row_of(Status.SUCCEEDED)])
    lines = stream.getvalue().splitlines()
    assert len(lines) == expected
    assert lines[0] == "m: pending"
    assert lines[-1] == "m: succeeded"


SHOW_TWICE = """
from datetime import UTC, datetime, timedelta
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.specs import Progress, Status, Step

def row(done):
    start = datetime(2026, 1, 2, tzinfo=UTC)
    end = start + timedelta(seconds=done)
    given = Progress(
        step=Step.INFERENCE, attempt=1, done=done, total=40, started_at=start, first_at=start, updated_at=end
    )
    return ProgressRow.of("some/[model]", Status.RUNNING, given)

with live_progress() as show:
    show([row(3)])
    show([row(3)])
    show([row(23)])
"""


def test_a_terminal_gets_one_table_with_bars_on_stderr() -> None:
    reader, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW_TWICE], stdout=subprocess.PIPE, stderr=terminal, env=environment
    )
    os.close(terminal)
    written = _read_all(reader)
    assert process.communicate(timeout=PATIENCE_S)[0] == b""
    assert process.returncode == 0
    assert "some/[model]" in written
    assert "running, inference" in written
    assert "━" in written
    assert "23/40" in written
    assert "17 s left" in written
    assert "\x1b[2K" in written, "a line is drawn over, not added"


def _read_all(reader: int) -> str:
    parts = []
    while select.select([reader], [], [], 60)[0]:
        try:
            part = os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(reader)
    return b"".join(parts).decode()


def test_a_notebook_gets_one_output_that_is_updated() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOW_TWICE)])
    kinds = []
    client = NotebookClient(notebook, timeout=PATIENCE_S, startup_timeout=PATIENCE_S, kernel_name="python3")
    process = client.process_message
    client.process_message = lambda message, *place: (kinds.append(message["msg_type"]), process(message, *place))[1]
    client.execute()
    (output,) = notebook.cells[0].outputs
    assert "23/40" in output.data["text/html"]
    assert output.data["text/plain"].startswith("some/[model]: running, inference 23/40")
    assert kinds.count("update_display_data") == 1

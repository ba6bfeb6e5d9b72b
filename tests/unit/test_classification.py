"""Classification: reading labels, and scores that equal scikit-learn's and add up over examples."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

import lumigator_nb as lm
from lumigator_nb import metrics, models, statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.prompts.labels import LabelReader, UnreadableError
from lumigator_nb.specs import MetricSpec, Summarization, Task
from lumigator_testing import ModelServer

LABELS = ("billing", "delivery", "other", "not spam", "spam")


def scored(truth, predictions, labels, *, multi_label: bool = False):
    metric = metrics.create(
        MetricSpec(name="classification", options={"labels": list(labels), "multi_label": multi_label})
    )
    return {scores.info.name: scores for scores in metric.score(predictions, truth, [""] * len(truth))}


def random_texts(seed: int, n: int, k: int, *, unreadable: float, rare: bool):
    """Truth and predictions of n examples by k labels; some labels may be missing, some answers have no label."""
    generator = np.random.default_rng(seed)
    labels = [f"class {number}" for number in range(k)]
    shares = generator.dirichlet(np.full(k, 0.3 if rare else 5.0))
    truth = generator.choice(k, n, p=shares)
    predicted = np.where(generator.random(n) < 0.6, truth, generator.choice(k, n))
    answers = np.where(generator.random(n) < unreadable, "I cannot tell", np.array(labels)[predicted])
    return labels, [labels[number] for number in truth], answers.tolist()


@pytest.mark.parametrize("unreadable", [0.0, 0.2])
@pytest.mark.parametrize("rare", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (7, 3), (200, 2), (200, 5), (30, 20)])
def test_scores_of_one_label_equal_scikit_learn(n, k, rare, unreadable) -> None:
    for seed in range(5):
        labels, truth, predictions = random_texts(seed, n, k, unreadable=unreadable, rare=rare)
        found = {name: scores.overall for name, scores in scored(truth, predictions, labels).items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about classes that are missing

            f1 = partial(sk.f1_score, truth, predictions, labels=labels)
            expected = {
                "accuracy": sk.accuracy_score(truth, predictions),
                "balanced_accuracy": sk.balanced_accuracy_score(truth, predictions),
                "macro_f1": f1(average="macro", zero_division=np.nan),
                "micro_f1": f1(average="micro", zero_division=0.0),
                "weighted_f1": f1(average="weighted", zero_division=0.0),
                "mcc": sk.matthews_corrcoef(truth, predictions),
                "cohen_kappa": sk.cohen_kappa_score(truth, predictions),
                "unreadable": np.mean([answer == "I cannot tell" for answer in predictions]),
            }
        expected = {name: 0.0 if np.isnan(value) else value for name, value in expected.items()}
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [1, 40, 300])
def test_scores_of_several_labels_equal_scikit_learn(n) -> None:
    labels = ["a", "b", "c", "never"]
    for seed in range(5):
        generator = np.random.default_rng(seed)
        truth, predicted = (generator.random((2, n, 4)) < [0.5, 0.3, 0.05, 0]).astype(int)
        texts = [[", ".join(np.array(labels)[row == 1]) or "none" for row in rows] for rows in (truth, predicted)]
        found = {name: scores.overall for name, scores in scored(*texts, labels, multi_label=True).items()}
        f1 = {
            average: sk.f1_score(truth, predicted, average=average, zero_division=undefined)
            for average, undefined in (("macro", np.nan), ("micro", 0.0), ("weighted", 0.0))
        }
        expected = {"accuracy": sk.accuracy_score(truth, predicted), "unreadable": 0.0}
        expected |= {f"{average}_f1": value for average, value in f1.items()}
        assert found == pytest.approx({name: np.nan_to_num(value) for name, value in expected.items()}, abs=1e-12)


def test_a_resample_has_the_score_of_the_examples_it_drew() -> None:
    labels, truth, predictions = random_texts(3, 60, 20, unreadable=0.1, rare=True)
    drawn = np.random.default_rng(1).integers(60, size=60)
    again = scored([truth[row] for row in drawn], [predictions[row] for row in drawn], labels)
    for name, scores in scored(truth, predictions, labels).items():
        total = scores.statistics[drawn].sum(axis=0)
        assert scores.info.aggregate(total, 60) == pytest.approx(again[name].overall, abs=1e-12)
        replicates = statistics.resampled_scores(
            np.stack([scores.statistics] * 2), scores.info.aggregate, n_resamples=50
        )
        assert replicates.shape == (2, 50)
        assert np.isfinite(replicates).all()


def test_more_classes_than_examples_have_an_interval_too() -> None:
    labels, truth, predictions = random_texts(0, 30, 40, unreadable=0, rare=False)
    scores = scored(truth, predictions, labels)["macro_f1"]
    interval = statistics.bootstrap_interval(scores.statistics, scores.info.aggregate)
    assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("billing", "billing"),
        (" Billing.\n", "billing"),
        ("**BILLING**", "billing"),
        ("`not_spam`", "not spam"),
        ("Label: delivery", "delivery"),
        ("The category is **delivery**, since the parcel is late.", "delivery"),
        ('{"label": "billing"}', "billing"),
        ('{"category": "Billing"}', "billing"),
        ('```json\n{"label": "billing"}\n```', "billing"),
        ('{"label": "bill', None),
        ('{"label": "billing"', "billing"),
        ('"billing"', "billing"),
        ('["billing"]', "billing"),
        ("This is about billing.", "billing"),
        ("This is not billing but delivery.", "delivery"),
        ("It isn't spam.", None),
        ("It is not spam.", "not spam"),
        ("billing or delivery", None),
        ("<think>", None),
        ("It could be billing.\nAnswer: delivery", "delivery"),
        ("bilingual", None),
        ("", None),
        ("42", None),
        ("{}", None),
        ('{"label": "fraud", "reason": "not billing, although billing is named"}', None),
        ('{"label": "This is about billing."}', "billing"),
        ("[" * 50_000, None),
    ],
)
def test_an_answer_is_read_as_one_label_or_none(answer, label) -> None:
    reader = LabelReader(LABELS)
    if label is None:
        with pytest.raises(UnreadableError):
            reader.read(answer)
    else:
        assert [LABELS[number] for number in reader.read(answer)] == [label]


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ('["billing", "delivery"]', {"billing", "delivery"}),
        ('{"labels": ["billing"]}', {"billing"}),
        ("Labels: billing, delivery", {"billing", "delivery"}),
        ("- billing\n- delivery", {"billing", "delivery"}),
        ("billing; delivery", {"billing", "delivery"}),
        ("[]", set()),
        ("none", set()),
        ('{"labels": []}', set()),
        ("It is about billing and delivery.", {"billing", "delivery"}),
        ('["billing", "fraud"]', None),
        ("I do not know", None),
        ("", None),
    ],
)
def test_an_answer_is_read_as_any_number_of_labels(answer, labels) -> None:
    reader = LabelReader(LABELS, multi_label=True)
    if labels is None:
        with pytest.raises(UnreadableError):
            reader.read(answer)
    else:
        assert {LABELS[number] for number in reader.read(answer)} == labels


def test_labels_of_any_script_and_of_signs_are_told_apart() -> None:
    labels = ("投诉", "咨询", "C++", "+", "-")
    reader = LabelReader(labels)
    assert [labels[reader.read(text)[0]] for text in ("投诉。", "c++", "+", "-")] == ["投诉", "C++", "+", "-"]


def test_what_cannot_be_read_is_wrong_and_unreadable_with_the_reason() -> None:
    found = scored(["billing", "delivery", "other"], ["billing", "no idea", "spam"], LABELS)
    assert found["accuracy"].values.tolist() == [1, 0, 0]
    assert found["unreadable"].values.tolist() == [0, 1, 0]
    assert found["accuracy"].reasons == (None, "names no label: 'no idea'", "read as spam")
    assert found["macro_f1"].values.tolist() == [1, 0, 0]


def test_ground_truth_that_is_no_label_leaves_the_example_out() -> None:
    found = scored(["billing", "refunds", None], ["billing"] * 3, LABELS)
    assert dict(found["macro_f1"].unscored) == {"the ground truth 'refunds' is no label": 1, "no ground truth": 1}
    assert found["accuracy"].overall == 1


def test_any_of_several_references_is_right() -> None:
    metric = metrics.create(MetricSpec(name="classification", options={"labels": list(LABELS)}))
    found = metric.score(["delivery", "spam"], [("billing", "delivery")] * 2, ["", ""])
    assert next(scores for scores in found if scores.info.name == "accuracy").values.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["one"], "1 labels"),
        ("yes", "labels cannot be 'yes'"),
        (["a", "A."], "differ at most in case"),
        (["a", " "], "a label is ' '"),
        (["a", "b\nc"], "on one line"),
        (["a", 3], "labels cannot be"),
    ],
)
def test_bad_labels_are_refused(labels, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        lm.Classification(labels)


def test_a_description_needs_its_label() -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'billing'"):
        lm.Classification(["billing", "other"], descriptions={"biling": "x"})


def test_a_task_without_labels_is_stored_as_before() -> None:
    assert set(Summarization().model_dump()) == {"kind", "prompt", "template", "shots", "source", "target"}
    task = lm.Classification(["a", "b"], multi_label=True, descriptions={"a": "x"})
    assert Task.model_validate_json(task.model_dump_json()) == task


def test_labels_are_needed_and_come_from_the_task(inline_ws) -> None:
    with pytest.raises(InvalidInputError, match="needs labels"):
        lm.score(["a"], ["a"], metrics="classification")
    frame = pd.DataFrame({"example": ["Where is my parcel?", "Money back!"], "ground_truth": ["delivery", "billing"]})
    inline_ws.datasets.upload(frame, name="tickets", progress=False)
    task = lm.Classification(["billing", "delivery"])
    experiment = inline_ws.experiments.create("routing", dataset="tickets", task=task)
    assert [spec.name for spec in experiment.metrics] == ["classification"]
    assert experiment.metrics[0].options == {"labels": ["billing", "delivery"]}


TICKETS = pd.DataFrame(
    {
        "example": ["My delivery is late.", "No billing, please.", "Delivery or billing?", "Hello", "Billing it is."],
        "ground_truth": ["delivery", "billing", "delivery", "delivery", "refund"],
    }
)


def test_baselines_of_a_classification(inline_ws) -> None:
    inline_ws.datasets.upload(TICKETS, name="tickets", progress=False)
    task = lm.Classification(["billing", "delivery"])
    experiment = inline_ws.experiments.create("routing", dataset="tickets", task=task)
    for _ in range(2):  # a second launch finds the models that the first one fitted
        launched = inline_ws.workflows.launch(experiment, ["baseline/majority", "baseline/label-in-text"])
    inline_ws.wait(launched, progress=False, check=True)
    majority, named = launched
    assert len(inline_ws.workflows.of(experiment)) == 2
    assert majority.model.options == {"answer": "delivery"}
    assert inline_ws.workflows.scores(majority)["accuracy"].tolist()[:4] == [1, 0, 1, 1]
    assert inline_ws.workflows.scores(named)["accuracy"].tolist()[:4] == [1, 0, 1, 0]
    assert inline_ws.workflows.scores(named)["unreadable"].tolist()[:4] == [0, 1, 0, 1]
    assert np.isnan(inline_ws.workflows.scores(named)["accuracy"][4])


def test_the_confusion_matrix_and_each_label(inline_ws) -> None:
    inline_ws.datasets.upload(TICKETS, name="tickets", progress=False)
    task = lm.Classification(["billing", "delivery"])
    experiment = inline_ws.experiments.create("routing", dataset="tickets", task=task)
    chosen = ["baseline/majority", "baseline/label-in-text"]
    inline_ws.wait(inline_ws.workflows.launch(experiment, chosen), progress=False, check=True)
    comparison = inline_ws.compare(experiment)
    found = comparison.confusion("baseline/label-in-text")
    assert found.counts.to_numpy().tolist() == [[0, 0, 1], [0, 2, 1]]
    assert found.examples("delivery", "unreadable") == [3]
    assert found.examples("delivery", "delivery") == [0, 2]
    by_label = found.by_label().set_index("label")
    assert by_label.loc["delivery", ["n", "predicted", "precision", "f1"]].tolist() == [3, 2, 1, 0.8]
    assert by_label.loc["delivery", "recall"] == pytest.approx(2 / 3)
    assert by_label.loc["delivery", "recall_low"] == pytest.approx(0.2077, abs=1e-4)
    assert np.isnan(by_label.loc["billing", "precision"])
    assert "Fewer than 20 examples: billing, delivery" in " ".join(str(found).split())
    assert "<table" in found._repr_html_()
    assert "ground truth by row" in found.plot()._repr_html_()
    assert comparison.confusion().model == "baseline/majority"
    with pytest.raises(InvalidInputError, match="did you mean 'delivery'"):
        found.examples("delivry", "billing")
    with pytest.raises(InvalidInputError, match="no model 'x'"):
        comparison.confusion("x")


def test_baselines_of_labels_need_a_classification(inline_ws) -> None:
    inline_ws.datasets.upload(TICKETS, name="tickets", progress=False)
    inline_ws.experiments.create("summaries", dataset="tickets")
    with pytest.raises(InvalidInputError, match="the task is summarization"):
        inline_ws.workflows.launch("summaries", "baseline/majority")
    task = lm.Classification(["x", "y"])
    inline_ws.experiments.create("others", dataset="tickets", task=task)
    with pytest.raises(InvalidInputError, match="no example has one as its ground truth"):
        inline_ws.workflows.launch("others", "baseline/majority")
    with pytest.raises(InvalidInputError, match="learns its answer"):
        models.predict("baseline/majority", ["a"], task)


def test_the_majority_of_several_labels_is_the_most_frequent_set(inline_ws) -> None:
    frame = pd.DataFrame({"example": ["p", "q", "r"], "ground_truth": ["a, b", '["b", "a"]', "none"]})
    inline_ws.datasets.upload(frame, name="tickets", progress=False)
    task = lm.Classification(["a", "b"], multi_label=True)
    experiment = inline_ws.experiments.create("tags", dataset="tickets", task=task)
    (launched,) = inline_ws.wait(
        inline_ws.workflows.launch(experiment, "baseline/majority"), progress=False, check=True
    )
    assert launched.model.options == {"answer": '["a", "b"]'}
    assert inline_ws.workflows.scores(launched)["accuracy"].tolist() == [1, 1, 0]


def test_a_server_is_held_to_the_labels(inline_ws) -> None:
    frame = pd.DataFrame({"example": ["Where is my parcel?", "Billing!"], "ground_truth": ["delivery", "billing"]})
    inline_ws.datasets.upload(frame, name="tickets", progress=False)
    task = lm.Classification(["billing", "delivery"])
    experiment = inline_ws.experiments.create("routing", dataset="tickets", task=task)
    with ModelServer() as server:
        chosen = lm.Model("echo", provider="openai", base_url=server.base_url, label="echo")
        inline_ws.wait(inline_ws.workflows.launch(experiment, chosen), progress=False, check=True)
        bodies = server.bodies()
    for body in bodies:
        assert body["response_format"]["json_schema"]["schema"] == task.answer_schema
        assert body["messages"][0]["content"] == task.instruction
    comparison = inline_ws.compare(experiment)
    assert comparison.examples()["echo"].tolist() == ['{"label": "delivery"}', '{"label": "billing"}']
    assert inline_ws.workflows.scores(inline_ws.workflows.of(experiment)[0])["accuracy"].tolist() == [1, 1]
    assert {info.name for info in comparison.scores} >= {"macro_f1", "mcc", "unreadable"}
    assert comparison.main_score == "accuracy"


def test_a_server_that_takes_no_schema_is_asked_without(inline_ws) -> None:
    frame = pd.DataFrame({"example": ["Where is my parcel?", "Billing!"], "ground_truth": ["delivery", "billing"]})
    inline_ws.datasets.upload(frame, name="tickets", progress=False)
    task = lm.Classification(["billing", "delivery"])
    experiment = inline_ws.experiments.create("routing", dataset="tickets", task=task)
    with ModelServer(unsupported=("response_format",)) as server:
        chosen = lm.Model("echo", provider="openai", base_url=server.base_url)
        (workflow,) = inline_ws.workflows.launch(experiment, chosen)
        inline_ws.wait(workflow, progress=False, check=True)
    scores = inline_ws.workflows.scores(workflow)
    assert scores["accuracy"].tolist() == [0, 1]
    assert scores["unreadable"].tolist() == [1, 0]

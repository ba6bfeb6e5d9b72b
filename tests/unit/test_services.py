"""The whole job without a service: the worker is called in this process instead of on a cluster."""

from __future__ import annotations

import platform

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.engine import worker
from lumigator_nb.errors import (
    ClusterUnavailableError,
    ConfigurationError,
    ConflictError,
    DatasetError,
    InUseError,
    InvalidInputError,
    JobFailedError,
    MissingFieldsError,
    NotFoundError,
    StoreNotSharedError,
    StoreUnavailableError,
    UnknownMetricError,
    UnknownModelError,
    WaitTimeoutError,
)
from lumigator_nb.services.workflows.status import LOST
from lumigator_nb.specs import Status, Step, StoreSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store


@pytest.fixture
def ws(inline_ws):
    return inline_ws


FRAME = pd.DataFrame(
    {
        "example": [f"Ann: The bus is late. Bob: Then we walk. Ann: It rains {n} hours." for n in range(40)],
        "ground_truth": ["Ann and Bob walk because the bus is late."] * 40,
        "channel": ["chat", "phone"] * 20,
    }
)


@pytest.fixture
def experiment(ws):
    return ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"))


def stored(ws) -> list[str]:
    return ws.store.list("")


def test_upload_launch_compare(ws, experiment) -> None:
    ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-1"])
    workflows = ws.wait(experiment, progress=False)
    assert [workflow.status for workflow in workflows] == [Status.SUCCEEDED] * 2
    comparison = ws.compare("e")
    summary = comparison.summary().set_index(["score", "model"])
    assert set(comparison.models) == {"baseline/copy", "baseline/lead-1"}
    for label in comparison.models:
        row = summary.loc["rougeL", label]
        assert row.low <= row.overall <= row.high
        assert row.n == 40
    jobs = ws.workflows.jobs(experiment)
    assert [job.step for job in jobs] == [Step.INFERENCE, Step.EVALUATION] * 2
    assert jobs[1].scores["rougeL"] == pytest.approx(summary.loc["rougeL", "baseline/copy"].overall)
    assert set(jobs[1].details["signatures"]) == {"rouge", "meteor", "bleu", "chrf", "length"}


def test_predictions_are_the_models_own(ws, experiment) -> None:
    (workflow,) = ws.workflows.launch(experiment, ["baseline/copy"])
    predictions = ws.workflows.predictions(workflow)
    assert predictions["prediction"].tolist() == FRAME["example"].tolist()
    assert predictions["row"].tolist() == list(range(40))


def test_launching_again_is_safe(ws, experiment, cluster) -> None:
    first = ws.workflows.launch(experiment, ["baseline/copy"])
    ws.wait(experiment, progress=False)
    again = ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-1"])
    assert again[0].id == first[0].id
    assert again[0].status is Status.SUCCEEDED
    assert len(cluster.states) == 2


def test_a_lost_workflow_is_resumed_without_repeating_finished_shards(ws, experiment, cluster) -> None:
    (uninterrupted,) = ws.workflows.launch(experiment, ["baseline/lead-2"])
    expected = ws.workflows.predictions(uninterrupted)["prediction"].tolist()
    cluster.execute = False
    (workflow,) = ws.workflows.launch(experiment, ["baseline/lead-1"])
    cluster.execute = True
    name = layout.part(workflow.id, Step.INFERENCE, 0)
    # A finished shard with recognisable content: it must be taken as it is, not computed again.
    ws.store.write(name, ws.store.read(layout.part(uninterrupted.id, Step.INFERENCE, 0)))
    del cluster.states[workflow.id]
    (lost,) = ws.workflows.refresh(workflow)
    assert (lost.status, lost.error) == (Status.FAILED, LOST)
    (resumed,) = ws.workflows.resume(lost)
    assert resumed.attempt == 2
    (done,) = ws.wait(resumed, progress=False)
    assert done.status is Status.SUCCEEDED
    texts = ws.workflows.predictions(done)["prediction"].tolist()
    assert texts[:16] == expected[:16]
    assert texts[16:] != expected[16:]
    assert ws.workflows.jobs(done)[0].details["shards_reused"] == 1


def test_a_failing_step_is_recorded_with_its_reason_and_resumable(ws, experiment) -> None:
    (workflow,) = ws.workflows.launch(experiment, ["baseline/copy"])
    ws.store.delete(layout.result(workflow.id, Step.EVALUATION))
    ws.store.delete(layout.result(workflow.id, Step.INFERENCE))
    ws.store.write(layout.part(workflow.id, Step.INFERENCE, 1), b"not parquet")
    spec = results.read_spec(ws.store, workflow.id)
    assert worker.main([ws.store.spec.uri, spec.workflow_id]) == 1
    with pytest.raises(JobFailedError, match="inference: .*is damaged"):
        ws.wait(experiment, progress=False, check=True)
    ws.store.delete(layout.part(workflow.id, Step.INFERENCE, 1))
    ws.workflows.launch(experiment, ["baseline/copy"])
    assert ws.wait(experiment, progress=False, check=True)[0].attempt == 2


def test_an_unreachable_cluster_is_no_failure(ws, experiment, cluster) -> None:
    cluster.execute = False
    (workflow,) = ws.workflows.launch(experiment, ["baseline/copy"])
    cluster.reachable = False
    (seen,) = ws.workflows.refresh(workflow)
    assert (seen.status, seen.stale) == (Status.PENDING, True)
    cluster.reachable = True
    assert not ws.workflows.refresh(workflow)[0].stale


def test_a_launch_that_does_not_reach_the_cluster_can_be_repeated(ws, experiment, cluster) -> None:
    cluster.reachable = False
    with pytest.raises(ClusterUnavailableError):
        ws.workflows.launch(experiment, ["baseline/copy"])
    cluster.reachable = True
    ws.workflows.launch(experiment, ["baseline/copy"])
    assert ws.wait(experiment, progress=False)[0].status is Status.SUCCEEDED


def test_waiting_ends_with_the_time_allowed(ws, experiment, cluster) -> None:
    cluster.execute = False
    ws.workflows.launch(experiment, ["baseline/copy"])
    with pytest.raises(WaitTimeoutError, match="still pending after 0.1 s"):
        ws.wait(experiment, timeout=0.1, progress=False)


def test_stop_and_resume(ws, experiment, cluster) -> None:
    cluster.execute = False
    ws.workflows.launch(experiment, ["baseline/copy"])
    assert [workflow.status for workflow in ws.workflows.stop(experiment)] == [Status.STOPPED]
    cluster.execute = True
    ws.workflows.resume(experiment)
    assert ws.wait(experiment, progress=False)[0].status is Status.SUCCEEDED


def test_a_local_store_does_not_go_with_a_remote_cluster(ws, experiment, cluster, tmp_path) -> None:
    cluster.shares_files = False
    ws.workflows.submitter._store = Store(StoreSpec(uri=tmp_path.as_uri()))
    with pytest.raises(StoreNotSharedError, match="set S3_BUCKET"):
        ws.workflows.launch(experiment, ["baseline/copy"])
    ws.workflows.submitter._settings.lumigator_store_shared = True
    ws.workflows.submitter.check([])


def test_a_cluster_of_other_versions_launches_nothing(ws, experiment, cluster, monkeypatch) -> None:
    def refuse(pickled=()):
        raise ConfigurationError(f"not with {sorted(pickled)}")

    @metrics.metric
    def shortness(prediction: str) -> float:
        return -len(prediction)

    monkeypatch.setattr(cluster, "check", refuse)
    ws.experiments.create("other", dataset="d", metrics=[shortness])
    python = ".".join(platform.python_version_tuple()[:2])
    with pytest.raises(ConfigurationError, match=python):
        ws.workflows.launch("other", ["baseline/copy"])
    assert ws.workflows.list() == []
    (noted,) = ws.workflows.enqueue("other", ["baseline/copy"])
    ws.workflows.submit_waiting()
    assert ws.workflows.get(noted.id).error.startswith("not with")


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        (["baseline/leed-2"], UnknownModelError, "leed-2"),
        (["nosuch/x"], UnknownModelError, "nosuch"),
        (["gpt"], UnknownModelError, "does not name a model"),
        ([], InvalidInputError, "no model"),
    ],
)
def test_a_bad_model_launches_nothing(ws, experiment, models, error, message) -> None:
    with pytest.raises(error, match=message):
        ws.workflows.launch(experiment, ["baseline/copy", *models] if models else [])
    assert ws.workflows.of(experiment) == []


def test_models_of_one_name_must_be_told_apart(ws, experiment) -> None:
    models = [lm.Model("baseline/copy"), lm.Model("baseline/copy", max_new_tokens=5)]
    with pytest.raises(InvalidInputError, match="both called 'baseline/copy'"):
        ws.workflows.launch(experiment, models)
    assert len(ws.workflows.launch(experiment, [models[0], models[1].model_copy(update={"label": "short"})])) == 2


def test_experiments_are_checked_before_anything_runs(ws) -> None:
    bare = ws.datasets.upload(FRAME[["example"]], name="bare")
    with pytest.raises(UnknownMetricError, match="did you mean 'rouge'"):
        ws.experiments.create("x", dataset=bare, metrics=["rogue"])
    with pytest.raises(MissingFieldsError, match="rouge"):
        ws.experiments.create("x", dataset=bare, metrics=["rouge"])
    with pytest.raises(InvalidInputError, match="named twice"):
        ws.experiments.create("x", dataset=bare, metrics=["length", "length"])
    with pytest.raises(NotFoundError, match="no dataset 'nosuch'"):
        ws.experiments.create("x", dataset="nosuch")
    assert ws.experiments.list() == []
    ws.experiments.create("x", dataset=bare, metrics=["length"])
    with pytest.raises(ConflictError, match="experiment named 'x'"):
        ws.experiments.create("x", dataset=bare, metrics=["length"])


def test_an_experiment_without_ground_truth_can_be_compared(ws) -> None:
    bare = ws.datasets.upload(FRAME[["example"]], name="bare")
    experiment = ws.experiments.create("x", dataset=bare, metrics=["length"])
    ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-1"])
    comparison = ws.compare(experiment)
    assert str(comparison)
    assert "ground_truth" not in comparison.examples()


def test_nothing_to_compare_says_why(ws, experiment) -> None:
    with pytest.raises(InvalidInputError, match="nothing to compare yet: none was launched"):
        ws.compare(experiment)


def test_examples_that_a_model_did_not_answer_are_left_out_for_all(ws, experiment) -> None:
    workflows = ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-1"])
    folder = layout.step_folder(workflows[0].id, Step.EVALUATION)
    names = [name for name in ws.store.list(folder) if name.endswith(".parquet")]

    def publish(missing: slice) -> None:
        for name in names:
            with ws.store.reading(name) as file:
                scores = pd.read_parquet(file)
            unscored = scores.columns.drop("row")
            scores = scores.astype(dict.fromkeys(unscored, object))
            scores.loc[missing, unscored] = None
            with ws.store.writing(name) as file:
                scores.to_parquet(file)

    publish(slice(0, 9))
    comparison = ws.compare(experiment)
    assert set(comparison.summary()["n"]) == {30}
    assert comparison.slices("channel", "bleu")["n"].tolist() == [15, 15]
    assert comparison.worst("rougeL", n=3).index.min() >= 10
    publish(slice(0, 39))
    with pytest.raises(InvalidInputError, match="no example has a score from every model"):
        ws.compare(experiment)


def test_metrics_are_added_later_without_asking_a_model(ws, experiment) -> None:
    experiment = ws.experiments.create("later", dataset=ws.datasets.get(experiment.dataset_id), metrics=["rouge"])
    ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-1"])
    before = ws.compare(experiment)

    @lm.metric(name="channel_named")
    def channel_is_named(prediction, channel):
        return {"yes": channel in prediction, "long": len(prediction) > 100}

    workflows = ws.evaluate(experiment, ["bleu", channel_is_named])
    assert {workflow.attempt for workflow in workflows} == {2}
    after = ws.compare(experiment)
    names = [info.name for info in after.scores]
    assert names[:5] == ["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"]
    assert set(names[5:]) == {"channel_named_yes", "channel_named_long"}
    pd.testing.assert_frame_equal(
        after.summary()[after.summary()["score"] == "rougeL"].reset_index(drop=True),
        before.summary()[before.summary()["score"] == "rougeL"].reset_index(drop=True),
    )
    assert "channel_named (a function)" in str(ws.experiments.get(experiment.id))
    report = after.export("report.html").read_text()
    assert "function|name:channel_named|code:" in report
    assert "metrics=['rouge', 'bleu', channel_named]" in report.replace("&#x27;", "'").replace("&#39;", "'")
    assert "pickle" not in report
    inferences = [job for job in ws.workflows.jobs(experiment) if job.step is Step.INFERENCE]
    assert [job.details["shards_reused"] for job in inferences] == [0, 0], "no model was asked again"
    ws.evaluate(experiment)
    assert {workflow.attempt for workflow in ws.workflows.of(experiment)} == {2}, "there was nothing to do"

    def again(text: str):
        # The same cell executed once more: other lines, other file, the same function.
        code = "def channel_is_named(prediction, channel):\n"
        code += f"    return {{'yes': any(word in prediction for word in [channel]), 'long': {text}}}\n"
        scope: dict = {}
        exec(compile(code, f"cell-{len(text)}", "exec"), scope)
        return lm.metric(name="channel_named")(scope["channel_is_named"])

    ws.evaluate(experiment, again("len(prediction) > 50"))
    assert {workflow.attempt for workflow in ws.workflows.of(experiment)} == {3}, "it does something else now"
    ws.evaluate(experiment, again(" len(prediction) > 50"))
    assert {workflow.attempt for workflow in ws.workflows.of(experiment)} == {3}, "it is the same"
    assert len(ws.experiments.get(experiment.id).metrics) == 3


def test_a_metric_that_fails_is_named_and_can_be_tried_again(ws, experiment, monkeypatch) -> None:
    def broken(self, rows):
        raise RuntimeError("no dictionary")

    experiment = ws.experiments.create(
        "failing", dataset=ws.datasets.get(experiment.dataset_id), metrics=["rouge", "length"]
    )
    with monkeypatch.context() as patched:
        patched.setattr(metrics.length.Length, "_score", broken)
        workflow = ws.workflows.launch(experiment, ["baseline/copy"])[0]
        workflow = ws.workflows.refresh([workflow])[0]
    assert workflow.status is Status.SUCCEEDED
    job = ws.workflows.jobs(workflow)[1]
    assert job.details["failed_metrics"] == {"length": "RuntimeError: no dictionary"}
    assert "length could not be computed for baseline/copy: RuntimeError: no dictionary" in str(ws.compare(experiment))
    ws.evaluate(experiment)
    assert "could not be computed" not in str(ws.compare(experiment))
    assert {info.name for info in ws.compare(experiment).scores} >= {"rougeL", "words"}


def test_a_store_that_goes_away_is_no_fault_of_a_metric(ws, experiment, monkeypatch) -> None:
    def gone(*arguments):
        raise StoreUnavailableError("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(results, "write_scores", gone)
        workflow = ws.workflows.refresh(ws.workflows.launch(experiment, ["baseline/copy"]))[0]
    assert workflow.status is Status.FAILED
    assert "the store does not answer" in workflow.error
    (workflow,) = ws.wait(ws.workflows.resume(workflow), progress=False, check=True)
    assert {info.name for info in ws.compare(experiment).scores} >= {"rougeL", "words"}


def test_where_every_metric_fails_the_workflow_does_too(ws, experiment, monkeypatch) -> None:
    def broken(self, rows):
        raise RuntimeError("no dictionary")

    monkeypatch.setattr(metrics.length.Length, "_score", broken)
    experiment = ws.experiments.create("hopeless", dataset=ws.datasets.get(experiment.dataset_id), metrics=["length"])
    workflow = ws.workflows.refresh(ws.workflows.launch(experiment, ["baseline/copy"]))[0]
    assert workflow.status is Status.FAILED
    assert "length: RuntimeError: no dictionary" in workflow.error


def test_deleting_takes_the_files_along_and_asks_for_order(ws, experiment, cluster) -> None:
    ws.workflows.launch(experiment, ["baseline/copy"])
    with pytest.raises(InUseError, match="'d' is used by: e"):
        ws.datasets.delete("d")
    cluster.execute = False
    ws.workflows.launch(experiment, ["baseline/lead-1"])
    ws.workflows.refresh()
    with pytest.raises(InUseError, match="under way: baseline/lead-1"):
        ws.experiments.delete(experiment)
    ws.workflows.stop(experiment)
    ws.experiments.delete(experiment)
    ws.datasets.delete("d")
    assert stored(ws) == []
    assert ws.workflows.list() == []


def test_logs_are_kept_in_the_store(ws, experiment) -> None:
    (workflow,) = ws.workflows.launch(experiment, ["baseline/copy"])
    assert "inference ended: succeeded" in ws.workflows.logs(workflow)


def test_the_workspace_shows_itself(ws, experiment) -> None:
    for shown in (repr(ws), ws._repr_html_()):
        assert "memory://" in shown
        assert lm.__version__ in shown


def test_examples_may_have_several_references(ws) -> None:
    frame = pd.DataFrame(
        {
            "text": ["The bus is late. We walk.", "It rains. Stay in."],
            "summary_a": ["They walk.", "It rains."],
            "summary_b": ["The bus is late.", None],
        }
    )
    dataset = ws.datasets.upload(frame, name="two", example="text", ground_truth=["summary_a", "summary_b"])
    assert dataset.columns == {"example": "text", "ground_truth": "summary_a", "ground_truth_2": "summary_b"}
    experiment = ws.experiments.create("several", dataset=dataset, metrics=["rouge", "exact_match"])
    ws.workflows.launch(experiment, ["baseline/lead-1"])
    comparison = ws.compare(experiment)
    assert comparison.to_pandas()["exact_match"].tolist() == [1, 1]
    assert comparison.to_pandas()["rougeL"].tolist() == [1, 1]
    with pytest.raises(InvalidInputError, match="no metadata column"):
        comparison.slices("ground_truth_2")
    with pytest.raises(DatasetError, match="column 'text' cannot be both example and ground truth"):
        ws.datasets.upload(frame, name="three", example="text", ground_truth=["summary_a", "text"])
    with pytest.raises(MissingFieldsError, match="summary_c"):
        ws.datasets.upload(frame, name="three", example="text", ground_truth=["summary_a", "summary_c"])

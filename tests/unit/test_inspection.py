"""Whatever is damaged in the store or contradicts it in the database is named, with a remedy that works."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Label
from lumigator_nb.services.upkeep import garbage
from lumigator_nb.services.upkeep.inspection import Inspection, inspect
from lumigator_nb.specs import Status, Step, now
from lumigator_nb.storage import layout, results

METRICS = ["rouge", "length"]
FRAME = pd.DataFrame(
    {
        "example": [f"It rains {n} hours. Then it snows." for n in range(40)],
        "ground_truth": [f"It rains {n} hours." if n % 2 else None for n in range(40)],
    }
)


@pytest.fixture
def ws(inline_ws):
    experiment = inline_ws.experiments.create("e", dataset=inline_ws.datasets.upload(FRAME, name="d"), metrics=METRICS)
    inline_ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-1"])
    inline_ws.workflows.refresh()
    return inline_ws


@pytest.fixture
def workflow(ws):
    return next(each for each in ws.workflows.list() if each.label == "baseline/lead-1")


def inspected(ws) -> Inspection:
    return inspect(ws.database, ws.store, older_than=timedelta(0))


def the_fault(ws):
    faults = list(inspected(ws))
    assert len(faults) == 1, [fault.what for fault in faults]
    return faults[0]


def execute(ws, statement: str) -> None:
    """As whoever changes the database by other means does, without the rules of foreign keys."""
    with ws.database.engine.connect() as connection:
        if ws.database.is_sqlite:
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(sa.text(statement))
        connection.commit()
        if ws.database.is_sqlite:
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = ON")


def rewritten(ws, name: str, change) -> None:
    with ws.store.reading(name) as file:
        table = pq.read_table(file)
    with ws.store.writing(name) as file:
        pq.write_table(change(table), file)


def flipped(ws, name: str) -> None:
    data = bytearray(ws.store.read(name))
    data[len(data) // 2] ^= 1
    ws.store.write(name, bytes(data))


def test_what_is_in_order_has_no_fault(ws) -> None:
    said = []
    found = inspect(ws.database, ws.store, lambda *step: said.append(step), older_than=timedelta(0))
    assert (found.faults, found.unrepaired, found.unmended) == ((), [], [])
    assert str(found) == "no fault in 1 dataset, 1 experiment, 2 workflows and 0 labels"
    assert said == [("dataset", 1, 1), ("workflow", 1, 2), ("workflow", 2, 2)]


def test_overall_scores_are_counted_again_for_every_kind_of_metric(ws, workflow) -> None:
    """One that is altered is noticed, be it a mean or made of sufficient statistics."""
    ws.evaluate("e", ["bleu", "chrf", "ter", "exact_match"])
    ws.workflows.refresh()
    spec = results.read_spec(ws.store, workflow.id)
    for metric in spec.metrics:
        found = results.find_metric_result(ws.store, workflow.id, metric)
        name, score = next(iter(found.scores.items()))
        altered = {**found.scores, name: score.model_copy(update={"overall": score.overall + 0.001})}
        results.write_metric_result(ws.store, workflow.id, found.model_copy(update={"scores": altered}))
        fault = the_fault(ws)
        assert fault.what == f"the overall {name} does not follow from the examples' scores"
        results.write_metric_result(ws.store, workflow.id, found)
    assert inspected(ws).faults == ()


def test_examples_that_were_altered(ws) -> None:
    dataset = ws.datasets.get("d")
    name = layout.examples(dataset.id)
    with writing(ws.database) as work:
        import hashlib

        work.datasets.get("d").data_hash = hashlib.sha256(ws.store.read(name)).hexdigest()
    assert inspected(ws).faults == ()
    flipped(ws, name)
    fault = the_fault(ws)
    assert "SHA-256 differs" in fault.what
    assert (fault.where, fault.repaired_by) == ("dataset 'd' (version 1)", "")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda ws, name: ws.store.delete(name), "is missing"),
        (lambda ws, name: ws.store.write(name, ws.store.read(name)[:-100]), "is damaged"),
        (lambda ws, name: rewritten(ws, name, lambda table: table.slice(0, 39)), "has 39 rows, not 40"),
    ],
)
def test_examples_that_are_not_whole_without_a_hash(ws, damage, said) -> None:
    with writing(ws.database) as work:
        work.datasets.get("d").data_hash = ""
    damage(ws, layout.examples(ws.datasets.get("d").id))
    assert said in the_fault(ws).what


def test_the_original(ws) -> None:
    dataset = ws.datasets.get("d")
    name = layout.original(dataset.id, dataset.filename)
    data = ws.store.read(name)
    flipped(ws, name)
    assert "not what was uploaded" in the_fault(ws).what
    ws.store.delete(name)
    assert "is missing" in the_fault(ws).what
    ws.store.write(name, data)
    assert inspected(ws).faults == ()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda ws, name: ws.store.delete(name), "part-00002.parquet should begin with row 16, and does not"),
        (lambda ws, name: ws.store.write(name, b"PAR1"), "part-00001.parquet"),
        (lambda ws, name: rewritten(ws, name, lambda table: table.slice(0, 5)), "should begin with row 21"),
    ],
)
def test_answers_with_gaps(ws, workflow, damage, said) -> None:
    damage(ws, layout.part(workflow.id, Step.INFERENCE, 1))
    fault = the_fault(ws)
    assert said in fault.what
    assert fault.where == "baseline/lead-1 in experiment 'e'"


def test_answers_that_end_early(ws, workflow) -> None:
    ws.store.delete(layout.part(workflow.id, Step.INFERENCE, 2))
    assert "has 32 rows, not 40" in the_fault(ws).what


def test_a_metric_that_is_gone_is_computed_again(ws, workflow) -> None:
    metric = ws.experiments.get("e").metrics[0]
    ws.store.delete(layout.metric_result(workflow.id, metric))
    fault = the_fault(ws)
    assert (fault.what, fault.repaired_by) == ("the result of metric rouge is missing", "evaluate")
    ws.evaluate("e")
    ws.workflows.refresh()
    assert inspected(ws).faults == ()


def test_the_remedy_for_altered_scores_works(ws, workflow) -> None:
    metric = ws.experiments.get("e").metrics[1]
    name = layout.scores_part(workflow.id, metric, 0)
    rewritten(ws, name, lambda table: table.set_column(1, table.column_names[1], pa.array([99.0] * len(table))))
    fault = the_fault(ws)
    assert "does not follow from the examples' scores" in fault.what
    assert fault.remedy.startswith("ws.store.delete('workflows/")
    eval(fault.remedy.partition(", then ")[0], {"ws": ws})
    eval(fault.remedy.partition(", then ")[2], {"ws": ws})
    ws.workflows.refresh()
    assert inspected(ws).faults == ()


def test_scores_in_the_database_that_are_others(ws, workflow) -> None:
    with writing(ws.database) as work:
        (job,) = [each for each in work.jobs.of_workflows([workflow.id]) if each.step is Step.EVALUATION]
        job.scores = {**job.scores, "rougeL": 0.123}
    assert the_fault(ws).what == "its scores in the database differ from those in the store"


def test_a_metric_that_failed_is_no_fault(ws, workflow) -> None:
    metric = ws.experiments.get("e").metrics[0]
    found = results.find_metric_result(ws.store, workflow.id, metric)
    ws.store.delete(layout.scores_folder(workflow.id, metric))
    results.write_metric_result(ws.store, workflow.id, found.model_copy(update={"scores": {}, "error": "no network"}))
    assert inspected(ws).faults == ()


def test_a_workflow_that_was_loaded_from_a_file_needs_no_spec(ws, workflow) -> None:
    ws.store.delete(layout.spec(workflow.id))
    assert inspected(ws).faults == ()


def test_metrics_that_were_added_and_not_computed_yet_are_no_fault(ws) -> None:
    ws.experiments.add_metrics("e", "meteor")
    assert inspected(ws).faults == ()


def set_status(ws, workflow, status: Status, **values) -> None:
    with writing(ws.database) as work:
        row = work.workflows.get(workflow.id)
        row.status = status
        for name, value in values.items():
            setattr(row, name, value)


def test_a_row_that_is_behind_is_repaired_by_refresh(ws, workflow) -> None:
    set_status(ws, workflow, Status.RUNNING)
    assert the_fault(ws).repaired_by == "refresh"
    ws.workflows.refresh()
    assert inspected(ws).faults == ()


def test_a_failed_row_with_all_results_is_repaired_by_resume(ws, workflow) -> None:
    set_status(ws, workflow, Status.FAILED, error="lost")
    assert the_fault(ws).repaired_by == "resume"
    ws.workflows.resume("e")
    ws.workflows.refresh()
    assert inspected(ws).faults == ()


def test_a_launch_that_was_killed(ws, workflow, cluster) -> None:
    for step in Step:
        ws.store.delete(layout.step_folder(workflow.id, step))
    del cluster.states[workflow.submission_id]
    set_status(ws, workflow, Status.CREATED)
    assert inspected(ws).faults == ()
    set_status(ws, workflow, Status.CREATED, attempted_at=now() - timedelta(minutes=5))
    assert the_fault(ws).repaired_by == "refresh"
    ws.workflows.refresh()
    assert inspected(ws).faults == ()


@pytest.mark.parametrize(("lost", "repaired_by"), [([Step.EVALUATION], "evaluate"), (list(Step), "")])
def test_a_success_without_results(ws, workflow, lost, repaired_by) -> None:
    for step in lost:
        ws.store.delete(layout.result(workflow.id, step))
    fault = the_fault(ws)
    assert fault.what.startswith("it is recorded as succeeded, but ")
    assert fault.repaired_by == repaired_by


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"step": "inference"}', b"\xff\xfe"])
def test_results_that_are_no_results(ws, workflow, text) -> None:
    ws.store.write(layout.result(workflow.id, Step.INFERENCE), text)
    faults = list(inspected(ws))
    assert any(layout.result(workflow.id, Step.INFERENCE) in fault.what for fault in faults)


def test_dangling_rows_and_missing_jobs(ws, workflow) -> None:
    if not ws.database.is_sqlite:
        pytest.skip("a server does not let anybody do this")
    execute(ws, "UPDATE experiment SET dataset_id = 'gone'")
    assert the_fault(ws).what == "1 rows refer to a dataset that does not exist"
    dataset = ws.datasets.get("d")
    execute(ws, f"UPDATE experiment SET dataset_id = '{dataset.id}'")
    execute(ws, f"DELETE FROM job WHERE step = 'inference' AND workflow_id = '{workflow.id}'")
    assert the_fault(ws).what == "it lacks the row of one of its steps"


@pytest.mark.parametrize(
    ("row", "model", "other", "said"),
    [
        (39, "baseline/copy", "", None),
        (0, "baseline/copy", "baseline/lead-1", None),
        (40, "baseline/copy", "", "1 labels are on rows that the dataset does not have"),
        (0, "gone", "", "1 labels are on models that it does not have"),
        (0, "baseline/copy", "gone", "1 labels are on models that it does not have"),
    ],
)
def test_labels_on_what_is_not_there(ws, row, model, other, said) -> None:
    with writing(ws.database) as work:
        kind = "preference" if other else "rating"
        key = work.experiments.get("e").id
        work.labels.put(
            [Label(experiment_id=key, kind=kind, criterion="c", rater="r", row=row, model=model, other=other, value=1)]
        )
    assert [fault.what for fault in inspected(ws)] == ([said] if said else [])


def test_orphans_are_repaired_by_gc(ws) -> None:
    ws.store.write("datasets/00000000-0000-0000-0000-000000000000/data.parquet", b"x")
    fault = the_fault(ws)
    assert fault.repaired_by == "gc"
    assert inspect(ws.database, ws.store).faults == ()
    garbage.collect(ws.database, ws.store, timedelta(0))
    assert inspected(ws).faults == ()


def test_secrets_that_the_key_does_not_open(ws, tmp_path) -> None:
    from lumigator_nb.config import Settings
    from lumigator_nb.services.access.secrets import Secrets

    def secrets(key: str) -> Secrets:
        return Secrets(ws.database, Settings(lumigator_home=tmp_path, lumigator_secret_key=key))

    secrets("the first of two keys").set("OPENAI_API_KEY", "sk-something-secret")
    assert inspect(ws.database, ws.store, secrets=secrets("the first of two keys")).faults == ()
    (fault,) = inspect(ws.database, ws.store, secrets=secrets("the second of two keys")).faults
    assert (fault.where, fault.repaired_by) == ("secret OPENAI_API_KEY", "")
    assert "which is not here" in fault.what
    assert "something" not in str(fault)


def test_an_inspection_shows_itself(ws, workflow) -> None:
    set_status(ws, workflow, Status.RUNNING, label="<b>bold</b>")
    found = inspected(ws)
    assert str(found).splitlines()[0] == "1 fault in 1 dataset, 1 experiment, 2 workflows and 0 labels"
    assert "ws.workflows.refresh()" in str(found)
    assert "<b>bold" not in found._repr_html_()


def test_doctor_deep_says_what_it_found(tmp_path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from lumigator_nb.cli import app
    from lumigator_nb.workspace import connect

    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    with connect() as ws:
        dataset = ws.datasets.upload(FRAME, name="d")
        path = ws.store.local_path(layout.examples(dataset.id))
    fine = CliRunner().invoke(app, ["doctor", "--deep"])
    assert fine.exit_code == 0, fine.output
    assert "no fault in 1 dataset" in fine.output
    os.truncate(path, 10)
    broken = CliRunner().invoke(app, ["doctor", "--deep"])
    assert broken.exit_code == 1
    assert "1 fault in 1 dataset" in broken.output
    assert json.dumps(dataset.id)[1:-1] in broken.output

"""What goes with an experiment or a dataset, what forbids it, and what a killed deletion leaves."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Dataset, Label
from lumigator_nb.errors import InUseError, NotFoundError, StoreUnavailableError, WaitTimeoutError
from lumigator_nb.services import deletion, removal
from lumigator_nb.services.upkeep import garbage
from lumigator_nb.specs import Model, Status, Summarization
from lumigator_nb.storage import layout

FRAME = pd.DataFrame({"example": [f"It rains {n} hours." for n in range(20)], "ground_truth": ["It rains."] * 20})


@pytest.fixture
def ws(inline_ws):
    return inline_ws


@pytest.fixture
def experiment(ws):
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    ws.workflows.launch(experiment, ["baseline/copy"])
    ws.workflows.refresh()
    return experiment


def labelled(ws, experiment, n: int) -> None:
    with writing(ws.database) as work:
        work.labels.put([
            Label(experiment_id=experiment.id, kind="rating", criterion="c", rater="r", row=row, model="m", value=1)
            for row in range(n)
        ])  # fmt: skip


def counts(ws) -> list[int]:
    tables = ("dataset", "experiment", "workflow", "job", "label")
    with ws.database.session() as session:
        return [session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]


def of_dataset(ws, key: str, **options):
    return deletion.of_dataset(ws.database, ws.store, key, **options)


def test_a_preview_says_what_goes_and_takes_nothing(ws, experiment) -> None:
    labelled(ws, experiment, 3)
    files, rows = ws.store.entries(""), counts(ws)
    preview = ws.experiments.delete("e", dry_run=True)
    assert (preview.done, preview.experiments, preview.datasets) == (False, ("e",), ())
    assert (preview.workflows, preview.labels) == ({Status.SUCCEEDED: 1}, 3)
    mine = [each for each in files if each.name.startswith("workflows/")]
    assert (preview.n_files, preview.n_bytes) == (len(mine), sum(each.size for each in mine))
    assert ws.store.entries("") == files
    assert counts(ws) == rows
    done = ws.experiments.delete("e")
    assert (done.done, done.n_files, done.labels) == (True, preview.n_files, 3)
    assert [each.name.split("/")[0] for each in ws.store.entries("")] == ["datasets"] * 2
    assert counts(ws) == [1, 0, 0, 0, 0]


def test_a_deletion_shows_itself(ws, experiment) -> None:
    preview = of_dataset(ws, "d", cascade=True, dry_run=True)
    assert str(preview).startswith("Would be deleted (nothing was)\n  Datasets")
    assert "1 succeeded" in str(preview)
    assert "Experiments" in preview._repr_html_()
    assert str(ws.experiments.delete("e")).startswith("Deleted\n")


def test_a_name_cannot_break_out_of_the_page(ws) -> None:
    ws.experiments.create("<script>alert(1)</script>", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    (record,) = ws.experiments.list()
    assert "<script>" not in ws.experiments.delete(record, dry_run=True)._repr_html_()


def test_a_dataset_goes_with_its_experiments_only_where_it_is_said(ws, experiment) -> None:
    for dry_run in (True, False):
        with pytest.raises(InUseError, match="'d' is used by: e\nHint: .*cascade=True"):
            of_dataset(ws, "d", dry_run=dry_run)
    gone = of_dataset(ws, "d", cascade=True)
    assert (gone.datasets, gone.experiments) == (("d",), ("e",))
    assert ws.store.entries("") == []
    assert counts(ws) == [0] * 5
    with pytest.raises(NotFoundError):
        of_dataset(ws, "d")


def with_copies(ws) -> list[Dataset]:
    """A dataset, of which an earlier version drew a copy for a request, and a user draws another."""
    original = ws.datasets.upload(FRAME, name="d")
    copy, other = ws.datasets.draw(original, 5), ws.datasets.draw(original, 7, name="mine")
    asked = {"max_samples": 5, "dataset": original.id}
    ws.experiments.create_unprompted(
        "asked", dataset=copy, task=Summarization(), metrics=["length"], asked=asked
    )  # fmt: skip
    # On a part of a draw of one's own, as of today.
    ws.experiments.create_unprompted(
        "by hand", dataset=other, task=Summarization(), metrics=["length"], max_samples=5, asked={"max_samples": 5}
    )  # fmt: skip
    ws.database.downgrade("0006")
    ws.database.upgrade()
    return [original, copy, other]


def test_copies_that_earlier_versions_drew_for_max_samples_go_with_their_original(ws) -> None:
    _, _, other = with_copies(ws)
    with pytest.raises(InUseError, match="'d' is used by: asked\n"):
        of_dataset(ws, "d")
    done = of_dataset(ws, "d", cascade=True)
    assert (done.datasets, done.experiments) == (("d",), ("asked",))
    assert [each.name for each in ws.datasets.list()] == ["mine"]
    assert {name.split("/")[1] for name in ws.store.list("datasets")} == {other.id}


def test_copies_of_earlier_versions_are_in_no_list_and_go_with_the_last_who_uses_them(ws) -> None:
    original, copy, other = with_copies(ws)
    assert {each.name for each in ws.datasets.list()} == {"d", "mine"}
    assert (ws.datasets.count(), ws.datasets.names([copy.id])) == (2, {})
    with pytest.raises(NotFoundError) as raised:
        ws.datasets.get("unknown")
    assert raised.value.hint == "known: d, mine"
    assert ws.datasets.get(copy.id).n_examples == 5
    assert ws.experiments.delete("asked").datasets == ()
    assert {name.split("/")[1] for name in ws.store.list("datasets")} == {original.id, other.id}


def test_what_holds_a_single_job_is_named_nowhere(ws, cluster) -> None:
    cluster.execute = False
    ws.datasets.upload(FRAME, name="d")
    job = ws.jobs.infer("d", "baseline/lead-1", name="mine")
    holder = job.experiment
    ws.experiments.create("e", dataset="d", metrics="length")
    with pytest.raises(NotFoundError) as raised:
        ws.experiments.get("unknown")
    assert raised.value.hint == "known: e"
    assert ws.experiments.find(holder.id[:8]) is None
    assert ws.experiments.names([holder.id]) == {}
    assert "1 experiment" in repr(ws)
    for dry_run in (True, False):
        with pytest.raises(InUseError) as refused:
            of_dataset(ws, "d", dry_run=dry_run)
        assert refused.value.message.endswith(": job 'mine', e") or refused.value.message.endswith(": e, job 'mine'")
    with pytest.raises(InUseError, match=r"^job 'mine' has workflows under way: baseline/lead-1"):
        of_dataset(ws, "d", cascade=True)
    preview = ws.datasets.delete("d", cascade=True, dry_run=True, stop=True)
    assert (preview.experiments, preview.jobs) == (("e",), ("mine",))
    assert holder.id not in str(preview)
    assert holder.name not in str(preview)


def test_only_the_version_that_is_named_goes(ws) -> None:
    first = ws.datasets.upload(FRAME, name="d")
    with writing(ws.database) as work:
        work.datasets.add(Dataset(**{**first.model_dump(), "id": str(uuid.uuid4()), "version": 2}))
    assert of_dataset(ws, "d").datasets == ("d@2",)
    assert ws.datasets.get("d").version == 1


def test_what_is_under_way_forbids_it_or_is_stopped(ws, experiment, cluster) -> None:
    cluster.execute = False
    ws.workflows.launch(experiment, ["baseline/lead-1"])
    ws.workflows.refresh()
    for dry_run in (True, False):
        with pytest.raises(InUseError, match="'e' has workflows under way: baseline/lead-1\nHint: .*stop=True"):
            ws.experiments.delete("e", dry_run=dry_run)
    assert ws.experiments.delete("e", dry_run=True, stop=True).workflows == {Status.SUCCEEDED: 1, Status.PENDING: 1}
    assert not any(state.status is Status.STOPPED for state in cluster.states.values())
    assert ws.experiments.delete("e", stop=True).workflows == {Status.SUCCEEDED: 1, Status.STOPPED: 1}
    assert [state.status for state in cluster.states.values()] == [Status.SUCCEEDED, Status.STOPPED]
    assert counts(ws) == [1, 0, 0, 0, 0]


def test_what_does_not_end_is_not_deleted(ws, experiment, cluster, monkeypatch) -> None:
    cluster.execute = False
    ws.workflows.launch(experiment, ["baseline/lead-1"])
    monkeypatch.setattr(deletion, "STOP_TIMEOUT_S", 0.0)
    monkeypatch.setattr(cluster, "stop", lambda submission_id: None)
    before = counts(ws)
    with pytest.raises(WaitTimeoutError, match="baseline/lead-1 is still pending"):
        ws.experiments.delete("e", stop=True)
    assert counts(ws) == before


def test_a_workflow_that_begins_meanwhile_forbids_it(ws, experiment, cluster, monkeypatch) -> None:
    """A launch between the check and the deletion: nothing may be lost."""
    refuse_active = deletion._refuse_active

    def check_then_launch(doomed):
        refuse_active(doomed)
        monkeypatch.setattr(deletion, "_refuse_active", refuse_active)
        cluster.execute = False
        ws.workflows.launch(experiment, ["baseline/lead-1"])

    monkeypatch.setattr(deletion, "_refuse_active", check_then_launch)
    with pytest.raises(InUseError):
        ws.experiments.delete("e")
    assert len(ws.workflows.of(experiment)) == 2
    assert ws.workflows.predictions("baseline/copy" and ws.workflows.of(experiment)[0]).shape[0] == 20


def test_a_late_shard_is_collected(ws, experiment) -> None:
    """A worker that has not noticed its end writes into a folder that is gone."""
    (workflow,) = ws.workflows.of(experiment)
    name = layout.log(workflow.id, 1)
    ws.experiments.delete("e")
    ws.store.write(name, b"late")
    assert [orphan.name for orphan in garbage.find(ws.database, ws.store, timedelta(0)).orphans] == [
        layout.workflow_folder(workflow.id)
    ]


def test_files_that_cannot_go_now_are_told_and_collected_later(ws, experiment, monkeypatch) -> None:
    (workflow,) = ws.workflows.of(experiment)
    delete = ws.store.delete

    def broken(name: str) -> None:
        if name == layout.workflow_folder(workflow.id):
            raise StoreUnavailableError("it does not answer")
        delete(name)

    monkeypatch.setattr(ws.store, "delete", broken)
    with pytest.warns(UserWarning, match=r"does not answer; lumigator-nb gc"):
        gone = of_dataset(ws, "d", cascade=True)
    assert len(gone.problems) == 1
    assert "it does not answer" in str(gone)
    assert counts(ws) == [0] * 5
    monkeypatch.undo()
    garbage.collect(ws.database, ws.store, timedelta(0))
    assert ws.store.entries("") == []


def test_sealed_keys_go_before_any_other_file(ws, experiment, monkeypatch) -> None:
    (workflow,) = ws.workflows.of(experiment)
    ws.store.write(layout.sealed_keys(workflow.id), b"sealed")
    removed = []
    monkeypatch.setattr(ws.store, "delete", removed.append)
    with_rows = counts(ws)
    ws.experiments.delete("e")
    assert removed[:2] == [layout.sealed_keys(workflow.id), layout.workflow_folder(workflow.id)]
    assert counts(ws) != with_rows


def test_a_kill_before_the_files_leaves_files_without_rows(ws, experiment, monkeypatch) -> None:
    def killed(*arguments) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "remove_files", killed)
    with pytest.raises(KeyboardInterrupt):
        of_dataset(ws, "d", cascade=True)
    assert counts(ws) == [0] * 5
    collected = garbage.collect(ws.database, ws.store, timedelta(0))
    assert {orphan.kind for orphan in collected.orphans} == {"dataset", "workflow"}
    assert ws.store.entries("") == []


@pytest.mark.parametrize(("cache", "keeps"), [("on", ("gpt",)), ("off", ())])
def test_answers_that_stay_are_named(ws, experiment, cluster, monkeypatch, cache, keeps) -> None:
    (workflow,) = ws.workflows.of(experiment)
    with writing(ws.database) as work:
        row = work.workflows.get(workflow.id)
        row.model = Model("openai/gpt-4o-mini", label="gpt")
        row.label, row.launch = "gpt", row.launch.model_copy(update={"cache": cache})
    preview = ws.experiments.delete("e", dry_run=True)
    assert preview.keeps == keeps
    assert ("ws.cache.clear" in str(preview)) == bool(keeps)


def test_archived_experiments_are_out_of_lists_and_still_open(ws, experiment) -> None:
    since = ws.experiments.archive("e").archived_at
    assert since is not None
    assert ws.experiments.list() == []
    assert [each.name for each in ws.experiments.list(archived=True)] == ["e"]
    assert ws.experiments.get("e").archived_at == ws.experiments.archive(experiment).archived_at == since
    assert ws.compare("e").models
    assert ws.experiments.restore("e").archived_at is None
    assert [each.name for each in ws.experiments.list()] == ["e"]


class Statements:
    def __init__(self, engine) -> None:
        self.count = 0
        sa.event.listen(engine, "before_cursor_execute", self.add)

    def add(self, connection, cursor, statement: str, *rest) -> None:
        self.count += statement.lstrip().upper().startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))

    def of(self, action) -> int:
        before = self.count
        action()
        return self.count - before


def test_lists_are_one_query_each_and_do_not_grow(ws, cluster) -> None:
    """With 2 workflows as with 50."""
    cluster.execute = False
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    statements = Statements(ws.database.engine)
    found = []
    for n in (2, 50):
        models = [Model("baseline/copy", label=f"m{k}", repeat=k + 1) for k in range(n)]
        ws.workflows.launch(experiment, models)
        workflows = ws.workflows.of(experiment)
        assert len(workflows) == n
        actions = {
            "datasets": ws.datasets.list,
            "experiments": ws.experiments.list,
            "workflows": ws.workflows.list,
            "jobs of an experiment": lambda: ws.workflows.jobs(experiment),
            "jobs of workflows": lambda chosen=workflows: ws.workflows.jobs(chosen),
            "refresh": lambda: ws.workflows.refresh(experiment),
            "refresh all": ws.workflows.refresh,
        }
        for state in cluster.states:
            cluster.states[state] = type(cluster.states[state])(Status.RUNNING)
        found.append({name: statements.of(action) for name, action in actions.items()})
    few, many = found
    assert many == few
    assert [few[name] for name in ("datasets", "experiments", "workflows")] == [1, 1, 1]
    assert few["jobs of an experiment"] <= 2

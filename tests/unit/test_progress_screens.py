"""Progress, experiments and jobs as screens show them: views, markup, the widget, the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import sqlalchemy as sa
from waiting import until

from lumigator_nb.dashboards.pages.experiments import ExperimentPage, ExperimentsPage
from lumigator_nb.dashboards.pages.workflows import WorkflowPage, WorkflowsPage
from lumigator_nb.dashboards.shell import Shell
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Experiment, Workflow
from lumigator_nb.display.progress import ProgressRow
from lumigator_nb.errors import NotFoundError
from lumigator_nb.presentation import watcher
from lumigator_nb.presentation.progress import experiments, markup
from lumigator_nb.presentation.progress import view as progressing
from lumigator_nb.presentation.progress import workflows as listing
from lumigator_nb.presentation.progress.view import detailed, progress_view
from lumigator_nb.presentation.routes import Route
from lumigator_nb.presentation.watcher import Watcher
from lumigator_nb.specs import Model, Progress, Status, Step, Summarization, now
from lumigator_nb.storage import results
from lumigator_nb.widgets.progress import progress

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

BAD = "<script>alert(1)</script>"


@pytest.fixture
def done(inline_ws: Workspace) -> Experiment:
    """An experiment of two models that have succeeded."""
    dataset = inline_ws.datasets.upload(_examples(), name="tickets", example="body", ground_truth="short")
    record = inline_ws.experiments.create("summaries", dataset=dataset, metrics=["rouge"])
    inline_ws.workflows.launch(record, models=["baseline/lead-1", "baseline/copy"])
    inline_ws.workflows.refresh(record)
    return record


@pytest.fixture
def running(inline_ws: Workspace, cluster: Any) -> tuple[Experiment, Workflow]:
    """An experiment of one model that is at its 30th of 100 examples."""
    cluster.execute = False
    dataset = inline_ws.datasets.upload(_examples(), name="tickets", example="body", ground_truth="short")
    record = inline_ws.experiments.create("summaries", dataset=dataset, metrics=["rouge"])
    (workflow,) = inline_ws.workflows.launch(record, models=["baseline/lead-1"])
    _state(cluster, workflow, Status.RUNNING)
    inline_ws.workflows.refresh(record)
    _report(inline_ws, workflow, done=30, seconds=10)
    return record, workflow


def _examples(n: int = 40) -> pd.DataFrame:
    texts = [f"Ticket {i} is about printer {i % 7}. It does not print. Please help soon." for i in range(n)]
    return pd.DataFrame({"body": texts, "short": [text.partition(". ")[0] for text in texts]})


def _state(cluster: Any, workflow: Workflow, status: Status) -> None:
    from lumigator_nb.cluster import JobState

    cluster.states[workflow.submission_id] = JobState(status)


def _report(ws: Workspace, workflow: Workflow, *, done: int, seconds: float, **fields: Any) -> None:
    at = now()
    progress = Progress(
        step=Step.INFERENCE, attempt=workflow.attempt, done=done, total=100,
        started_at=at - timedelta(seconds=seconds), first_at=at - timedelta(seconds=seconds), updated_at=at, **fields,
    )  # fmt: skip
    results._write_value(ws.store, f"workflows/{workflow.id}/inference/progress.json", progress)


# Views


def test_a_finished_experiment_says_how_long_it_took_and_how_its_models_stand(
    inline_ws: Workspace, done: Experiment
) -> None:
    view = progress_view(inline_ws, done)
    assert view.ended
    assert view.succeeded == 2
    assert view.took_s > 0
    assert [model.act for model in view.models] == [None, None]
    first = detailed(inline_ws, view).models[1].interim_score
    assert first is not None
    assert first.score == "rougeL"
    assert first.n == 40
    low, high = (float(bound) for bound in first.interval.strip("[]").split(", "))
    assert low < float(first.value) < high
    comparison = inline_ws.compare(done).summary().query("score == 'rougeL' and model == 'baseline/copy'")
    assert float(first.value) == pytest.approx(comparison["overall"].item(), abs=5e-4)


def test_the_overall_score_stands_there_before_the_scores_are_read(inline_ws: Workspace, done: Experiment) -> None:
    quick = progress_view(inline_ws, done).models[0].interim_score
    assert quick is not None
    assert quick.interval == ""
    assert quick.n == 0


def test_what_was_read_of_a_model_that_has_ended_is_not_read_again(
    inline_ws: Workspace, done: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = detailed(inline_ws, progress_view(inline_ws, done))
    monkeypatch.setattr(inline_ws.workflows, "scores", lambda *_: pytest.fail("read again"))
    again = detailed(inline_ws, progress_view(inline_ws, done, before=before))
    assert [model.interim_score for model in again.models] == [model.interim_score for model in before.models]


def test_nobody_asks_the_cluster_to_draw(
    inline_ws: Workspace, cluster: Any, running: tuple[Experiment, Workflow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "statuses", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(cluster, "logs", lambda *_: pytest.fail("asked"))
    view = detailed(inline_ws, progress_view(inline_ws, running[0]))
    assert view.models[0].done == 30
    assert view.models[0].state == "answering"


def test_time_left_falls_and_rises_only_where_it_clearly_does(
    inline_ws: Workspace, running: tuple[Experiment, Workflow]
) -> None:
    record, workflow = running
    shown = []
    view = None
    for done, seconds in ((30, 10), (31, 11), (32, 10.4), (33, 60)):
        _report(inline_ws, workflow, done=done, seconds=seconds)
        view = progress_view(inline_ws, record, before=view)
        shown.append(view.models[0].left_s)
    # 23.3, 24.5 (noise), 22.1, and 121.8 seconds
    assert shown == [25, 25, 25, 180]


def test_the_first_answers_do_not_tell_how_long_it_takes(
    inline_ws: Workspace, running: tuple[Experiment, Workflow]
) -> None:
    record, workflow = running
    _report(inline_ws, workflow, done=2, seconds=5)
    view = progress_view(inline_ws, record)
    assert view.models[0].left_s is None
    assert view.left_s is None
    assert "not known yet" in markup.summary(view)


def test_cost_is_what_ended_steps_left_and_what_the_running_one_spent(
    inline_ws: Workspace, running: tuple[Experiment, Workflow]
) -> None:
    record, workflow = running
    _report(inline_ws, workflow, done=30, seconds=10, cost=0.25)
    with writing(inline_ws.database) as work:
        (job,) = (job for job in work.jobs.of_workflows([workflow.id]) if job.step is Step.INFERENCE)
        job.details = {"cost": 0.5}  # of an earlier attempt
    view = progress_view(inline_ws, record)
    assert view.cost == pytest.approx(0.75)
    assert "$0.75 so far" in markup.model_block(view.models[0])
    inline_ws.workflows.stop(record)
    stopped = progress_view(inline_ws, record)
    assert stopped.cost == pytest.approx(0.75)
    assert "30 of 100 examples" in markup.model_block(stopped.models[0])


def test_models_side_by_side_count_once_and_pauses_not_at_all() -> None:
    start = now()

    def workflow(begin: float, end: float) -> Workflow:
        times = {"attempted_at": start + timedelta(seconds=begin), "finished_at": start + timedelta(seconds=end)}
        return Workflow(experiment_id="x", label="m", fingerprint="f", model=Model("baseline/copy"), **times)

    assert progressing._time_with_work([workflow(0, 10), workflow(5, 12), workflow(100, 103)]) == pytest.approx(15)
    assert progressing._time_with_work([]) == 0


def test_a_failed_model_shows_why_with_the_end_of_its_log(inline_ws: Workspace, cluster: Any, done: Experiment) -> None:
    cluster.execute = False
    (workflow,) = inline_ws.workflows.launch(done, models=["baseline/lead-2"])
    _state(cluster, workflow, Status.FAILED)
    inline_ws.store.write(f"workflows/{workflow.id}/log-1.txt", f"line\n{BAD}\nlast".encode())
    inline_ws.workflows.refresh(done)
    failed = detailed(inline_ws, progress_view(inline_ws, done)).models[-1]
    assert failed.act == "resume"
    assert failed.log == f"line\n{BAD}\nlast"
    block = markup.model_block(failed)
    assert "without a result" in block
    assert "End of the log" in block
    assert BAD not in block


def test_a_workflow_is_found_by_its_id_and_a_missing_one_is_named(inline_ws: Workspace, done: Experiment) -> None:
    workflows = inline_ws.workflows.of(done)
    assert progress_view(inline_ws, workflows[0].id).title == "baseline/lead-1"
    assert progress_view(inline_ws, workflows).title == "2 models"
    with pytest.raises(NotFoundError):
        progress_view(inline_ws, "nothing")


def test_an_experiment_without_models_draws(inline_ws: Workspace) -> None:
    dataset = inline_ws.datasets.upload(_examples(), name="tickets", example="body", ground_truth="short")
    record = inline_ws.experiments.create("empty", dataset=dataset, metrics=["rouge"])
    assert progress_view(inline_ws, record).models == ()
    assert "No model launched yet" in progress(inline_ws, record).foot.value


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (None, ""), (123.4, "120 examples/s"), (12.34, "12 examples/s"), (1.0, "1 examples/s"),
        (0.234, "4.3 s per example"), (0.011, "1.5 min per example"), (2345, "2,300 examples/s"),
    ],
)  # fmt: skip
def test_rates_have_two_digits(rate: float | None, said: str) -> None:
    assert markup.speed(rate) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "5 s"), (24, "25 s"), (59.5, "1 min"), (150, "3 min"), (3700, "1 h 10 min")]
)
def test_time_left_is_rounded_upwards(seconds: float, said: str) -> None:
    assert markup.duration_left(progressing._rounded(seconds)) == said


def test_stale_numbers_say_so() -> None:
    workflow = Workflow(
        experiment_id="x", label=BAD, fingerprint="f", model=Model("baseline/copy"), status=Status.RUNNING, stale=True
    )
    model = progressing._model(workflow, ProgressRow("m", Status.RUNNING), [], None, None)
    block = markup.model_block(model)
    assert "cluster unreachable" in block
    assert BAD not in block


# Lists


def _many(ws: Workspace, n: int) -> None:
    dataset = ws.datasets.upload(_examples(), name="tickets", example="body", ground_truth="short")
    start = now()
    with writing(ws.database) as work:
        for i in range(n):
            created = start + timedelta(seconds=i)
            record = Experiment(
                name=f"run {i:04d}", dataset_id=dataset.id, task=Summarization(), metrics=(), created_at=created
            )
            work.experiments.add(record)
            work.workflows.add(
                Workflow(
                    experiment_id=record.id, label="m", fingerprint="f", model=Model("baseline/copy"),
                    status=Status.FAILED if i % 2 else Status.SUCCEEDED, created_at=created,
                )
            )  # fmt: skip


@pytest.fixture
def queries(inline_ws: Workspace) -> Iterator[Callable[[Callable[[], object]], int]]:
    """Counts the statements that a call sends."""
    sent: list[str] = []
    engine = inline_ws.database.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))

    def counted(act: Callable[[], object]) -> int:
        sent.clear()
        act()
        return len(sent)

    return counted


def test_lists_page_sort_search_and_filter(inline_ws: Workspace) -> None:
    _many(inline_ws, 60)

    def names(fragment: str) -> list[str]:
        found = experiments.experiment_list(inline_ws, Route.parse(fragment))
        return [row.experiment.name for row in found.rows]

    assert names("#/experiments")[:2] == ["run 0059", "run 0058"]
    assert names("#/experiments?sort=name&page=3")[-1] == "run 0059"
    assert names("#/experiments?sort=name&page=99") == names("#/experiments?sort=name&page=3")
    assert names("#/experiments?search=RUN+000&status=failed") == [f"run 000{i}" for i in (9, 7, 5, 3, 1)]
    assert names("#/experiments?dataset=tickets&sort=-name")[0] == "run 0059"
    with pytest.raises(NotFoundError):
        names("#/experiments?dataset=nothing")


def test_a_page_takes_as_many_queries_whatever_there_is(
    inline_ws: Workspace, queries: Callable[[Callable[[], object]], int]
) -> None:
    route = Route.parse("#/experiments?page=2")
    _many(inline_ws, 60)
    assert queries(lambda: experiments.experiment_list(inline_ws, route)) <= 10
    assert queries(lambda: listing.workflow_list(inline_ws, Route(("workflows",)))) <= 8


def test_lists_teach_where_they_are_empty_and_say_what_was_searched(inline_ws: Workspace) -> None:
    def drawn(fragment: str) -> str:
        return experiments.list_markup(experiments.experiment_list(inline_ws, Route.parse(fragment)))

    assert "No experiment yet" in drawn("#/experiments?search=x")
    assert "#/upload" in drawn("")
    _many(inline_ws, 1)
    found = drawn(f"#/experiments?search={BAD}&status=running")
    assert "in its name" in found
    assert "is running" in found
    assert BAD not in found
    nothing = listing.workflow_list(inline_ws, Route.parse("#/workflows?status=running"))
    assert "No workflow is running" in listing.list_markup(nothing)


def test_archived_experiments_are_hidden_until_they_are_asked_for(inline_ws: Workspace) -> None:
    _many(inline_ws, 1)
    inline_ws.experiments.archive("run 0000")
    hidden = experiments.list_markup(experiments.experiment_list(inline_ws, Route(("experiments",))))
    assert "Archived experiments are hidden" in hidden
    asked = experiments.experiment_list(inline_ws, Route.parse("#/experiments?archived=1"))
    assert "run 0000" in experiments.list_markup(asked)


def test_names_are_escaped_in_links_and_texts(inline_ws: Workspace) -> None:
    dataset = inline_ws.datasets.upload(_examples(), name="tickets", example="body", ground_truth="short")
    inline_ws.experiments.create("50% / a?b#c <i>", dataset=dataset, metrics=["rouge"])
    drawn = experiments.list_markup(experiments.experiment_list(inline_ws, Route(("experiments",))))
    assert "#/experiments/50%25%20%2F%20a%3Fb%23c%20%3Ci%3E" in drawn
    assert "<i>" not in drawn


def test_what_a_deletion_takes_with_it_is_said_before(inline_ws: Workspace, running: tuple[Experiment, Any]) -> None:
    preview = inline_ws.experiments.delete(running[0], dry_run=True, stop=True)
    said = experiments.deletion_markup(preview)
    assert "1 running model will be stopped first" in said
    assert "1 model" in said


# The widget


@pytest.fixture
def widget(inline_ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setattr(watcher, "REFRESH_EVERY_S", 0.1)
    watcher.watcher_of(inline_ws)._every = 0.1
    made: list[Any] = []

    def make(target: Any) -> Any:
        made.append(progress(inline_ws, target))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_widget_rests_when_all_have_ended_and_says_what_comes_next(
    widget: Callable[..., Any], done: Experiment
) -> None:
    shown = widget(done)
    until(lambda: all("[" in row.block.value for row in shown.rows.values()))
    assert "lm.ui.compare(ws, " in shown.foot.value
    assert shown._unsubscribe is None
    assert [row.button.layout.display for row in shown.rows.values()] == ["none", "none"]
    bundle = shown._repr_mimebundle_()
    assert "summaries" in bundle["text/html"]
    assert "2 succeeded" in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_widget_follows_stops_and_resumes(
    widget: Callable[..., Any], inline_ws: Workspace, cluster: Any, running: tuple[Experiment, Workflow]
) -> None:
    record, workflow = running
    shown = widget(record)
    (row,) = shown.rows.values()
    assert row.button.description == "Stop"
    assert "30 of 100 examples" in row.block.value
    row.button.click()
    until(lambda: row.button.description == "Resume" and "1 model stopped" in shown.message.value)
    assert inline_ws.workflows.get(workflow.id).status is Status.STOPPED
    cluster.execute = True
    row.button.click()
    until(lambda: shown.view.succeeded == 1)
    until(lambda: row.button.layout.display == "none")


def test_the_widget_follows_what_was_resumed_while_it_was_about_to_rest(
    widget: Callable[..., Any],
    inline_ws: Workspace,
    cluster: Any,
    running: tuple[Experiment, Workflow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record, workflow = running
    shown = widget(record)
    (row,) = shown.rows.values()
    inline_ws.workflows.stop(workflow)
    until(lambda: row.button.description == "Resume" and shown._unsubscribe is None)
    put = shown._show_message

    def late(text: str) -> None:
        # What a thread does that read "stopped" just before the workflow was resumed.
        if text:
            shown._follow()
        put(text)

    monkeypatch.setattr(shown, "_show_message", late)
    row.button.click()
    until(lambda: not shown.view.ended)
    _state(cluster, inline_ws.workflows.get(workflow.id), Status.FAILED)
    until(lambda: shown.view.counts[Status.FAILED] == 1)


def test_two_widgets_see_what_one_does(
    widget: Callable[..., Any], running: tuple[Experiment, Workflow], cluster: Any
) -> None:
    one, other = widget(running[0]), widget(running[0])
    (row,) = one.rows.values()
    row.button.click()
    until(lambda: other.view.counts[Status.STOPPED] == 1)


def test_a_cluster_that_does_not_answer_is_said_and_comes_back(
    widget: Callable[..., Any], cluster: Any, running: tuple[Experiment, Workflow]
) -> None:
    from lumigator_nb.errors import ClusterUnavailableError

    def refuse(_: str) -> None:
        raise ClusterUnavailableError("the cluster does not answer")

    stop, cluster.stop, cluster.reachable = cluster.stop, refuse, False
    shown = widget(running[0])
    (row,) = shown.rows.values()
    until(lambda: "cluster unreachable" in row.block.value)
    row.button.click()
    until(lambda: "does not answer" in shown.message.value)
    until(lambda: not row.button.disabled)
    cluster.stop, cluster.reachable = stop, True
    until(lambda: "cluster unreachable" not in row.block.value)


def test_nothing_is_sent_where_nothing_differs(widget: Callable[..., Any], running: tuple[Experiment, Any]) -> None:
    shown = widget(running[0])
    (row,) = shown.rows.values()
    until(lambda: not shown._drawing.locked())
    sent: list[Any] = []
    row.block.observe(sent.append)
    shown._draw(shown._read())
    assert sent == []


# The pages


class _Context:
    """What a page is given, without a browser: work is done at once."""

    def __init__(self, ws: Workspace) -> None:
        self.ws, self.watcher = ws, Watcher(ws)
        self.gone: list[str] = []
        self.replaced: list[str] = []
        self.said: list[str] = []

    def go(self, route: Route) -> None:
        self.gone.append(str(route))

    def replace(self, route: Route) -> None:
        self.replaced.append(str(route))

    def notify(self, text: str, kind: str = "success") -> None:
        self.said.append(f"{kind}: {text}")

    def at_end(self, act: Callable[[], None]) -> None: ...

    def background(self, work: Callable[[], Any], then: Callable[[Any], None], failed: Any = None) -> None:
        try:
            result = work()
        except Exception as error:
            failed(error) if failed else self.notify(str(error), "error")
        else:
            then(result)


@pytest.fixture
def context(inline_ws: Workspace) -> Any:
    return _Context(inline_ws)


def _press(button: Any) -> None:
    assert button.visible
    assert not button.disabled
    button.clicks += 1


def test_the_list_page_searches_as_one_types_and_keeps_it_in_the_route(context: Any, inline_ws: Workspace) -> None:
    _many(inline_ws, 30)
    page = ExperimentsPage(context, Route.parse("#/experiments"))
    page.search.value_input = "0007"
    assert "run 0007" in page._list.object
    assert "run 0008" not in page._list.object
    assert context.replaced == ["#/experiments?search=0007"]
    page.search.value = "0007"
    assert context.gone == []
    assert page.reroute(Route.parse("#/experiments?status=failed"))
    assert page.search.value == ""
    assert page.status.value == "failed"
    assert "run 0008" not in page._list.object


def test_back_to_a_later_page_of_a_filtered_list_stays_on_that_page(context: Any) -> None:
    page = ExperimentsPage(context, Route.parse("#/experiments"))
    page.reroute(Route.parse("#/experiments?search=run&status=failed&archived=1&page=2"))
    assert context.gone == context.replaced == []
    assert (page.search.value, page.status.value, page.archived.value) == ("run", "failed", True)


def test_the_experiment_page_stops_resumes_archives_and_deletes(
    context: Any, inline_ws: Workspace, cluster: Any, running: tuple[Experiment, Workflow]
) -> None:
    page = ExperimentPage(context, Route.parse("#/experiments/summaries"))
    (row,) = page.progress._rows.values()
    _press(row._act.widget)
    assert row._act.widget.label == "Resume"
    assert context.said == ["success: 1 model stopped"]
    cluster.execute = True
    _press(row._act.widget)
    inline_ws.workflows.refresh()
    page.refresh()
    assert page.progress.view.succeeded == 1
    assert not row._act.widget.visible
    assert "#/experiments/summaries/comparison" in page._head.object
    _press(page.archive)
    assert inline_ws.experiments.get("summaries").archived_at
    assert page.archive.label == "Restore"
    page.deletion.open()
    assert "1 model" in page.deletion._preview.object
    assert page.deletion.dialog.open
    _press(page.deletion.confirm)
    assert inline_ws.experiments.find("summaries") is None
    assert context.gone == ["#/experiments"]


def test_a_model_that_used_up_its_budget_is_asked_for_a_new_one(
    context: Any, inline_ws: Workspace, cluster: Any, running: tuple[Experiment, Workflow]
) -> None:
    _, workflow = running
    with writing(inline_ws.database) as work:
        record = work.workflows.get(workflow.id)
        record.status, record.error = Status.STOPPED, "the next question might exceed the budget"
        record.launch = record.launch.model_copy(update={"budget": 0.5})
    page = ExperimentPage(context, Route.parse("#/experiments/summaries"))
    (row,) = page.progress._rows.values()
    _press(row._act.widget)
    assert page.progress._budget.dialog.open
    assert page.progress._budget.field.value == 1.0
    _press(page.progress._budget.resume)
    assert inline_ws.workflows.get(workflow.id).launch.budget == 1.0


def test_an_export_is_made_and_offered(context: Any, inline_ws: Workspace, done: Experiment) -> None:
    page = ExperimentPage(context, Route.parse("#/experiments/summaries"))
    page.export.open()
    _press(page.export.make)
    assert page.export.download.visible
    assert page.export.download.filename == "summaries.lumi.zip"
    assert inline_ws.load(page.export.download.file, progress=False).name != "summaries"
    page.export._clean()


def test_many_models_page(context: Any, inline_ws: Workspace, done: Experiment) -> None:
    with writing(inline_ws.database) as work:
        for i in range(48):
            work.workflows.add(
                Workflow(
                    experiment_id=done.id, label=f"model {i}", fingerprint=f"{i}", model=Model("baseline/copy"),
                    status=Status.FAILED, error="it broke",
                )
            )  # fmt: skip
    page = ExperimentPage(context, Route.parse("#/experiments/summaries?page=3"))
    assert len(page.progress._list) == 10
    assert "41–50 of 50 models" in page.progress._pager.object
    assert page.progress.buttons["resume"].label == "Resume 48 models"


def test_workflow_pages_show_steps_and_logs(context: Any, inline_ws: Workspace, done: Experiment) -> None:
    workflow = inline_ws.workflows.of(done)[0]
    inline_ws.store.write(f"workflows/{workflow.id}/log-1.txt", f"begin\n{'x' * 99}\n".encode() * 400 + BAD.encode())
    listed = WorkflowsPage(context, Route.parse("#/workflows"))
    assert f"#/workflows/{workflow.id}" in listed._list.object
    page = WorkflowPage(context, Route(("workflows", workflow.id)))
    assert "The end of the log" in page._log.object
    assert BAD not in page._log.object
    assert "Answers" in page._steps.object
    assert "rougeL" in page._steps.object
    assert page._whole_log().getvalue().endswith(BAD.encode())


def test_old_addresses_of_workflows_open_the_renamed_pages(inline_ws: Workspace, done: Experiment) -> None:
    workflow = inline_ws.workflows.of(done)[0]
    shell = Shell(inline_ws, Watcher(inline_ws))
    shell.open(Route.parse("#/jobs?status=failed"))
    assert isinstance(shell._page, WorkflowsPage)
    assert shell._page.status.value == "failed"
    shell.open(Route(("jobs", workflow.id)))
    assert isinstance(shell._page, WorkflowPage)
    assert 'aria-current="page"' in shell._navigation.object.split("#/workflows")[1].split("</a>")[0]


def test_a_single_job_is_shown_under_its_own_name(context: Any, inline_ws: Workspace, done: Experiment) -> None:
    job = inline_ws.jobs.infer(inline_ws.datasets.get(done.dataset_id), "baseline/lead-1", name="mine")
    holder = job.experiment
    listed = WorkflowsPage(context, Route.parse("#/workflows"))
    page = WorkflowPage(context, Route(("workflows", job.workflow.id)))
    assert f"#/workflows/{job.workflow.id}" in listed._list.object
    assert "mine" in page._steps.object
    shown = listed._list.object + page._head.object + page._steps.object
    assert holder.id not in shown
    assert holder.name not in shown


def test_a_log_is_read_once_for_all_who_look(
    inline_ws: Workspace, cluster: Any, running: tuple[Experiment, Workflow]
) -> None:
    asked: list[str] = []
    cluster.logs = lambda key: asked.append(key) or "from the cluster"
    view = listing.workflow_view(inline_ws, running[1].id)
    assert [listing.with_log(inline_ws, view, 7).log for _ in range(3)] == ["from the cluster"] * 3
    assert len(asked) == 1
    listing.with_log(inline_ws, view, 8)
    assert len(asked) == 2


def test_a_missing_experiment_or_workflow_is_said(context: Any) -> None:
    with pytest.raises(NotFoundError):
        ExperimentPage(context, Route(("experiments", "nothing")))
    with pytest.raises(NotFoundError):
        WorkflowPage(context, Route(("workflows", "nothing")))

"""What it takes to list workflows: ``python benchmarks/listing.py [--running 1100] [--ended 10000] [--url URL]``.

A database (SQLite, or an empty one that `--url` names) with workflows under way and ended ones, their files in a
folder, and a web server in a process of its own that answers for Ray. Beside each number stands what a plain `SELECT`
of the same rows, or a plain read of the same files, takes in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd

from lumigator_nb.cluster import Cluster
from lumigator_nb.cluster.queue import Waiting
from lumigator_nb.config import load
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Experiment, Job, Workflow
from lumigator_nb.specs import Model, Progress, Status, Step, StepResult, WorkflowSpec, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace

# What a head says of itself.
ABOUT: dict[str, Any] = {
    "/api/v0/cluster_metadata": {"rayVersion": version("ray"), "pythonVersion": platform.python_version()},
    "/api/v0/nodes": {
        "result": {"result": [{"node_ip": "127.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 2.0}}]}
    },
}
PER_EXPERIMENT = 100
PAGE = 100
SHOWN = 200


def answer_for_ray(ids: list[str], started: Connection) -> None:
    """Serve what a head says of its jobs, as Ray 2.60 words it."""
    jobs = {key: _job(key) for key in ids}
    lists: dict[int, bytes] = {}  # by the number of jobs

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/api/jobs/":
                if len(jobs) not in lists:
                    lists[len(jobs)] = json.dumps(list(jobs.values())).encode()
                self.answer(lists[len(jobs)])
            elif self.path in ABOUT:
                self.answer(json.dumps({"data": ABOUT[self.path]}).encode())
            else:
                self.answer(json.dumps(jobs.get(self.path.rpartition("/")[2])).encode())

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = job["submission_id"]
            jobs[key] = _job(key) | {"metadata": job["metadata"], "status": "PENDING"}
            self.answer(json.dumps({"submission_id": key}).encode())

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    started.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def stand_in(ids: list[str]) -> Iterator[Cluster]:
    """The client of a process that answers for Ray and knows these jobs."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    ray = context.Process(target=answer_for_ray, args=(ids, theirs), daemon=True)
    ray.start()
    try:
        yield Cluster(f"http://127.0.0.1:{ours.recv()}")
    finally:
        ray.terminate()


def _job(key: str) -> dict[str, Any]:
    return {
        "type": "SUBMISSION", "job_id": "02000000", "submission_id": key, "status": "RUNNING", "driver_info": None,
        "entrypoint": f"exec python -P -m lumigator_nb.engine.worker file:///home/somebody/.lumigator/store {key}",
        "message": "Job is currently running.", "error_type": None, "start_time": 1790000000000, "end_time": None,
        "metadata": {}, "runtime_env": {"py_modules": ["gcs://_ray_pkg_0123456789abcdef0123456789abcdef.zip"]},
        "driver_agent_http_address": "http://127.0.0.1:52365", "driver_node_id": "0" * 56, "driver_exit_code": None,
    }  # fmt: skip


def populate(ws: Workspace, status: Status, count: int) -> list[str]:
    """Make workflows of that status in experiments of a hundred, with what they leave; return their ids."""
    frame = pd.DataFrame({"example": ["The parcel came late."] * 40, "ground_truth": ["Late."] * 40})
    dataset = ws.datasets.find("d") or ws.datasets.upload(frame, name="d")
    like = ws.experiments.find("like") or ws.experiments.create("like", dataset=dataset, metrics=["rouge", "bleu"])
    made: list[Workflow] = []
    with writing(ws.database) as work:
        for first in range(0, count, PER_EXPERIMENT):
            experiment = Experiment(
                name=f"{status}-{first}", dataset_id=dataset.id, task=like.task, metrics=like.metrics
            )
            work.session.add(experiment)
            work.session.flush()
            made += [_workflow(experiment, status, n) for n in range(first, min(count, first + PER_EXPERIMENT))]
        work.session.add_all(made)
        work.session.flush()
        work.session.add_all(_job_row(workflow, step) for workflow in made for step in Step)
    for workflow, spec in zip(made, ws.workflows.submitter._specs(made), strict=True):
        _leave_files(ws.store, workflow, spec)
    return [workflow.id for workflow in made]


def _workflow(experiment: Experiment, status: Status, number: int) -> Workflow:
    model = Model("openai/gpt-4o-mini", label=f"model {number}", temperature=0.0, max_new_tokens=256, seed=number)
    return Workflow(
        experiment_id=experiment.id, label=model.label, fingerprint=model.fingerprint, model=model, status=status,
        finished_at=now() if status.ended else None, provenance={"user": "somebody", "host": "here", "code": "0" * 40},
    )  # fmt: skip


def _job_row(workflow: Workflow, step: Step) -> Job:
    scores = dict.fromkeys(("rouge1", "rouge2", "rougeL", "bleu"), 0.5) if step is Step.EVALUATION else {}
    ended = workflow.status.ended
    return Job(
        workflow_id=workflow.id, step=step, status=workflow.status, n_examples=40 if ended else 0,
        scores=scores if ended else {}, details={"python": "3.12.0", "cost": 0.01} if ended else {},
    )  # fmt: skip


def _leave_files(store: Store, workflow: Workflow, spec: WorkflowSpec) -> None:
    """Not by the store's own way, which has every file put on the disk before the next."""

    def write(name: str, text: str) -> None:
        path = store.local_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    key, time_ = workflow.id, now()
    at: dict[str, Any] = {"attempt": 1, "started_at": time_}
    if workflow.status.ended:
        for step in Step:
            result = StepResult(step=step, status=Status.SUCCEEDED, finished_at=time_, n_examples=40, **at)
            write(layout.result(key, step), result.model_dump_json(indent=2))
        return
    write(layout.spec(key), spec.model_dump_json(indent=2))
    if workflow.status is Status.PENDING:
        waiting = {"submission_id": key, "experiment_id": workflow.experiment_id, "since": time_, "job": _job(key)}
        write(layout.waiting(key), Waiting(**waiting).model_dump_json())
        return
    progress = Progress(step=Step.INFERENCE, done=17, total=40, updated_at=time_, **at)
    write(layout.progress(key, Step.INFERENCE), progress.model_dump_json(indent=2))


def seconds(action: Callable[[], Any], times: int = 7) -> float:
    """The best of seven, after one that does not count: the others tell of what else the machine does."""
    action()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def selected(database: Database, condition: str) -> float:
    """What a plain SELECT of rows of workflows takes, with all columns and nothing done to them."""

    def select() -> None:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT * FROM workflow WHERE {condition}").fetchall()

    return seconds(select)


def read(store: Store, ids: list[str]) -> float:
    """What a plain read of their progress takes."""
    paths = [store.local_path(layout.progress(key, Step.INFERENCE)) for key in ids]
    return seconds(lambda: [path.read_bytes() for path in paths])


def show(what: str, taken: float, limit: float | None, reference: str, known: float) -> None:
    bound = f" (at most {limit:g})" if limit else ""
    print(f"{what:<62}{taken:8.3f} s{bound:<15} {taken / known:6.1f} x {reference} ({known * 1000:.1f} ms)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--running", type=int, default=1100)
    parser.add_argument("--ended", type=int, default=10_000)
    parser.add_argument("--url", help="an empty database, such as postgresql://…; default SQLite")
    given = parser.parse_args()
    with populated(given.running, given.ended, given.url) as (ws, running, waiting):
        measure(ws, running, waiting)


@contextmanager
def populated(n_running: int, n_ended: int, url: str | None = None) -> Iterator[tuple[Workspace, list[str], list[str]]]:
    """A workspace, and the ids of its workflows under way and of as many that wait."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load(lumigator_home=Path(folder))
        database = Database(url or f"sqlite:///{folder}/lumigator.db")
        database.upgrade()
        store = Store(settings.store_spec)
        ws = Workspace(settings, database, store, Cluster("http://127.0.0.1:1"))
        running = populate(ws, Status.RUNNING, n_running)
        populate(ws, Status.SUCCEEDED, n_ended)
        waiting = populate(ws, Status.PENDING, n_running)
        dispatcher = f"{ws.workflows.submitter.dispatching._prefix}1"
        with stand_in([*running, dispatcher]) as cluster, Workspace(settings, database, store, cluster) as ws:
            yield ws, running, waiting


def refresh_and_list(ws: Workspace, many: int) -> float:
    """The seconds of refreshing so many workflows under way, and listing them."""
    at_work = ws.workflows.list(status=Status.RUNNING, limit=many)
    return seconds(lambda: (ws.workflows.refresh(at_work), ws.workflows.list(status=Status.RUNNING, limit=many)))


def measure(ws: Workspace, running: list[str], waiting: list[str]) -> None:
    counts = f"{len(running):,} under way, {len(waiting):,} waiting, {ws.workflows.count():,} in all"
    print(f"{counts}, in {ws.database.engine.dialect.name}")
    many = len(running)
    under_way = selected(ws.database, "status = 'running'")
    at_work = ws.workflows.list(status=Status.RUNNING, limit=many)
    show(f"refresh of {many:,} under way", seconds(lambda: ws.workflows.refresh(at_work)), None, "SELECT", under_way)
    show(f"refresh and list of {many:,} under way", refresh_and_list(ws, many), 0.3, "SELECT", under_way)
    taken = seconds(lambda: ws.workflows.list(status=Status.RUNNING, limit=many))
    show(f"list of {many:,} under way", taken, None, "SELECT", under_way)
    queued = ws.workflows.list(status=Status.PENDING, limit=len(waiting))
    taken = seconds(lambda: ws.workflows.refresh(queued))
    show(f"refresh of {len(queued):,} that wait in the queue", taken, 0.3, "SELECT", under_way)
    taken = seconds(lambda: ws.workflows.progress(queued))
    show(f"progress of {len(queued):,} that wait in the queue", taken, None, "SELECT", under_way)
    first = selected(ws.database, f"status = 'succeeded' ORDER BY created_at DESC LIMIT {PAGE}")
    taken = seconds(lambda: ws.workflows.list(status=Status.SUCCEEDED, limit=PAGE))
    show(f"first page of ended ones, {PAGE} rows", taken, 0.1, "SELECT", first)
    some = ws.workflows.of(ws.workflows.list(status=Status.RUNNING, limit=SHOWN))
    files = read(ws.store, [each.id for each in some])
    show(f"progress of {SHOWN} under way", seconds(lambda: ws.workflows.progress(some)), None, "read", files)
    show(f"refresh of {SHOWN} of them", seconds(lambda: ws.workflows.refresh(some)), None, "read", files)
    show("a look whether anything has changed (ws.state)", seconds(ws.state), None, "SELECT", under_way)


if __name__ == "__main__":
    main()

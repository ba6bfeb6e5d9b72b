"""What lasts too long, or says nothing for long."""

from __future__ import annotations

import _thread
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from inferring import Bench, examples, server_model
from waiting import until

from lumigator_nb.display.progress import ProgressRow
from lumigator_nb.engine import process_setup, steps
from lumigator_nb.errors import ExecutionError
from lumigator_nb.specs import Model, Progress, Status, Step, StepResult, WorkflowSpec, now
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.results import ProgressWriter
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration

LEAD = Model("baseline/lead-1")


def progress_of(bench: Bench, spec: WorkflowSpec) -> Progress:
    return results.find_progress(bench.store, {spec.workflow_id: spec.attempt})[spec.workflow_id]


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def test_a_step_ends_when_its_time_is_up_and_what_was_answered_stays(bench) -> None:
    with ModelServer(latency=0.5) as server:
        model = server_model(server, "lead-1", concurrency=1)
        spec = bench.workflow(model, examples(60), timeout=4.0, shard_size=1)
        result = bench.infer(spec)
        assert result.status is Status.FAILED
        assert "longer than its time-out of 4 s" in result.error
        assert "resume" in result.error
        answered = len(results.finished_shards(bench.store, spec.workflow_id, Step.INFERENCE))
        assert 1 <= answered < 60
        server.configure(latency=0.0)
        assert bench.infer(bench.again(spec, timeout=None)).status is Status.SUCCEEDED
        assert server.stats().calls <= 60 + 2  # the one that was under way was asked again


def test_a_worker_that_hangs_ends_itself(bench, monkeypatch) -> None:
    # A library that holds the interpreter is stood for by one that swallows the error.
    def deaf(self, requests):
        while True:
            with suppress(ExecutionError):
                time.sleep(0.1)

    monkeypatch.setattr("lumigator_nb.models.providers.baselines.Baseline.answer", deaf)
    monkeypatch.setattr(process_setup, "HANG_GRACE_S", 0.5)
    spec = bench.workflow(LEAD, examples(3), timeout=0.5)
    ended = []

    def hung(result: StepResult) -> None:
        ended.append(result)
        _thread.interrupt_main()  # a worker ends its process

    with pytest.raises(KeyboardInterrupt):
        steps.execute(Step.INFERENCE, spec, bench.store, hung=hung)
    assert ended[0].status is Status.FAILED
    assert "time-out" in ended[0].error


def test_a_worker_gives_signs_of_life_while_it_waits(bench, monkeypatch) -> None:
    monkeypatch.setattr(ProgressWriter, "BEAT_S", 0.1)
    spec = bench.workflow(LEAD, examples(3))
    with ProgressWriter(bench.store, spec, Step.INFERENCE) as progress:
        progress.note("thinking")
        first = progress_of(bench, spec)

        def beaten() -> bool:
            later = progress_of(bench, spec)
            assert later.note == "thinking"
            return later.updated_at > first.updated_at

        until(beaten, "a sign of life")
    assert bench.store.find(layout.progress(spec.workflow_id, Step.INFERENCE))


def test_who_says_nothing_for_long_is_named(bench) -> None:
    spec = bench.workflow(LEAD, examples(3))
    ProgressWriter(bench.store, spec, Step.INFERENCE).begin(0)
    found = progress_of(bench, spec)
    old = found.model_copy(update={"updated_at": now() - timedelta(minutes=5)})
    assert ProgressRow.of("m", Status.RUNNING, found).silent is None
    assert "no sign of life for 5 min" in " ".join(ProgressRow.of("m", Status.RUNNING, old).remarks)
    assert ProgressRow.of("m", Status.SUCCEEDED, old).silent is None

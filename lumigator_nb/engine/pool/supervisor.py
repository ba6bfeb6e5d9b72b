"""The processes that share a workflow, as Ray actors: begun, watched and replaced by the workflow's own worker.

Plain actors that fetch their work were measured against Ray Data (benchmarks/sharding.py): they need neither a copy of
the examples in Ray's object store nor a plan of the whole run, a shard is in the store as soon as it is done, and what
a lost process had is known to the item.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lumigator_nb import metrics, models
from lumigator_nb.engine import evaluation, inference
from lumigator_nb.engine.evaluation import Scored
from lumigator_nb.engine.inference import Written
from lumigator_nb.engine.pool import sizing
from lumigator_nb.engine.pool.pool_worker import Ended, Hand
from lumigator_nb.engine.pool.ray_connection import connect
from lumigator_nb.engine.pool.work_board import LEAST_SECONDS, Boards, News
from lumigator_nb.errors import ExecutionError
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import MetricSpec, Resources, WorkflowSpec
from lumigator_nb.storage import results
from lumigator_nb.storage.results import ProgressWriter
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)

# How often one item may take a process down with it, and how many processes that were begun since something was last
# done may die: more of them than a node holds.
MOST_LOSSES, MOST_DEATHS, DEATHS_PER_PROCESS = 3, 5, 2
LOOK_S, LEAVE_S = 0.5, 5.0
# Answers that are paid for are not asked for twice as lightly.
PAID_LEAST_SECONDS = 900.0
# What is added up over processes; notes are gathered, and of all else in their details any one's word is taken.
_SUMMED = ("retries", "most_at_once")


class Crew:
    """The processes that share one workflow.

    Args:
        spec: of the workflow.
        store: where it is.
    """

    def __init__(self, spec: WorkflowSpec, store: Store) -> None:
        self._idle = _Idle(spec, store)

    def infer(self, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> dict[str, Any]:
        """Do what :func:`lumigator_nb.engine.inference.infer` does, on several processes.

        Raises:
            ExecutionError: processes die again and again.
            LumigatorError: no further example can be answered; finished shards stay.
        """
        if sizing.is_answered_elsewhere(spec):
            return inference.infer(spec, store, progress, redact)
        todo = inference.unfinished(spec, store)
        if not todo.shards:
            return results.find_model_details(store, spec.workflow_id)
        progress.begin(spec.n_examples - inference.rows_of(spec, todo.shards))

        def told(news: News) -> None:
            done: Sequence[Written] = list(news.done.values())
            paid = [shard.cost for shard in done if shard.cost is not None]
            n_failed = sum(shard.n_failed for shard in done)
            progress.advance(sum(shard.n_rows for shard in done), failed=n_failed, cost=sum(paid) if paid else None)

        keeps = models.keeps_answers(spec.model)
        shift = _Shift(
            self._idle, sizing.per_process(spec.model, spec.resources), spec.launch.workers, todo.shards,
            sizing.shards_at_once(spec), PAID_LEAST_SECONDS if keeps else LEAST_SECONDS, told, progress.note,
        )  # fmt: skip
        try:
            shift.work(lambda hand, lots: hand.infer.remote(lots, todo.reopened))
        finally:
            if keeps:
                self._idle.join_answers()
        known = results.find_model_details(store, spec.workflow_id)
        details = {**known, **shift.details, "workers": shift.most_at_once}
        if shift.deaths:
            details["workers_lost"] = shift.deaths
        results.write_model_details(store, spec.workflow_id, details)
        return details

    def score(
        self, asked: MetricSpec, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor
    ) -> Scored:
        """Do what :func:`lumigator_nb.engine.evaluation.score_here` does, on several processes where no model is asked.

        Raises:
            ExecutionError: processes die again and again.
            LumigatorError: what the metric's own library raised.
        """
        if metrics.models_of([asked]):
            self._idle.end()
            return evaluation.score_here(asked, spec, store, progress, redact)
        groups = range(evaluation.n_groups(spec))
        found: dict[int, Scored] = {}

        def told(news: News) -> None:
            found.update(news.done)
            progress.advance(sum(each.n_rows for each in news.done.values()))

        needs = sizing.per_scorer(asked, spec.resources)
        shift = _Shift(self._idle, needs, spec.launch.workers, groups, 1, LEAST_SECONDS, told, progress.note)
        shift.work(lambda hand, lots: hand.score.remote(lots, asked))
        # In the order of the examples, so that sums of floats are the same however the work was shared.
        whole = Scored()
        for group in groups:
            whole.add(found[group])
        return whole


@dataclass(frozen=True)
class _Board:
    """A step's board, from another process."""

    boards: Any
    step: int

    def send(self, verb: str, *arguments: Any) -> Any:
        """Call a method of :class:`Board` and go on; return the reference to its result."""
        return self.boards.call.remote(self.step, verb, *arguments)

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Call a method of :class:`Board` and wait for its result."""
        import ray

        return ray.get(self.send(verb, *arguments))


@dataclass(frozen=True)
class _Reached:
    """The board as one of the processes that work reaches it."""

    board: _Board
    owner: int

    def take(self) -> tuple[int, ...] | None:
        lot: tuple[int, ...] | None = self.board.ask("take", self.owner)
        return lot

    def report(self, item: int, outcome: Any) -> None:
        self.board.send("report", self.owner, item, outcome)

    def note(self, text: str) -> None:
        self.board.send("note", self.owner, text)

    def leave(self) -> None:
        self.board.ask("leave", self.owner)


class _Idle:
    """Processes that have started and wait for the next step, since to start one takes seconds."""

    def __init__(self, spec: WorkflowSpec, store: Store) -> None:
        self._spec, self._store = spec, store
        self._needs, self._actors, self._boards = Resources(), list[Any](), list[Any]()

    @contextmanager
    def board(self, lots: Sequence[tuple[int, ...]], least_seconds: float) -> Iterator[_Board]:
        """The board for a step; it has a process of its own, which ends with the step only if that fails."""
        import ray

        boards = self._boards.pop() if self._boards else _on_this_node(Boards).remote()
        try:
            yield _Board(boards, ray.get(boards.begin.remote(lots, least_seconds)))
        except BaseException:
            ray.kill(boards)
            raise
        self._boards.append(boards)

    def get(self, needs: Resources) -> Any:
        """Return a process that takes what is needed: one that waits, else a new one."""
        import ray

        if needs != self._needs:
            self.end()
            self._needs = needs
        if self._actors:
            return self._actors.pop()
        return ray.remote(Hand).options(**_options(needs)).remote(self._store.spec, self._spec)

    def put(self, actor: Any) -> None:
        """Take a process back that is well and has nothing to do."""
        self._actors.append(actor)

    def join_answers(self) -> None:
        """Have one of them join the files of kept answers, as nobody writes to them any more.

        Which they are depends on what a process finds on its machine, such as a GPU, so it is not done here. Where none
        is left, they stay as they are.
        """
        import ray
        from ray.exceptions import RayError

        if self._actors:
            with suppress(RayError):  # nothing is lost: whoever looks for answers reads many files instead of one
                ray.get(self._actors[0].join_answers.remote())

    def end(self) -> None:
        """End those that wait: what they take of the cluster is others'."""
        import ray

        while self._actors:
            ray.kill(self._actors.pop())


@dataclass
class _Member:
    number: int
    actor: Any
    result: Any
    begun_at: float


class _Shift:
    """One step's work with the processes that do it.

    Args:
        idle: processes to begin with.
        needs: of each process.
        most: processes; None is as many as there is room for.
        items: of work, `at_once` of which may be handed out together.
    """

    def __init__(
        self,
        idle: _Idle,
        needs: Resources,
        most: int | None,
        items: Sequence[int],
        at_once: int,
        least_seconds: float,
        told: Callable[[News], None],
        note: Callable[[str], None],
    ) -> None:
        self._idle, self._needs, self._most = idle, needs, most
        self._items, self._at_once = items, at_once
        self._least_seconds, self._told, self._note = least_seconds, told, note
        self._members: list[_Member] = []
        self._begun = self._deaths_since = 0
        self._done_at = time.monotonic()
        self._said = self._last = ""
        self.deaths = self.most_at_once = 0
        self.details: dict[str, Any] = {}

    def work(self, begin: Callable[[Any, _Reached], Any]) -> None:
        """Work until all items are reported.

        Args:
            begin: has an actor begin with what is on the board, and returns the reference to its end.
        """
        import ray

        connect()
        self._needs = _with_cpus(self._needs)
        lots = sizing.lots(self._items, self._wanted(len(self._items)), self._at_once)
        with self._idle.board(lots, self._least_seconds) as board:
            try:
                self._supervise(board, begin, len(lots))
            finally:
                for member in self._members:
                    ray.kill(member.actor)

    def _supervise(self, board: _Board, begin: Callable[[Any, _Reached], Any], n_lots: int) -> None:
        import ray

        left, waiting = len(self._items), n_lots
        while left:
            wanted = self._wanted(n_lots)
            for _ in range(min(waiting, wanted - len(self._members))):
                self._begin(board, begin)
            ended, _ = ray.wait([member.result for member in self._members], timeout=LOOK_S)
            for result in ended:
                self._settle(board, result)
            news = board.ask("news")
            self._told(news)
            self._pass_on(news)
            if news.done:
                left -= len(news.done)
                self._done_at, self._deaths_since = time.monotonic(), 0
            if self._deaths_since > max(MOST_DEATHS, DEATHS_PER_PROCESS * wanted):
                raise ExecutionError(f"{self._deaths_since} processes died with nothing done: {self._last}", _REMEDY)
            waiting = news.waiting or board.ask("reissue")
        # Those that have nothing left to do say what they have used; who still dawdles, or never came because there was
        # no room, is not waited for.
        if leaving := [each.result for each in self._members if each.number in news.came]:
            ended, _ = ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_S)
            for result in ended:
                self._settle(board, result)

    def _begin(self, board: _Board, begin: Callable[[Any, _Reached], Any]) -> None:
        self._begun += 1
        actor = self._idle.get(self._needs)
        member = _Member(self._begun, actor, begin(actor, _Reached(board, self._begun)), time.monotonic())
        self._members.append(member)
        self.most_at_once = max(self.most_at_once, len(self._members))

    def _settle(self, board: _Board, result: Any) -> None:
        """Take note of how a process ended."""
        import ray
        from ray.exceptions import RayError

        member = next(each for each in self._members if each.result == result)
        self._members.remove(member)
        try:
            ended: Ended = ray.get(result)
        except RayError as error:
            self._mourn(board, member, error)
            return
        self._idle.put(member.actor)
        for line in ended.log.splitlines():
            log.info("process %d: %s", member.number, line)
        if ended.error is not None:
            raise ended.error
        sums = {name: ended.details[name] + self.details.get(name, 0) for name in _SUMMED if name in ended.details}
        notes = dict.fromkeys([*self.details.get("notes", ()), *ended.details.get("notes", ())])
        self.details = {**self.details, **ended.details, **sums, **({"notes": list(notes)} if notes else {})}

    def _mourn(self, board: _Board, member: _Member, error: Exception) -> None:
        """A process has died: what it had is on the board again."""
        self.deaths += 1
        self._deaths_since += member.begun_at >= self._done_at
        self._last = " ".join(str(error).split())[:400]
        log.warning("process %d died: %s", member.number, self._last)
        if board.ask("lose", member.number) >= MOST_LOSSES:
            raise ExecutionError(f"the same examples ended {MOST_LOSSES} processes: {self._last}", _REMEDY)

    def _pass_on(self, news: News) -> None:
        """Publish what the processes are doing, where all that do something do the same."""
        said = Counter(filter(None, news.notes.values()))
        text = said.most_common(1)[0][0] if said and not news.done else ""
        if not news.notes and not news.done and not self._said:
            text = "waiting for room on the cluster"
        if text != self._said:
            self._said = text
            self._note(text)

    def _wanted(self, n_lots: int) -> int:
        return min(self._most or sizing.room(self._needs, _nodes()), n_lots)


_REMEDY = (
    "most often memory has run out: a smaller batch_size, more memory for each process (Model(…, memory=…)) or fewer "
    "of them (launch(…, workers=…)); then resume: finished shards stay"
)


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _with_cpus(needs: Resources) -> Resources:
    if needs.num_cpus is not None or needs.num_gpus:
        return needs
    return needs.model_copy(update={"num_cpus": max(node.get("CPU", 1.0) for node in _nodes())})


def _options(needs: Resources) -> dict[str, Any]:
    given = {"num_cpus": needs.num_cpus or 0, "num_gpus": needs.num_gpus, "memory": needs.memory}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "resources": needs.resources or None,
        "scheduling_strategy": "SPREAD",
        "max_restarts": 0,
    }


def _on_this_node(kind: type) -> Any:
    """An actor that ends only when this process's own machine does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(kind).options(num_cpus=0, scheduling_strategy=here)

"""Work on a board is handed out, reported, given to others and never lost; and how it is divided."""

from __future__ import annotations

import inspect
import random
import re
from pathlib import Path

import pytest

from lumigator_nb import metrics
from lumigator_nb.engine.pool import sizing
from lumigator_nb.engine.pool.work_board import Board, Boards
from lumigator_nb.specs import Launch, MetricSpec, Model, Resources


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_lots_are_handed_out_in_order_and_reported_once() -> None:
    board = Board([(0, 1), (2,)])
    assert [board.take(1), board.take(2), board.take(1)] == [(0, 1), (2,), None]
    board.report(1, 1, "b")
    board.report(2, 2, "c")
    assert board.news().done == {1: "b", 2: "c"}
    board.report(1, 0, "a")
    assert board.news().done == {0: "a"}
    assert board.news().done == {}


def test_what_the_dead_had_goes_to_others_first_and_one_by_one() -> None:
    board = Board([(0, 1, 2), (3, 4)])
    board.take(1)
    board.report(1, 1, "done")
    assert board.lose(1) == 1
    assert [board.take(2) for _ in range(4)] == [(0,), (2,), (3, 4), None]


def test_who_leaves_well_has_lost_nothing() -> None:
    board = Board([(0,)])
    board.take(1)
    assert board.leave(1) == [0]
    assert board.take(2) == (0,)
    assert board.lose(2) == 1


def test_losses_are_counted_by_item() -> None:
    board = Board([(0,), (1,)])
    for owner in range(1, 4):
        assert board.take(owner) == (0,)
        assert board.lose(owner) == owner
    board.take(4)
    board.report(4, 0, None)
    assert board.take(4) == (1,)


def test_a_dawdlers_work_is_given_to_one_other_and_the_first_report_counts(clock) -> None:
    board = Board([(0,), (1,)], least_seconds=10.0, clock=clock)
    board.take(1)
    board.take(2)
    clock.now = 1.0
    board.report(2, 1, "quick")
    assert board.reissue() == 0
    clock.now = 11.0
    assert board.reissue() == 1
    assert board.reissue() == 0
    assert board.take(2) == (0,)
    board.report(2, 0, "copy")
    board.report(1, 0, "original")
    assert board.news().done == {1: "quick", 0: "copy"}
    assert board.take(1) is None


def test_a_copy_is_not_handed_out_after_the_original_came(clock) -> None:
    board = Board([(0,), (1,)], least_seconds=1.0, clock=clock)
    board.take(1)
    board.take(2)
    board.report(2, 1, None)
    clock.now = 60.0
    assert board.reissue() == 1
    board.report(1, 0, None)
    assert board.take(2) is None


def test_what_is_not_overdue_by_what_is_usual_is_left_alone(clock) -> None:
    board = Board([(0,), (1,)], least_seconds=1.0, clock=clock)
    board.take(1)
    board.take(2)
    clock.now = 100.0
    board.report(2, 1, None)
    clock.now = 300.0
    assert board.reissue() == 0
    clock.now = 401.0
    assert board.reissue() == 1


def test_when_both_who_have_an_item_die_it_waits_again(clock) -> None:
    board = Board([(0,), (1,)], least_seconds=1.0, clock=clock)
    board.take(1)
    board.take(2)
    board.report(2, 1, None)
    clock.now = 60.0
    board.reissue()
    board.take(2)
    board.lose(1)
    assert board.take(3) is None
    board.lose(2)
    assert board.take(3) == (0,)


@pytest.mark.parametrize("seed", range(20))
def test_every_item_is_reported_once_whoever_dies(seed, clock) -> None:
    chance = random.Random(seed)
    items = range(chance.randrange(1, 60))
    board = Board(sizing.lots(items, 3, 4), least_seconds=5.0, clock=clock)
    found: dict[int, int] = {}
    held: dict[int, list[int]] = {1: [], 2: [], 3: []}
    newest = 3
    while len(found) < len(items):
        clock.now += 1.0
        owner = chance.choice(list(held))
        action = chance.random()
        if action < 0.1:
            board.lose(owner)
            del held[owner]
            newest += 1
            held[newest] = []
        elif action < 0.5 and held[owner]:
            board.report(owner, held[owner].pop(), owner)
        else:
            held[owner] += board.take(owner) or ()
        news = board.news().done
        assert not news.keys() & found.keys()
        found |= news
        board.reissue()
    assert sorted(found) == list(items)
    assert board.take(1) is None


def test_what_comes_late_from_a_step_that_has_ended_is_dropped() -> None:
    boards = Boards()
    first = boards.begin([(0, 1)], 30.0)
    assert boards.call(first, "take", 1) == (0, 1)
    second = boards.begin([(0,), (1,)], 30.0)
    boards.call(first, "report", 1, 0, "stale")
    boards.call(first, "note", 1, "still at it")
    assert boards.call(first, "take", 1) is None
    assert boards.call(first, "leave", 1) == []
    assert boards.call(second, "take", 1) == (0,)
    boards.call(second, "report", 1, 0, "fresh")
    news = boards.call(second, "news")
    assert (news.done, news.notes, news.waiting) == ({0: "fresh"}, {}, 1)


def test_who_has_been_at_the_board_is_known() -> None:
    board = Board([(0,)])
    assert board.news().came == frozenset()
    board.note(1, "loading the model")
    board.take(2)
    board.leave(1)
    assert board.news().came == {1, 2}


@pytest.mark.parametrize(
    ("n_shards", "processes", "most", "sizes"),
    [(3, 2, 8, {1}), (100, 2, 8, {8, 4}), (100, 2, 1, {1}), (40, 4, 8, {2}), (1, 8, 8, {1})],
)
def test_lots_are_small_enough_to_share(n_shards, processes, most, sizes) -> None:
    lots = sizing.lots(range(n_shards), processes, most)
    assert [item for lot in lots for item in lot] == list(range(n_shards))
    assert {len(lot) for lot in lots} == sizes


LEAD, HF, API = Model("baseline/lead-2"), Model("hf/any"), Model("openai/any")


@pytest.mark.parametrize(
    ("model", "launch", "n_examples", "spread"),
    [
        (LEAD, Launch(), 199_999, False),
        (LEAD, Launch(), 200_000, True),
        (HF, Launch(), 20_000, True),
        (API, Launch(), 19_999, False),
        (API, Launch(workers=2), 10, True),
        (API, Launch(workers=1), 1_000_000, False),
        (API, Launch(budget=1.0), 1_000_000, False),
        (API, Launch(mode="batch", workers=4), 1_000_000, False),
    ],
)
def test_what_is_worth_sharing(model, launch, n_examples, spread) -> None:
    assert sizing.is_spread(model, launch, n_examples) is spread


@pytest.mark.parametrize(
    ("model", "given", "cpus"),
    [
        (LEAD, Resources(), 1.0),
        (API, Resources(), 0.5),
        (HF, Resources(), None),
        (HF, Resources(num_gpus=0.5), 1.0),
        (HF, Resources(num_cpus=3.0), 3.0),
    ],
)
def test_what_each_process_takes(model, given, cpus) -> None:
    assert sizing.per_process(model, given) == given.model_copy(update={"num_cpus": cpus})


def test_only_neural_metrics_take_the_models_gpus() -> None:
    given = Resources(num_cpus=4.0, num_gpus=1.0)
    assert sizing.per_scorer(MetricSpec(name="rouge"), given) == Resources(num_cpus=1.0)
    assert sizing.per_scorer(MetricSpec(name="bertscore"), given) == Resources(num_cpus=1.0, num_gpus=1.0)


@pytest.mark.parametrize("name", metrics.known())
def test_a_metric_whose_code_imports_torch_gets_a_gpu(name) -> None:
    spec = MetricSpec(name=name)
    source = Path(inspect.getfile(metrics.class_of(spec))).read_text()
    computes = re.search(r"^ +import torch$", source, re.MULTILINE) is not None
    assert sizing.per_scorer(spec, Resources(num_gpus=1.0)).num_gpus == (1.0 if computes else None)


@pytest.mark.parametrize(
    ("needs", "n_processes"),
    [
        (Resources(num_cpus=1.0), 6),
        (Resources(num_cpus=0.5), 12),
        (Resources(num_cpus=2.0), 3),
        (Resources(num_cpus=1.0, num_gpus=0.5), 4),
        (Resources(num_cpus=1.0, resources={"big": 1.0}), 1),
        (Resources(num_cpus=1.0, memory=3 * 2**30), 2),
        (Resources(num_cpus=100.0), 1),
    ],
)
def test_how_many_find_room(needs, n_processes) -> None:
    nodes = [{"CPU": 4.0, "GPU": 2.0, "memory": 8.0 * 2**30}, {"CPU": 2.0, "memory": 1.0 * 2**30, "big": 1.0}]
    assert sizing.room(needs, nodes) == n_processes

"""The queue: what the cluster is not given yet lies in the store, so that it depends on no process of the user's."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Any

from lumigator_nb.specs import Value
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

# The entry of a Ray job's metadata that tells a workflow's job from others, and whose turn it was.
EXPERIMENT = "experiment"
_ENTRY, _ENDING = ".json", ".ending"


class Waiting(Value):
    """A workflow that waits for its turn.

    Attributes:
        submission_id: of the Ray job that it will be; Ray takes none twice.
        experiment_id: whose turn it is when it is this one's.
        priority: the higher go first.
        since: when it began to wait.
        job: as Ray's Jobs API takes it; holds no secret.
    """

    submission_id: str
    experiment_id: str
    priority: int = 0
    since: datetime
    job: dict[str, Any]


def in_turn(waiting: Iterable[Waiting], at_work: Mapping[str, int]) -> Iterator[Waiting]:
    """Yield what waits in the order in which it is to be begun.

    The higher priority goes first; among the same the experiment of which the fewest workflows are at work, so that a
    large one does not keep a small one waiting; among the same what waits longest.

    Args:
        at_work: how many workflows of each experiment are under way.
    """
    counts = Counter(at_work)
    levels: dict[int, list[Waiting]] = defaultdict(list)
    for each in sorted(waiting, key=lambda each: (each.since, each.submission_id)):
        levels[each.priority].append(each)
    for _, level in sorted(levels.items(), reverse=True):
        lines: dict[str, deque[Waiting]] = defaultdict(deque)
        for each in level:
            lines[each.experiment_id].append(each)
        turns = [(counts[key], line[0].since, key) for key, line in lines.items()]
        heapify(turns)
        while turns:
            _, _, key = heappop(turns)
            yield lines[key].popleft()
            counts[key] += 1
            if lines[key]:
                heappush(turns, (counts[key], lines[key][0].since, key))


class Queue:
    """What waits in a store. Any number of processes may share it; an entry is written once and never changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Waiting] = {}

    def put(self, entries: Sequence[Waiting]) -> None:
        """Add entries."""
        files = {layout.waiting(each.submission_id): each.model_dump_json().encode() for each in entries}
        self._store.write_all(files)

    def remove(self, submission_ids: Iterable[str]) -> None:
        """Take entries out; nothing happens where there is none."""
        for submission_id in submission_ids:
            self._store.delete(layout.waiting(submission_id))

    def holds(self, submission_id: str) -> bool:
        """Whether there is an entry of that id now."""
        return self._store.exists(layout.waiting(submission_id))

    def ids(self) -> set[str]:
        """Return the submission ids of what waits; one listing."""
        return {name.removesuffix(_ENTRY) for name in self._names() if name.endswith(_ENTRY)}

    def waiting(self) -> list[Waiting]:
        """Return what waits; one listing, and what was added since the last time is read."""
        ids = self.ids()
        new = self._store.find_all([layout.waiting(each) for each in sorted(ids - self._known.keys())])
        read = [Waiting.model_validate_json(data) for data in new.values()]
        known = self._known | {each.submission_id: each for each in read}
        self._known = {key: each for key, each in known.items() if key in ids}
        return list(self._known.values())

    def announce_end(self, dispatcher: str) -> bool:
        """Say that a dispatcher is about to end, and return whether it may: whether nothing waits after that was said.

        Whoever adds an entry looks for the notice afterwards. So either the dispatcher sees the entry, or they see that
        another dispatcher is needed.
        """
        self._store.write(layout.ending(dispatcher), b"")
        if not self.ids():
            return True
        self.withdraw_end(dispatcher)
        return False

    def withdraw_end(self, dispatcher: str) -> None:
        """Say that a dispatcher does not end."""
        self._store.delete(layout.ending(dispatcher))

    def ending(self) -> set[str]:
        """Return the dispatchers that said that they end."""
        return {name.removesuffix(_ENDING) for name in self._names() if name.endswith(_ENDING)}

    def _names(self) -> Iterator[str]:
        return (name.rpartition("/")[2] for name in self._store.list(layout.QUEUE))

"""Work on a board: handed out in lots, reported item by item, given to others when its owner dies or dawdles."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

# Items that took long so far say what is long: so many times the median of them, and no less than seconds.
DAWDLES, LEAST_SECONDS = 4.0, 30.0


@dataclass
class _Held:
    """An item that somebody works on."""

    owner: int
    since: float
    again: bool = False


@dataclass
class News:
    """What has happened since the last look.

    Attributes:
        done: what was reported of items, by item.
        notes: what processes last said they were doing, by process.
        waiting: lots that nobody has taken.
        came: processes that have been here.
    """

    done: dict[int, Any]
    notes: dict[int, str]
    waiting: int
    came: frozenset[int]


@dataclass
class Board:
    """The work of one step. Belongs to one process; others reach it by :class:`Boards`, as a Ray actor.

    Args:
        lots: items that belong together, in the order in which they are handed out.
        least_seconds: an item under way is left to its owner for so long, however quick others are.
        clock: seconds, ever growing.
    """

    lots: Iterable[Sequence[int]]
    least_seconds: float = LEAST_SECONDS
    clock: Callable[[], float] = time.monotonic
    _waiting: deque[tuple[int, ...]] = field(init=False)
    _held: dict[int, list[_Held]] = field(init=False, default_factory=dict)
    _losses: Counter[int] = field(init=False, default_factory=Counter)
    _finished: set[int] = field(init=False, default_factory=set)
    _seconds: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=1000))
    _fresh: dict[int, Any] = field(init=False, default_factory=dict)
    _notes: dict[int, str] = field(init=False, default_factory=dict)
    _came: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._waiting = deque(tuple(lot) for lot in self.lots)

    def take(self, owner: int) -> tuple[int, ...] | None:
        """Return the next lot for a process; None where nothing is left to hand out."""
        self._came.add(owner)
        while self._waiting:
            lot = tuple(item for item in self._waiting.popleft() if item not in self._finished)
            if lot:
                for item in lot:
                    self._held.setdefault(item, []).append(_Held(owner, self.clock()))
                return lot
        return None

    def report(self, owner: int, item: int, outcome: Any) -> None:
        """An item is finished; where two processes had it, the first counts."""
        for held in self._held.pop(item, []):
            if held.owner == owner:
                self._seconds.append(self.clock() - held.since)
        if item not in self._finished:
            self._finished.add(item)
            self._fresh[item] = outcome

    def note(self, owner: int, text: str) -> None:
        """Say what a process is doing."""
        self._came.add(owner)
        self._notes[owner] = text

    def leave(self, owner: int) -> list[int]:
        """A process goes; return what it had and has not reported, which goes to others first."""
        self._notes.pop(owner, None)
        had = [item for item, holders in self._held.items() if any(held.owner == owner for held in holders)]
        for item in had:
            self._held[item] = [held for held in self._held[item] if held.owner != owner]
            if not self._held[item]:
                del self._held[item]
        free = (item for item in sorted(had, reverse=True) if item not in self._held)
        # One by one: whatever killed the process shall take as little as possible along next time.
        self._waiting.extendleft((item,) for item in free)
        return had

    def lose(self, owner: int) -> int:
        """A process has died. Return how often the unluckiest of the items that it had was lost."""
        self._losses.update(self.leave(owner))
        return max(self._losses.values(), default=0)

    def reissue(self) -> int:
        """Hand out again what somebody dawdles over, once nothing else is left; return how much it is.

        Each item is given to one other process at most. So one slow node does not hold up all others (Dean and
        Ghemawat 2004, "MapReduce: Simplified Data Processing on Large Clusters", section 3.6, backup tasks).
        """
        if self._waiting or not self._seconds:
            return 0
        usual = sorted(self._seconds)[len(self._seconds) // 2]
        limit = max(self.least_seconds, DAWDLES * usual)
        now, found = self.clock(), []
        for item, holders in self._held.items():
            if len(holders) == 1 and not holders[0].again and now - holders[0].since > limit:
                holders[0].again = True
                found.append(item)
        self._waiting.extend((item,) for item in sorted(found))
        return len(found)

    def news(self) -> News:
        """Return what has happened since the last call."""
        fresh, self._fresh = self._fresh, {}
        return News(fresh, dict(self._notes), len(self._waiting), frozenset(self._came))


class Boards:
    """The boards of a workflow's steps, one after the other, in one process: to start one takes seconds.

    What still comes from a step that has ended, such as the report of a process that was given up, is dropped.
    """

    def __init__(self) -> None:
        self._step, self._board = 0, Board(())

    def begin(self, lots: Iterable[Sequence[int]], least_seconds: float) -> int:
        """Put up the work of a step; return its number, by which all else is called."""
        self._step, self._board = self._step + 1, Board(lots, least_seconds)
        return self._step

    def call(self, step: int, verb: str, *arguments: Any) -> Any:
        """Call a method of that step's board."""
        board = self._board if step == self._step else Board(())
        return getattr(board, verb)(*arguments)

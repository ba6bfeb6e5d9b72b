"""How many n-grams two sequences share, for thousands of pairs of sequences at once.

A pair's n-grams of all orders come from a single sort: the longest ones are packed into integers, symbol by symbol,
so that sorting brings equal n-grams of every shorter order together as well.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_BITS = 63
# Pairs that are packed and sorted together; more would only take more memory.
_BLOCK = 4096


@dataclass(frozen=True)
class Sequences:
    """Sequences of symbols, one after the other.

    Attributes:
        symbols: (all,) numbers from 0, equal where the symbols of a pair are equal.
        lengths: (n,) of each sequence.
    """

    symbols: IntArray
    lengths: IntArray

    def __len__(self) -> int:
        return len(self.lengths)

    def slice(self, begin: int, end: int) -> Sequences:
        """Return some of the sequences."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        return Sequences(self.symbols[ends[begin] : ends[min(end, len(self))]], self.lengths[begin:end])


def number(left: Iterable[Sequence[Hashable]], right: Iterable[Sequence[Hashable]]) -> tuple[Sequences, Sequences]:
    """Number the symbols of each pair of sequences by themselves: the first is 0, the next that is new 1."""
    # Flat, as hundreds of thousands of small lists would keep Python's garbage collector busy.
    symbols: tuple[array[int], array[int]] = (array("q"), array("q"))
    lengths: tuple[list[int], list[int]] = ([], [])
    for pair in zip(left, right, strict=True):
        numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
        for side, sizes, sequence in zip(symbols, lengths, pair, strict=True):
            side.extend(map(numbers.__getitem__, sequence))
            sizes.append(len(sequence))
    first, second = (
        Sequences(np.array(side, dtype=np.int64), np.array(sizes, dtype=np.int64))
        for side, sizes in zip(symbols, lengths, strict=True)
    )
    return first, second


def characters(left: Sequence[str], right: Sequence[str]) -> tuple[Sequences, Sequences]:
    """Number the characters of texts, all pairs with the same numbers."""
    points = [_code_points(texts) for texts in (left, right)]
    seen = np.zeros(0x110000, dtype=bool)
    for each in points:
        seen[each] = True
    numbers = np.cumsum(seen) - 1
    sides = [
        Sequences(numbers[each], np.fromiter(map(len, texts), np.int64, len(texts)))
        for each, texts in zip(points, (left, right), strict=True)
    ]
    return sides[0], sides[1]


def shared(left: Sequences, right: Sequences, orders: int) -> NDArray[np.float64]:
    """Count the n-grams that the sequences of each pair share, each as often as both have it.

    Returns:
        (n, orders) the counts for n-grams of length 1, 2, …
    """
    blocks = [
        _shared(left.slice(begin, begin + _BLOCK), right.slice(begin, begin + _BLOCK), orders)
        for begin in range(0, len(left), _BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, orders))


def totals(sequences: Sequences, orders: int) -> NDArray[np.float64]:
    """Return (n, orders): how many n-grams of length 1, 2, … each sequence has."""
    counts: NDArray[np.float64] = np.maximum(sequences.lengths[:, None] - np.arange(orders), 0).astype(np.float64)
    return counts


def _shared(left: Sequences, right: Sequences, orders: int) -> NDArray[np.float64]:
    n = len(left)
    symbols = np.concatenate([left.symbols, right.symbols])
    if not len(symbols):
        return np.zeros((n, orders))
    lengths = np.concatenate([left.lengths, right.lengths])
    pair = np.repeat(np.concatenate([np.arange(n), np.arange(n)]), lengths)
    remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(symbols))
    is_right = np.arange(len(symbols)) >= len(left.symbols)
    bits = int(symbols.max() + 1).bit_length()
    if orders * bits + n.bit_length() + 1 <= _BITS:
        return _by_one_sort(symbols, pair, remaining, is_right, bits, orders, n)
    return _order_by_order(symbols, pair, remaining, is_right, orders, n)


def _by_one_sort(
    symbols: IntArray,
    pair: IntArray,
    remaining: IntArray,
    is_right: NDArray[np.bool_],
    bits: int,
    orders: int,
    n: int,
) -> NDArray[np.float64]:
    key = pair.copy()
    numbered = symbols + 1  # 0 stands for the end of the sequence
    for ahead in range(orders):
        key <<= bits
        there = max(len(numbered) - ahead, 0)
        key[:there] |= np.where(remaining[:there] > ahead, numbered[ahead:], 0)
    key = np.sort((key << 1) | is_right)
    rights = np.concatenate([[0], np.cumsum(key & 1)])
    counts = np.zeros((n, orders))
    for order in range(1, orders + 1):
        gram = key >> (1 + bits * (orders - order))
        starts = np.flatnonzero(np.concatenate([[True], gram[1:] != gram[:-1]]))
        starts_here = starts[(gram[starts] & ((1 << bits) - 1)) != 0]
        ends = np.concatenate([starts[1:], [len(key)]])[(gram[starts] & ((1 << bits) - 1)) != 0]
        in_right = rights[ends] - rights[starts_here]
        both = np.minimum(in_right, ends - starts_here - in_right)
        counts[:, order - 1] = np.bincount(gram[starts_here] >> (bits * order), both, n)
    return counts


def _order_by_order(
    symbols: IntArray, pair: IntArray, remaining: IntArray, is_right: NDArray[np.bool_], orders: int, n: int
) -> NDArray[np.float64]:
    """For sequences of so many different symbols that their n-grams do not fit into an integer."""
    width = int(symbols.max()) + 1
    counts = np.zeros((n, orders))
    gram = np.unique(pair * width + symbols, return_inverse=True)[1]
    at = np.arange(len(symbols))
    for order in range(orders):
        if order:
            longer = remaining[at] > order
            gram, at = gram[longer], at[longer]
            gram = np.unique(gram * width + symbols[at + order], return_inverse=True)[1]
        if not len(at):
            break
        owner = np.zeros(gram.max() + 1, dtype=np.int64)
        owner[gram] = pair[at]
        in_right = np.bincount(gram[is_right[at]], minlength=len(owner))
        both = np.minimum(in_right, np.bincount(gram, minlength=len(owner)) - in_right)
        counts[:, order] = np.bincount(owner, both, n)
    return counts


def _code_points(texts: Sequence[str]) -> IntArray:
    # Lone surrogates are no characters, but Python's strings may hold them.
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(joined, dtype=np.uint32).astype(np.int64)

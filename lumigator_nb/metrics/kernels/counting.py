"""Counts of shared n-grams, for thousands of pairs of sequences at once.

One sort gives the n-grams of all orders: the longest ones are packed into integers, symbol by symbol, so that sorting
also puts equal n-grams of every shorter order next to each other.
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

# Of a positive int64.
_BITS = 63
# Pairs that are packed and sorted together. More take more memory and are not faster.
_BLOCK = 4096


@dataclass(frozen=True)
class Sequences:
    """n sequences of symbols, concatenated.

    Attributes:
        symbols: (total,) numbers from 0; within a pair, equal numbers are equal symbols.
        lengths: (n,) of the sequences.
    """

    symbols: IntArray
    lengths: IntArray

    def __len__(self) -> int:
        return len(self.lengths)

    def slice(self, begin: int, end: int) -> Sequences:
        """Return the sequences from `begin` to `end`, exclusive."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        return Sequences(self.symbols[ends[begin] : ends[min(end, len(self))]], self.lengths[begin:end])


def number(left: Iterable[Sequence[Hashable]], right: Iterable[Sequence[Hashable]]) -> tuple[Sequences, Sequences]:
    """Return sequences whose symbols are numbered per pair, by first appearance: small numbers pack into few bits."""
    # Flat arrays: hundreds of thousands of small lists would slow down Python's garbage collector.
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
    """Return texts as sequences of characters, numbered over all pairs, so that NumPy does whole columns at once."""
    points = []
    for texts in (left, right):
        # surrogatepass: Python's strings may hold lone surrogates, which are not characters.
        joined = "".join(texts).encode("utf-32-le", "surrogatepass")
        points.append(np.frombuffer(joined, dtype=np.uint32).astype(np.int64))
    used = np.zeros(0x110000, dtype=bool)  # one for each code point of Unicode
    for codes in points:
        used[codes] = True
    numbers = np.cumsum(used) - 1
    sides = [
        Sequences(numbers[codes], np.fromiter(map(len, texts), np.int64, len(texts)))
        for codes, texts in zip(points, (left, right), strict=True)
    ]
    return sides[0], sides[1]


def shared(left: Sequences, right: Sequences, orders: int) -> NDArray[np.float64]:
    """Count the n-grams that the sequences of each pair share, each as often as it occurs in both.

    Returns:
        (n, orders) counts for n-grams of length 1, 2, …
    """
    blocks = [np.empty((0, orders))]
    for begin in range(0, len(left), _BLOCK):
        block, others = left.slice(begin, begin + _BLOCK), right.slice(begin, begin + _BLOCK)
        n, symbols = len(block), np.concatenate([block.symbols, others.symbols])
        if not len(symbols):
            blocks.append(np.zeros((n, orders)))
            continue
        lengths = np.concatenate([block.lengths, others.lengths])
        pair = np.repeat(np.concatenate([np.arange(n), np.arange(n)]), lengths)
        # How many symbols of its sequence follow each symbol, itself included.
        remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(symbols))
        is_right = np.arange(len(symbols)) >= len(block.symbols)
        bits = int(symbols.max() + 1).bit_length()
        if orders * bits + n.bit_length() + 1 <= _BITS:
            blocks.append(_by_one_sort(symbols, pair, remaining, is_right, bits, orders, n))
        else:
            blocks.append(_order_by_order(symbols, pair, remaining, is_right, orders, n))
    return np.concatenate(blocks)


def totals(sequences: Sequences, orders: int) -> NDArray[np.float64]:
    """Return (n, orders) numbers of n-grams of length 1, 2, … in each sequence."""
    counts: NDArray[np.float64] = np.maximum(sequences.lengths[:, None] - np.arange(orders), 0).astype(np.float64)
    return counts


def _by_one_sort(
    symbols: IntArray,
    pair: IntArray,
    remaining: IntArray,
    is_right: NDArray[np.bool_],
    bits: int,
    orders: int,
    n: int,
) -> NDArray[np.float64]:
    """Return (n, orders) counts of shared n-grams by sorting integers: pair, `orders` symbols, side (one bit)."""
    key = pair.copy()
    numbered = symbols + 1  # 0 stands for the end of the sequence
    for ahead in range(orders):
        key <<= bits
        reachable = max(len(numbered) - ahead, 0)
        key[:reachable] |= np.where(remaining[:reachable] > ahead, numbered[ahead:], 0)
    key = np.sort((key << 1) | is_right)
    # Before each position of the sorted keys, how many belong to the right side.
    rights = np.concatenate([[0], np.cumsum(key & 1)])
    counts = np.zeros((n, orders))
    for order in range(1, orders + 1):
        gram = key >> (1 + bits * (orders - order))
        starts = np.flatnonzero(np.concatenate([[True], gram[1:] != gram[:-1]]))
        # A last symbol of 0 means that the sequence ends before: no n-gram of this order.
        complete = (gram[starts] & ((1 << bits) - 1)) != 0
        ends = np.concatenate([starts[1:], [len(key)]])[complete]
        starts = starts[complete]
        in_right = rights[ends] - rights[starts]
        both = np.minimum(in_right, ends - starts - in_right)
        counts[:, order - 1] = np.bincount(gram[starts] >> (bits * order), both, n)
    return counts


def _order_by_order(
    symbols: IntArray, pair: IntArray, remaining: IntArray, is_right: NDArray[np.bool_], orders: int, n: int
) -> NDArray[np.float64]:
    """Return the same counts, for sequences with so many symbols that an n-gram does not fit into an int64.

    The n-grams of each order are numbered again, from those of the order before and one more symbol.
    """
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

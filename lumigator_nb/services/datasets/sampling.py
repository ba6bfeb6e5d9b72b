"""Splits and random samples of rows: seeded, stratified, without leakage, and independent of the order of the rows.

The random numbers are a keyed hash (BLAKE2b, RFC 7693) of each example's text. Unlike a generator's, they do not change
with the version of a library, and do not depend on the other rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lumigator_nb.display.text import count, joined, one_line
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.services.datasets.versions import coded
from lumigator_nb.services.names import checked_name

Positions = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Shares = npt.NDArray[np.float64]

# Shares such as 1/3 + 1/3 + 1/3 do not sum to exactly 1.
_TOLERANCE = 1e-6
_MAX_STRATA_IN_NOTE = 5


def split_rows(
    frame: pd.DataFrame, parts: Mapping[str, float], by: str | None = None, groups: str | None = None, seed: int = 0
) -> dict[str, Positions]:
    """Split the rows of a frame into parts. Rows with the same example are always in the same part.

    Without `by` and `groups`, the hash of its text alone decides to which part an example belongs. So rows that are
    added later do not move the others; in return, the sizes vary at random (standard deviation √(p(1−p)n) rows). With
    `by`, each stratum is divided by largest remainders, to within one row if all examples differ; what rounding leaves
    over goes to the part that lacks most overall. With `groups`, or with repeated examples, rows that must stay
    together form blocks. Blocks are placed greedily, largest first, where most rows are lacking; the sizes are then as
    close to the shares as the blocks allow.

    Args:
        frame: frame with a column `example`.
        parts: share of each part, by name. Shares sum to 1.
        by: column to stratify by; missing values form a stratum, too.
        groups: column whose values are never divided, such as an author. A row without a value is its own group.
        seed: any integer. The names and shares of the parts also enter the hash, so that a part can be split again.

    Returns:
        For each part, the positions of its rows: ascending, from 0, int64 of shape (n_rows_of_part,).

    Raises:
        InvalidInputError: shares do not sum to 1, there is no such column, or a part would be empty.
    """
    names, shares = sorted(parts), checked_shares(parts)
    _require_columns(frame, by, groups)
    codes, texts = pd.factorize(frame["example"])  # rows with the same example have the same code
    blocks = codes.astype(np.int64)
    hashes = _hashes(map(str, texts), f"split {checked_seed(seed)} {names} {shares.tolist()}")
    if by is None and groups is None:
        # A hash is uniform on [0, 2⁶⁴): compare it with the cumulated shares.
        part_of = np.searchsorted(np.cumsum(shares)[:-1], hashes / 2.0**64, side="right")[blocks]
    else:
        hashes = hashes[blocks]
        blocks = blocks if groups is None else _blocks(blocks, coded(frame[groups]))
        strata = np.zeros(len(frame), dtype=np.int64) if by is None else _strata(frame[by])
        part_of = _place(blocks, strata, hashes, shares)
    positions = {name: np.flatnonzero(part_of == names.index(name)) for name in parts}
    empty = [name for name, rows in positions.items() if not len(rows)]
    if empty:
        n_rows, n_blocks = len(frame), int(blocks.max()) + 1
        divided = "" if n_blocks == n_rows else f" in {count(n_blocks, 'block')} that cannot be divided"
        raise InvalidInputError(
            f"part {empty[0]!r} would be empty: there are {count(n_rows, 'row')}{divided}",
            "rows with the same group or example stay together; give the part a larger share, use other groups, "
            "or use another seed= if the rows are themselves a part of the same split",
        )
    return positions


def draw_rows(frame: pd.DataFrame, n_or_share: float, by: str | None = None, seed: int = 0) -> Positions:
    """Draw a random sample of rows without replacement.

    With the same seed, a smaller sample is a subset of a larger one (unless `by` is given).

    Args:
        frame: frame with a column `example`.
        n_or_share: number of rows (an int), or share in (0, 1] (a float): 1 is one row, 1.0 is all rows.
        by: column to stratify by: each stratum keeps its share to within one row.
        seed: any integer.

    Returns:
        Positions of the rows: ascending, from 0, int64 of shape (n,).

    Raises:
        InvalidInputError: fewer than one or more than all rows are to be drawn, or there is no such column.
    """
    _require_columns(frame, by)
    n = rows_of(n_or_share, len(frame))
    # Repeated examples must differ in their hash: number them.
    times = frame.groupby("example", sort=False).cumcount()
    texts = (f"{time} {text}" for time, text in zip(times, frame["example"], strict=True))
    hashes = _hashes(texts, f"draw {checked_seed(seed)}")
    strata = np.zeros(len(frame), dtype=np.int64) if by is None else _strata(frame[by])
    sizes = np.bincount(strata)
    quotas = _apportioned(n, sizes / sizes.sum(), _lowest(hashes, strata))
    # Within each stratum, take the rows with the lowest hashes.
    order = np.lexsort((hashes, strata))
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[ranks < np.repeat(quotas, sizes)])


def rows_of(n_or_share: float, n_rows: int) -> int:
    """Return the number of rows that a number or a share of `n_rows` rows stands for.

    Raises:
        InvalidInputError: it is neither, it is less than one row, or more than `n_rows`.
    """
    if isinstance(n_or_share, (int, np.integer)) and not isinstance(n_or_share, bool):
        n = int(n_or_share)
    elif isinstance(n_or_share, (float, np.floating)) and 0 < n_or_share <= 1:
        n = math.floor(n_or_share * n_rows + 0.5)
    else:
        raise InvalidInputError(
            f"{n_or_share!r} is neither a number of rows nor a share", "use 200 for rows, or 0.1 for a tenth"
        )
    if n < 1:
        raise InvalidInputError(f"{n_or_share!r} of {count(n_rows, 'row')} is less than one row", "draw at least one")
    if n > n_rows:
        raise InvalidInputError(f"cannot draw {n:,} rows: there are {n_rows:,}", "draw fewer")
    return n


def strata_notes(frame: pd.DataFrame, parts: Mapping[str, Positions], by: str | None) -> list[str]:
    """Return a note for each part in which strata are missing because they have too few rows."""
    if by is None:
        return []
    strata = _strata(frame[by])
    first = np.unique(strata, return_index=True)[1]
    notes = []
    for name, rows in parts.items():
        absent = np.flatnonzero(np.bincount(strata[rows], minlength=len(first)) == 0)
        if len(absent):
            values = [one_line(repr(frame[by].iloc[first[code]]), 40) for code in absent[:_MAX_STRATA_IN_NOTE]]
            n_more = len(absent) - _MAX_STRATA_IN_NOTE
            more = [f"{n_more:,} more"] if n_more > 0 else []
            notes.append(f"too few rows to be in {name!r}: {by} = {joined([*values, *more])}")
    return notes


def _hashes(texts: Iterable[str], salt: str) -> Hashes:
    keyed = blake2b(digest_size=8, key=blake2b(salt.encode(), digest_size=32).digest())

    def hash_of(text: str) -> int:
        state = keyed.copy()  # cheaper than to derive the key anew for each text
        state.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(state.digest())

    return np.fromiter(map(hash_of, texts), dtype=np.uint64)


def _strata(column: pd.Series[Any]) -> Positions:
    """Return the stratum of each row as a code, from 0 without gaps; missing values form one stratum."""
    codes = coded(column).astype(np.int64)
    return np.where(codes < 0, codes.max() + 1, codes)


def _blocks(texts: Positions, groups: npt.NDArray[np.int32]) -> Positions:
    """Return the block of each row as a code: rows that share an example or a group, directly or through other rows.

    Blocks are the connected components of the bipartite graph of examples and groups.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    linked = groups >= 0  # -1 is a missing group
    n_texts = int(texts.max()) + 1
    n_nodes = n_texts + int(groups.max()) + 1
    ends = (texts[linked], n_texts + groups[linked].astype(np.int64))
    graph = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(n_nodes, n_nodes))
    _, components = connected_components(graph, directed=False)
    return np.unique(components[texts], return_inverse=True)[1].astype(np.int64)


def _place(blocks: Positions, strata: Positions, hashes: Hashes, shares: Shares) -> Positions:
    """Return the part of each row: first place blocks of several rows, then fill up with single rows."""
    lacking = _quotas(np.bincount(strata), shares, _lowest(hashes, strata))
    sizes = np.bincount(blocks)
    part_of = _place_blocks(blocks, strata, _lowest(hashes, blocks), lacking)[blocks]
    single = np.flatnonzero(sizes[blocks] == 1)
    order = single[np.lexsort((hashes[single], strata[single]))]
    n_single = np.bincount(strata[single], minlength=len(lacking))
    ties = np.arange(len(shares), dtype=np.uint64)
    quotas = np.maximum(lacking, 0)
    # Where blocks gave a part more than its quota, the single rows of the stratum do not suffice for the others:
    # they share what there is.
    for stratum in np.flatnonzero((lacking < 0).any(axis=1)):
        weights = quotas[stratum] / max(quotas[stratum].sum(), 1)
        quotas[stratum] = _apportioned(int(n_single[stratum]), weights, ties)
    part_of[order] = np.repeat(np.tile(np.arange(len(shares)), len(quotas)), quotas.ravel())
    return part_of


def _place_blocks(blocks: Positions, strata: Positions, hashes: Hashes, lacking: Positions) -> Positions:
    """Return the part of each block of several rows (−1 for the others); subtract what they take from `lacking`.

    Each block is placed where it reduces most the sum, over strata, of (rows lacking)² / (rows of the stratum).

    Args:
        blocks, strata: code of the block and the stratum of each row, of shape (n_rows,).
        hashes: of shape (n_blocks,); they decide among blocks of equal size.
        lacking: rows that each part still lacks, of shape (n_strata, n_parts).
    """
    weights = 1.0 / np.bincount(strata)
    sizes = np.bincount(blocks)
    # A cell is the rows of one block in one stratum.
    cells, counts = np.unique(blocks * len(weights) + strata, return_counts=True)
    owner, stratum = np.divmod(cells, len(weights))
    starts = np.searchsorted(owner, np.arange(len(sizes) + 1))
    part_of = np.full(len(sizes), -1, dtype=np.int64)
    several = np.flatnonzero(sizes > 1)
    for block in several[np.lexsort((hashes[several], -sizes[several]))]:
        its = slice(starts[block], starts[block + 1])
        gain = (counts[its] * weights[stratum[its]]) @ lacking[stratum[its]]
        part = int(gain.argmax())
        part_of[block] = part
        lacking[stratum[its], part] -= counts[its]
    return part_of


def _quotas(sizes: Positions, shares: Shares, ties: Hashes) -> Positions:
    """Return the number of rows of each stratum in each part, of shape (n_strata, n_parts).

    Each is the exact number rounded up or down. What a part loses by rounding in one stratum, it gains in the next, so
    that the parts keep their shares of the whole, too.
    """
    # Rounded to 9 digits: 0.57 · 100 must be 57, not 56.99999999999999.
    exact = np.round(sizes[:, None] * shares, 9)
    quotas = np.floor(exact).astype(np.int64)
    owed = np.zeros(len(shares))
    for stratum in np.argsort(ties):
        rest = exact[stratum] - quotas[stratum]
        owed += rest
        left = int(sizes[stratum] - quotas[stratum].sum())
        first = np.argsort(np.where(rest > 0, -owed, np.inf), kind="stable")[:left]
        quotas[stratum, first] += 1
        owed[first] -= 1
    return quotas


def _apportioned(n: int, weights: Shares, ties: Hashes) -> Positions:
    """Divide `n` rows in proportion to weights that sum to 1, by largest remainders (Hamilton's method)."""
    exact = np.round(n * weights, 9)
    whole = np.floor(exact).astype(np.int64)
    first = np.lexsort((ties, whole - exact))[: n - int(whole.sum())]
    whole[first] += 1
    return whole


def _lowest(hashes: Hashes, codes: Positions) -> Hashes:
    """Return the lowest hash of the rows of each code, to break ties independently of the order of the rows."""
    lowest = np.full(int(codes.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, codes, hashes)
    return lowest


def checked_shares(parts: Mapping[str, float]) -> Shares:
    """Return the shares in alphabetical order of their names, so that the order of `parts` does not matter."""
    if len(parts) < 2:
        raise InvalidInputError("a split needs at least two parts", 'for example {"train": 0.8, "test": 0.2}')
    for name, share in parts.items():
        if not isinstance(share, (int, float, np.number)) or not 0 < share < 1:
            raise InvalidInputError(f"the share of {name!r} is {share!r}", "use a share between 0 and 1, such as 0.2")
        if checked_name(name) != name:
            raise InvalidInputError(f"the name of part {name!r} begins or ends with white space", "remove it")
    shares = np.array([float(parts[name]) for name in sorted(parts)])
    if abs(shares.sum() - 1) > _TOLERANCE:
        listed = " + ".join(f"{share:g}" for share in parts.values())
        raise InvalidInputError(f"the shares sum to {listed} = {shares.sum():g}, not to 1", "change one of them")
    return shares


def checked_seed(seed: int) -> int:
    """Return the seed as an int, which has the same text in a hash whatever its type was."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InvalidInputError(f"the seed is {seed!r}", "use an integer")
    return int(seed)


def _require_columns(frame: pd.DataFrame, *columns: str | None) -> None:
    for column in ("example", *columns):
        if column is not None and column not in frame:
            raise InvalidInputError(f"the dataset has no column {column!r}", did_you_mean(column, map(str, frame)))
    if frame.empty:
        raise InvalidInputError("there are no rows to draw from", "upload examples first")
    missing = np.flatnonzero(frame["example"].isna())
    if len(missing):
        raise InvalidInputError(f"row {missing[0]} has no example", "remove such rows, or fill them with ''")

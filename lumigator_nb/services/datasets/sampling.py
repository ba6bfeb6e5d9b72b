"""Splits and samples of a dataset: seeded, stratified, without leakage, and the same whatever the order of the rows.

Chance comes from a keyed hash of an example's text (BLAKE2b, RFC 7693), which no version of a library changes, and
which does not depend on the other rows.
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

_TOLERANCE = 1e-6
_MOST_STRATA = 5


def split_rows(
    frame: pd.DataFrame, parts: Mapping[str, float], by: str | None = None, groups: str | None = None, seed: int = 0
) -> dict[str, Positions]:
    """Divide the rows of a frame; rows with the same example are always in one part.

    Without `by` and `groups` the hash of its text says to which part an example belongs. Rows that are added later
    change nothing for those that are there, and in return sizes hold only as nearly as chance lets them (about
    ±√(p(1−p)n) rows). With `by`, each stratum is divided by largest remainders, to within one row as long as all
    examples differ; what is left over between strata goes where the whole lacks most. With `groups`, or where
    examples repeat, what belongs together is placed in one piece, the largest first, where most is lacking; sizes are
    then as near as the pieces allow.

    Args:
        frame: has a column `example`.
        parts: the share of each part by its name; they sum to 1.
        by: a column whose proportions every part keeps; missing values are a stratum too.
        groups: a column whose values are never divided, such as an author; a row without a value is on its own.
        seed: any whole number. The names and shares of the parts matter too, so that a part can be split again.

    Returns:
        The positions of the rows of each part, from 0, ascending.

    Raises:
        InvalidInputError: shares do not sum to 1, there is no such column, or a part would be empty.
    """
    names, shares = sorted(parts), checked_shares(parts)
    _require_columns(frame, by, groups)
    pieces, hashes = _hashed_texts(frame, f"split {checked_seed(seed)} {names} {shares.tolist()}")
    if by is None and groups is None:
        chosen = np.searchsorted(np.cumsum(shares)[:-1], hashes / 2.0**64, side="right")[pieces]
    else:
        hashes = hashes[pieces]
        pieces = pieces if groups is None else _pieces(pieces, coded(frame[groups]))
        strata = np.zeros(len(frame), dtype=np.int64) if by is None else _strata(frame[by])
        chosen = _placed(pieces, strata, hashes, shares)
    found = {name: np.flatnonzero(chosen == names.index(name)) for name in parts}
    _require_filled(found, len(frame), int(pieces.max()) + 1)
    return found


def draw_rows(frame: pd.DataFrame, n_or_share: float, by: str | None = None, seed: int = 0) -> Positions:
    """Draw rows at random, without repetition; a smaller draw with the same seed is part of a larger one.

    Args:
        frame: has a column `example`.
        n_or_share: a whole number of rows, or a share in (0, 1] written as a decimal: 1 is one row, 1.0 all of them.
        by: a column whose proportions are kept, each stratum to within one row (then draws need not contain another).
        seed: any whole number.

    Returns:
        Positions of the rows, from 0, ascending.

    Raises:
        InvalidInputError: more rows are asked for than there are, or none, or there is no such column.
    """
    _require_columns(frame, by)
    n = rows_of(n_or_share, len(frame))
    hashes = _row_hashes(frame, f"draw {checked_seed(seed)}")
    strata = np.zeros(len(frame), dtype=np.int64) if by is None else _strata(frame[by])
    sizes = np.bincount(strata)
    quotas = _apportioned(n, sizes / sizes.sum(), _lowest(hashes, strata))
    order = np.lexsort((hashes, strata))
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[ranks < np.repeat(quotas, sizes)])


def rows_of(n_or_share: float, n_rows: int) -> int:
    """Return how many of `n_rows` rows are meant by a number or a share.

    Raises:
        InvalidInputError: it is neither, or there are not so many.
    """
    if isinstance(n_or_share, (int, np.integer)) and not isinstance(n_or_share, bool):
        n = int(n_or_share)
    elif isinstance(n_or_share, (float, np.floating)) and 0 < n_or_share <= 1:
        n = math.floor(n_or_share * n_rows + 0.5)
    else:
        raise InvalidInputError(
            f"{n_or_share!r} is neither a number of rows nor a share", "write 200 for rows, or 0.1 for a tenth"
        )
    if n < 1:
        raise InvalidInputError(f"{n_or_share!r} of {count(n_rows, 'row')} is no row", "draw one at least")
    if n > n_rows:
        raise InvalidInputError(f"{n:,} rows are asked for, and there are {n_rows:,}", "ask for fewer")
    return n


def strata_notes(frame: pd.DataFrame, parts: Mapping[str, Positions], by: str | None) -> list[str]:
    """Return which strata are missing in which part, in words."""
    if by is None:
        return []
    strata = _strata(frame[by])
    first = np.unique(strata, return_index=True)[1]
    notes = []
    for name, rows in parts.items():
        absent = np.flatnonzero(np.bincount(strata[rows], minlength=len(first)) == 0)
        if len(absent):
            values = [one_line(repr(frame[by].iloc[first[each]]), 40) for each in absent[:_MOST_STRATA]]
            more = [f"{len(absent) - _MOST_STRATA:,} more"] if len(absent) > _MOST_STRATA else []
            notes.append(f"too few rows to be in {name!r}: {by} = {joined([*values, *more])}")
    return notes


def _hashed_texts(frame: pd.DataFrame, salt: str) -> tuple[Positions, Hashes]:
    """A number for the example of each row, and the hash of each of them."""
    codes, texts = pd.factorize(frame["example"])
    return codes.astype(np.int64), _hashes(map(str, texts), salt)


def _row_hashes(frame: pd.DataFrame, salt: str) -> Hashes:
    """A hash for each row; examples that repeat are told apart by how often they occurred before."""
    times = frame.groupby("example", sort=False).cumcount()
    return _hashes((f"{time} {text}" for time, text in zip(times, frame["example"], strict=True)), salt)


def _hashes(texts: Iterable[str], salt: str) -> Hashes:
    keyed = blake2b(digest_size=8, key=blake2b(salt.encode(), digest_size=32).digest())

    def hashed(text: str) -> int:
        each = keyed.copy()
        each.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(each.digest())

    return np.fromiter(map(hashed, texts), dtype=np.uint64)


def _strata(column: pd.Series[Any]) -> Positions:
    """A number for the stratum of each row, from 0 and without gaps; missing values are one too."""
    codes = coded(column).astype(np.int64)
    return np.where(codes < 0, codes.max() + 1, codes)


def _pieces(texts: Positions, groups: npt.NDArray[np.int32]) -> Positions:
    """A number for what each row belongs to: rows that share an example or a group, or do so by way of others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    linked = groups >= 0
    n_texts = int(texts.max()) + 1
    n_nodes = n_texts + int(groups.max()) + 1
    ends = (texts[linked], n_texts + groups[linked].astype(np.int64))
    graph = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(n_nodes, n_nodes))
    _, parts = connected_components(graph, directed=False)
    return np.unique(parts[texts], return_inverse=True)[1].astype(np.int64)


def _placed(pieces: Positions, strata: Positions, hashes: Hashes, shares: Shares) -> Positions:
    """The part of each row: pieces of several rows first, then single rows fill up what is lacking."""
    lacking = _quotas(np.bincount(strata), shares, _lowest(hashes, strata))
    sizes = np.bincount(pieces)
    chosen = _placed_pieces(pieces, strata, _lowest(hashes, pieces), lacking)[pieces]
    single = np.flatnonzero(sizes[pieces] == 1)
    order = single[np.lexsort((hashes[single], strata[single]))]
    n_single = np.bincount(strata[single], minlength=len(lacking))
    ties = np.arange(len(shares), dtype=np.uint64)
    full = np.maximum(lacking, 0)
    for stratum in np.flatnonzero((lacking < 0).any(axis=1)):
        weights = full[stratum] / max(full[stratum].sum(), 1)
        full[stratum] = _apportioned(int(n_single[stratum]), weights, ties)
    chosen[order] = np.repeat(np.tile(np.arange(len(shares)), len(full)), full.ravel())
    return chosen


def _placed_pieces(pieces: Positions, strata: Positions, hashes: Hashes, lacking: Positions) -> Positions:
    """The part of each piece of several rows, −1 for the others; what they take is subtracted from `lacking`.

    Each goes where it brings down most the sum over strata of the squares of what is lacking, per row of the stratum.
    """
    weights = 1.0 / np.bincount(strata)
    sizes = np.bincount(pieces)
    cells, counts = np.unique(pieces * len(weights) + strata, return_counts=True)
    owner, stratum = np.divmod(cells, len(weights))
    starts = np.searchsorted(owner, np.arange(len(sizes) + 1))
    chosen = np.full(len(sizes), -1, dtype=np.int64)
    several = np.flatnonzero(sizes > 1)
    for piece in several[np.lexsort((hashes[several], -sizes[several]))]:
        its = slice(starts[piece], starts[piece + 1])
        gain = (counts[its] * weights[stratum[its]]) @ lacking[stratum[its]]
        chosen[piece] = part = int(gain.argmax())
        lacking[stratum[its], part] -= counts[its]
    return chosen


def _quotas(sizes: Positions, shares: Shares, ties: Hashes) -> Positions:
    """How many rows of each stratum (rows) each part (columns) gets: the exact number rounded up or down.

    What rounding takes from a part in one stratum it gets in the next, so that the whole keeps its shares too.
    """
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
    """Divide `n` by largest remainders (Hamilton's method)."""
    exact = np.round(n * weights, 9)
    whole = np.floor(exact).astype(np.int64)
    first = np.lexsort((ties, whole - exact))[: n - int(whole.sum())]
    whole[first] += 1
    return whole


def _lowest(hashes: Hashes, codes: Positions) -> Hashes:
    lowest = np.full(int(codes.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, codes, hashes)
    return lowest


def checked_shares(parts: Mapping[str, float]) -> Shares:
    """The shares in the alphabetical order of the parts, so that the order in which they are given means nothing."""
    if len(parts) < 2:
        raise InvalidInputError("a split has two parts at least", 'write {"train": 0.8, "test": 0.2}')
    for name, share in parts.items():
        if not isinstance(share, (int, float, np.number)) or not 0 < share < 1:
            raise InvalidInputError(f"the share of {name!r} is {share!r}", "a share is between 0 and 1, such as 0.2")
        if checked_name(name) != name:
            raise InvalidInputError(f"part {name!r} begins or ends with a blank", "take it away")
    shares = np.array([float(parts[name]) for name in sorted(parts)])
    if abs(shares.sum() - 1) > _TOLERANCE:
        listed = " + ".join(f"{share:g}" for share in parts.values())
        raise InvalidInputError(f"the shares sum to {listed} = {shares.sum():g}, not to 1", "change one of them")
    return shares


def checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InvalidInputError(f"the seed is {seed!r}", "write a whole number")
    return int(seed)


def _require_columns(frame: pd.DataFrame, *columns: str | None) -> None:
    for column in ("example", *columns):
        if column is not None and column not in frame:
            raise InvalidInputError(f"the data have no column {column!r}", did_you_mean(column, map(str, frame)))
    if frame.empty:
        raise InvalidInputError("there are no rows to draw from", "upload examples first")
    missing = np.flatnonzero(frame["example"].isna())
    if len(missing):
        raise InvalidInputError(f"row {missing[0]} has no example", "leave out such rows, or fill them with ''")


def _require_filled(rows: Mapping[str, Positions], n_rows: int, n_pieces: int) -> None:
    empty = [name for name, found in rows.items() if not len(found)]
    if empty:
        pieces = "" if n_pieces == n_rows else f" in {count(n_pieces, 'piece')} that cannot be divided"
        raise InvalidInputError(
            f"part {empty[0]!r} would be empty: there are {count(n_rows, 'row')}{pieces}",
            "what shares a group or an example stays together; give the part a larger share, divide by other groups, "
            "or take another seed= where the rows are themselves a part of the same split",
        )

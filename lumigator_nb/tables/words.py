"""Count the words of many texts at once, in Arrow's buffer of their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_Counts = np.ndarray[Any, np.dtype[np.int32]]
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_Flags = np.ndarray[Any, np.dtype[np.bool_]]
# The white space of str.split that has several bytes in UTF-8.
_WIDE = "[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def word_counts(texts: pa.StringArray) -> _Counts:
    """Return ``len(text.split())`` of each text: an integer array of shape (n,). The texts must not be null."""
    offsets, data = _buffers(texts)
    if (data >= 128).any() and pc.any(pc.match_substring_regex(texts, _WIDE)).as_py():
        offsets, data = _buffers(pc.replace_substring_regex(texts, _WIDE, " "))
    # The white space of str.split in ASCII: 9 to 13 and 28 to 32.
    is_space = (data <= 32) & ((data >= 28) | ((data >= 9) & (data <= 13)))
    begins = ~is_space
    begins[1:] &= is_space[:-1]
    firsts = offsets[:-1][offsets[:-1] < offsets[1:]]
    begins[firsts] = ~is_space[firsts]  # the last byte of the previous text does not matter
    return _per_text(begins, offsets)


def digit_counts(texts: pa.StringArray) -> _Counts:
    """Return the number of ASCII digits in each text: an integer array of shape (n,). A null has none."""
    offsets, data = _buffers(texts)
    return _per_text((data >= 48) & (data <= 57), offsets)


def _per_text(flags: _Flags, offsets: _Counts) -> _Counts:
    """Count the flags within each text."""
    counts = np.zeros(len(offsets) - 1, np.int32)
    # reduceat() returns the next element for an empty range, so empty texts are left out.
    filled = np.flatnonzero(offsets[:-1] < offsets[1:])
    if len(filled):
        counts[filled] = np.add.reduceat(flags.view(np.uint8), offsets[:-1][filled], dtype=np.int32)
    return counts


def _buffers(texts: pa.StringArray) -> tuple[_Counts, _Bytes]:
    """Return the offsets of the texts (n + 1, the last is the end) and the bytes of all texts."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.zeros(len(texts) + 1, np.int32), np.empty(0, np.uint8)
    # A slice of an array shares the buffers of the whole array.
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return bounds - bounds[0], np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]

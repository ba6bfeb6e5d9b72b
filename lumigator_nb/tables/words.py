"""Words of many texts, counted in their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_Counts = np.ndarray[Any, np.dtype[np.int32]]
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_Flags = np.ndarray[Any, np.dtype[np.bool_]]
# White space as str.split knows it, where it is of several bytes.
_WIDE = "[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def word_counts(texts: pa.StringArray) -> _Counts:
    """Return ``len(text.split())`` of each text; there are no nulls."""
    offsets, data = _buffers(texts)
    if (data >= 128).any() and pc.any(pc.match_substring_regex(texts, _WIDE)).as_py():
        offsets, data = _buffers(pc.replace_substring_regex(texts, _WIDE, " "))
    is_space = (data <= 32) & ((data >= 28) | ((data >= 9) & (data <= 13)))
    begins = ~is_space
    begins[1:] &= is_space[:-1]
    firsts = offsets[:-1][offsets[:-1] < offsets[1:]]
    begins[firsts] = ~is_space[firsts]  # whatever the text before ends with
    return _per_text(begins, offsets)


def digit_counts(texts: pa.StringArray) -> _Counts:
    """Return how many of 0 to 9 each text has; a null has none."""
    offsets, data = _buffers(texts)
    return _per_text((data >= 48) & (data <= 57), offsets)


def _per_text(flags: _Flags, offsets: _Counts) -> _Counts:
    counts = np.zeros(len(offsets) - 1, np.int32)
    filled = np.flatnonzero(offsets[:-1] < offsets[1:])
    if len(filled):
        counts[filled] = np.add.reduceat(flags.view(np.uint8), offsets[:-1][filled], dtype=np.int32)
    return counts


def _buffers(texts: pa.StringArray) -> tuple[_Counts, _Bytes]:
    """Return where each text begins and the last one ends, and the bytes of all."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.zeros(len(texts) + 1, np.int32), np.empty(0, np.uint8)
    found = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return found - found[0], np.frombuffer(data, np.uint8)[found[0] : found[-1]]

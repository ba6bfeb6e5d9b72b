"""The answer cache, for a terminal and a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumigator_nb.display.html import fragment, name, table, tag
from lumigator_nb.display.text import columns, count, listed, moment, size

if TYPE_CHECKING:
    from lumigator_nb.services.answer_cache import CacheSize, Trimmed


def cache_text(cache: CacheSize) -> str:
    """Return what the kept answers take as aligned lines."""
    rows = [
        (each.model, count(each.answers, "answer"), size(each.n_bytes), f"used {moment(each.used_at)}")
        for each in cache.folders
    ]
    return "\n".join([_cache_title(cache), *columns(rows)])


def cache_html(cache: CacheSize) -> str:
    """Return what the kept answers take as a table."""
    rows = [[name(each.model), f"{each.answers:,}", size(each.n_bytes), moment(each.used_at)] for each in cache.folders]
    found = table(["Model", "Answers", "Size", "Last used"], rows, numeric=(1, 2)) if rows else None
    return fragment(tag("div", _cache_title(cache), class_="lm-title"), found)


def _cache_title(cache: CacheSize) -> str:
    limit = f" of {size(cache.limit)}" if cache.limit is not None else ", without limit (LUMIGATOR_CACHE_GB)"
    return f"Kept answers: {count(cache.answers, 'answer')}, {size(cache.n_bytes)}{limit}"


def trimmed_text(trimmed: Trimmed) -> str:
    """Return what was taken out of the cache in a line or two."""
    gone = f" of {listed(trimmed.models)}" if trimmed.models else ""
    line = f"Removed {count(trimmed.n_files, 'file')} of kept answers{gone}, {size(trimmed.n_bytes)}"
    spared = f"; {size(trimmed.spared)} are in use and stay" if trimmed.spared else ""
    return f"{line}; {size(trimmed.left)} are left{spared}"


def trimmed_html(trimmed: Trimmed) -> str:
    """As :func:`trimmed_text`."""
    return fragment(tag("div", trimmed_text(trimmed)))

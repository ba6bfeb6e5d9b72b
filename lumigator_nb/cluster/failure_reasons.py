"""What Ray says of a job that failed, in words that say what to do. Pure functions over its messages (Ray 2.60)."""

from __future__ import annotations

import re
import signal

from lumigator_nb import metrics, models
from lumigator_nb.cluster import JobState

_LESS = "give the model a smaller batch (lm.Model(…, batch_size=…)) or the cluster's nodes more memory, and resume"
MEMORY = f"for lack of memory: {_LESS}"
# Of Ray's memory monitor, Python, and torch on a GPU.
_SHORT_OF_MEMORY = re.compile(r"running low on memory|\bMemoryError\b|\bOutOfMemoryError\b|CUDA out of memory")
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
# Modules that only some stores need; models and metrics tell their own. What all need comes with the package itself.
_OF_STORES = {"s3fs": "s3", "aiobotocore": "s3", "botocore": "s3", "gcsfs": "gcs", "adlfs": "azure"}
_LOG = re.compile(r", last available logs.*?:$", re.MULTILINE)
_LONGEST = 300


def reason(job: JobState) -> str | None:
    """Return why a failed job ended as it did; None where Ray says nothing."""
    words, last = _parts(job.message)
    said = "\n".join([words, *last])
    if _SHORT_OF_MEMORY.search(said):
        return f"the worker was ended {MEMORY}"
    if number := _signal(job.exit_code):
        return _killed(number)
    if missing := _MISSING.search(said):
        return f"there is no module {missing[1]!r}: {remedy(said)}"
    if "because its node has died" in words:
        return "the node that it ran on died; resume, and it goes on on another"
    if words.startswith("Job supervisor actor died"):
        return f"Ray's process beside it died, most likely {MEMORY}"
    first = words.partition("\n")[0][:_LONGEST]
    return f"{first}; last line: {'; '.join(line[:_LONGEST] for line in last)}" if last else first or None


def remedy(error: str) -> str | None:
    """Return what to do about an error that a worker noted itself; None where that depends."""
    if _SHORT_OF_MEMORY.search(error):
        return _LESS
    if missing := _MISSING.search(error):
        return f"pip install '{_requirement(missing[1].partition('.')[0])}' on the cluster's nodes, and resume"
    return None


def _requirement(module: str) -> str:
    extra = _OF_STORES.get(module) or models.extra_of(module) or metrics.extra_of(module)
    return f"lumigator-nb[{extra}]" if extra else "lumigator-nb"


def _parts(message: str) -> tuple[str, list[str]]:
    """Return Ray's own words, and the last of the log that it appends, where errors stand.

    Earlier lines may tell of trouble that was overcome.
    """
    words, *log = _LOG.split(message.strip(), maxsplit=1)
    lines = [line.strip() for line in "".join(log).splitlines() if line.strip()]
    # Our errors have two lines: what is wrong, and a hint.
    return words, lines[-2:] if lines and lines[-1].startswith("Hint: ") else lines[-1:]


def _signal(exit_code: int | None) -> int | None:
    """Return the signal that ended a process; shells and containers add 128 to it instead of turning the sign."""
    if exit_code is None:
        return None
    return -exit_code if exit_code < 0 else exit_code - 128 if exit_code > 128 else None


def _killed(number: int) -> str:
    if number == signal.SIGKILL:
        return f"the worker was killed (signal 9), most likely {MEMORY}"
    names = {each.value: each.name for each in signal.Signals}
    return f"the worker was ended by signal {number} ({names.get(number, 'unknown')}); resume to go on"

"""Ray's own words (2.60), as /api/jobs/<id> gave them when processes were really killed, shortened in the middle."""

from __future__ import annotations

import pytest

from lumigator_nb.cluster import JobState
from lumigator_nb.cluster.failure_reasons import MEMORY, reason, remedy
from lumigator_nb.specs import Status

COMMAND = "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\n{}"
BEGIN = "2026-11-28 18:09:11,267\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
MONITOR = (
    "Unexpected error occurred: 1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
    "127.0.0.2, ID: e0a48f) was 2.79GB used / 23.54GB limit (0.118543)\nOOM kill reason: Memory usage 2992156672B "
    "exceeded threshold of 505530208B (2.0% of 25276510208B limit)\nObject store memory usage: [- objects spillable: 0"
)
SUPERVISOR = (
    "Job supervisor actor died: The actor died unexpectedly before finishing this task.\n\tclass_name: JobSupervisor\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called"
)
NODE = (
    "Job supervisor actor died: The actor died unexpectedly before finishing this task.\n\tip: 127.0.0.3\n"
    "The actor died because its node has died. Node Id: a22b279d\n\tthe actor's node was terminated unexpectedly: "
    "health check failed due to missing too many heartbeats"
)
MODULE = 'Traceback (most recent call last):\n  File "worker.py", line 18\nModuleNotFoundError: No module named {!r}\n'
HINT = "lumigator_nb.errors.MissingExtraError: a store at s3:// needs packages\nHint: pip install 'lumigator-nb[s3]'\n"
CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


def failed(message: str, exit_code: int | None = None) -> JobState:
    return JobState(Status.FAILED, message, exit_code=exit_code)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        pytest.param(
            failed(COMMAND.format(-9, BEGIN), -9),
            f"the worker was killed (signal 9), most likely {MEMORY}",
            id="kill -9, as the kernel does",
        ),
        pytest.param(
            failed(COMMAND.format(137, BEGIN), 137),
            f"the worker was killed (signal 9), most likely {MEMORY}",
            id="told by a shell",
        ),
        pytest.param(failed(MONITOR), f"the worker was ended {MEMORY}", id="Ray's memory monitor"),
        pytest.param(failed(COMMAND.format(1, BEGIN + CUDA), 1), f"the worker was ended {MEMORY}", id="a GPU's memory"),
        pytest.param(
            failed(COMMAND.format(1, BEGIN + CUDA + "halved\nOSError: no space\n"), 1),
            "Job entrypoint command failed with exit code 1; last line: OSError: no space",
            id="trouble that was overcome",
        ),
        pytest.param(
            failed(SUPERVISOR),
            f"Ray's process beside it died, most likely {MEMORY}",
            id="the job's supervisor is killed",
        ),
        pytest.param(
            failed(NODE), "the node that it ran on died; resume, and it goes on on another", id="a node is killed"
        ),
        pytest.param(
            failed(COMMAND.format(-11, BEGIN), -11),
            "the worker was ended by signal 11 (SIGSEGV); resume to go on",
            id="a crash in native code",
        ),
        pytest.param(
            failed(COMMAND.format(1, BEGIN + MODULE.format("pydantic")), 1),
            "there is no module 'pydantic': pip install 'lumigator-nb' on the cluster's nodes, and resume",
            id="the package is not installed",
        ),
        pytest.param(
            failed(COMMAND.format(1, BEGIN + MODULE.format("botocore.session")), 1),
            "there is no module 'botocore.session': pip install 'lumigator-nb[s3]' on the cluster's nodes, and resume",
            id="an extra is not installed",
        ),
        pytest.param(
            failed(COMMAND.format(1, BEGIN + MODULE.format("s3fs") + HINT), 1),
            "Job entrypoint command failed with exit code 1; last line: lumigator_nb.errors.MissingExtraError: a store "
            "at s3:// needs packages; Hint: pip install 'lumigator-nb[s3]'",
            id="an error of ours with its hint",
        ),
        pytest.param(
            failed("Failed to set up runtime environment.\nmore"),
            "Failed to set up runtime environment.",
            id="1st line",
        ),
        pytest.param(failed(""), None, id="nothing"),
    ],
)
def test_the_end_of_a_job_in_words(job, said) -> None:
    assert reason(job) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("no example was answered; the commonest error: CUDA out of memory. Tried", MEMORY.partition(": ")[2]),
        ("MemoryError: ", MEMORY.partition(": ")[2]),
        (
            "rouge: ModuleNotFoundError: No module named 'rapidfuzz'",
            "pip install 'lumigator-nb' on the cluster's nodes, and resume",
        ),
        ("boom", None),
    ],
)
def test_what_to_do_about_an_error_that_the_worker_noted(error, said) -> None:
    assert remedy(error) == said

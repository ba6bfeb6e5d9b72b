"""``ray …``, only that a head started so sets its workers up by `_set_up_worker.py` and may open many files."""

from contextlib import suppress
from pathlib import Path

from ray._private import ray_constants
from ray.scripts.scripts import main

# What Ray recommends; it holds a connection to each process for some minutes after that has ended.
MANY_FILES = 65_536


def allow_many_files() -> None:
    """Raise this process's limit, and so its daemons', as far as the system lets anybody; shells set 256 to 1,024."""
    with suppress(ImportError, ValueError, OSError):  # not on Windows; macOS allows less than it says
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

        now, most = getrlimit(RLIMIT_NOFILE)
        wanted = MANY_FILES if most == RLIM_INFINITY else min(MANY_FILES, most)
        if now != RLIM_INFINITY and now < wanted:
            setrlimit(RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    allow_many_files()
    # Ray joins it to a folder of its own, and of what is joined the last absolute path counts.
    ray_constants.SETUP_WORKER_FILENAME = str(Path(__file__).with_name("_set_up_worker.py"))
    main()

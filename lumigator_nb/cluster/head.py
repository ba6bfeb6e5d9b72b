"""The embedded Ray head: a daemon that outlives the kernel that started it and is found again by the next one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from lumigator_nb.cluster import processes
from lumigator_nb.cluster.api import RayApi
from lumigator_nb.errors import ClusterUnavailableError

Report = Callable[[str], None]

START_SECONDS = 180.0
ANSWER_SECONDS = 30.0
OBJECT_STORE_BYTES = 128 * 1024**2
QUICK_START = Path(__file__).with_name("quick_start")
# What belongs to the shell or kernel that happens to start the head, and would change how jobs behave.
_NOT_INHERITED = {
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONDONTWRITEBYTECODE"),
    *("MPLBACKEND", "FORCE_COLOR", "CLICOLOR_FORCE"),
}


@dataclass(frozen=True)
class _State:
    """What is on disk about one head; the file is readable by its owner only.

    Attributes:
        id: mark that all its processes inherit.
        address: ``http://127.0.0.1:port``.
        token: without it the head refuses every request, so other users of the machine cannot run code as us.
        folder: of all its files.
        environment: digest of the variables that it was started with.
    """

    id: str
    address: str
    token: str
    folder: str
    environment: str


class LocalHead:
    """A Ray head on this machine for this interpreter.

    Heads are keyed by virtual environment and Ray version, because jobs run the packages of the environment that
    started the head. It listens on the loopback interface only and asks for a token that only this user can read.

    Args:
        state_folder: where addresses and logs are kept, such as ``~/.lumigator/head``.
        environment: variables for the head and all jobs: credentials of the store, HF_HOME. They are never on a
            command line nor in Ray's API. The caller's own environment is inherited too, except what steers Ray or
            Python (RAY_*, PYTHONPATH, …); what is given here wins.
    """

    def __init__(self, state_folder: Path, environment: Mapping[str, str]) -> None:
        interpreter = f"{sys.prefix}\n{metadata.version('ray')}"
        self._key = hashlib.sha256(interpreter.encode()).hexdigest()[:8]
        self._folder = state_folder
        self._environment = dict(environment)

    @property
    def log_file(self) -> Path:
        """What the head printed while it was started."""
        return self._folder / f"{self._key}.log"

    def logs(self, lines: int = 50) -> str:
        """Return the last lines of :attr:`log_file`; empty where no head was ever started."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def api(self) -> RayApi | None:
        """Return access to our head, or None where none runs; nothing is started.

        Raises:
            ClusterUnavailableError: it runs but does not answer in time.
        """
        state = self._read()
        api = _api(state) if state else None
        return api if api and api.answers() else None

    @property
    def secret(self) -> str | None:
        """What only this user and the head's jobs know; None where no head was started."""
        state = self._read()
        return state.token if state else None

    @property
    def mark(self) -> str | None:
        """What all its processes carry, see :mod:`lumigator_nb.cluster.processes`; None where no head was started."""
        state = self._read()
        return state.id if state else None

    def find(self) -> str | None:
        """Return the address of our head, or None where none runs; nothing is started.

        Raises:
            ClusterUnavailableError: it runs but does not answer in time.
        """
        api = self.api()
        return api.address if api else None

    def ensure(self, report: Report | None = None) -> str:
        """Return the address of our head, which is started where none runs; processes may race for it.

        A head that was started with other variables is restarted, unless jobs are running on it.

        Args:
            report: called with a line about what takes time.

        Raises:
            ClusterUnavailableError: it could not be started, or does not answer in time.
        """
        say = report or (lambda _: None)
        with self._locked():
            state = self._read()
            if state and self._is_usable(state, say):
                return state.address
            if state:
                self._remove(state)
            say("Starting a local Ray head; this takes 5 to 10 seconds.")
            return self._start().address

    def stop(self) -> bool:
        """End our head with all its jobs and nothing else; return False where there was none."""
        with self._locked():
            state = self._read()
            if state is None:
                return False
            self._remove(state)
            return True

    def _is_usable(self, state: _State, say: Report) -> bool:
        api = _api(state)
        if not api.answers():
            return False
        if state.environment == self._digest(state.id):
            return True
        if any(job["status"] in ("PENDING", "RUNNING") for job in api.jobs()):
            say("The local Ray head keeps its earlier credentials and settings until its jobs have ended.")
            return True
        say("Settings changed: the local Ray head is restarted.")
        return False

    def _start(self) -> _State:
        mark = uuid.uuid4().hex
        state = _State(
            id=mark,
            address=f"http://127.0.0.1:{free_port()}",
            token=secrets.token_hex(32),
            # Unix sockets below it may have 107 characters in all, which a folder in the user's home would exceed.
            folder=tempfile.mkdtemp(prefix="lumigator-", dir="/tmp" if os.access("/tmp", os.W_OK) else None),  # noqa: S108
            environment=self._digest(mark),
        )
        self._write(state)
        try:
            self._launch(state)
        except BaseException:
            self._remove(state)
            raise
        return state

    def _launch(self, state: _State) -> None:
        """Run ``ray start``, which leaves daemons behind, and wait until they answer."""
        empty = Path(state.folder, "empty")
        empty.mkdir()
        # A copy, as the head may outlive the checkout or environment that it was started from.
        shutil.copytree(QUICK_START, _quick_start(state), ignore=shutil.ignore_patterns("__pycache__"))
        with open(os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
            try:
                environment = node_environment(state.id, state.token, self._environment, _quick_start(state))
                code = start_daemons(_start_command(state), empty, environment, log)
            except subprocess.TimeoutExpired:
                raise self._start_error(f"was not ready after {START_SECONDS:.0f} s") from None
        if code:
            raise self._start_error(f"ended with code {code}")
        if not _answers_within(_api(state), ANSWER_SECONDS):
            raise self._start_error(f"ended well, but the head did not answer within {ANSWER_SECONDS:.0f} s")

    def _start_error(self, what: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"the local Ray head could not be started: `ray start` {what}. Its last lines:\n{self.logs(15)}",
            f"the whole log is {self.log_file}; free memory or disk, or set RAY_ADDRESS to use another cluster",
        )

    def _remove(self, state: _State) -> None:
        processes.end(state.id)
        shutil.rmtree(state.folder, ignore_errors=True)
        self._state_file.unlink(missing_ok=True)

    @property
    def _state_file(self) -> Path:
        return self._folder / f"{self._key}.json"

    def _read(self) -> _State | None:
        try:
            return _State(**json.loads(self._state_file.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write(self, state: _State) -> None:
        new = self._state_file.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(state), file)
        new.replace(self._state_file)

    def _digest(self, salt: str) -> str:
        content = json.dumps([salt, sorted(self._environment.items())])
        return hashlib.sha256(content.encode()).hexdigest()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self._folder / f"{self._key}.lock", timeout=START_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise ClusterUnavailableError(
                f"another process has been starting or stopping the local Ray head for {START_SECONDS:.0f} s",
                f"see {self.log_file}",
            ) from None
        try:
            yield
        finally:
            lock.release()


def _api(state: _State) -> RayApi:
    return RayApi(state.address, state.token)


def _answers_within(api: RayApi, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ClusterUnavailableError):
            if api.answers():
                return True
        time.sleep(0.1)
    return False


def _start_command(state: _State) -> list[str]:
    """All ports are free ones chosen by Ray or here, so that any number of heads fits on a machine.

    Ray opens its temporary folder to all users, so that lies inside one that is ours alone.
    """
    return [
        # -P: the folder of the script is on the path already, and no worker's.
        *(sys.executable, "-P", str(_quick_start(state) / "_start_ray.py"), "start", "--head", "--log-color", "false"),
        *("--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1", "--include-dashboard", "true"),
        *("--port", "0", "--dashboard-port", state.address.rpartition(":")[2], "--dashboard-agent-listen-port", "0"),
        *("--min-worker-port", "0", "--max-worker-port", "0", "--ray-client-server-port", str(free_port())),
        *("--object-store-memory", str(OBJECT_STORE_BYTES), "--temp-dir", f"{state.folder}/ray"),
        # The autoscaler has nothing to scale, and jobs write their logs without Ray's log monitor.
        *("--no-monitor", "--include-log-monitor", "false"),
    ]


def node_environment(
    mark: str, token: str, extra: Mapping[str, str], quick_start: Path = QUICK_START
) -> dict[str, str]:
    """Return the variables of a Ray node's processes on this machine.

    Args:
        mark: by which they are found again.
        token: that they ask for.
        extra: wins over what is inherited.
        quick_start: stands first on their path of modules.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.startswith(("RAY_", "JPY_"))
    }
    return {
        **inherited,
        "PATH": f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(quick_start),
        "PYTHONUTF8": "1",
        # Ray renames its processes, which would overwrite the environment where the mark is read.
        "SPT_NOENV": "1",
        # On Linux Ray replaces 127.0.0.1 by an address that other machines reach, unless clusters are switched off.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DASHBOARD_METRIC_PORT": "0",
        # Workers started in advance are none that a job could use, as every job has an environment of its own.
        "RAY_prestart_worker_first_driver": "0",
        # Jobs wait their turn for a CPU; Ray's default gives up after 15 minutes.
        "RAY_JOB_START_TIMEOUT_SECONDS": str(30 * 24 * 3600),
        # What Ray remembers of what has ended is for its own dashboard, and grows for days: every call of an actor, the
        # metrics of every process, and a hundred thousand actors.
        "RAY_task_events_report_interval_ms": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_maximum_gcs_destroyed_actor_cached_count": "500",
        "RAY_ROTATION_MAX_BYTES": str(10 * 1024**2),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        **extra,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        processes.MARK: mark,
    }


def start_daemons(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: IO[bytes]) -> int:
    """Run ``ray start``, whose daemons shall outlive this process and its terminal; return its exit status.

    Args:
        folder: empty, as Ray puts the working directory on its workers' path.
        environment: of the daemons, and nothing besides.
        log: takes what is printed.

    Raises:
        subprocess.TimeoutExpired: it was not ready in time.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        timeout=START_SECONDS,
        check=False,
    ).returncode


def _quick_start(state: _State) -> Path:
    return Path(state.folder, "quick_start")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

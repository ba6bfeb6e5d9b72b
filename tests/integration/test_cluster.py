import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from waiting import PATIENCE_S

import lumigator_nb
from lumigator_nb.cluster import Cluster, LocalHead
from lumigator_nb.cluster.api import RayApi
from lumigator_nb.cluster.processes import marked
from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError
from lumigator_nb.specs import Resources, Status

pytestmark = pytest.mark.integration

SECRET = "tell-nobody-4711"
PROBE = """
import json, os, sys, time
import lumigator_nb
print(json.dumps({
    "arguments": sys.argv[1:], "package": lumigator_nb.__file__, "python": sys.executable, "cwd": os.listdir(),
    "secret": os.environ.get("TEST_SECRET"), "pid": os.getpid(),
}), flush=True)
if sys.argv[1:] == ["sleep"]:
    time.sleep(600)
"""
ENSURE = """
import sys, time
from pathlib import Path
from lumigator_nb.cluster import LocalHead
print(LocalHead(Path(sys.argv[1]), {}).ensure(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped") / "lumigator_nb"
    shutil.copytree(Path(lumigator_nb.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "probe.py").write_text(PROBE)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    head = LocalHead(tmp_path_factory.mktemp("head"), {"TEST_SECRET": SECRET})
    head.ensure()
    yield head
    head.stop()


@pytest.fixture
def cluster(head, package):
    return Cluster(head, package=package)


def submit(cluster, name, *arguments):
    cluster.submit(name, arguments, module="lumigator_nb.probe")


def wait(cluster, name, *statuses):
    deadline = time.monotonic() + PATIENCE_S
    while (state := cluster.statuses([name])[name]) is None or state.status not in statuses:
        assert time.monotonic() < deadline, f"{name} is still {state}"
        time.sleep(0.1)
    return state


def said(cluster, name):
    """What the probe printed, as soon as it did."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # Ray writes lines of its own around the job's.
        lines = [line for line in cluster.logs(name).splitlines() if line.startswith("{")]
        if lines:
            return json.loads(lines[-1])
        assert time.monotonic() < deadline, cluster.statuses([name])
        time.sleep(0.1)


def state_of(head):
    [file] = head._folder.glob("*.json")
    return file, json.loads(file.read_text())


def test_a_job_runs_the_shipped_package_with_its_arguments_unharmed(cluster, tmp_path):
    trap = tmp_path / "trap"
    arguments = [
        *(f"$(touch {trap})", f"; touch {trap} ;", f"`touch {trap}`"),
        *("it's", '"', "two\nlines", "🦙 ç", "", "-x", "\\", "*"),
    ]
    submit(cluster, "unharmed", *arguments)
    state = wait(cluster, "unharmed", Status.SUCCEEDED, Status.FAILED)
    assert state.status is Status.SUCCEEDED, cluster.logs("unharmed")
    assert state.exit_code == 0
    assert state.submitted_at < state.ended_at
    told = said(cluster, "unharmed")
    assert told["arguments"] == arguments
    assert not trap.exists()
    assert "/runtime_resources/" in told["package"]
    assert Path(told["python"]).samefile(sys.executable)
    assert told["cwd"] == []


def test_a_job_gets_the_environment_and_nobody_else_sees_it(cluster, head):
    submit(cluster, "secretive", "sleep")
    assert said(cluster, "secretive")["secret"] == SECRET
    assert SECRET not in head.api().call("GET", "/api/jobs/").text
    for process in psutil.process_iter():
        try:
            assert SECRET not in " ".join(process.cmdline())
        except psutil.Error:
            continue
    cluster.stop("secretive")


def test_submitting_an_id_twice_runs_it_once(cluster):
    submit(cluster, "once", "first")
    submit(cluster, "once", "second")
    wait(cluster, "once", Status.SUCCEEDED)
    assert said(cluster, "once")["arguments"] == ["first"]
    assert cluster.logs("once").count('"arguments"') == 1


def test_stop_ends_the_process_and_says_stopped(cluster):
    submit(cluster, "stopped", "sleep")
    pid = said(cluster, "stopped")["pid"]
    cluster.stop("stopped")
    assert cluster.statuses(["stopped"])["stopped"].status is Status.STOPPED
    assert not psutil.pid_exists(pid)


def test_a_killed_process_is_a_failed_job_within_seconds(cluster):
    submit(cluster, "killed", "sleep")
    os.kill(said(cluster, "killed")["pid"], signal.SIGKILL)
    state = wait(cluster, "killed", Status.FAILED)
    assert state.exit_code == -signal.SIGKILL
    assert '"arguments": ["sleep"]' in state.message


def test_what_ray_does_not_know_is_none(cluster):
    submit(cluster, "known", "x")
    assert cluster.statuses(["nobody"]) == {"nobody": None}
    states = cluster.statuses(["a", "b", "known", "c", "d"])
    assert [name for name, state in states.items() if state] == ["known"]
    assert cluster.logs("nobody") == ""
    cluster.stop("nobody")


def test_info_describes_the_machine(cluster, head):
    info = cluster.info()
    assert info.address == head.find()
    assert info.is_local
    assert info.cpus >= 1
    assert info.memory > 10**8
    assert info.python_version == ".".join(map(str, sys.version_info[:3]))


def test_ray_address_in_the_environment_leads_nowhere_else(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    submit(cluster, "undeterred", "x")
    wait(cluster, "undeterred", Status.SUCCEEDED)


def test_a_head_by_address_serves_those_who_have_its_token(head, package, monkeypatch):
    remote = Cluster(head.find(), package=package)
    with pytest.raises(ConfigurationError, match="token"):
        remote.statuses(["x"])
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", state_of(head)[1]["token"])
    submit(remote, "by-address", "x")
    wait(remote, "by-address", Status.SUCCEEDED)
    assert not remote.info().is_local


def test_more_gpus_than_the_machine_has_are_refused(head, package):
    with pytest.raises(ConfigurationError, match="GPUs"):
        Cluster(head, package=package).submit("greedy", [], resources=Resources(num_gpus=1000))


def connections(process):
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:  # it ended since it was found
        return []


def test_the_head_listens_on_loopback_only_and_hides_its_token(head):
    file, state = state_of(head)
    hosts = [
        connection.laddr.ip.removeprefix("::ffff:")
        for process in marked(state["id"])
        for connection in connections(process)
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(hosts) > 5
    assert set(hosts) <= {"127.0.0.1", "::1"}
    assert file.stat().st_mode & 0o077 == 0
    assert head.log_file.stat().st_mode & 0o077 == 0
    assert Path(state["folder"]).stat().st_mode & 0o077 == 0
    assert not RayApi(state["address"], "0" * 64).answers()


def test_racing_processes_share_one_head_that_outlives_them(tmp_path):
    command = [sys.executable, "-c", ENSURE, str(tmp_path)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    head = LocalHead(tmp_path, {})
    try:
        addresses = {starter.stdout.readline().strip() for starter in starters}
        for starter in starters:
            starter.kill()
            starter.communicate()
        assert addresses == {head.find()}
        said = []
        assert head.ensure(said.append) in addresses
        assert said == []
        assert len([p for p in marked(state_of(head)[1]["id"]) if p.name() == "gcs_server"]) == 1
    finally:
        for starter in starters:
            starter.kill()
        head.stop()


@pytest.fixture
def few_files():
    """This process may open few files, as in many shells; the most it may allow itself."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, now), most))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


def test_a_dead_head_leaves_nothing_behind_and_is_replaced(tmp_path, package, head, few_files):
    mine = LocalHead(tmp_path, {})
    cluster = Cluster(mine, package=package)
    try:
        submit(cluster, "orphan", "sleep")
        driver = said(cluster, "orphan")["pid"]
        _, old = state_of(mine)
        (gcs,) = [each for each in marked(old["id"]) if each.name() == "gcs_server"]
        assert gcs.rlimit(psutil.RLIMIT_NOFILE)[0] == min(65_536, few_files)
        for process in marked(old["id"]):
            with suppress(psutil.NoSuchProcess):  # the driver's watcher starts and ends a sleep every second
                if process.pid != driver and "kill -s 0" not in " ".join(process.cmdline()):
                    process.kill()

        assert cluster.statuses(["orphan"]) == {"orphan": None}
        assert cluster.info() is None

        said_lines = []
        assert mine.ensure(said_lines.append) != old["address"]
        assert len(said_lines) == 1
        assert not psutil.pid_exists(driver)
        assert marked(old["id"]) == []
        assert not Path(old["folder"]).exists()

        _, new = state_of(mine)
        assert mine.stop()
        assert marked(new["id"]) == []
        assert not Path(new["folder"]).exists()
        assert mine.find() is None
        assert not mine.stop()
        assert head.find(), "the other head was touched"
    finally:
        mine.stop()


@pytest.mark.slow
def test_changed_settings_restart_the_head_unless_jobs_are_running(tmp_path, package):
    before, after = LocalHead(tmp_path, {"TEST_SECRET": "old"}), LocalHead(tmp_path, {"TEST_SECRET": "new"})
    cluster = Cluster(before, package=package)
    try:
        submit(cluster, "busy", "sleep")
        said(cluster, "busy")
        lines = []
        assert after.ensure(lines.append) == before.find()
        assert "keeps its earlier" in lines[0]
        cluster.stop("busy")

        renewed = Cluster(after, package=package)
        submit(renewed, "fresh", "x")
        assert said(renewed, "fresh")["secret"] == "new"
    finally:
        before.stop()


def test_a_head_that_does_not_start_says_why_and_leaves_nothing(tmp_path):
    head = LocalHead(tmp_path, {"PYTHONHOME": "/nonexistent"})
    with pytest.raises(ClusterUnavailableError, match="encodings") as caught:
        head.ensure()
    assert str(head.log_file) in caught.value.hint
    assert list(tmp_path.glob("*.json")) == []

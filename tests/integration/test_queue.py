"""The queue on a real head: the launching process is killed, and all goes on, in turn."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from waiting import PATIENCE_S

from lumigator_nb.cluster import JobState
from lumigator_nb.specs import Status

pytestmark = pytest.mark.integration

LAUNCH = """
import sys, time
import lumigator_nb as lm
with lm.connect(lumigator_home=sys.argv[1], lumigator_max_running=2) as ws:
    models = [lm.Model("baseline/lead-1", label=f"m{n}", seed=n) for n in range(4)]
    for experiment in ("first", "second"):
        ws.workflows.launch(experiment, models)
    ws.workflows.launch("second", lm.Model("baseline/lead-2", label="urgent"), priority=5)
    print("launched", flush=True)
    time.sleep(600)
"""


def test_a_killed_launcher_leaves_a_queue_that_goes_on_in_turn(ws, home) -> None:
    dataset = ws.datasets.upload(pd.DataFrame({"example": ["It rains. It pours."] * 3}), name="queued")
    for name in ("first", "second"):
        ws.experiments.create(name, dataset=dataset, metrics="length")
    with subprocess.Popen([sys.executable, "-c", LAUNCH, str(home)], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "launched\n"
        launcher.send_signal(signal.SIGKILL)
    workflows = [each for name in ("first", "second") for each in ws.workflows.of(name)]
    # Nobody refreshes, which would start another dispatcher, should this one have ended.
    deadline, most, ended = time.monotonic() + PATIENCE_S, 0, 0
    while ended < len(workflows):
        states = known(ws, workflows)
        ended = sum(job.status.ended for job in states)
        most = max(most, len(states) - ended)
        assert time.monotonic() < deadline, states
        time.sleep(0.2)
    assert [each.status for each in ws.workflows.refresh(workflows)] == [Status.SUCCEEDED] * 9
    assert most <= 2
    names = {each.id: each.label for each in workflows}
    (dispatcher,) = [name for name in ws.cluster.jobs() if name.startswith("lumigator-dispatcher-")]
    order = re.findall(r"handed over (\S+)", ws.cluster.logs(dispatcher))
    assert len(order) == 7, "two began at once"
    assert "urgent" in [names[each] for each in order[:4]], "it was launched last"
    assert ws.store.list("queue") in ([], [f"queue/{dispatcher}.ending"])


def known(ws, workflows) -> list[JobState]:
    """What Ray knows of those that it was given already."""
    return [state for state in ws.cluster.statuses([each.id for each in workflows]).values() if state]

"""Kills at random moments, on both databases and both stores: what was promised is there, the rest is tidied.

Twelve kills for a change, fifty for a release.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import killing
import pandas as pd
import pytest
from s3_server import KEY, SECRET, plain_client, s3_server
from waiting import PATIENCE_S

from lumigator_nb.database.engine import Database
from lumigator_nb.specs import Status

pytestmark = pytest.mark.integration
PLACES = [("sqlite", "local"), ("postgres", "local"), ("sqlite", "s3"), ("postgres", "s3")]
CASES = [
    *(pytest.param(*place, 6, id="-".join(place)) for place in PLACES[:2]),
    *(pytest.param(*place, 13, id="-".join(("often", *place)), marks=pytest.mark.slow) for place in PLACES),
]


@pytest.fixture
def url(request, kind, tmp_path):
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'x.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def uri(place, tmp_path, free_port, monkeypatch):
    if place == "local":
        yield (tmp_path / "store").as_uri()
        return
    with s3_server(free_port) as address:
        plain_client(address).mkdir("killed")
        for name, value in {
            "S3_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield "s3://killed"


@pytest.mark.parametrize(("kind", "place", "kills"), CASES)
def test_nothing_promised_is_lost_and_nothing_half_done_stays(kind, place, kills, url, uri, tmp_path) -> None:
    database = Database(url)
    database.upgrade()
    database.close()
    journal = killing.Journal(tmp_path / "journal")
    command = [sys.executable, killing.__file__, url, uri, str(journal.path), str(kills)]
    search = os.pathsep.join([str(Path(killing.__file__).parents[2]), *sys.path])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    lines = journal.lines()
    assert [line for line in lines if line["kind"] == "broke"] == []
    kinds = {line["kind"] for line in lines}
    assert {"uploaded", "succeeded", "exported", "deleting"} <= kinds
    try:
        check(url, uri, lines)
    finally:
        empty(url, uri)


def check(url: str, uri: str, lines: list[dict]) -> None:
    with killing.workspace(url, uri) as ws:
        ws.workflows.refresh()
        ws.gc(older_than=timedelta(0))
        assert ws.inspect().unrepaired == []
        deleting = {line["name"] for line in lines if line["kind"] == "deleting"}
        for line in lines:
            if line["kind"] == "uploaded" and line["name"] not in deleting:
                dataset = ws.datasets.get(line["name"])
                assert dataset.data_hash == line["data_hash"] != ""
                read = ws.datasets.to_pandas(dataset).astype(object)
                pd.testing.assert_frame_equal(read, killing.frame(line["name"]).astype(object))
            if line["kind"] == "succeeded" and line["experiment"] not in deleting:
                check_workflow(ws, line)


def check_workflow(ws, line: dict) -> None:
    workflow = ws.workflows.get(line["id"])
    assert workflow.status is Status.SUCCEEDED
    assert {str(job.step): job.scores for job in ws.workflows.jobs(workflow)} == line["scores"]
    assert ws.workflows.predictions(workflow)["prediction"].notna().sum() == len(killing.frame(""))


def empty(url: str, uri: str) -> None:
    """The server is shared by the other cases."""
    with killing.workspace(url, uri) as ws:
        ws.store.delete("datasets")
        ws.store.delete("workflows")
        ws.store.delete("predictions")
    database = Database(url)
    database.downgrade("base")
    database.close()

"""The store on a real S3 server over HTTP."""

from __future__ import annotations

import pandas as pd
import pytest
from inferring import Bench, examples, kill_after, server_model
from s3_server import KEY, SECRET, left, plain_client, s3_server
from waiting import PATIENCE_S, until

import lumigator_nb as lm
from lumigator_nb.errors import StoreUnavailableError
from lumigator_nb.specs import Status, StoreSpec
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration


@pytest.fixture
def s3_settings(free_port):
    with s3_server(free_port) as address:
        yield {
            "s3_bucket": "lumigator",
            "s3_endpoint_url": address,
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "aws_default_region": "us-east-1",
        }


def _make_bucket(settings: dict[str, str]) -> None:
    plain_client(settings["s3_endpoint_url"]).mkdir("lumigator")


@pytest.mark.slow
def test_the_main_job_with_an_s3_store(s3_settings, tmp_path_factory) -> None:
    _make_bucket(s3_settings)
    home = tmp_path_factory.mktemp("s3")
    with lm.connect(lumigator_home=home, **s3_settings) as ws:
        frame = pd.DataFrame({"example": ["One. Two.", "Three. Four."], "ground_truth": ["One.", "Three."]})
        experiment = ws.experiments.create("s3", dataset=ws.datasets.upload(frame, name="s3"), metrics=["rouge"])
        try:
            ws.workflows.launch(experiment, ["baseline/lead-1", "baseline/copy"])
            ws.wait(experiment, timeout=PATIENCE_S, check=True)
            comparison = ws.compare(experiment)
            assert comparison.best("rougeL") == "baseline/lead-1"
            assert SECRET not in "".join(ws.workflows.logs(workflow) for workflow in comparison.workflows)
            ws.experiments.delete(experiment)
            ws.datasets.delete("s3")
            assert ws.store.list("") == []
        finally:
            ws.cluster.shutdown()


def test_a_write_that_fails_publishes_nothing(s3_settings, tmp_path) -> None:
    _make_bucket(s3_settings)
    with lm.connect(lumigator_home=tmp_path, **s3_settings) as ws:
        with pytest.raises(RuntimeError), ws.store.writing("x") as file:
            file.write(b"half")
            raise RuntimeError
        assert ws.store.list("") == []
    assert left(s3_settings["s3_endpoint_url"], "lumigator") == []


def test_a_server_that_does_not_answer_is_explained(s3_settings, tmp_path) -> None:
    settings = s3_settings | {"s3_endpoint_url": "http://127.0.0.1:1"}
    with lm.connect(lumigator_home=tmp_path, **settings) as ws:
        with pytest.raises(StoreUnavailableError, match="cannot reach s3://lumigator/.*Could not connect") as caught:
            ws.store.read("x")
        assert "S3_ENDPOINT_URL" in caught.value.hint


def test_a_missing_bucket_is_explained(s3_settings, tmp_path) -> None:
    with lm.connect(lumigator_home=tmp_path, **s3_settings) as ws:
        frame = pd.DataFrame({"example": ["x"]})
        asking = (lambda: ws.datasets.upload(frame), lambda: ws.store.find("x"), lambda: ws.store.list(""))
        for ask in (*asking, lambda: ws.store.exists("x"), lambda: ws.store.delete("x"), ws.store.check):
            with pytest.raises(StoreUnavailableError, match="there is no bucket 'lumigator'") as caught:
                ask()
            assert "S3_BUCKET" in caught.value.hint
        assert len(ws.datasets.list()) == 0


def test_a_killed_worker_loses_few_answers_with_an_s3_store(s3_settings, tmp_path, monkeypatch) -> None:
    _make_bucket(s3_settings)
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_default_region"):
        monkeypatch.setenv(name.upper(), s3_settings[name])
    store = StoreSpec(uri="s3://lumigator", endpoint_url=s3_settings["s3_endpoint_url"])
    bench, rows, at_once = Bench(tmp_path, store), 300, 8
    with ModelServer(latency=0.1) as server:
        spec = bench.workflow(server_model(server, concurrency=at_once), examples(rows))
        worker = bench.worker(spec)
        until(lambda: server.stats().answered >= 150, "half of the answers")
        kill_after(worker, 0)
        result = bench.infer(bench.again(spec))
        assert result.status is Status.SUCCEEDED, result.error
        assert bench.predictions(spec)["prediction"].notna().sum() == rows
        # What is under way, and what waits to be published: 64 answers or two seconds' worth.
        assert server.stats().calls <= rows + at_once + 64

"""What a team has: PostgreSQL, an S3 bucket, a Ray head and stored keys; and the whole main job over them."""

from __future__ import annotations

import pandas as pd
import pytest
from s3_server import KEY, SECRET, left, plain_client, s3_server
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb.database.engine import Database
from lumigator_nb.specs import Status
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration

API_KEY = "sk-of-the-whole-team-0123456789"
ROWS = 24
FRAME = pd.DataFrame(
    {
        "body": [f"Case {n} came in. It was about a broken cup. Support sent a new one." for n in range(ROWS)],
        "summary": [f"Case {n} was about a cup." for n in range(ROWS)],
        "product": ["cup", "pot"] * (ROWS // 2),
    }
)


@pytest.fixture
def settings(postgres_url, free_port, tmp_path):
    """Only what `.env` would hold; the schema is made as its page says."""
    database = Database(postgres_url)
    database.upgrade()
    with s3_server(free_port) as address:
        plain_client(address).mkdir("team")
        yield {
            "sqlalchemy_database_url": postgres_url,
            "s3_bucket": "team",
            "s3_endpoint_url": address,
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "aws_default_region": "us-east-1",
            "lumigator_secret_key": "a text that the whole team shares",
        }
    database.downgrade("base")
    database.close()


def test_the_main_job_on_postgresql_s3_and_ray(settings, tmp_path_factory, tmp_path) -> None:
    home = tmp_path_factory.mktemp("team")
    with ModelServer(latency=0.01, api_key=API_KEY) as server, lm.connect(lumigator_home=home, **settings) as ws:
        try:
            ws.secrets.set("team_api_key", API_KEY)
            asked = lm.Model("lead-1", provider="openai", base_url=server.base_url, api_key_name="TEAM_API_KEY")
            dataset = ws.datasets.upload(FRAME, name="cases", example="body", ground_truth="summary")
            experiment = ws.experiments.create("cases", dataset=dataset, metrics=["rouge", "bleu", "length"])
            ws.workflows.launch(experiment, ["baseline/copy", "baseline/lead-2", asked])
            assert {each.status for each in ws.wait(experiment, timeout=PATIENCE_S, check=True)} == {Status.SUCCEEDED}
            comparison = ws.compare(experiment)
            assert comparison.best("rougeL") == "baseline/lead-2"
            assert list(ws.inspect()) == []
            colleague_sees_the_same(settings, tmp_path_factory.mktemp("colleague"), comparison)
            handed_over(ws, comparison, tmp_path)
            kept = "".join(ws.workflows.logs(each) for each in comparison.workflows) + nothing_secret(ws)
            assert API_KEY not in kept
            assert SECRET not in kept
            ws.experiments.delete(experiment)
            ws.datasets.delete(dataset)
            assert [name for name in left(settings["s3_endpoint_url"], "team") if "/predictions/" not in name] == []
        finally:
            ws.cluster.shutdown()


def colleague_sees_the_same(settings: dict[str, str], home, comparison) -> None:
    """Somebody else's machine, the same `.env`."""
    with lm.connect(lumigator_home=home, **settings) as ws:
        pd.testing.assert_frame_equal(ws.compare("cases").summary(), comparison.summary())
        assert ws.secrets.names() == ["TEAM_API_KEY"]
        assert ws.secrets.value("team_api_key") == API_KEY


def handed_over(ws, comparison, folder) -> None:
    """To somebody who has SQLite and a folder."""
    file = ws.export("cases", folder / "cases.lumi.zip")
    with lm.connect(lumigator_home=folder / "home") as alone:
        experiment = alone.load(file)
        pd.testing.assert_frame_equal(alone.compare(experiment).summary(), comparison.summary())


def nothing_secret(ws) -> str:
    """All that is stored in the bucket, as text."""
    return "".join(ws.store.read(name).decode("latin-1") for name in ws.store.list(""))

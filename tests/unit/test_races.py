"""Races whose experiment is deleted while models are asked."""

from __future__ import annotations

import time

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import NotFoundError
from lumigator_nb.rest.races import Races
from lumigator_nb.services.adaptive import pilot_run
from lumigator_testing import ModelServer

ROWS = 60


@pytest.fixture
def ws(inline_ws, monkeypatch):
    monkeypatch.setattr(pilot_run, "LOOK_EVERY_S", 0.0)
    return inline_ws


@pytest.fixture
def experiment(ws):
    texts = [f"Case {row} is open. It came late. It was read." for row in range(ROWS)]
    frame = pd.DataFrame({"example": texts, "ground_truth": [text.partition(".")[0] for text in texts]})
    dataset = ws.datasets.upload(frame, name="cases", progress=False)
    return ws.experiments.create("race", dataset=dataset, metrics=["rouge"])


@pytest.mark.parametrize("verb", ["select", "plan"])
def test_no_question_is_asked_once_the_experiment_is_deleted(verb, ws, experiment) -> None:
    asked: list[str] = []

    def slow(text: str) -> str:
        asked.append(text)
        if len(asked) == 3:
            ws.experiments.delete(experiment)
        return text

    models = [lm.Model.from_function(slow, label="slow"), "baseline/copy"]
    with pytest.raises(NotFoundError, match="there is no experiment 'race'") as error:
        getattr(ws, verb)(experiment, models, progress=False)
    assert "deleted while models were asked" in error.value.hint
    assert len(asked) < 6


def test_a_race_of_the_server_ends_as_failed_and_says_why(ws, experiment) -> None:
    races = Races(ws)
    with ModelServer(latency=0.05) as server:
        models = [
            lm.Model(name, provider="openai", base_url=server.base_url, concurrency=1) for name in ("lead-1", "lead-2")
        ]
        race = races.get(experiment.id, races.begin(experiment.id, models))
        while not server.stats().answered:
            time.sleep(0.01)
        ws.experiments.delete(experiment)
        error = race.exception(timeout=60)
        assert server.stats().calls < ROWS
    assert isinstance(error, NotFoundError)
    races.close()


def test_the_display_says_that_a_race_of_a_deleted_experiment_stopped(ws, experiment, capsys) -> None:
    def deleting(text: str) -> str:
        ws.experiments.delete(experiment)
        return text

    with pytest.raises(NotFoundError):
        ws.select(experiment, [lm.Model.from_function(deleting, label="first"), "baseline/copy"])
    assert "stopped" in capsys.readouterr().err

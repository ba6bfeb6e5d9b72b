"""Plans from a pilot that asks each model repeatedly: whether to spend on examples or on repeats."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import InvalidInputError
from lumigator_testing import ModelServer

TEXTS = [f"word{n} " * 6 for n in range(30)]


@pytest.fixture
def experiment(inline_ws):
    frame = pd.DataFrame({"example": TEXTS, "ground_truth": TEXTS})
    dataset = inline_ws.datasets.upload(frame, name="words", example="example", ground_truth="ground_truth")
    return inline_ws.experiments.create("e", dataset=dataset, metrics=["rouge"])


def chance(share: float) -> lm.Model:
    """A model whose answers vary from repeat to repeat only: no example is harder than another."""
    random = np.random.default_rng(int(100 * share))

    def answer(text: str) -> str:
        return " ".join(word if random.random() < share else "no" for word in text.split())

    return lm.Model.from_function(answer, name=f"chance {share}")


def test_a_pilot_with_repeats_weighs_them_against_examples(inline_ws, experiment) -> None:
    chosen, settings = [chance(0.8), chance(0.5)], {"metric": "rougeL", "detect": 0.05, "pilot": 20, "progress": False}
    study = inline_ws.plan(experiment, chosen, repeats=3, example_cost=50, **settings)
    plan = study.plan.repeats
    assert plan.within > 2 * plan.between
    assert plan.cheapest.repeats > 3
    assert plan.spend_on == "repeats"
    assert "Spend on repeats" in str(study)
    quotes = study.quotes()
    assert quotes["model"].tolist() == [model.label for model in chosen]
    assert quotes["answered"].tolist() == [60, 60]
    assert inline_ws.plan(experiment, chosen, **settings).plan.repeats is None


def test_the_examples_needed_take_as_many_answers_as_the_pilots(inline_ws, experiment, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with ModelServer() as server:
        chosen = [lm.Model(name, provider="openai", base_url=server.base_url) for name in ("lead-1", "lead-2")]
        quotes = [
            inline_ws.plan(experiment, chosen, metric="rougeL", repeats=repeats, pilot=10, progress=False).quotes()
            for repeats in (1, 3)
        ]
    for repeats, table in zip((1, 3), quotes, strict=True):
        assert table["answered"].tolist() == [10 * repeats] * 2
        assert (table["all_seconds"] / table["seconds"]).tolist() == pytest.approx([len(TEXTS) * repeats] * 2)


def test_a_model_that_is_itself_a_repeat_is_refused(inline_ws, experiment) -> None:
    with pytest.raises(InvalidInputError, match="repeat of another"):
        inline_ws.plan(experiment, [lm.Model("baseline/lead-1", repeat=2), "baseline/copy"], repeats=3, progress=False)

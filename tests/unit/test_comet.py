from __future__ import annotations

import sys
import types

import pytest

import lumigator_nb as lm
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import comet
from lumigator_nb.specs import MetricSpec

SOURCES = ["Guten Tag.", "Es regnet.", "Guten Tag."]
TRANSLATIONS = ["Good day.", "It snows.", "Good day."]


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """Stand in for the package, whose models cannot be had here; what we hand it is what is tested."""
    rows: list[dict] = []

    def call(what, module, requirements, function, payload):
        assert (module, function) == ("comet", comet.predict)
        rows.extend(payload["rows"])
        return [len(row["mt"]) / 100 + ("day" in row.get("ref", "")) / 2 for row in payload["rows"]]

    monkeypatch.setattr(comet.own_environment, "call", call)
    return rows


def test_equal_rows_are_scored_once_and_the_best_reference_counts(asked) -> None:
    truth = [["Hello.", "Good day."], "It rains.", ["Hello.", "Good day."]]
    frame = lm.score(TRANSLATIONS, truth, examples=SOURCES, metrics=["comet"])
    assert frame["comet"].tolist() == [0.59, 0.09, 0.59]
    assert len(asked) == 3
    assert asked[0] == {"src": "Guten Tag.", "mt": "Good day.", "ref": "Hello."}


def test_without_a_reference_only_the_source_is_handed_over(asked) -> None:
    frame = lm.score([*TRANSLATIONS[:2], None], examples=SOURCES, metrics=["comet_kiwi"])
    assert frame["comet_kiwi"].isna().tolist() == [False, False, True]
    assert [set(row) for row in asked] == [{"src", "mt"}] * 2


def test_the_packages_own_functions_are_called_as_documented(monkeypatch, tmp_path) -> None:
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"")
    seen = {}

    class Model:
        def predict(self, rows, **options):
            seen.update(options)
            return types.SimpleNamespace(scores=[0.5 for _ in rows])

    package = types.ModuleType("comet")
    package.download_model = lambda name: pytest.fail("a checkpoint is not downloaded")
    package.load_from_checkpoint = lambda path: Model() if path == str(checkpoint) else None
    monkeypatch.setitem(sys.modules, "comet", package)
    assert comet.predict({"model": str(checkpoint), "batch_size": 4, "rows": [{}, {}]}) == [0.5, 0.5]
    assert seen["batch_size"] == 4


@pytest.mark.parametrize("options", [{"model": ""}, {"batch_size": 0}, {"batch_size": True}])
def test_wrong_options_are_refused(options) -> None:
    with pytest.raises(InvalidInputError, match="of metric 'comet'"):
        lm.metrics.create(MetricSpec(name="comet", options=options))

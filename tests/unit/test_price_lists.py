"""Prices and models that a workspace takes over from files and from the network, in the format of genai-prices."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

import lumigator_nb as lm
from lumigator_nb.errors import DamagedError, InvalidInputError, UnavailableError
from lumigator_nb.models import catalogue, price_list, price_of
from lumigator_nb.services.models import Models
from lumigator_nb.specs import Model, StoreSpec, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import doctor
from lumigator_testing import ModelServer

MINI = Model("openai/gpt-4o-mini")
LIST = [
    {
        "id": "openai",
        "name": "OpenAI",
        "pricing_urls": ["https://openai.com/api/pricing/"],
        "api_pattern": "https://api\\.openai\\.com",
        "provider_match": {"contains": "openai"},
        "extractors": [
            {
                "api_flavor": "chat",
                "root": "usage",
                "model_path": "model",
                "mappings": [{"path": "prompt_tokens", "dest": "input_tokens", "required": True}],
            }
        ],
        "models": [
            {
                "id": "gpt-4o-mini",
                "match": {"or": [{"equals": "gpt-4o-mini"}, {"starts_with": "gpt-4o-mini-2"}]},
                "context_window": 128_000,
                "prices": {"input_mtok": 7, "cache_read_mtok": 1.5, "output_mtok": 11},
                "price_variants": [
                    {"when": {"processing": "batch"}, "prices": {"input_mtok": 2, "output_mtok": 3}}
                ],
            },
            {
                "id": "gpt-8",
                "match": {"equals": "gpt-8"},
                "prices": [
                    {"prices": {"input_mtok": {"base": 5, "tiers": [{"start": 1000, "price": 10}]}, "output_mtok": 1}},
                    {"constraint": {"start_date": "2999-01-01"}, "prices": {"input_mtok": 90, "output_mtok": 90}},
                ],
            },
        ],
    }
]  # fmt: skip
CATALOGUE = """
- name: openai/gpt-4o-mini
  display_name: The small one
  tasks: [summarization]
  api_key: OPENAI_API_KEY
- name: openai/gpt-8
  display_name: The new one
  tasks: [summarization, translation]
  api_key: OPENAI_API_KEY
"""


@contextmanager
def serving(answers: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A web server; yields its host with port, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = answers.get(self.path.partition("?")[0], (404, b"not here"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(StoreSpec(uri=(tmp_path / "store").as_uri()))


@pytest.fixture
def models(tmp_path, store) -> Models:
    return Models(lm.Settings(lumigator_home=tmp_path, lumigator_discovery=False), store)


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(LIST))
    return path


def test_prices_from_a_file_count_from_then_on(models, file) -> None:
    assert price_of(MINI)(1e6, 0) == pytest.approx(0.15)
    assert price_of(Model("openai/gpt-8")) is None
    refreshed = models.refresh(file)
    price = price_of(MINI)
    assert (price(1e6, 0), price(0, 1e6), price(1e6, 0, 1e6)) == pytest.approx((7, 11, 1.5))
    assert price_of(MINI, batch=True)(1e6, 1e6) == pytest.approx(5)
    assert price_of(Model("openai/gpt-8"))(1000, 0) == pytest.approx(0.005)
    assert price_of(Model("openai/gpt-8"))(2000, 0) == pytest.approx(0.02)
    assert refreshed.changed == ("openai/gpt-4o-mini",)
    assert price_of(Model("anthropic/claude-haiku-4-5"))(1e6, 0) > 0, "models that the list lacks keep their price"
    assert f"Prices of 2 models are now those of prices.json, of {now():%Y-%m-%d}." in str(refreshed)
    assert "Another price than before: openai/gpt-4o-mini" in refreshed._repr_html_()


def test_lists_say_where_prices_are_from_and_of_when(models, file) -> None:
    assert f"Prices: genai-prices {version('genai-prices')}" in str(models.list("translation"))
    models.refresh(file)
    noted = f"Prices: prices.json, of {now():%Y-%m-%d}; for other models genai-prices {version('genai-prices')}"
    assert noted in str(models.list())
    assert noted in models.list()._repr_html_()


def test_colleagues_take_prices_from_the_store(models, store, file) -> None:
    models.refresh(file)
    del models
    colleague = Store(store.spec)
    price_list.look_in(colleague, layout.PRICES)
    assert price_of(MINI)(1e6, 0) == pytest.approx(7)


def test_a_list_of_another_process_is_seen_after_a_minute(models, store, file, monkeypatch) -> None:
    assert price_of(MINI)(1e6, 0) == pytest.approx(0.15)
    origin = price_list.Origin("prices.json", now())
    store.write(layout.PRICES, price_list.packed(file.read_bytes(), origin))
    monkeypatch.setattr(price_list, "LOOK_AGAIN_S", -1)
    assert price_of(MINI)(1e6, 0) == pytest.approx(7)


def test_prices_end_with_their_workspace(tmp_path, file) -> None:
    models = Models(lm.Settings(lumigator_home=tmp_path))
    models.refresh(file)
    del models
    assert price_of(MINI)(1e6, 0) == pytest.approx(0.15)


def test_reset_goes_back_to_what_is_installed(models, store, file, tmp_path) -> None:
    (tmp_path / "team.yaml").write_text(CATALOGUE)
    models.refresh(file, catalogue=tmp_path / "team.yaml")
    assert models.get("openai/gpt-8").display_name == "The new one"
    models.reset()
    assert price_of(MINI)(1e6, 0) == pytest.approx(0.15)
    assert store.list("catalogue") == []
    with pytest.raises(lm.errors.UnknownModelError):
        models.get("openai/gpt-8")


def test_prices_from_the_network_without_credentials_in_what_is_kept(models, store) -> None:
    with serving({"/data.json": (200, json.dumps(LIST).encode())}) as (host, asked):
        refreshed = models.refresh(f"http://me:sesame-9876@{host}/data.json?token=sesame-9876")
    assert asked == ["/data.json?token=sesame-9876"]
    assert price_of(MINI)(1e6, 0) == pytest.approx(7)
    assert f"http://{host}/data.json" in str(refreshed)
    assert "sesame" not in str(refreshed) + str(models.list())
    assert b"sesame" not in store.read(layout.PRICES)


def test_without_an_argument_the_address_of_genai_prices_is_asked(models, monkeypatch) -> None:
    with serving({"/data.json": (200, json.dumps(LIST).encode())}) as (host, asked):
        monkeypatch.setattr("genai_prices.update_prices.DEFAULT_UPDATE_URL", f"http://{host}/data.json")
        models.list()
        assert price_of(MINI) is not None
        assert asked == []
        assert models.refresh().prices.source == f"http://{host}/data.json"
    assert asked == ["/data.json"]


def changed(change) -> bytes:
    document = copy.deepcopy(LIST)
    model = document[0]["models"][0]
    return json.dumps(change(document, model) or document).encode()


BAD = {
    "not JSON": (b"{", "is not JSON"),
    "a page of a proxy": (b"<html>log in</html>", "is not JSON"),
    "no list": (b'{"providers": []}', "is no list of providers"),
    "empty": (b"[]", "has no model"),
    "twice": (changed(lambda document, model: document * 2), "the provider 'openai' more than once"),
    "negative": (
        changed(lambda document, model: model["prices"].update(input_mtok=-1)),
        "provider 1 (openai), model 1 (gpt-4o-mini), prices.input_mtok: a price is a number that is not negative",
    ),
    "a negative tier": (
        changed(lambda document, model: model["prices"].update(input_mtok={"base": 1, "tiers": [
            {"start": 5, "price": -1}]})),
        "prices.input_mtok: a price is a number",
    ),
    "no number": (
        changed(lambda document, model: model["prices"].update(output_mtok="cheap")),
        "model 1 (gpt-4o-mini), output_mtok: Input should be a valid decimal",
    ),
    "NaN": (changed(lambda document, model: model["prices"].update(output_mtok=float("nan"))), "output_mtok"),
    "no rates": (changed(lambda document, model: model.update(prices=5)), "expected rates such as"),
    "misspelt rates": (changed(lambda document, model: model.update(prices={"input": 5})), "none of 'input'"),
    "no match": (changed(lambda document, model: model.pop("match") and None), "match: Field required"),
    "no models": (changed(lambda document, model: document[0].update(models=7)), "provider 1 (openai), models: "),
    "no provider": (changed(lambda document, model: document.append(5)), "provider 2, "),
    "not UTF-8": (b"\xff\xfe[", "is not JSON"),
    "too deep": (b"[" * 200_000, "nested too deep"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_list_is_refused_with_where_and_what_and_nothing_changes(name, models, store, tmp_path) -> None:
    data, words = BAD[name]
    (tmp_path / "bad.json").write_bytes(data)
    good = tmp_path / "good.yaml"
    good.write_text(CATALOGUE)
    with pytest.raises(InvalidInputError) as error:
        models.refresh(tmp_path / "bad.json", catalogue=good)
    assert "the price list bad.json" in error.value.message
    assert words in error.value.message
    assert "nothing has changed" in error.value.hint
    assert store.list("catalogue") == []
    assert price_of(MINI)(1e6, 0) == pytest.approx(0.15)


def test_a_rate_that_the_installed_package_does_not_know_is_told(models, tmp_path) -> None:
    (tmp_path / "newer.json").write_bytes(changed(lambda document, model: model["prices"].update(smell_mtok=1)))
    assert "does not know smell_mtok" in str(models.refresh(tmp_path / "newer.json"))
    assert price_of(MINI)(1e6, 0) == pytest.approx(7)


def test_an_unreachable_network_changes_nothing_and_says_what_to_do(models, store, file) -> None:
    models.refresh(file)
    before = store.read(layout.PRICES)
    with serving({}) as (gone, _):
        pass
    with pytest.raises(UnavailableError, match="cannot be reached: ConnectError") as error:
        models.refresh(f"http://me:sesame-9876@{gone}/data.json")
    assert "if this machine is offline, fetch the file on another" in error.value.hint
    assert "sesame" not in str(error.value)
    with serving({}) as (host, _), pytest.raises(UnavailableError, match="answers HTTP 404"):
        models.refresh(f"http://{host}/data.json")
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        models.refresh("absent.json")
    assert store.read(layout.PRICES) == before
    assert price_of(MINI)(1e6, 0) == pytest.approx(7)


def test_endless_answers_are_not_read_to_the_end(models, store) -> None:
    endless = {"/data.json": (200, b" " * (21 * 2**20))}
    with serving(endless) as (host, _), pytest.raises(InvalidInputError, match="more than 20 MiB"):
        models.refresh(f"http://{host}/data.json")
    assert store.list("catalogue") == []


def test_a_damaged_list_in_the_store_is_no_price_list(models, store, file) -> None:
    models.refresh(file)
    store.write(layout.PRICES, store.read(layout.PRICES)[:-20])
    price_list.look_in(store, layout.PRICES)
    with pytest.raises(DamagedError, match="cannot be read by genai-prices") as error:
        price_of(MINI)
    assert "lumigator-nb models reset" in error.value.hint
    assert "No prices: the price list in the store cannot be read" in str(models.list())
    models.refresh(file)
    assert price_of(MINI)(1e6, 0) == pytest.approx(7)


def test_a_catalogue_for_all_who_use_the_workspace(models, store, tmp_path) -> None:
    (tmp_path / "team.yaml").write_text(CATALOGUE)
    refreshed = models.refresh(catalogue=tmp_path / "team.yaml")
    assert "2 models are now from the catalogue team.yaml" in str(refreshed)
    colleague = Models(lm.Settings(lumigator_home=tmp_path / "elsewhere", lumigator_discovery=False), store)
    assert colleague.get("openai/gpt-8").tasks == ("summarization", "translation")
    assert colleague.get("openai/gpt-4o-mini").display_name == "The small one"
    assert "Catalogue: the bundled one, and team.yaml" in str(colleague.list())
    (tmp_path / "models.yaml").write_text(CATALOGUE.replace("The small one", "Mine"))
    assert models.get("openai/gpt-4o-mini").display_name == "Mine"
    with pytest.raises(InvalidInputError, match=r"bad\.yaml, model 1 \(openai/x\), tasks"):
        (tmp_path / "bad.yaml").write_text("- name: openai/x\n  display_name: X\n")
        models.refresh(catalogue=tmp_path / "bad.yaml")
    assert models.get("openai/gpt-8").display_name == "The new one"


def test_a_catalogue_is_parsed_again_only_when_its_file_has_changed(models, tmp_path) -> None:
    (tmp_path / "models.yaml").write_text(CATALOGUE)
    assert models.get("openai/gpt-8") is models.get("openai/gpt-8")
    assert models.get("baseline/copy") is models.get("baseline/copy")
    (tmp_path / "models.yaml").write_text(CATALOGUE.replace("The new one", "Another name"))
    assert models.get("openai/gpt-8").display_name == "Another name"
    assert catalogue.load()[0] is not catalogue.load()[0]


def test_what_a_workflow_has_cost_stays_as_it_was(inline_ws, tmp_path, file, monkeypatch) -> None:
    ws = inline_ws
    (tmp_path / "texts.csv").write_text("examples,ground_truth\nOne. Two.,One.\nThree. Four.,Three.\n")
    ws.datasets.upload(tmp_path / "texts.csv", name="texts")
    experiment = ws.experiments.create("costs", dataset="texts", task=lm.Summarization(), metrics=["rouge"])
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
        (first,) = ws.workflows.launch(experiment, MINI)
        ws.wait(experiment, progress=False)
        paid = ws.compare(experiment).costs().iloc[0]["dollars"]
        ws.models.refresh(file)
        assert ws.compare(experiment).costs().iloc[0]["dollars"] == paid
        # The worker takes the list from the store, whatever this process knows.
        monkeypatch.setattr(price_list, "_kept", [])
        (second,) = ws.workflows.launch(experiment, Model("openai/gpt-4o-mini", label="again", seed=1), cache="off")
        ws.wait(experiment, progress=False)
    costs = ws.compare(experiment).costs().set_index("model")["dollars"]
    assert costs["openai/gpt-4o-mini"] == paid
    assert costs["again"] > 10 * paid > 0
    jobs = ws.workflows.jobs([first, second])
    used = {job.workflow_id: job.details["prices"] for job in jobs if "prices" in job.details}
    assert used[first.id].startswith("genai-prices ")
    assert used[second.id].startswith("prices.json, of 20")


def test_the_doctor_tells_the_date_and_that_a_list_is_old(models, store, file) -> None:
    assert doctor._prices(store).message.startswith("from genai-prices ")
    models.refresh(file)
    assert doctor._prices(store).message == f"from prices.json, of {now():%Y-%m-%d}"
    old = price_list.Origin("old.json", now() - timedelta(days=100))
    store.write(layout.PRICES, price_list.packed(file.read_bytes(), old))
    finding = doctor._prices(store)
    assert (finding.state, finding.hint) == ("note", "lumigator-nb models refresh")

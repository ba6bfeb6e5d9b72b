"""What Lumigator's clients send and its routes take: fields without a meaning here, other names, other numbers."""

from __future__ import annotations

import json
import logging

import pytest

pytest.importorskip("fastapi")


from lumigator_nb.rest.wire.leniency import HEADER

API = "/api/v1"
ROWS = 6
CSV = "example,ground_truth\n" + "".join(f"Text {n} begins. It ends.,Sum {n}\n" for n in range(ROWS))
LOCAL = {"model": "lead-1", "provider": "baseline"}


@pytest.fixture
def dataset(client) -> str:
    return uploaded(client).json()["id"]


def uploaded(client, text: str = CSV, name: str = "texts.csv", code: int = 201):
    answer = client.post(f"{API}/datasets/", files={"dataset": (name, text.encode()), "format": (None, "job")})
    assert answer.status_code == code, answer.text
    return answer


def sent(client, path: str, body: dict, code: int = 201, **headers: str):
    answer = client.post(f"{API}/{path}", content=json.dumps(body), headers=headers)
    assert answer.status_code == code, answer.text
    return answer


def experiment(client, dataset: str) -> str:
    return sent(client, "experiments", {"name": "e", "dataset": dataset, "metrics": ["rouge"]}).json()["id"]


def workflow(client, experiment_id: str, code: int = 201, **more):
    body = {"name": "w", "experiment_id": experiment_id, **LOCAL, **more}
    return sent(client, "workflows", body, code)


@pytest.mark.parametrize(("path", "config", "ignored"), [
    ("jobs/annotate", {"job_type": "annotate", **LOCAL, "task": "summarization", "store_to_dataset": False},
     "job_config.task, job_config.store_to_dataset"),
    ("jobs/annotate", {**LOCAL, "output_field": "mine"}, "job_config.output_field"),
    ("jobs/evaluator", {"job_type": "evaluator", "metrics": ["rouge"], "model": "m", "provider": "hf"},
     "job_config.model, job_config.provider"),
    ("jobs/inference", {"job_type": "inference", **LOCAL, "model_url": "https://example.org", "max_new_tokens": 100,
                        "accelerator": "auto", "revision": "main", "use_fast": True, "torch_dtype": "auto",
                        "output_field": "predictions", "store_to_dataset": False, "system_prompt": "Go."},
     "job_config.model_url, job_config.max_new_tokens"),
    ("jobs/inference", {**LOCAL, "llm_as_judge": {}, "generation_config": {"frequency_penalty": 0.5}},
     "job_config.llm_as_judge, job_config.generation_config.frequency_penalty"),
])  # fmt: skip
def test_a_job_is_made_in_spite_of_fields_without_a_meaning(client, path, config, ignored) -> None:
    dataset = uploaded(client, CSV.replace("example,", "predictions,").replace("\n", ",x\n").replace(
        "ground_truth,x", "ground_truth,example")).json()["id"]  # fmt: skip
    body = {"name": "j", "description": "d", "dataset": dataset, "max_samples": 5, "job_config": config}
    assert sent(client, path, body).headers[HEADER] == ignored
    assert sent(client, path, {**body, "model": "m", "extra": 1}).headers[HEADER] == f"model, extra, {ignored}"


def test_the_form_of_lumigators_page_runs_a_model(client, dataset, caplog) -> None:
    form = {
        "id": "lead-1f3", "dataset": dataset, "task_definition": {"task": "summarization"}, "max_samples": 0,
        "description": "", "system_prompt": "Summarize.", "generation_config": {"temperature": 0.5, "top_p": 0},
    }  # fmt: skip
    experiment_id = experiment(client, dataset)
    with caplog.at_level(logging.INFO, "lumigator_nb.rest"):
        answer = workflow(client, experiment_id, **form)
    assert answer.headers[HEADER] == "id, dataset, task_definition, max_samples"
    logged = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert logged == ["ignored fields: id, dataset, task_definition, max_samples"]
    assert HEADER not in workflow(client, experiment_id).headers


def test_every_route_of_lumigators_that_takes_a_body_names_what_it_ignores(client, dataset) -> None:
    experiment_id = experiment(client, dataset)
    document = client.app.openapi()
    lenient = set()
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                if document["components"]["schemas"][name].get("additionalProperties") is True:
                    lenient.add((verb, path, name))
    bodies = {
        "SecretUpload": {"value": "0123456789", "description": ""},
        "WorkflowCreate": {"name": "w", "experiment_id": experiment_id, **LOCAL},
        "ExperimentCreate": {"name": "e", "dataset": dataset},
        "InferenceCreate": {"name": "j", "dataset": dataset, "job_config": LOCAL},
        "AnnotateCreate": {"name": "j", "dataset": dataset, "job_config": LOCAL},
        "EvaluationCreate": {"name": "j", "dataset": uploaded(client, "example,ground_truth,predictions\na,b,c\n")
                             .json()["id"], "job_config": {"metrics": ["rouge"]}},
    }  # fmt: skip
    assert {name for _, _, name in lenient} == set(bodies)
    for verb, path, name in lenient:
        answer = client.request(verb, path.format(name="mine_key"), json={**bodies[name], "unheard_of": 1})
        assert (answer.status_code, answer.headers.get(HEADER)) == (201, "unheard_of"), path


def test_names_of_ignored_fields_write_no_header_and_no_secret(client, services, dataset, caplog) -> None:
    services.ws.secrets.set("team_key", "sekret_value_0123")
    strange = {"a\r\nSet-Cookie: x=1": 1, "über": 1, "x" * 500: 1, "": 1, "sekret_value_0123": 1, "\0": 1, "good": 1}
    many = {f"field_{n}": n for n in range(1000)}
    body = {"name": "e", "dataset": dataset}
    with caplog.at_level(logging.INFO):
        answer = sent(client, "experiments", {**body, **strange})
        assert answer.headers[HEADER] == "good, 6 more"
        assert "set-cookie" not in answer.headers
        long = sent(client, "experiments", {**body, **many}).headers[HEADER]
    assert long.endswith("field_19, 980 more")
    assert "sekret" not in caplog.text


def test_a_repeated_request_names_them_again(client, dataset) -> None:
    body = {"name": "e", "dataset": dataset, "more": 1}
    answers = [sent(client, "experiments", body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.headers[HEADER] for answer in answers] == ["more", "more"]


def test_slips_that_lumigator_refuses_and_those_of_our_own_routes_are_refused(client, dataset) -> None:
    experiment_id = experiment(client, dataset)
    for more in ({"generation_config": {"temprature": 1}}, {"provider": "hosted vllm"}):
        workflow(client, experiment_id, 422, **more)
    for body in (
        {"models": [LOCAL], "more": 1},
        {"models": [{**LOCAL, "id": "x"}]},
        {"models": [{**LOCAL, "generation_config": {"frequency_penalty": 1}}]},
    ):
        assert HEADER not in sent(client, f"experiments/{experiment_id}/estimate", body, 422).headers
    assert client.get(f"{API}/experiments/{experiment_id}/predictions?limit=1001").status_code == 422


def test_no_top_p_takes_the_most_probable_token(client, services, dataset) -> None:
    made = workflow(client, experiment(client, dataset), generation_config={"temperature": 0.7, "top_p": 0}).json()
    generation = services.ws.workflows.get(made["id"]).model.generation
    assert (generation.temperature, generation.top_p) == (0.0, 1.0)


@pytest.mark.parametrize("provider", ["hosted_vllm", "self-hosted"])
def test_lumigators_names_of_a_server_of_ones_own(client, services, dataset, provider) -> None:
    pytest.importorskip("any_llm")
    services.submit_soon = lambda: None
    experiment_id = experiment(client, dataset)
    refused = workflow(client, experiment_id, 422, model="m", provider=provider).json()
    assert "needs a base_url" in refused["detail"]
    made = workflow(client, experiment_id, model="m", provider=provider, base_url="http://localhost:9/v1").json()
    model = services.ws.workflows.get(made["id"]).model
    assert (model.provider, model.name, model.base_url) == ("openai", "m", "http://localhost:9/v1")


def test_lists_take_any_number(client, dataset, monkeypatch) -> None:
    for path in ("datasets", "jobs", "experiments"):
        for query in ("limit=1001", "limit=100000000000000000000", "limit=-1", "skip=-5", "limit=0"):
            answer = client.get(f"{API}/{path}?{query}")
            assert answer.status_code == 200, (path, query, answer.text)
    uploaded(client, CSV + "More.,More\n")
    monkeypatch.setattr("lumigator_nb.rest.wire.paging.MAX_LIMIT", 1)
    counts = {query: len(client.get(f"{API}/datasets?{query}").json()["items"])
              for query in ("limit=0", "limit=5", "limit=-1", "skip=-1&limit=1", "skip=2")}  # fmt: skip
    assert counts == {"limit=0": 0, "limit=5": 1, "limit=-1": 1, "skip=-1&limit=1": 1, "skip=2": 0}


def test_there_are_no_jobs_of_an_unknown_type(client, dataset) -> None:
    sent(client, "jobs/inference", {"name": "j", "dataset": dataset, "job_config": LOCAL})
    queries = ("", "job_types=poetry", "job_types=poetry&job_types=inference", "job_types=annotate")
    assert [client.get(f"{API}/jobs?{query}").json()["total"] for query in queries] == [1, 0, 1, 0]


def test_any_name_of_a_secret_becomes_that_of_a_variable(client, services) -> None:
    body = {"value": "sk-0123456789", "description": ""}

    def put(name: str) -> int:
        return client.put(f"{API}/settings/secrets/{name}", json=body).status_code

    assert [put(name) for name in ("mistral-api-key", "mistral_api_key", "team.key", "x" * 255)] == [201, 204, 201, 201]
    assert services.ws.secrets.names() == ["MISTRAL_API_KEY", "TEAM_KEY", "X" * 255]
    for name in (
        "LD-PRELOAD",
        "Path",
        "HTTPS-PROXY",
        "lumigator.home",
        "schlüssel",
        "---",
        "a%00b",
        "a%0Ab",
        "x" * 256,
    ):
        assert put(name) == 422, name
    assert len(services.ws.secrets.names()) == 3
    for name in ("team.key", "team.key", "never-there", "---"):
        assert client.delete(f"{API}/settings/secrets/{name}").status_code == 204
    assert len(services.ws.secrets.names()) == 2


def test_a_secret_with_another_spelling_goes_to_its_provider_alone(client, services, dataset) -> None:
    pytest.importorskip("any_llm")
    services.ws.secrets.set("mistral_api_key", "sk-0123456789")
    experiment_id = experiment(client, dataset)
    refused = workflow(client, experiment_id, 403, model="m", provider="openai", secret_key_name="mistral-api-key")
    assert "may not be sent to openai" in refused.json()["detail"]
    assert "no secret" in workflow(client, experiment_id, 422, secret_key_name="other-key").json()["detail"]


def test_numbers_beyond_ours_are_taken(client, services, dataset) -> None:
    body = {"name": "e", "dataset": dataset, "max_samples": -7}
    found = sent(client, "experiments", body).json()
    assert services.ws.experiments.get(found["id"]).sample is None
    job = sent(client, "jobs/inference", {**body, "batch_size": 5000, "job_config": LOCAL})
    assert job.json()["status"] in ("created", "pending", "running", "succeeded")


@pytest.mark.parametrize(("text", "n", "complete", "noted"), [
    ("examples,ground_truth\n\"a, b\"\nc\n", 2, False, "2 rows"),
    ("examples,ground_truth,x\na,b\nc,d,e\n", 2, True, "row 1 had fewer cells"),
    ("examples,ground_truth\na, \nb,\u3000\n", 2, False, None),
    ("examples,ground_truth\na,b\nc,\nd,\n", 3, False, "2 of 3 examples have no ground truth"),
    ("examples,ground_truth\na,b\nc, \n", 2, False, "some ground truth is white space"),
    ("examples,ground_truth\na,b\n\n  \nc,d\n", 2, True, "2 blank lines skipped"),
    ("predictions,examples,ground_truth\n,a,b\n", 1, True, None),
    ("examples\na\n", 1, False, None),
])  # fmt: skip
def test_short_rows_and_empty_ground_truth_are_read_as_there(client, services, text, n, complete, noted) -> None:
    dataset = uploaded(client, text).json()
    assert (dataset["ground_truth"], services.ws.datasets.get(dataset["id"]).n_examples) == (complete, n)
    assert any(noted in note for note in dataset["notes"]) if noted else not dataset["notes"]
    assert client.get(f"{API}/datasets/{dataset['id']}").json() == dataset


def test_a_row_with_too_many_cells_is_refused(client) -> None:
    refused = uploaded(client, "examples,ground_truth\na,b\nc,d,e\n", code=422).json()
    assert "row 2): 3 cells where the header names 2" in refused["detail"]


def test_ground_truth_without_a_word_is_none_and_some_of_it_is_used(client, services) -> None:
    empty = uploaded(client, "examples,ground_truth\na, \nb,\n").json()["id"]
    alone = sent(client, "experiments", {"name": "e", "dataset": empty, "metrics": ["rouge"]}).json()["id"]
    unscored = workflow(client, alone).json()
    failed = client.get(f"{API}/workflows/{unscored['id']}").json()
    assert failed["status"] == "failed"
    assert "rouge: ground truth is needed" in failed["message"]
    some = uploaded(client, "examples,ground_truth\nText one.,Text one.\nText two.,\n").json()["id"]
    made = workflow(client, experiment(client, some)).json()
    details = client.get(f"{API}/workflows/{made['id']}").json()
    assert (details["status"], details["metrics"]["rouge_rouge1_mean"]) == ("succeeded", 1.0)


LUMIGATORS_MODELS = {
    ("hf", "facebook/bart-large-cnn"), ("hf", "Falconsai/text_summarization"), ("hf", "facebook/m2m100_418M"),
    ("hf", "facebook/m2m100_1.2B"), ("hf", "Helsinki-NLP/opus-mt"), ("hf", "bigscience/mt0-base"),
    ("hf", "bigscience/mt0-large"), ("hf", "bigscience/mt0-xl"), ("openai", "gpt-4o-mini"), ("openai", "gpt-4o"),
    ("deepseek", "deepseek-reasoner"), ("deepseek", "deepseek-chat"), ("mistral", "ministral-8b-latest"),
    ("llamafile", "mistralai/Mistral-7B-Instruct-v0.2"),
}  # fmt: skip


def test_lumigators_suggestions_are_in_the_catalogue(client) -> None:
    found = {(each["provider"], each["model"]): each for each in client.get(f"{API}/models").json()["items"]}
    assert found.keys() >= LUMIGATORS_MODELS
    mistral = found["llamafile", "mistralai/Mistral-7B-Instruct-v0.2"]
    assert (mistral["requirements"], mistral["base_url"]) == (["llamafile"], "http://localhost:8080/v1")
    with_key = {provider for provider, name in LUMIGATORS_MODELS if "api_key" in found[provider, name]["requirements"]}
    assert with_key == {"openai", "deepseek", "mistral"}

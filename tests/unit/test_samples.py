from __future__ import annotations

import importlib.resources
import json
import re


def rows() -> list[dict[str, str]]:
    # Read through the package, so that an installation which lost the file fails here.
    file = importlib.resources.files("lumigator_nb") / "samples" / "dialogues.jsonl"
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text)


def test_every_row_has_the_four_texts() -> None:
    assert len(rows()) >= 60
    for row in rows():
        assert set(row) == {"dialogue", "summary", "topic", "channel"}
        assert all(isinstance(value, str) and value and value == value.strip() for value in row.values())


def test_dialogues_are_unique_and_short_enough_for_a_small_model() -> None:
    dialogues = [row["dialogue"] for row in rows()]
    assert len(set(dialogues)) == len(dialogues)
    for dialogue in dialogues:
        assert 20 <= len(dialogue.split()) <= 400, dialogue
        assert all(re.match(r"[^:\n]{1,30}: \S", turn) for turn in dialogue.split("\n")), dialogue


def test_every_summary_is_two_sentences() -> None:
    for row in rows():
        found = sentences(row["summary"])
        assert len(found) == 2, row["summary"]
        assert all(sentence.endswith(".") for sentence in found), row["summary"]


def test_topics_and_channels_vary() -> None:
    assert len({row["topic"] for row in rows()}) >= 8
    assert {row["channel"] for row in rows()} == {"chat", "phone", "email", "in person"}

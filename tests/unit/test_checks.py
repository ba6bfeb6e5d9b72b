"""Checks: each condition, what cannot be decided, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.errors import InvalidInputError, MissingExtraError
from lumigator_nb.specs import MetricSpec
from lumigator_testing import ModelServer

ENGLISH = "The invoice was sent to the wrong address last week."


class Ticket(BaseModel):
    label: str
    priority: int


def outcome(answer: str, example: str = "", **conditions):
    """The score of an answer (None for none), and the reason."""
    frame = lm.score([answer], examples=[example], metrics=lm.Check("it", **conditions))
    value = frame["it"][0]
    if np.isnan(value):
        return None, next(iter(frame.attrs["unscored"]["it"]))
    return value, frame["it.reason"][0] if "it.reason" in frame else None


@pytest.mark.parametrize(
    ("conditions", "answer", "reason"),
    [
        ({"contains": "refund"}, "We REFUND you.", None),
        ({"contains": ["refund", "days"]}, "A refund.", "does not contain 'days'"),
        ({"contains": "refund", "ignore_case": False}, "Refund", "does not contain 'refund'"),
        ({"contains": "STRASSE"}, "Straße", None),
        ({"contains_any": ["please", "thank"]}, "Thanks", None),
        ({"contains_any": ["please", "thank"]}, "Hey", "contains none of 'please', 'thank'"),
        ({"contains_none": ["sorry", "cannot"]}, "I cannot", "contains 'cannot'"),
        ({"starts_with": "Dear"}, "\n dear Ana", None),
        ({"starts_with": ["Dear", "Hello"]}, "Hey", "does not start with 'Dear' or 'Hello'"),
        ({"min_words": 2, "max_words": 3}, "one", "1 word, and at least 2 are needed"),
        ({"min_words": 2, "max_words": 3}, "one two three", None),
        ({"max_words": 3}, "1 2 3 4", "4 words, and at most 3 are allowed"),
        ({"max_words": 0}, "", None),
        ({"min_characters": 3}, "ab", "2 characters, and at least 3 are needed"),
        ({"max_characters": 3}, "日本語です", "5 characters, and at most 3 are allowed"),
        ({"parses": "python"}, "x = [1, 2]", None),
        ({"parses": "python"}, "Here it is:\nx = 1", "no Python: line 1: invalid syntax"),
        ({"parses": "python"}, "```python\ndef f():\n    return 1\n```", None),
        ({"parses": "python"}, "x = 1\0", "no Python: source code string cannot contain null bytes"),
        ({"json_schema": Ticket}, '{"label": "billing", "priority": 2}', None),
        ({"json_schema": Ticket}, '```json\n{"label": "billing", "priority": 2}\n```', None),
        ({"json_schema": Ticket}, '{"label": "x", "priority": "high"}', "$.priority: 'high' is not of type 'integer'"),
        ({"json_schema": Ticket}, '{"label": "x"}', "$: 'priority' is a required property"),
        ({"json_schema": Ticket}, "label: x", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ({"json_schema": {"enum": ["a", "b"]}}, '"c"', "$: 'c' is not one of ['a', 'b']"),
        ({"json_schema": {"type": "string", "format": "date"}}, '"20-1"', "$: '20-1' is not a 'date'"),
        ({"contains": "a", "max_words": 1}, "b c", "does not contain 'a'; 2 words, and at most 1 are allowed"),
    ],
)
def test_an_answer_meets_a_condition_or_the_reason_says_why_not(conditions, answer, reason) -> None:
    assert outcome(answer, **conditions) == (float(reason is None), reason)


def test_deeply_nested_answers_are_faults_not_errors() -> None:
    assert outcome("[" * 100_000, json_schema={})[0] == 0
    assert outcome("(" * 100_000, parses="python")[0] == 0


def test_copied_words_are_counted_against_the_example() -> None:
    assert outcome("take the bus home", "Take the bus.", max_copied=0.75) == (1, None)
    value, reason = outcome("take the bus home", "Take the bus.", max_copied=0.5)
    assert (value, reason) == (0, "75% of its words occur in the example, and at most 50% may")
    assert outcome("", "Take the bus.", max_copied=0.5) == (1, None)


def test_the_language_is_checked_where_it_can_be_told() -> None:
    pytest.importorskip("py3langid")
    assert outcome(ENGLISH, language="English") == (1, None)
    assert outcome(ENGLISH, language="de") == (0, "the language is English, not German")
    assert outcome(ENGLISH, language="en-GB") == (1, None)
    assert outcome("ok", language="de") == (None, "the text is too short or mixed to tell its language")


@pytest.mark.parametrize(
    ("answer", "value", "reason"),
    [
        ("SELECT a FROM t WHERE a > 1", 1, None),
        ("```sql\nselect 1; select 2;\n```", 1, None),
        ("insert into t values (1)", 1, None),
        ("SELECT * FORM t", 0, "no SQL: Invalid expression / Unexpected token. Line 1, Col: 15."),
        ("hello world", 0, "no SQL: an expression, not a statement: 'hello world'"),
        ("I cannot do that.", 0, "no SQL: "),
        ("", 0, "no SQL: there is no statement"),
        ("call me maybe", None, "sqlglot knows only the first word of this statement: 'call me maybe'"),
    ],
)
def test_sql_parses_or_not(answer, value, reason) -> None:
    pytest.importorskip("sqlglot")
    found, told = outcome(answer, parses="sql")
    assert found == value
    assert bool(told) == bool(reason)
    assert (told or "").startswith(reason or "")


def test_sql_has_dialects() -> None:
    pytest.importorskip("sqlglot")
    assert outcome("select a::int from t", parses="sql", dialect="postgres") == (1, None)
    with pytest.raises(InvalidInputError, match="dialect='postgers'"):
        lm.score(["x"], metrics=lm.Check(parses="sql", dialect="postgers"))


def test_without_its_package_a_condition_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr("lumigator_nb.metrics.checks.find_spec", lambda module: None)
    for conditions, extra in (({"parses": "sql"}, "sql"), ({"language": "de"}, "languages")):
        with pytest.raises(MissingExtraError, match=rf"lumigator-nb\[{extra}\]"):
            lm.score(["x"], metrics=lm.Check(**conditions))


def test_latency_and_cost_are_limits_where_they_are_known() -> None:
    check = metrics.create(lm.Check(max_seconds=2, max_cost=0.01))
    facts = [
        {"seconds": 1.5, "cost": 0.001},
        {"seconds": 2.5, "cost": 0.02},
        {"seconds": 2.5, "cost": None},
        {"seconds": 1.0, "cost": None},
        {},
    ]
    (scores,) = check.score(["a"] * 5, [None] * 5, [""] * 5, facts=facts)
    np.testing.assert_array_equal(scores.values, [1, 0, 0, np.nan, np.nan])
    assert scores.reasons == (
        None,
        "took 2.5 s, and at most 2 are allowed; cost $0.02, and at most $0.01 are allowed",
        "took 2.5 s, and at most 2 are allowed",
        "the cost of the answer is not known",
        "the latency of the answer is not known",
    )


def test_a_missing_answer_has_no_score() -> None:
    frame = lm.score([None, ""], metrics=lm.Check(max_words=3))
    np.testing.assert_array_equal(frame["max_words"], [np.nan, 1])


def test_names_tell_checks_apart() -> None:
    frame = lm.score(["a b"], metrics=[lm.Check(max_words=1), lm.Check("short", max_words=3), lm.Check(contains="a")])
    assert frame.loc[0, ["max_words", "short", "contains"]].tolist() == [0, 1, 1]
    assert lm.Check(max_words=9, contains="a").title == "contains_and_max_words"
    with pytest.raises(InvalidInputError, match="reports twice the score 'max_words'"):
        lm.score(["a"], metrics=[lm.Check(max_words=1), lm.Check(max_words=2)])


def test_a_check_is_json_with_the_given_conditions_alone() -> None:
    spec = lm.Check("valid", json_schema=Ticket, max_words=50)
    again = MetricSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert set(spec.options) == {"name", "json_schema", "max_words"}
    assert metrics.create(again).signature == metrics.create(spec).signature
    assert lm.Check(max_words=1).key != lm.Check(max_words=2).key
    json.dumps(spec.options)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "needs a condition"),
        ({"ignore_case": False}, "needs a condition"),
        ({"contains": ""}, "an empty text occurs everywhere"),
        ({"contains_any": ["a", 3]}, r"contains_any=3"),
        ({"max_words": -1}, "max_words=-1"),
        ({"max_words": True}, "max_words=True"),
        ({"min_words": 3, "max_words": 2}, "min_words is greater than max_words"),
        ({"max_copied": 1.5}, "max_copied=1.5"),
        ({"max_seconds": 0}, "max_seconds=0"),
        ({"parses": "rust"}, "parses='rust'"),
        ({"parses": "python", "dialect": "postgres"}, "dialect without parses='sql'"),
        ({"language": "no such language"}, "not a language"),
        ({"json_schema": {"type": "objekt"}}, r"json_schema is malformed at \$.type"),
        ({"json_schema": {"$ref": "http://localhost:1/schema"}}, "refers to 'http://localhost:1/schema'"),
    ],
)
def test_bad_conditions_are_refused_with_their_name(conditions, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        lm.Check(**conditions)


def test_an_unknown_condition_of_a_stored_check_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="unknown option 'max_word'"):
        metrics.parse(MetricSpec(name="check", options={"max_word": 3}))


def test_latency_and_cost_of_an_experiment_are_those_of_its_answers(inline_ws) -> None:
    frame = pd.DataFrame({"example": ["The cup broke. We sent one.", "The lid is lost."]})
    inline_ws.datasets.upload(frame, name="cases", progress=False)
    checks = [lm.Check("quick", max_seconds=60), lm.Check("cheap", max_cost=1e-9), lm.Check(max_words=3)]
    experiment = inline_ws.experiments.create("e", dataset="cases", metrics=checks)
    with ModelServer() as server:
        price = {"prompt": 1, "completion": 1}
        priced = lm.Model("lead-1", provider="openai", base_url=server.base_url, price=price)
        inline_ws.wait(inline_ws.workflows.launch(experiment, priced), progress=False, check=True)
    frame = inline_ws.workflows.scores(inline_ws.workflows.of(experiment)[0])
    assert frame[["quick", "cheap", "max_words"]].to_numpy().tolist() == [[1, 0, 1], [1, 0, 0]]

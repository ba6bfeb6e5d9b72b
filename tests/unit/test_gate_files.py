"""Gate files: what they say, what is wrong with them, and what a check finds, on workers in this process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import Command

import lumigator_nb as lm
from lumigator_nb.display import render
from lumigator_nb.errors import InvalidInputError, JobFailedError, NotFoundError
from lumigator_nb.workspace import gate_files
from lumigator_testing import ModelServer

N = 60
ROWS = [
    f"Ticket {n} is about parcels. It came on day {n}. Please help.,Ticket {n} is about parcels.,{n % 2}"
    for n in range(N)
]
CSV = "\n".join(["body,summary,product", *ROWS, ""])
BASE = {
    "dataset": '"tickets.csv"', "example": '"body"', "ground_truth": '"summary"', "metrics": '["rouge", "exact_match"]',
    "candidate": '{model = "baseline/lead-1"}', "baseline": '{model = "baseline/lead-3"}',
    "rules": '{score = "rougeL", margin = 0.05}',
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Write a gate file with some keys changed, added or (None) left out."""
    (tmp_path / "tickets.csv").write_text(CSV, encoding="utf-8")

    def written(**keys: str | None) -> Path:
        lines = [f"{key} = {value}" for key, value in {**BASE, **keys}.items() if value is not None]
        (tmp_path / "gate.toml").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path / "gate.toml"

    return written


@pytest.fixture(scope="module")
def server():
    with ModelServer(models=("lead-1", "lead-3")) as server:
        yield server


def checked(ws, path: Path):
    return lm.gate(path, workspace=ws, progress=False)


def test_a_check_passes_fails_or_is_undecided(inline_ws, write) -> None:
    passed = checked(inline_ws, write())
    assert (passed.outcome, passed.exit_code, passed.passed) == ("passed", 0, True)
    failed = checked(inline_ws, write(candidate=BASE["baseline"], baseline=BASE["candidate"]))
    assert (failed.outcome, failed.exit_code) == ("failed", 1)
    undecided = checked(inline_ws, write(baseline=None, rules="{at_least = {exact_match = 0.99}}"))
    assert (undecided.outcome, undecided.exit_code) == ("undecided", 2)
    assert undecided.gate.further == 299 - N


def test_a_check_shows_slices_and_the_worst_examples(inline_ws, write) -> None:
    failed = checked(inline_ws, write(candidate=BASE["baseline"], baseline=BASE["candidate"], worst="3"))
    assert failed.slices.set_index(["column", "slice"]).loc[("product", "0"), "n"] == N // 2
    assert failed.slices.query("column == 'product'")["changed"].all()
    assert (failed.slices["difference"] < 0).all()
    assert len(failed.worst) == 3
    assert failed.worst["difference"].is_monotonic_increasing
    assert failed.worst.columns.tolist() == [
        "row", "difference", "example", "ground_truth", "baseline/lead-3", "baseline/lead-1"
    ]  # fmt: skip
    text, page, markdown = str(failed), render.as_html(failed), render.as_markdown(failed)
    for view in (text, page, markdown):
        assert "rougeL per slice" in view
        assert "3 examples on which baseline/lead-3 falls behind baseline/lead-1 most" in view
    assert "▼" in text
    better = checked(inline_ws, write())
    assert better.worst.empty
    alone = checked(inline_ws, write(baseline=None, rules="{at_least = {answered = 0.9}}"))
    assert "baseline" not in alone.slices
    assert len(alone.worst) == 5
    assert str(alone)


def test_junit_has_a_case_per_rule(inline_ws, write) -> None:
    rules = '{score = "rougeL", margin = 0.05, at_least = {exact_match = 0.99, answered = 0.9}}'
    suite = ElementTree.fromstring(checked(inline_ws, write(rules=rules)).junit()).find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "0", "1")
    (error,) = suite.findall("testcase/error")
    assert error.get("type") == "undecided"
    assert f"about {299 - N} further examples" in error.get("message")


def test_only_new_and_changed_answers_are_paid_for(inline_ws, write, server, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "test" * 5)
    where = f'base_url = "{server.base_url}", price = {{prompt = 1, completion = 1}}'
    models = {
        "candidate": f'{{model = "openai/lead-1", {where}}}',
        "baseline": f'{{model = "openai/lead-3", {where}}}',
    }
    first = checked(inline_ws, write(**models))
    assert (first.n_asked, first.n_cached) == (2 * N, 0)
    assert first.dollars > 0
    calls = server.stats().calls
    again = checked(inline_ws, write(**models))
    assert (again.n_asked, again.n_cached) == (0, 0)
    assert "No model was asked" in str(again)
    path = write(**models)
    (path.parent / "tickets.csv").write_text(CSV + "A new ticket. It is short.,A new ticket.,1\n", encoding="utf-8")
    more = checked(inline_ws, path)
    assert (more.n_asked, more.n_cached) == (2, 2 * N)
    assert server.stats().calls == calls + 2
    assert "version 2 of the dataset in this workspace: 1 row added, 0 removed, 0 changed" in " ".join(more.notes)


def test_a_changed_dataset_is_refused_where_it_is_pinned(inline_ws, write) -> None:
    pin = hashlib.sha256(CSV.encode()).hexdigest()
    pinned = write(dataset_sha256=f'"{pin}"')
    assert checked(inline_ws, pinned).notes == ()
    (pinned.parent / "tickets.csv").write_text(CSV.replace("day 3", "day 4"), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="the dataset has changed") as caught:
        checked(inline_ws, pinned)
    assert "11 rows added, 11 removed" in caught.value.message
    assert "write the new SHA-256 into gate.toml" in caught.value.hint
    unpinned = " ".join(checked(inline_ws, write()).notes)
    assert hashlib.sha256((pinned.parent / "tickets.csv").read_bytes()).hexdigest() in unpinned  # how to pin it


def test_a_model_that_is_gone_is_an_error_and_not_a_verdict(inline_ws, write, server, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "test" * 5)
    gone = f'{{model = "openai/old-model", base_url = "{server.base_url}"}}'
    with pytest.raises(JobFailedError, match="baseline 'openai/old-model' could not answer: .*there is no") as caught:
        checked(inline_ws, write(baseline=gone))
    assert "name its successor as baseline in gate.toml" in caught.value.hint


def test_a_prompt_may_change_instead_of_the_model(write) -> None:
    path = write(candidate='{model = "openai/m", prompt_file = "new.txt"}', baseline='{model = "openai/m"}')
    (path.parent / "new.txt").write_text("Be brief.\n", encoding="utf-8")
    file = gate_files.read(path)
    assert file.candidate.prompt == "Be brief."
    assert (file.candidate.label, file.baseline.label) == ("openai/m (candidate)", "openai/m (baseline)")


def test_metrics_may_have_options_and_judges(write) -> None:
    metrics = '["rouge", {name = "json", required = ["id"]}, {judge = "quality", model = "openai/j"}]'
    rouge, json, judge = gate_files.read(write(metrics=metrics)).metrics
    assert rouge == "rouge"
    assert json.options == {"required": ["id"]}
    assert (judge.title, judge.name) == ("quality", "judge")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"datset": '"x"'}, "unknown key 'datset'"),
        ({"rules": "{margn = 0.1}"}, "unknown key 'margn' in .rules."),
        ({"task": '{kind = "summarisation"}'}, "did you mean 'summarization'"),
        ({"task": '{promt = "x"}'}, "did you mean 'prompt'"),
        ({"dataset": None}, "'dataset' is missing"),
        ({"rules": None}, "'rules' is missing"),
        ({"rules": "3"}, "rules cannot be 3"),
        ({"rules": "{at_most = 3}"}, "rules.at_most cannot be 3"),
        ({"rules": '{at_least = {json = "all"}}'}, "rules.at_least.json cannot be 'all'"),
        ({"candidate": '{modl = "x/y"}'}, "the candidate names no model"),
        ({"candidate": '{model = "nothing"}'}, ".candidate. 'nothing' does not name a model"),
        ({"candidate": '{model = "a/b", temprature = 0.1}'}, "did you mean 'temperature'"),
        ({"candidate": '{model = "a/b", prompt = "x", prompt_file = "y"}'}, "has both prompt and prompt_file"),
        ({"candidate": BASE["baseline"]}, "the same model with the same settings"),
        ({"budget": '"much"'}, "budget cannot be 'much'"),
        ({"max_samples": "true"}, "max_samples cannot be True"),
        ({"metrics": "[3]"}, "metrics: 3 is not a metric"),
        ({"metrics": '[{judge = "tone", modl = "x/y"}]'}, "unexpected keyword argument 'modl'"),
        ({"groups": "= 3"}, "a gate file is TOML"),
    ],
)
def test_mistakes_in_a_gate_file_name_the_file_and_the_key(write, keys, message) -> None:
    path = write(**keys)
    with pytest.raises(InvalidInputError, match=message) as caught:
        gate_files.read(path)
    assert caught.value.message.startswith(str(path))


def test_files_that_are_not_there_are_named(inline_ws, write, tmp_path) -> None:
    with pytest.raises(NotFoundError, match="name a gate file"):
        gate_files.read(tmp_path / "nothing.toml")
    with pytest.raises(NotFoundError, match=r"(?s)no\.txt.*prompt_file is relative to gate\.toml"):
        gate_files.read(write(candidate='{model = "a/b", prompt_file = "no.txt"}'))
    with pytest.raises(NotFoundError, match="there is no dataset 'ticket.csv'"):
        checked(inline_ws, write(dataset='"ticket.csv"'))


def test_the_command_ends_with_3_where_nothing_could_be_checked(write, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    command = Command(monkeypatch, capsys, "check")
    assert "did you mean 'dataset'" in command(str(write(datset='"x"')), code=3)
    assert "No such option" in command("gate.toml", "--junit-file", "x", code=3)
    assert "Missing argument" in command(code=3)
    junit, summary = tmp_path / "out" / "junit.xml", tmp_path / "out" / "summary.md"
    path = write(candidate='{model = "openai/gpt-4o-mini"}')
    printed = command(str(path), "--junit", str(junit), "--summary", str(summary), code=3)
    assert "OPENAI_API_KEY" in printed
    assert "as a secret of the repository" in printed
    (error,) = ElementTree.parse(junit).findall("testsuite/testcase/error")
    assert error.get("type") == "ConfigurationError"
    assert "**Not checked:**" in summary.read_text(encoding="utf-8")

from __future__ import annotations

import json
import re
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
import typer
from commands import Command

from lumigator_nb.cli import app
from lumigator_nb.database.engine import head_revision

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
CSV = "body,summary\nThe bus is late. It rains.,Late bus.\nWe walk. It is far.,A walk.\n"


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    (tmp_path / "tickets.csv").write_text(CSV, encoding="utf-8")
    return Command(monkeypatch, capsys)


def commands() -> list[str]:
    root = typer.main.get_command(app)
    found = []
    for name, command in root.commands.items():
        if command.hidden:
            continue  # aliases
        below = getattr(command, "commands", None)
        found += [f"{name} {sub}" for sub in below] if below else [name]
    return found


def documented() -> set[str]:
    found = set()
    for words in re.findall(r"^\| `lumigator-nb ([^`]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        first, *rest = words.replace("\\", "").split()
        if "|" in first:
            found |= set(first.split("|"))
        elif rest and re.fullmatch(r"[a-z|]+", rest[0]):
            found |= {f"{first} {sub}" for sub in rest[0].split("|")}
        else:
            found.add(first)
    return found


def test_the_page_of_commands_lists_exactly_the_commands_there_are() -> None:
    assert documented() == set(commands())


def test_jobs_is_another_name_of_workflows() -> None:
    root = typer.main.get_command(app)
    assert root.commands["jobs"].hidden
    assert set(root.commands["jobs"].commands) == set(root.commands["workflows"].commands)


@pytest.mark.parametrize("command", commands())
def test_every_command_argument_and_option_has_help(command) -> None:
    node = typer.main.get_command(app)
    for word in command.split():
        assert node.help
        node = node.commands[word]
    assert node.help
    assert [parameter.name for parameter in node.params if not parameter.help] == []


def test_datasets_and_experiments_by_command(cli) -> None:
    cli("datasets", "upload", "tickets.csv", "--example", "body", "--ground-truth", "summary")
    assert "tickets" in cli("datasets", "list")
    assert "tickets.csv" in cli("datasets", "show", "tickets")
    cli("experiments", "create", "e", "--dataset", "tickets", "--metric", "rouge")
    assert "summarization" in cli("experiments", "list")
    assert "rouge" in cli("experiments", "show", "e")
    assert "is used by: e" in cli("datasets", "delete", "tickets", code=1)
    cli("experiments", "delete", "e")
    cli("datasets", "delete", "tickets")
    assert "tickets" not in cli("datasets", "list")


def test_checks_are_given_by_command(cli) -> None:
    cli("datasets", "upload", "tickets.csv", "--example", "body", "--ground-truth", "summary")
    several = '{"name": "brief", "max_words": 50, "contains_none": "sorry"}'
    cli("experiments", "create", "e", "--dataset", "tickets", "--check", "max_words=3", "--check", several)
    shown = cli("experiments", "show", "e")
    assert "max_words" in shown
    assert "brief" in shown
    for text, message in (
        ("max_words", "NAME=VALUE"),
        ("max_word=3", "did you mean 'max_words'"),
        ('{"max_words": 3', "is not JSON"),
        ("max_words=no", "max_words='no'"),
    ):
        assert message in cli("experiments", "create", "f", "--dataset", "tickets", "--check", text, code=1)


def test_a_classification_by_command(cli) -> None:
    cli("datasets", "upload", "tickets.csv", "--example", "body", "--ground-truth", "summary")
    arguments = ("experiments", "create", "e", "--dataset", "tickets", "--task", "classification")
    assert "needs labels" in cli(*arguments, code=1)
    cli(*arguments, "--label", "billing=invoices, refunds", "--label", "delivery")
    shown = cli("experiments", "show", "e")
    assert "classification (2 labels)" in shown
    assert "billing: invoices, refunds" in shown


def test_short_rows_are_filled_by_command(cli, tmp_path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("example,ground_truth\na,b\nc\n", encoding="utf-8")
    assert "row 2" in cli("datasets", "upload", str(path), code=1)
    assert "row 2 had fewer cells" in cli("datasets", "upload", str(path), "--fill-short-rows")


def test_mistakes_print_what_to_do_and_exit_with_1(cli) -> None:
    printed = cli("datasets", "upload", "tickets.csv", code=1)
    assert printed.startswith("error: ")
    assert "hint: " in printed
    assert "no experiment 'nosuch'" in cli("compare", "nosuch", code=1)


def test_results_of_other_tools_are_compared_without_a_workspace(cli, tmp_path, monkeypatch) -> None:
    logs = Path(__file__).parents[1] / "data" / "eval_logs" / "inspect"
    shown = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    files = [str(logs / "good.eval"), str(logs / "weak.eval")]
    printed = cli("compare", *files, "--report", str(tmp_path / "out.html"), "--open", "--metric", "exact_match")
    assert "mockllm/good has the highest match (0.800)" in printed
    assert "exact_match" in printed
    assert shown == [(tmp_path / "out.html").as_uri()]
    assert "Which model to take" in (tmp_path / "out.html").read_text(encoding="utf-8")
    assert not (tmp_path / "home").exists(), "no workspace was opened"
    assert "no file" in cli("compare", "nosuch.eval", code=1)
    assert "--score and --metric are for files" in cli("compare", "nosuch", "--metric", "rouge", code=1)


def test_a_process_ends_with_the_code_and_without_a_traceback(cli) -> None:
    command = [sys.executable, "-m", "lumigator_nb.cli", "datasets", "show", "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no dataset 'nosuch'")
    assert "Traceback" not in done.stderr


def test_the_doctor_finds_a_fresh_machine_in_order(cli) -> None:
    printed = cli("doctor")
    assert re.search(r"ok +store: file://.* can be written and read", printed)
    assert "wrong" not in printed


def test_the_doctor_says_what_is_wrong(cli, monkeypatch) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/db")
    monkeypatch.setenv("RAY_HEAD_NODE_HOST", "127.0.0.1")
    monkeypatch.setenv("RAY_DASHBOARD_PORT", "1")
    printed = cli("doctor", code=1)
    assert re.search(r"wrong +database: .*does not answer", printed)
    assert "wrong  cluster" in printed
    assert "hunter2" not in printed


def test_versions_parts_archives_and_deletion_by_command(cli, tmp_path) -> None:
    columns = ("--example", "body", "--ground-truth", "summary")
    cli("datasets", "upload", "tickets.csv", *columns)
    (tmp_path / "tickets.csv").write_text(CSV + "It snows. We ski.,Skiing.\n", encoding="utf-8")
    assert "version 2" in cli("datasets", "upload", "tickets.csv", *columns, "--new-version")
    assert re.search(r"2 +3 +1 +0 +0", cli("datasets", "history", "tickets"))
    assert "1 added" in cli("datasets", "differences", "tickets@1", "tickets")
    parts = ("--part", "a=0.5", "--part", "b=0.5")
    assert "tickets-a" in cli("datasets", "split", "tickets", *parts, "--groups", "ground_truth")
    assert "2 of 3 examples" in cli("datasets", "draw", "tickets", "2")
    cli("datasets", "archive", "tickets-2")
    assert "tickets-2" not in cli("datasets", "list")
    cli("experiments", "create", "e", "--dataset", "tickets", "--metric", "length")
    assert "Would be deleted" in cli("datasets", "delete", "tickets", "--cascade", "--dry-run")
    assert "Deleted" in cli("datasets", "delete", "tickets", "--cascade")


def test_the_schema_by_command(cli) -> None:
    assert "none" in cli("db", "current")
    assert f"is at revision {head_revision()}" in cli("db", "upgrade")
    assert f"{head_revision()} (current)" in cli("db", "current")
    assert "0001" in cli("db", "history")
    assert "as this version expects it" in cli("db", "check")
    assert Path(re.search(r"copied to (.*)", cli("db", "backup"))[1]).stat().st_size > 0
    assert "is at revision 0002" in cli("db", "downgrade", "0002")
    assert "label" in cli("db", "check", code=1)
    assert "recorded to be at revision 0003" in cli("db", "stamp", "0003")
    assert "did you mean '0003'" in cli("db", "upgrade", "003", code=1)


def test_the_catalogue_by_command(cli) -> None:
    printed = cli("models", "list", "--task", "translation", "--provider", "hf")
    assert "hf/facebook/nllb-200-distilled-600M" in printed
    assert "bart-large-cnn" not in printed
    assert "did you mean 'translation'" in cli("models", "list", "--task", "translations", code=1)


def test_prices_are_refreshed_and_reset_by_command(cli, tmp_path) -> None:
    model = {"id": "gpt-4o-mini", "match": {"equals": "gpt-4o-mini"}, "prices": {"input_mtok": 7, "output_mtok": 11}}
    provider = {"id": "openai", "name": "OpenAI", "api_pattern": "openai", "models": [model]}
    (tmp_path / "prices.json").write_text(json.dumps([provider]))
    assert "Another price than before: openai/gpt-4o-mini." in cli("models", "refresh", str(tmp_path / "prices.json"))
    assert "Prices: prices.json, of 20" in cli("models", "list")
    assert "prices.json" in cli("doctor")
    assert "cannot be read" in cli("models", "refresh", "absent.json", code=1)
    assert "those that are installed" in cli("models", "reset")
    assert "Prices: genai-prices " in cli("models", "list")


def test_tasks_models_and_estimates_by_command(cli) -> None:
    cli("datasets", "upload", "tickets.csv", "--example", "body", "--ground-truth", "summary")
    words = ["experiments", "create", "de", "--dataset", "tickets", "--task", "translation"]
    assert "--source English --target German" in cli(*words, code=1)
    cli(*words, "--source", "English", "--target", "German", "--template", "{{ example }}!")
    assert "English to German" in cli("experiments", "show", "de")
    printed = cli("estimate", "de", "-m", "openai/gpt-4o-mini", "--set", "max_new_tokens=10", "-m", "baseline/copy")
    assert re.search(r"openai/gpt-4o-mini +2 +2 .*\$0\.0000 .*count", printed)
    assert "--set takes NAME=VALUE" in cli("estimate", "de", "-m", "openai/x", "--set", "oops", code=1)
    assert "unknown task 'dancing'" in cli(
        "experiments", "create", "x", "--dataset", "tickets", "--task", "dancing", code=1
    )
    assert "text generation needs a prompt" in cli(*words[:-1], "text-generation", code=1)


def test_plans_races_and_recommendations_by_command(cli) -> None:
    cli("datasets", "upload", "tickets.csv", "--example", "body", "--ground-truth", "summary")
    cli("experiments", "create", "tickets", "--dataset", "tickets")
    both = ["-m", "baseline/lead-1", "-m", "baseline/copy"]
    assert "to detect a difference of 0.1 with" in cli("plan", "tickets", *both, "--detect", "0.1", "--pilot", "2")
    race = "select", "tickets", *both, "--score", "rougeL"
    best = "On these 2 examples, baseline/lead-1 is the best of 2 models on rougeL (all were asked)."
    assert f"{best} The same answers do not show it for examples like these" in cli(*race)
    assert "Undecided: all 2 examples were asked" in cli(*race, "--population", "larger")
    assert "nothing to compare yet" in cli("recommend", "tickets", code=1)
    assert "nothing to compare yet" in cli("audit", "tickets", "-m", "baseline/lead-2", code=1)
    assert "two models or more" in cli("select", "tickets", "-m", "baseline/copy", code=1)


def test_a_missing_key_is_named_by_command(cli, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cli("datasets", "upload", "tickets.csv", "--example", "body", "--ground-truth", "summary")
    assert "OPENAI_API_KEY is not set" in cli("run", "tickets", "-m", "openai/gpt-4o-mini", code=1)

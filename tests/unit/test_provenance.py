"""What is written down of a launch, and what is not."""

from __future__ import annotations

import json
import pwd
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb import __version__
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.engine import inference, steps
from lumigator_nb.errors import NotFoundError
from lumigator_nb.services.workflows import provenance
from lumigator_nb.specs import Status, Summarization
from lumigator_nb.storage import results

FRAME = pd.DataFrame({"example": ["One. Two.", "Three. Four."], "ground_truth": ["One.", "Three."]})


@pytest.fixture
def experiment(inline_ws):
    dataset = inline_ws.datasets.upload(FRAME, name="d")
    return inline_ws.experiments.create("e", dataset=dataset, metrics=["bleu", "rouge"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The current folder as a git repository with one commit, in which one file is changed."""
    run("init", "--quiet", "--initial-branch=main")
    (tmp_path / "notes.txt").write_text("one")
    run("add", "notes.txt")
    run("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "--quiet", "--message=first")
    run("config", "remote.origin.url", "https://ann:hunter2secret@example.org/team/notes.git?token=abc")
    return tmp_path


def run(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def launched(ws, experiment, *models):
    return ws.wait(ws.workflows.launch(experiment, list(models)), progress=False)[0]


def test_a_launch_writes_down_what_its_result_depends_on(inline_ws, experiment) -> None:
    model = lm.Model("baseline/lead-1", seed=7)
    known = provenance.of(inline_ws.database, launched(inline_ws, experiment, model))
    dataset = inline_ws.datasets.get("d")
    assert known.launch["user"]
    assert known.launch["host"]
    assert pd.Timestamp(known.launch["when"]).utcoffset() == pd.Timedelta(0)
    assert known.dataset["content_hash"] == dataset.content_hash
    assert known.dataset["data_hash"] == dataset.data_hash
    assert (known.asked["fingerprint"], known.asked["seed"]) == (model.fingerprint, 7)
    assert known.versions["lumigator_nb"] == __version__
    assert {"python", "platform", "ray", "sacrebleu"} <= set(known.versions)
    assert "torch" not in known.versions
    assert known.inference["source"] == "built in: lead-1"
    assert "sacrebleu" in known.evaluation["versions"]
    assert set(known.metrics) == {"bleu", "rouge"}
    assert known.git == {}
    json.dumps(known.to_dict())


def test_the_prompt_in_force_decides_the_hash_also_where_it_is_the_default(inline_ws) -> None:
    dataset = inline_ws.datasets.upload(FRAME, name="d")
    tasks = [Summarization(), Summarization(Summarization().instruction), Summarization("Be brief.")]
    hashes = []
    for number, task in enumerate(tasks):
        experiment = inline_ws.experiments.create(f"e{number}", dataset=dataset, task=task, metrics=["length"])
        known = provenance.of(inline_ws.database, launched(inline_ws, experiment, "baseline/copy"))
        hashes.append(known.asked["prompt"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_git_is_told_without_credentials(inline_ws, experiment, repository) -> None:
    clean = provenance.git_state()
    assert clean["commit"] == run("rev-parse", "HEAD")
    assert (clean["branch"], clean["dirty"]) == ("main", False)
    assert clean["remote"] == "https://example.org/team/notes.git"
    (repository / "notes.txt").write_text("two")
    known = provenance.of(inline_ws.database, launched(inline_ws, experiment, "baseline/copy"))
    assert known.git == {**clean, "dirty": True}
    assert "hunter2secret" not in json.dumps(known.to_dict())


def test_an_empty_or_detached_repository_has_no_commit_or_branch(repository, tmp_path, monkeypatch) -> None:
    run("checkout", "--quiet", "--detach")
    assert "branch" not in provenance.git_state()
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    run("init", "--quiet", "--initial-branch=main")
    assert provenance.git_state() == {"branch": "main", "dirty": False}


def test_without_git_nothing_fails(monkeypatch, repository) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state() == {}


def test_a_git_that_hangs_is_not_waited_for(tmp_path, monkeypatch) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(provenance, "GIT_TIMEOUT_S", 0.2)
    assert provenance.git_state() == {}


@pytest.mark.parametrize(
    ("remote", "public"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://x-token:s3cr3t@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://s3cr3t@example.org:8443/a?key=s3cr3t#s3cr3t", "https://example.org:8443/a"),
        ("ssh://git@example.org:22/a/b", "ssh://example.org:22/a/b"),
        ("git@example.org:a/b.git", "example.org:a/b.git"),
        ("user:s3cr3t@example.org:a/b.git", "example.org:a/b.git"),
        ("/home/ann/b.git", None),
        ("../b.git", None),
        ("file:///home/ann/b.git", None),
        ("FILE:///home/ann/b.git", None),
        (r"C:\Users\ann\b", None),
        ("C:/Users/ann/b", None),
        ("", None),
    ],
)
def test_the_address_of_a_remote_holds_no_secret_and_no_folder(remote, public) -> None:
    assert provenance.public_address(remote) == public


def test_a_model_in_the_home_folder_is_told_without_it(inline_ws, experiment, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    workflow = launched(inline_ws, experiment, "baseline/copy")
    workflow.model = lm.Model(f"hf/{tmp_path}/models/mine", label="mine")
    noted = provenance.circumstances(inline_ws.database, [experiment.id]).of(workflow)
    assert noted["asked"]["model"] == "hf/~/models/mine"
    assert str(tmp_path) not in json.dumps(noted)


def test_what_the_worker_noted_and_the_label_are_told_without_the_home(inline_ws, experiment, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    workflow = launched(inline_ws, experiment, lm.Model("baseline/copy", label="hf//home/ann/mine"))
    with writing(inline_ws.database) as work:
        work.workflows.get(workflow.id).provenance = {}
        for job in work.jobs.of_workflows([workflow.id]):
            job.details = {**job.details, "source": "folder /home/ann/mine", "notes": ["read /home/ann/a, /home/ann"]}
    known = provenance.of(inline_ws.database, workflow)
    assert "/home/ann" not in json.dumps(known.to_dict())
    assert known.workflow["label"] == "hf/~/mine"
    assert known.inference["source"] == "folder ~/mine"
    assert known.inference["notes"] == ["read ~/a, ~"]


def test_a_worker_notes_no_home_folder(inline_ws, experiment, monkeypatch) -> None:
    monkeypatch.setattr(inference, "infer", lambda *_: {"source": "folder /home/ann/mine"})
    monkeypatch.setattr(results, "tally", lambda *_: results.Tally())
    monkeypatch.setenv("HOME", "/home/ann")
    workflow = launched(inline_ws, experiment, "baseline/copy")
    # Somebody else, whose home is another, reads it.
    monkeypatch.setenv("HOME", "/home/bob")
    assert provenance.of(inline_ws.database, workflow).inference["source"] == "folder ~/mine"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/ann", "~"),
        ("file:///home/ann/x", "file://~/x"),
        ("/home/anna/x", "/home/anna/x"),
        ("/home/ann-old/x", "/home/ann-old/x"),
        ("/mnt/home/ann/x", "/mnt/home/ann/x"),
    ],
)
def test_only_the_home_folder_itself_is_taken_out(text, told, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert steps.without_home({"a": [text]}) == {"a": [told]}


@pytest.mark.parametrize("home", ["/", None])
def test_where_there_is_no_home_folder_nothing_fails(home, monkeypatch) -> None:
    def nobody(_number: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setenv("HOME", home) if home else monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert steps.without_home("/srv/a") == "/srv/a"


def test_no_option_that_looks_like_a_secret_is_noted(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/copy")
    options = {"headers": {"authorization": "Bearer s3cr3t"}, "auth_token": "s3cr3t", "extra": 1}
    workflow.model = lm.Model("openai/gpt", base_url="https://u:s3cr3t@example.org/v1?key=s3cr3t", options=options)
    noted = provenance.circumstances(inline_ws.database, [experiment.id]).of(workflow)
    assert "s3cr3t" not in json.dumps(noted)
    assert noted["asked"]["options"] == {"extra": 1}


def test_each_attempt_is_noted_and_earlier_ones_are_kept(inline_ws, experiment, cluster) -> None:
    cluster.execute = False
    (workflow,) = inline_ws.workflows.launch(experiment, ["baseline/copy"])
    inline_ws.workflows.stop(workflow)
    cluster.execute = True
    inline_ws.wait(inline_ws.workflows.resume(workflow), progress=False)
    known = provenance.of(inline_ws.database, workflow.id)
    assert (known.workflow["attempt"], known.workflow["status"]) == (2, Status.SUCCEEDED)
    assert [each["attempt"] for each in known.earlier] == [1]
    assert known.earlier[0]["launch"] == workflow.provenance["launch"]
    assert "attempt 1" in str(known)


def test_the_earlier_attempts_that_are_kept_are_bounded(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/copy")
    noted = provenance.circumstances(inline_ws.database, [experiment.id])
    for workflow.attempt in range(2, 40):
        workflow.provenance = noted.of(workflow)
    attempts = [each["attempt"] for each in workflow.provenance["earlier"]]
    assert attempts == list(range(39 - provenance.MOST_EARLIER, 39))


def test_recorded_predictions_have_a_provenance_too(inline_ws, experiment) -> None:
    predictions = pd.DataFrame({"prediction": ["One.", "Three."]})
    workflow = inline_ws.workflows.record(experiment, name="mine", predictions=predictions)
    assert provenance.of(inline_ws.database, workflow).launch["user"]


def test_a_workflow_from_before_tells_what_its_rows_tell(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/copy")
    with writing(inline_ws.database) as work:
        work.workflows.get(workflow.id).provenance = {}
    known = provenance.of(inline_ws.database, workflow)
    assert (known.launch, known.versions) == ({}, {})
    assert known.dataset["content_hash"] == inline_ws.datasets.get("d").content_hash
    assert known.asked["fingerprint"] == workflow.fingerprint


def test_a_workflow_that_is_gone_is_named(inline_ws) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        provenance.of(inline_ws.database, "nowhere")


def test_changes_are_what_may_matter_and_nothing_else(inline_ws, experiment) -> None:
    known = provenance.of(inline_ws.database, launched(inline_ws, experiment, "baseline/copy"))
    assert provenance.changes(known, known) == ()
    later = replace(
        known,
        launch={**known.launch, "when": "later", "user": "somebody"},
        dataset={**known.dataset, "name": "renamed", "data_hash": "other"},
        inference={**known.inference, "versions": {**known.inference["versions"], "numpy": "99"}, "device": "cuda"},
    )
    changed = {each.what: each.after for each in provenance.changes(known, later)}
    # The device was not noted before, which is no change.
    assert changed == {"dataset data_hash": "other", "numpy": "99"}


def test_it_shows_itself_and_escapes_what_users_wrote(inline_ws, experiment) -> None:
    known = provenance.of(
        inline_ws.database, launched(inline_ws, experiment, lm.Model("baseline/copy", label="<b>x</b>"))
    )
    assert "<b>x</b>" in str(known)
    page = known._repr_html_()
    assert "<b>x</b>" not in page
    for text in ("Launched", "Dataset", "Versions", known.asked["fingerprint"]):
        assert text in str(known)
        assert text in page


def test_what_is_noted_survives_the_database(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/copy")
    with reading(inline_ws.database) as work:
        noted = work.workflows.get(workflow.id).provenance
    assert noted == json.loads(json.dumps(noted))
    assert noted["attempt"] == 1

"""Files of other tools: the values are those that the tools themselves report. See tests/data/eval_logs/README.md."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import DamagedError, InvalidInputError
from lumigator_nb.eval_logs import read
from lumigator_nb.services.comparison.overview import notes

SCHEMAS = ("eval.schema.json", "instance_level_eval.schema.json")
DATA = Path(__file__).parents[1] / "data" / "eval_logs"
GOOD, WEAK = 0.8, 0.5  # two and five of ten questions are answered wrongly


def told(comparison: lm.Comparison) -> str:
    return " ".join(notes(comparison))


def overall(comparison: lm.Comparison, score: str) -> dict[str, float]:
    summary = comparison.summary()
    return summary[summary["score"] == score].set_index("model")["overall"].to_dict()


@pytest.fixture
def lighteval(tmp_path: Path) -> Path:
    """The files of lighteval with the names that it gives them, which some systems do not allow."""
    shutil.copytree(DATA / "lighteval", tmp_path / "out")
    for path in list(tmp_path.rglob("*.parquet")):
        path.rename(path.with_name(path.name.replace("quiz_0", "quiz|0")))
    return tmp_path / "out"


def test_inspect_s_archives_have_inspect_s_means() -> None:
    comparison = lm.compare([DATA / "inspect" / "good.eval", DATA / "inspect" / "weak.eval"], n_resamples=100)
    assert overall(comparison, "match") == {"mockllm/good": GOOD, "mockllm/weak": WEAK}
    assert "reports" not in told(comparison), "the means in the headers are those of the samples"
    (good,) = read(DATA / "inspect" / "good.eval")
    assert good.reported == {"match": GOOD, "f1": GOOD}
    assert good.rows["item"].tolist() == [f"q{number}" for number in range(1, 11)], "in the order of the dataset"
    assert comparison.examples(1).iloc[0].tolist() == ["q1", "What is 2 + 3?", "5", "5", "I do not know"]
    assert comparison.metadata()["topic"].unique().tolist() == ["sums", "capitals", "words"]
    assert comparison.costs()["prompt_tokens"].tolist() == [110, 110]
    assert comparison.experiment.name == "little_quiz"


def test_inspect_s_epochs_are_repeats() -> None:
    (twice,) = read(DATA / "inspect" / "weak_twice.json")
    assert len(twice.rows) == 8
    comparison = lm.compare(DATA / "inspect" / "weak_twice.json", n_resamples=100)
    assert overall(comparison, "match") == {"mockllm/weak": 0.375}
    assert twice.reported["match"] == 0.375
    assert comparison.values("match")["mockllm/weak"].tolist() == [0, 1, 0, 0.5]


def test_two_runs_of_one_model_are_two_models_unless_they_are_called_one() -> None:
    files = [DATA / "inspect" / "weak.eval", DATA / "inspect" / "weak_twice.json"]
    apart = lm.compare(files, n_resamples=100)
    assert apart.models == ("mockllm/weak (weak.eval)", "mockllm/weak (weak_twice.json)")
    assert "compared as different models" in told(apart)
    one = lm.compare({"weak": files, "good": DATA / "inspect" / "good.eval"}, n_resamples=100)
    assert one.models == ("weak", "good")
    assert one.data.repeats["match"].shape == (2, 10, 3)


def test_an_inspect_log_that_stopped_says_so(tmp_path: Path) -> None:
    log = json.loads((DATA / "inspect" / "weak_twice.json").read_text())
    log["status"], log["samples"][0]["error"] = "error", {"message": "out of tokens"}
    log["samples"][0]["scores"] = None
    (tmp_path / "log.json").write_text(json.dumps(log))
    comparison = lm.compare(tmp_path / "log.json", n_resamples=100)
    assert "status 'error'" in str(comparison.workflows[0].steps[0].details["notes"])
    assert comparison.values("match").iloc[0].tolist() == [0.0], "the second epoch of the question has a score"
    log["samples"] = []
    (tmp_path / "log.json").write_text(json.dumps(log))
    with pytest.raises(DamagedError, match="no samples"):
        lm.compare(tmp_path / "log.json")


def test_lm_eval_s_samples_have_its_means() -> None:
    files = sorted((DATA / "lm_eval").glob("*/samples_little_quiz_*"))
    comparison = lm.compare(files, n_resamples=100)
    assert overall(comparison, "exact_match") == {"canned/good": GOOD, "canned/weak": WEAK}
    (good,) = read(files[0])
    assert good.reported == {"exact_match": GOOD}
    assert (good.task, good.details["lm_eval"]) == ("little_quiz", "0.4.13")
    assert comparison.metadata()["topic"].nunique() == 3
    assert "question" not in comparison.metadata(), "the question is the example"


def test_a_folder_of_lm_eval_is_compared_task_by_task() -> None:
    comparison = lm.compare(DATA / "lm_eval", n_resamples=100)
    assert comparison.dataset.n_examples == 20
    assert overall(comparison, "acc") == {"canned/good": 0.7, "canned/weak": 0.6}
    assert overall(comparison, "exact_match") == {"canned/good": GOOD, "canned/weak": WEAK}
    assert comparison.data.items[0] == "little_pick/0"
    choices = set(comparison.examples()["canned/good"][:10])
    assert {"none", "mice"} <= choices, "the answer to a multiple choice is its most likely text"
    assert comparison.examples()["ground_truth"][0] == "5"


def test_filters_of_lm_eval_are_scores_of_one_document(tmp_path: Path) -> None:
    (path,) = (DATA / "lm_eval" / "canned__good").glob("samples_little_quiz_*")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    both = [
        {**line, "filter": name, "exact_match": value}
        for line in lines
        for name, value in (("strict", line["exact_match"]), ("flexible", 1.0))
    ]
    target = tmp_path / "my__model" / "samples_little_quiz.jsonl"
    target.parent.mkdir()
    target.write_text("\n".join(map(json.dumps, both)))
    comparison = lm.compare(target, n_resamples=100)
    assert (comparison.models, comparison.dataset.n_examples) == (("my/model",), 10)
    assert overall(comparison, "exact_match,strict") == {"my/model": GOOD}
    assert overall(comparison, "exact_match,flexible") == {"my/model": 1.0}


def test_lighteval_s_details_have_its_means(lighteval: Path) -> None:
    comparison = lm.compare(lighteval, n_resamples=100)
    assert overall(comparison, "em") == {"canned-good": GOOD, "canned-weak": WEAK}
    logs = [log for path in sorted(lighteval.rglob("*.parquet")) for log in read(path)]
    assert [log.reported["em"] for log in logs] == [GOOD, WEAK]
    assert "reports" not in told(comparison)
    assert comparison.examples()["ground_truth"].tolist()[:4] == ["5", "3", "42", "Paris"]


def test_promptfoo_s_output_has_its_shares() -> None:
    comparison = lm.compare(DATA / "promptfoo" / "output.json", n_resamples=100)
    assert overall(comparison, "pass") == {"canned-good": GOOD, "canned-weak": WEAK, "echo": 0}
    assert overall(comparison, "exact") == {"canned-good": GOOD, "canned-weak": WEAK, "echo": 0}
    assert [log.reported["pass"] for log in read(DATA / "promptfoo" / "output.json")] == [GOOD, WEAK, 0]
    assert "reports" not in told(comparison)
    assert comparison.data.items[0] == "q1"
    assert comparison.costs()["dollars_per_1000"].round(3).tolist()[:2] == [0.1, 0.1]
    assert np.isnan(comparison.costs()["dollars"][2]), "0 dollars of an unknown price are no price"
    assert "of echo mostly copy the input" in told(comparison)


def test_an_answer_that_promptfoo_could_not_get_is_missing_rather_than_wrong(tmp_path: Path) -> None:
    output = json.loads((DATA / "promptfoo" / "output.json").read_text())
    row = next(row for row in output["results"]["results"] if row["provider"]["label"] == "canned-good")
    row |= {"failureReason": 2, "error": "API error 500", "success": False, "score": 0}
    (tmp_path / "output.json").write_text(json.dumps(output))
    comparison = lm.compare(tmp_path / "output.json", n_resamples=100)
    assert comparison.n_scored == 9
    assert "1 of 10 examples has no answer from canned-good" in told(comparison)


@pytest.mark.parametrize(
    ("files", "score"),
    [(("classic_good.json", "classic_weak.json"), "em"), (("genai_good.json", "genai_weak.csv"), "exact")],
)
def test_mlflow_s_tables_have_its_means(files, score) -> None:
    paths = [DATA / "mlflow" / file for file in files]
    comparison = lm.compare({"good": paths[0], "weak": paths[1]}, n_resamples=100)
    assert overall(comparison, score) == {"good": GOOD, "weak": WEAK}
    assert comparison.examples().iloc[0].tolist()[1:] == ["What is 2 + 3?", "5", "5", "I do not know"]


def test_our_metrics_are_added_to_the_scores_of_a_file() -> None:
    files = [DATA / "inspect" / "good.eval", DATA / "inspect" / "weak.eval"]
    comparison = lm.compare(files, metrics=["exact_match"], n_resamples=100)
    assert [info.name for info in comparison.scores] == ["match", "f1", "exact_match"]
    assert overall(comparison, "exact_match") == {"mockllm/good": GOOD, "mockllm/weak": WEAK}


def test_a_changed_dataset_is_not_compared_blindly(tmp_path: Path) -> None:
    log = json.loads((DATA / "inspect" / "weak_twice.json").read_text())
    log["eval"]["model"] = "other"
    for sample in log["samples"]:
        sample["input"] = sample["input"].replace("2 + 3", "2 + 30")
    (tmp_path / "log.json").write_text(json.dumps(log))
    comparison = lm.compare([DATA / "inspect" / "good.eval", tmp_path / "log.json"], n_resamples=100)
    assert "1 of 10 examples has the same id and different inputs" in told(comparison)


def test_a_mean_that_differs_from_the_tool_s_is_said(tmp_path: Path) -> None:
    log = json.loads((DATA / "inspect" / "weak_twice.json").read_text())
    log["results"]["scores"][0]["metrics"]["accuracy"]["value"] = 0.5
    (tmp_path / "log.json").write_text(json.dumps(log))
    comparison = lm.compare(tmp_path / "log.json", n_resamples=100)
    assert "Inspect reports match of mockllm/weak as 0.5; the mean of the samples in its file is 0.375" in told(
        comparison
    )


def test_summaries_without_samples_say_what_to_give() -> None:
    (summary,) = (DATA / "lm_eval" / "canned__good").glob("results_*")
    with pytest.raises(InvalidInputError, match="overall results only"):
        lm.compare(summary)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.eval", b"no zip", "cannot be read as an Inspect log"),
        ("x.json", b"{", "cannot be read"),
        ("x.json", b'{"a": 1}', "of no known format"),
        ("x.jsonl", b'{"a": 1}\n{"b": ', "line 2 is not JSON"),
        ("x.jsonl", b"[1]\n", "line 1 is no JSON object"),
        ("x.jsonl", b"\n", "it is empty"),
        ("x.parquet", b"PAR1 no", "cannot be read"),
        ("x.csv", b"\xff\xfe\x00", "cannot be read"),
        ("x.json", b'{"status": "success", "eval": {"task": "t", "model": "m"}, "samples": [{}]}', "KeyError"),
        ("x.jsonl", b'{"doc_id": 1, "doc": {}, "target": "x"}\n{"a": 1}', "line 2 is no sample"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path: Path, name, content, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DamagedError, InvalidInputError), match=message):
        lm.compare(tmp_path / name)


def test_a_zip_that_is_no_log_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.eval", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(DamagedError, match="without the header"):
        lm.compare(tmp_path / "x.eval")


def test_deflated_archives_of_older_inspect_are_read(tmp_path: Path) -> None:
    log = json.loads((DATA / "inspect" / "weak_twice.json").read_text())
    with zipfile.ZipFile(tmp_path / "x.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({key: log[key] for key in log if key != "samples"}))
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    assert overall(lm.compare(tmp_path / "x.eval", n_resamples=100), "match") == {"mockllm/weak": 0.375}


def test_a_score_of_several_values_is_several_scores(tmp_path: Path) -> None:
    log = json.loads((DATA / "inspect" / "weak_twice.json").read_text())
    for sample in log["samples"]:
        sample["scores"] = {"judge": {"value": {"style": 3, "fact": "C"}}, "parts": {"value": [1, 2]}}
    (tmp_path / "log.json").write_text(json.dumps(log))
    comparison = lm.compare(tmp_path / "log.json", ranges={"judge/style": (1, 5)}, n_resamples=100)
    assert {info.name: info.range for info in comparison.scores} == {"judge/style": (1, 5), "judge/fact": (0, 1)}


def test_models_of_different_tasks_are_matched_by_id_and_that_is_said(tmp_path: Path) -> None:
    log = json.loads((DATA / "inspect" / "weak_twice.json").read_text())
    log["eval"] |= {"model": "other", "task": "quiz_v2"}
    (tmp_path / "log.json").write_text(json.dumps(log))
    comparison = lm.compare([DATA / "inspect" / "good.eval", tmp_path / "log.json"], n_resamples=100)
    assert comparison.n_scored == 4
    assert "different tasks, little_quiz and quiz_v2: their items were matched by id alone" in told(comparison)


def test_two_tasks_with_one_item_each_are_no_repeats(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1], "model": ["a"], "s": [1.0]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert lm.compare(tmp_path / "a.csv", n_resamples=100).data.repeats == {}


def test_an_export_to_every_eval_ever_is_valid_and_reads_back(tmp_path: Path) -> None:
    files = [DATA / "inspect" / "good.eval", DATA / "inspect" / "weak.eval"]
    comparison = lm.compare(files, n_resamples=100)
    first = comparison.export(tmp_path / "quiz.eee.json")
    assert first.name == "quiz.mockllm-good.eee.json"
    schemas = {name: json.loads((DATA.parent / "every_eval_ever" / name).read_text()) for name in SCHEMAS}
    lines = []
    for path in sorted(tmp_path.glob("*.eee.json")):
        summary = json.loads(path.read_text())
        jsonschema.validate(summary, schemas["eval.schema.json"])
        own = path.with_name(path.name.removesuffix(".json") + "_samples.jsonl").read_text().splitlines()
        assert summary["detailed_evaluation_results"]["total_rows"] == len(own) == 20
        lines += map(json.loads, own)
    for line in lines:
        jsonschema.validate(line, schemas["instance_level_eval.schema.json"])
    again = lm.compare(sorted(tmp_path.glob("*.eee.json")), n_resamples=100)
    assert again.models == comparison.models
    pd.testing.assert_frame_equal(again.summary(), comparison.summary())
    assert again.examples().equals(comparison.examples())
    assert "reports" not in told(again)
    pd.testing.assert_frame_equal(lm.compare(tmp_path, n_resamples=100).summary(), comparison.summary())


def test_every_eval_ever_needs_the_samples(tmp_path: Path) -> None:
    comparison = lm.compare(DATA / "inspect" / "good.eval", n_resamples=100)
    path = comparison.export(tmp_path / "x.eee.json")
    path.with_name("x.eee_samples.jsonl").unlink()
    with pytest.raises(DamagedError, match="x.eee_samples.jsonl, with samples, is not beside it"):
        lm.compare(path)


def test_an_experiment_of_this_package_needs_no_database(tmp_path: Path) -> None:
    code = f"""
import sys
import lumigator_nb as lm
comparison = lm.compare({str(Path(__file__).with_name("shared-0.1.0.lumi.zip"))!r}, n_resamples=100)
print(len(comparison.models) > 1, sorted({{"ray", "sqlmodel", "sqlalchemy"}} & sys.modules.keys()))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "True []"


def test_files_loaded_into_a_workspace_have_the_same_numbers(inline_ws) -> None:
    files = [DATA / "inspect" / "good.eval", DATA / "inspect" / "weak.eval"]
    experiment = inline_ws.load_results(files, name="quiz", metrics=["exact_match"])
    inline_ws.wait(experiment, progress=False, check=True)
    comparison, expected = inline_ws.compare(experiment), lm.compare(files, metrics=["exact_match"])
    columns = ["score", "model", "overall", "low", "high"]
    ours, theirs = (
        one.summary()[columns].sort_values(["score", "model"], ignore_index=True) for one in (comparison, expected)
    )
    pd.testing.assert_frame_equal(ours, theirs)
    assert comparison.references() == expected.references()
    assert comparison.metadata().columns.tolist() == ["topic", "item"]
    assert comparison.costs()["prompt_tokens"].tolist() == [110, 110]
    with pytest.raises(InvalidInputError, match="no recorded score 'matc'"):
        inline_ws.workflows.record(
            experiment, name="x", predictions=comparison.data.predictions["mockllm/good"], scores={"matc": [1] * 10}
        )


def test_a_recorded_score_is_not_computed_for_another_model(inline_ws) -> None:
    experiment = inline_ws.load_results(DATA / "inspect" / "good.eval", name="quiz", task=lm.Summarization())
    inline_ws.workflows.launch(experiment, ["baseline/copy"])
    inline_ws.wait(experiment, progress=False)
    assert "match was computed by Inspect, and cannot be computed here" in told(inline_ws.compare(experiment))

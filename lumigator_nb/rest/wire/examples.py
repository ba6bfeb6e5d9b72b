"""Examples of requests and responses for the OpenAPI document, by the names of their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DATASET = "9a3b7d52-0d5e-4c1c-9f2f-6d9a5c1f0b11"
_JOB = "4f56bf57-6d3e-481b-8c8e-9a8a590adbef"
_EXPERIMENT = "0e4647c9-07a4-42c7-957c-ad441e843be5"
_WORKFLOW = "bb89ea10-892c-428b-9c97-74bd429a20a3"
_THEN, _LATER = "2026-03-02T09:30:00Z", "2026-03-02T09:31:12Z"
_FILES, _SIGNED = "http://localhost:8000/api/v1/files", "signature=WyJvcmlnaW5hbCJd.kuVb0Ag"
_RESULT = f"{_FILES}/results/job-{_JOB}.json?{_SIGNED}"
_TASK = {"task": "summarization"}
_MODEL = {"provider": "hf", "model": "facebook/bart-large-cnn"}
_SAMPLED = {"max_new_tokens": 142, "temperature": 0.0, "top_p": 1.0}
_PROMPT = "Summarize the conversation in one sentence."

_MODELS = [{"provider": "baseline", "model": "lead-3"}, _MODEL]
_WORKFLOW_SHOWN: dict[str, Any] = {
    "id": _WORKFLOW, "experiment_id": _EXPERIMENT, "model": _MODEL["model"], "name": "BART", "description": "",
    "system_prompt": _PROMPT, "status": "succeeded", "created_at": _THEN, "updated_at": _LATER,
}  # fmt: skip
_DETAILS: dict[str, Any] = {
    **_WORKFLOW_SHOWN,
    "jobs": [{
        "id": _JOB, "metrics": [{"name": "rouge_rougeL_mean", "value": 0.31}],
        "parameters": [{"name": "model", "value": _MODEL["model"]}, {"name": "ray_job_id", "value": _JOB}],
        "metric_url": _RESULT, "artifact_url": _RESULT,
    }],
    "metrics": {"rouge_rougeL_mean": 0.31, "n_failed": 0.0},
    "parameters": {**_MODEL, "name": "BART", "dataset": {"id": _DATASET}, "metrics": ["rouge"]},
    "artifacts_download_url": f"{_FILES}/results/workflow-{_WORKFLOW}.json?{_SIGNED}",
}  # fmt: skip

EXAMPLES: Mapping[str, Any] = {
    "InferenceCreate": {
        "name": "answers", "dataset": _DATASET, "max_samples": 20,
        "job_config": {"job_type": "inference", **_MODEL, "store_to_dataset": True, "generation_config": _SAMPLED},
    },
    "AnnotateCreate": {"name": "truth", "dataset": _DATASET, "job_config": {"job_type": "annotate", **_MODEL}},
    "EvaluationCreate": {
        "name": "scores", "dataset": _DATASET, "job_config": {"job_type": "evaluator", "metrics": ["rouge", "meteor"]},
    },
    "ExperimentCreate": {
        "name": "which model", "dataset": _DATASET, "max_samples": -1, "task_definition": _TASK, "metrics": ["rouge"],
    },
    "WorkflowCreate": {
        "name": "BART", "experiment_id": _EXPERIMENT, **_MODEL, "system_prompt": _PROMPT,
        "generation_config": _SAMPLED,
    },
    "SecretUpload": {"value": "sk-…", "description": "of the team"},
    "EstimateRequest": {"models": _MODELS},
    "SelectRequest": {"models": _MODELS, "metric": "rougeL", "confidence": 0.95, "budget": 2.5},
    "Problem": {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": f"Dataset with ID {_DATASET} not found",
        "request_id": "ce37f88e-7c92-439c-a460-d9b07a760d52",
    },
    "DatasetResponse": {
        "id": _DATASET, "filename": "letters.csv", "format": "job", "size": 48213, "ground_truth": True,
        "run_id": None, "generated": False, "generated_by": None, "created_at": _THEN,
    },
    "DatasetDownload": {
        "id": _DATASET,
        "download_urls": [
            f"{_FILES}/letters.csv/letters.{kind}?{_SIGNED}" for kind in ("csv", "parquet", "jsonl", "arrow")
        ],
    },
    "JobResponse": {
        "id": _JOB, "job_id": _JOB, "name": "answers", "description": "", "status": "running",
        "job_type": "inference", "created_at": _THEN, "experiment_id": None, "submission_id": _JOB,
        "config": {
            "name": "answers", "dataset": {"id": _DATASET, "name": "letters.csv"}, "max_samples": 20,
            "model_name_or_path": _MODEL["model"],
            "hf_pipeline": {"model_name_or_path": _MODEL["model"], "task": "summarization"},
        },
        "start_time": _THEN, "metadata": {"job_type": "inference"},
    },
    "RayJob": {
        "submission_id": _JOB, "status": "RUNNING", "start_time": 1772443800000, "metadata": {"job_type": "inference"},
    },
    "Logs": {"logs": "inference began\n20 of 20 examples\n"},
    "JobResult": {"id": _JOB, "job_id": _JOB},
    "JobResultDownload": {"id": _JOB, "download_url": _RESULT},
    "ExperimentResponse": {
        "id": _EXPERIMENT, "name": "which model", "description": "", "created_at": _THEN, "updated_at": _LATER,
        "max_samples": -1, "task_definition": _TASK, "dataset": _DATASET, "workflows": [_DETAILS],
    },
    "WorkflowResponse": {**_WORKFLOW_SHOWN, "status": "created", "updated_at": None},
    "WorkflowDetails": _DETAILS,
    "ModelResponse": {
        "display_name": "BART large, CNN/DailyMail", **_MODEL, "description": "",
        "website_url": "https://huggingface.co/facebook/bart-large-cnn", "requirements": [],
        "info": {"parameter_count": "406M", "model_size": "1.6 GB"},
        "tasks": [{"summarization": {"max_new_tokens": 142}}],
    },
    "SecretResponse": {"name": "openai_api_key", "description": "of the team"},
    "EstimateRow": {
        "model": "openai/gpt-4o-mini", "examples": 64, "to_ask": 64, "prompt_tokens": 13120, "completion_tokens": 2560,
        "dollars": 0.0035, "dollars_at_most": 0.0118,
        "judge_dollars": 0.0, "judge_dollars_at_most": 0.0, "basis": "pilot of 16",
    },
    "Selecting": {"id": _WORKFLOW, "status": "running"},
    "Comparison": {
        "experiment_id": _EXPERIMENT, "main_score": "rougeL", "best": "BART", "n_scored": 64, "confidence": 0.95,
        "verdict": "BART has the highest rougeL (0.310). lead-3 is worse by 0.114 [0.061, 0.170].",
        "contrasts": [{
            "model": "lead-3", "other": "BART", "difference": -0.114, "low": -0.17, "high": -0.061,
            "p_adjusted": 0.0005, "told_apart": True,
        }],
        "summary": [{
            "score": "rougeL", "model": "BART", "overall": 0.31, "low": 0.27, "high": 0.35, "best": True, "n": 64,
        }],
        "ranking": [{"model": "BART", "overall": 0.31, "rank_low": 1, "rank_high": 1, "best_set": True}],
        "costs": [{"model": "BART", "examples": 64, "answered": 64, "failed": 0, "dollars": None}],
        "notes": ["bertscore could not be computed for any model: the hub cannot be reached."],
        "not_computed": {"bertscore": {"BART": "the hub cannot be reached", "lead-3": "the hub cannot be reached"}},
        "uncompared": {},
    },
    "Predictions": {
        "total": 64, "items": [{
            "row": 0, "prediction": "The heating is broken.", "error": None, "prompt_tokens": 205,
            "completion_tokens": 6, "seconds": 0.8, "cost": 0.00003, "cached": False, "truncated": False,
        }],
    },
    "Health": {"status": "OK", "deployment_type": "local"},
    "Readiness": {"status": "ok", "database": "ok", "store": "ok", "cluster": "ok"},
}  # fmt: skip


def example_of(name: str) -> Any:
    """Return an example of a schema, or None. The example of a list has one item."""
    item = name.removeprefix("Listing_").removesuffix("_")
    return {"total": 1, "items": [EXAMPLES[item]]} if item != name and item in EXAMPLES else EXAMPLES.get(name)

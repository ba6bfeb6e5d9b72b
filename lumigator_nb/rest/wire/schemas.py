"""Schemas of requests and responses. Field names and defaults of `/api/v1` are those of lumigator-schemas 0.1.4a0."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lumigator_nb.rest.wire.leniency import has_api, plain_secret_name

Item = TypeVar("Item")

# PostgreSQL refuses NUL characters in texts.
_TEXT = r"^[^\x00]*$"
_NAME = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
Text = Annotated[str, Field(max_length=100_000, pattern=_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NAME)]
SecretName = Annotated[
    str, Field(max_length=255, pattern=r"^[ -~]*$", examples=["openai_api_key"]), AfterValidator(plain_secret_name)
]
# Like Lumigator, accepts any number; 0 and negative numbers stand for all examples.
MaxSamples = Annotated[
    int, Field(ge=-(2**31), le=2**31 - 1, description="number of examples to use; 0 and negative numbers: all")
]
BatchSize = Annotated[
    int, Field(ge=1, le=2**31 - 1, description="parallel requests or batch size; 1: the server chooses")
]
_DATASET_ID = "9a3b7d52-0d5e-4c1c-9f2f-6d9a5c1f0b11"


class Request(BaseModel):
    """Base of requests: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class LenientRequest(Request):
    """Base of requests of Lumigator's clients: unknown fields are ignored, and named in a header of the response.

    Like Lumigator, a task and a generation config still refuse unknown fields.
    """

    model_config = ConfigDict(extra="allow")

    def unused(self) -> list[str]:
        """Return the names of known fields whose values have no effect."""
        return []

    def ignored(self) -> list[str]:
        """Return the names of all fields without an effect, such as `job_config.model`, as the client wrote them."""
        names = [*(self.model_extra or {}), *self.unused()]
        for field in type(self).model_fields:
            inner = getattr(self, field)
            if isinstance(inner, LenientRequest):
                names += [f"{field}.{name}" for name in inner.ignored()]
        return names


class Answer(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(protected_namespaces=())


class Problem(Answer):
    """An error, in the format of RFC 9457.

    Attributes:
        title: name of the HTTP status.
        detail: what is wrong, and where.
        hint: how to fix it.
        request_id: id of the request in the server's log.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    hint: str | None = None
    request_id: str | None = None


class Listing(Answer, Generic[Item]):
    """A page of a list; `total` is the number of all items."""

    total: int
    items: list[Item]


class Predictions(Listing[dict[str, Any]]):
    """A page of the predictions of a workflow, with tokens, time and cost of each."""


class Health(Answer):
    """The server runs."""

    status: Literal["OK"] = "OK"
    deployment_type: str


class Readiness(Answer):
    """The state of database, store and cluster: "ok", "starting" or "failed"."""

    status: Literal["ok", "failed"]
    database: str
    store: str
    cluster: str


class DatasetFormat(StrEnum):
    """Format of a dataset; there is only one."""

    JOB = "job"


class DatasetResponse(Answer):
    """A dataset; `size` is in bytes, `run_id` is the job that made it.

    Attributes:
        ground_truth: whether every example has ground truth that is not empty.
        notes: remarks from the upload, such as filled cells.
    """

    id: UUID
    filename: str
    format: DatasetFormat = DatasetFormat.JOB
    size: int
    ground_truth: bool
    run_id: UUID | None = None
    generated: bool | None = None
    generated_by: str | None = None
    created_at: datetime
    notes: list[str] = Field(default_factory=list)


class DatasetDownload(Answer):
    """URLs of a dataset's files, valid for one to two hours."""

    id: UUID
    download_urls: list[str]


class TaskKind(StrEnum):
    """Lumigator's names of tasks."""

    SUMMARIZATION = "summarization"
    TRANSLATION = "translation"
    TEXT_GENERATION = "text-generation"
    CLASSIFICATION = "classification"


class SummarizationTask(Request):
    """Summarize each example."""

    task: Literal["summarization"] = "summarization"


class TranslationTask(Request):
    """Translate each example. Languages are codes or English names."""

    task: Literal["translation"] = "translation"
    source_language: Annotated[Name, Field(examples=["en"])]
    target_language: Annotated[Name, Field(examples=["de"])]


class TextGenerationTask(Request):
    """Answer each example by the system prompt."""

    task: Literal["text-generation"] = "text-generation"


class ClassificationTask(Request):
    """Assign a label to each example, or with `multi_label` any number of labels."""

    task: Literal["classification"] = "classification"
    labels: Annotated[list[Name], Field(min_length=2, max_length=500, examples=[["billing", "delivery"]])]
    descriptions: dict[Name, Text] = Field(default_factory=dict, description="what labels mean, by label")
    multi_label: bool = False


TaskDefinition = Annotated[
    SummarizationTask | TranslationTask | TextGenerationTask | ClassificationTask,
    Field(discriminator="task", examples=[{"task": "summarization"}]),
]


class GenerationConfig(Request):
    """Settings of text generation."""

    max_new_tokens: int = Field(default=1024, ge=1, le=1_000_000)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, description="only for providers with an API")
    temperature: float = Field(default=0.5, ge=0, le=100)
    top_p: float = Field(default=0.5, ge=0, le=1, description="0: always the most probable token")


class CheckFields(Request):
    """A check of each answer: 1 if it meets all conditions, else 0 with the reason."""

    check: Annotated[dict[str, Any], Field(max_length=20)] = Field(
        description="the conditions by name, and optionally a `name` for the score", examples=[{"max_words": 50}]
    )


MetricNames = Annotated[list[Name | CheckFields], Field(max_length=50, examples=[["rouge"]])]


class LocalJudge(LenientRequest):
    """A judge model on a server with OpenAI's protocol."""

    model_name: Name
    model_base_url: Name


Provider = Annotated[
    Name, Field(pattern=r"^[A-Za-z0-9_-]+$", examples=["baseline"]), AfterValidator(lambda name: name.replace("-", "_"))
]


class ModelFields(Request):
    """A model and its settings."""

    model: Annotated[Name, Field(examples=["lead-3"])]
    provider: Provider
    base_url: Name | None = None
    secret_key_name: SecretName | None = None
    generation_config: GenerationConfig = Field(default_factory=GenerationConfig)


class LenientModelFields(ModelFields, LenientRequest):
    """A model and its settings, as Lumigator's clients send them."""

    def unused(self) -> list[str]:
        """Return the frequency penalty if the provider does not support it."""
        has_penalty = has_api(self.provider) or not self.generation_config.frequency_penalty
        return [*super().unused(), *([] if has_penalty else ["generation_config.frequency_penalty"])]


class InferenceConfig(LenientModelFields):
    """Settings of an inference job."""

    job_type: Literal["inference"] = "inference"
    task_definition: TaskDefinition = Field(default_factory=SummarizationTask)
    accelerator: str | None = "auto"
    revision: str | None = "main"
    use_fast: bool = Field(default=True, description="accepted and ignored")
    trust_remote_code: bool = False
    torch_dtype: str = "auto"
    output_field: Name | None = "predictions"
    store_to_dataset: bool = Field(
        default=False, description="also store the predictions as a new dataset, in the column `output_field`"
    )
    system_prompt: Text | None = None


class AnnotateConfig(InferenceConfig):
    """Settings of an annotation job. Its predictions become the ground truth of a new dataset."""

    job_type: Literal["annotate"] = "annotate"  # type: ignore[assignment]
    model: Name = "facebook/bart-large-cnn"
    provider: Provider = "hf"
    output_field: Name | None = Field(default="ground_truth", description="always `ground_truth`")
    store_to_dataset: bool = Field(default=True, description="always true")

    def unused(self) -> list[str]:
        """Return the fields that have one possible value in an annotation."""
        others = [] if self.output_field in (None, "ground_truth") else ["output_field"]
        return [*super().unused(), *others, *([] if self.store_to_dataset else ["store_to_dataset"])]


class EvaluationConfig(LenientRequest):
    """Settings of an evaluation job, which scores the column `predictions` of a dataset."""

    job_type: Literal["evaluator"] = "evaluator"
    task_definition: TaskDefinition = Field(default_factory=SummarizationTask)
    metrics: MetricNames | None = None
    llm_as_judge: LocalJudge | None = None
    secret_key_name: SecretName | None = None


class JobFields(LenientRequest):
    """Fields of all jobs."""

    name: Name
    description: Text = ""
    dataset: Annotated[UUID, Field(examples=[_DATASET_ID])]
    max_samples: MaxSamples = -1
    batch_size: BatchSize = 1


class InferenceCreate(JobFields):
    """An inference job to create."""

    job_config: InferenceConfig


class AnnotateCreate(JobFields):
    """An annotation job to create."""

    job_config: AnnotateConfig


class EvaluationCreate(JobFields):
    """An evaluation job to create."""

    job_config: EvaluationConfig


class JobType(StrEnum):
    """Lumigator's names of the kinds of jobs."""

    INFERENCE = "inference"
    EVALUATION = "evaluator"
    ANNOTATION = "annotate"


class JobResponse(Answer):
    """A job, with the fields of a Ray job; `submission_id` repeats its id."""

    id: UUID
    job_id: UUID
    name: str
    description: str
    status: str
    job_type: JobType
    created_at: datetime
    updated_at: datetime | None = None
    experiment_id: UUID | None = None
    type: str = "SUBMISSION"
    submission_id: str
    config: dict[str, Any] = Field(default_factory=dict)
    message: str | None = None
    error_type: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    runtime_env: dict[str, Any] = Field(default_factory=dict)


class RayJob(Answer):
    """A job in the format of Ray's Jobs API. Times are milliseconds since 1970."""

    type: str = "SUBMISSION"
    job_id: str | None = None
    submission_id: str
    status: Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    message: str | None = None
    error_type: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    driver_info: dict[str, Any] | None = None
    driver_agent_http_address: str | None = None
    driver_node_id: str | None = None
    driver_exit_code: int | None = None
    entrypoint: str = ""


class Logs(Answer):
    """The log of a job or workflow."""

    logs: str


class JobResult(Answer):
    """The id of a job's result."""

    id: UUID
    job_id: UUID


class JobResultDownload(Answer):
    """The URL of a job's result, valid for one to two hours."""

    id: UUID
    download_url: str


class NamedValue(Answer):
    """A metric or parameter."""

    name: str
    value: Any


class WorkflowJob(Answer):
    """A job of a workflow, with its results."""

    id: UUID
    metrics: list[NamedValue]
    parameters: list[NamedValue]
    metric_url: str
    artifact_url: str


class ExperimentCreate(LenientRequest):
    """An experiment to create."""

    name: Name
    description: Text = ""
    dataset: Annotated[UUID, Field(examples=[_DATASET_ID])]
    max_samples: MaxSamples = -1
    task_definition: TaskDefinition = Field(default_factory=SummarizationTask)
    metrics: MetricNames | None = Field(
        default=None, description="names of metrics, and checks; default: the usual ones of the task"
    )


class WorkflowCreate(LenientModelFields):
    """A workflow to create: one model on one experiment."""

    name: Name
    description: Text = ""
    experiment_id: Annotated[UUID, Field(examples=[_DATASET_ID])]
    batch_size: BatchSize = 1
    system_prompt: Text = ""
    inference_output_field: Name = Field(default="predictions", description="accepted and ignored")
    config_template: Text | None = Field(default=None, description="accepted and ignored")
    job_timeout_sec: int = Field(
        default=3600, ge=1, le=2**31 - 1, description="time limit of each of its two jobs, in seconds"
    )
    metrics: MetricNames | None = None
    llm_as_judge: LocalJudge | None = None


class WorkflowResponse(Answer):
    """A workflow; `status` is created, running, failed or succeeded."""

    id: UUID
    experiment_id: UUID
    model: str
    name: str
    description: str
    system_prompt: str
    status: Literal["created", "running", "failed", "succeeded"]
    created_at: datetime
    updated_at: datetime | None = None


class WorkflowDetails(WorkflowResponse):
    """A workflow with its jobs and results; `message` tells why it failed, or which metrics were skipped and why."""

    jobs: list[WorkflowJob]
    metrics: dict[str, float]
    parameters: dict[str, Any]
    artifacts_download_url: str | None = None
    message: str | None = None


class ExperimentResponse(Answer):
    """An experiment with its workflows."""

    id: UUID
    name: str
    description: str
    created_at: datetime
    updated_at: datetime | None = None
    max_samples: int
    task_definition: dict[str, Any]
    dataset: UUID
    workflows: list[WorkflowDetails]


class ModelInfo(Answer):
    """The size of a model."""

    parameter_count: str
    tensor_type: str | None = None
    model_size: str


class ModelResponse(Answer):
    """A model of the catalogue."""

    display_name: str
    model: str
    provider: str
    base_url: str | None = None
    website_url: str
    description: str
    requirements: list[Literal["api_key", "llamafile"]]
    info: ModelInfo | None = None
    tasks: list[dict[str, dict[str, Any]]]


class SecretUpload(LenientRequest):
    """A secret to store."""

    value: str = Field(min_length=1, max_length=1024, json_schema_extra={"writeOnly": True})
    description: Annotated[str, Field(max_length=1000, pattern=_TEXT)]


class SecretResponse(Answer):
    """A stored secret, without its value."""

    name: str
    description: str


class Asking(Request):
    """Base of requests about several models."""

    models: Annotated[list[ModelFields], Field(min_length=1, max_length=50)]


class EstimateRequest(Asking):
    """Models whose cost to estimate."""


class EstimateRow(Answer):
    """The estimate of one model and the judges of its answers. Dollars are null if a price is unknown."""

    model: str
    examples: int
    to_ask: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    dollars_at_most: float | None
    basis: str
    judge_dollars: float | None
    judge_dollars_at_most: float | None


class SelectRequest(Asking):
    """A race to start: models answer until the best is certain.

    Attributes:
        population: conclude on the examples of the dataset, or on a larger population that they are a sample of.
    """

    models: Annotated[list[ModelFields], Field(min_length=2, max_length=50)]
    metric: Name | None = None
    confidence: float = Field(default=0.95, gt=0, lt=1)
    indifference: float = Field(default=0.0, ge=0, le=1e9)
    population: Literal["dataset", "larger"] = "dataset"
    budget: float | None = Field(default=None, ge=0, le=1e9)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class Selecting(Answer):
    """The state of a race and, once it has ended, its conclusion or error."""

    id: UUID
    status: Literal["running", "succeeded", "failed"]
    result: dict[str, Any] | None = None
    error: str | None = None


class Comparison(Answer):
    """A comparison of the succeeded workflows.

    Attributes:
        best: the model with the best value of the main score.
        verdict: the conclusion, in words.
        contrasts: tests of each model except the best: `model` against `other`, their `difference` with interval and
            corrected p-value. Each model is tested against the best one; if that test is not significant, also against
            a model that beats it significantly.
        summary: one row per model and score, with interval and difference to the best.
        ranking: one row per model, with the ranks that it may have; empty for a score that is neither better nor worse.
        costs: one row per model.
        notes: further remarks, such as which metrics were skipped.
        not_computed: for each metric and model, why there are no scores.
        uncompared: for each score that only some models have, its values by model.
    """

    experiment_id: UUID
    main_score: str
    best: str | None
    n_scored: int
    confidence: float
    verdict: str
    contrasts: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    ranking: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    notes: list[str]
    not_computed: dict[str, dict[str, str]]
    uncompared: dict[str, dict[str, float]]

"""What goes over the wire. Field names and defaults of `/api/v1` are those of lumigator-schemas 0.1.4a0."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lumigator_nb.rest.wire.leniency import has_api, plain_secret_name

Item = TypeVar("Item")

# A zero byte is no text for PostgreSQL.
_TEXT = r"^[^\x00]*$"
_NAME = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
Text = Annotated[str, Field(max_length=100_000, pattern=_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NAME)]
SecretName = Annotated[
    str, Field(max_length=255, pattern=r"^[ -~]*$", examples=["openai_api_key"]), AfterValidator(plain_secret_name)
]
# Any number, as Lumigator takes it; what is not above 0 stands for all examples.
MaxSamples = Annotated[int, Field(ge=-(2**31), le=2**31 - 1, description="0 and less are all")]
BatchSize = Annotated[int, Field(ge=1, le=2**31 - 1, description="1 lets this server choose")]
_DATASET_ID = "9a3b7d52-0d5e-4c1c-9f2f-6d9a5c1f0b11"


class Request(BaseModel):
    """Base of what is sent: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class LenientRequest(Request):
    """Base of what Lumigator's clients send: unknown fields are ignored, and named in the answer.

    Only where Lumigator itself ignores them: it refuses unknown fields of a task and of a generation config.
    """

    model_config = ConfigDict(extra="allow")

    def unused(self) -> list[str]:
        """Return the names of known fields whose values have no effect."""
        return []

    def ignored(self) -> list[str]:
        """Return the names of all fields that have no effect, such as `job_config.model`, as the caller wrote them."""
        names = [*(self.model_extra or {}), *self.unused()]
        for field in type(self).model_fields:
            inner = getattr(self, field)
            if isinstance(inner, LenientRequest):
                names += [f"{field}.{name}" for name in inner.ignored()]
        return names


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(protected_namespaces=())


class Problem(Answer):
    """What went wrong, as RFC 9457 has it.

    Attributes:
        title: the kind of problem.
        detail: what is wrong, and where.
        hint: what to do about it.
        request_id: finds the request in the server's log.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    hint: str | None = None
    request_id: str | None = None


class Listing(Answer, Generic[Item]):
    """A page of a list; `total` counts all that there are."""

    total: int
    items: list[Item]


class Predictions(Listing[dict[str, Any]]):
    """A page of the predictions of a workflow, with what each took."""


class Health(Answer):
    """That the server answers."""

    status: Literal["OK"] = "OK"
    deployment_type: str


class Readiness(Answer):
    """What the server needs: "ok", "starting" or "failed"."""

    status: Literal["ok", "failed"]
    database: str
    store: str
    cluster: str


class DatasetFormat(StrEnum):
    """What is uploaded; there is but one format."""

    JOB = "job"


class DatasetResponse(Answer):
    """A dataset; `size` in bytes, `run_id` the job that made it.

    Attributes:
        ground_truth: whether every example has one with text.
        notes: what was noticed when it was uploaded.
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
    """Addresses of a dataset's files, which hold for one to two hours."""

    id: UUID
    download_urls: list[str]


class TaskKind(StrEnum):
    """Tasks, as Lumigator calls them."""

    SUMMARIZATION = "summarization"
    TRANSLATION = "translation"
    TEXT_GENERATION = "text-generation"


class SummarizationTask(Request):
    """Condense each example."""

    task: Literal["summarization"] = "summarization"


class TranslationTask(Request):
    """Translate each example; languages by code or English name."""

    task: Literal["translation"] = "translation"
    source_language: Annotated[Name, Field(examples=["en"])]
    target_language: Annotated[Name, Field(examples=["de"])]


class TextGenerationTask(Request):
    """Answer each example as the system prompt says."""

    task: Literal["text-generation"] = "text-generation"


TaskDefinition = Annotated[
    SummarizationTask | TranslationTask | TextGenerationTask,
    Field(discriminator="task", examples=[{"task": "summarization"}]),
]


class GenerationConfig(Request):
    """How a model generates."""

    max_new_tokens: int = Field(default=1024, ge=1, le=1_000_000)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, description="providers with an API take it")
    temperature: float = Field(default=0.5, ge=0, le=100)
    top_p: float = Field(default=0.5, ge=0, le=1, description="0 takes the most probable token each time")


class LocalJudge(LenientRequest):
    """A judge of one's own: a model behind an address that speaks OpenAI's protocol."""

    model_name: Name
    model_base_url: Name


Provider = Annotated[
    Name, Field(pattern=r"^[A-Za-z0-9_-]+$", examples=["baseline"]), AfterValidator(lambda name: name.replace("-", "_"))
]


class ModelFields(Request):
    """What names a model and says how it is asked."""

    model: Annotated[Name, Field(examples=["lead-3"])]
    provider: Provider
    base_url: Name | None = None
    secret_key_name: SecretName | None = None
    generation_config: GenerationConfig = Field(default_factory=GenerationConfig)


class LenientModelFields(ModelFields, LenientRequest):
    """The same where Lumigator's clients send it."""

    def unused(self) -> list[str]:
        """Return the frequency penalty where the provider has none."""
        has_penalty = has_api(self.provider) or not self.generation_config.frequency_penalty
        return [*super().unused(), *([] if has_penalty else ["generation_config.frequency_penalty"])]


class InferenceConfig(LenientModelFields):
    """What an inference job does."""

    job_type: Literal["inference"] = "inference"
    task_definition: TaskDefinition = Field(default_factory=SummarizationTask)
    accelerator: str | None = "auto"
    revision: str | None = "main"
    use_fast: bool = Field(default=True, description="accepted and ignored")
    trust_remote_code: bool = False
    torch_dtype: str = "auto"
    output_field: Name | None = "predictions"
    store_to_dataset: bool = Field(default=False, description="make a dataset with the predictions as `output_field`")
    system_prompt: Text | None = None


class AnnotateConfig(InferenceConfig):
    """What an annotation job does: predictions become the ground truth of a new dataset."""

    job_type: Literal["annotate"] = "annotate"  # type: ignore[assignment]
    model: Name = "facebook/bart-large-cnn"
    provider: Provider = "hf"
    output_field: Name | None = Field(default="ground_truth", description="it is always `ground_truth`")
    store_to_dataset: bool = Field(default=True, description="a dataset is always made")

    def unused(self) -> list[str]:
        """Return what an annotation has no choice of."""
        others = [] if self.output_field in (None, "ground_truth") else ["output_field"]
        return [*super().unused(), *others, *([] if self.store_to_dataset else ["store_to_dataset"])]


class EvaluationConfig(LenientRequest):
    """What an evaluation job does: it scores the column `predictions` of a dataset."""

    job_type: Literal["evaluator"] = "evaluator"
    task_definition: TaskDefinition = Field(default_factory=SummarizationTask)
    metrics: Annotated[list[Name], Field(max_length=50, examples=[["rouge"]])] | None = None
    llm_as_judge: LocalJudge | None = None
    secret_key_name: SecretName | None = None


class JobFields(LenientRequest):
    """What all jobs have in common."""

    name: Name
    description: Text = ""
    dataset: Annotated[UUID, Field(examples=[_DATASET_ID])]
    max_samples: MaxSamples = -1
    batch_size: BatchSize = 1


class InferenceCreate(JobFields):
    """Asks for an inference job."""

    job_config: InferenceConfig


class AnnotateCreate(JobFields):
    """Asks for an annotation job."""

    job_config: AnnotateConfig


class EvaluationCreate(JobFields):
    """Asks for an evaluation job."""

    job_config: EvaluationConfig


class JobType(StrEnum):
    """Kinds of jobs, as Lumigator calls them."""

    INFERENCE = "inference"
    EVALUATION = "evaluator"
    ANNOTATION = "annotate"


class JobResponse(Answer):
    """A job; with the fields of one of Ray's, where `submission_id` is its id once more."""

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
    """A job as Ray's own API shows one; times in milliseconds since 1970."""

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
    """What the worker printed."""

    logs: str


class JobResult(Answer):
    """That a job has a result."""

    id: UUID
    job_id: UUID


class JobResultDownload(Answer):
    """The address of a job's result, which holds for one to two hours."""

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
    """Asks for an experiment."""

    name: Name
    description: Text = ""
    dataset: Annotated[UUID, Field(examples=[_DATASET_ID])]
    max_samples: MaxSamples = -1
    task_definition: TaskDefinition = Field(default_factory=SummarizationTask)
    metrics: Annotated[list[Name], Field(max_length=50)] | None = Field(
        default=None, description="of this server; default the usual ones of the task", examples=[["rouge"]]
    )


class WorkflowCreate(LenientModelFields):
    """Asks for a workflow: one model through one experiment."""

    name: Name
    description: Text = ""
    experiment_id: Annotated[UUID, Field(examples=[_DATASET_ID])]
    batch_size: BatchSize = 1
    system_prompt: Text = ""
    inference_output_field: Name = Field(default="predictions", description="accepted and ignored")
    config_template: Text | None = Field(default=None, description="accepted and ignored")
    job_timeout_sec: int = Field(
        default=3600, ge=1, le=2**31 - 1, description="seconds that each of its two jobs may run"
    )
    metrics: Annotated[list[Name], Field(max_length=50)] | None = None
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
    """A workflow with its jobs and results; `message` says why it failed, or which metrics were skipped, and why."""

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
    task_definition: dict[str, str]
    dataset: UUID
    workflows: list[WorkflowDetails]


class ModelInfo(Answer):
    """How large a model is."""

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
    """A secret that is stored; its value is nowhere."""

    name: str
    description: str


class Asking(Request):
    """Models to ask."""

    models: Annotated[list[ModelFields], Field(min_length=1, max_length=50)]


class EstimateRequest(Asking):
    """Asks what models would take and cost; nothing is paid for."""


class EstimateRow(Answer):
    """What asking one model would take; dollars are None where it has no price."""

    model: str
    examples: int
    to_ask: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    dollars_at_most: float | None
    basis: str


class SelectRequest(Asking):
    """Asks for a race: models answer until the best is certain."""

    models: Annotated[list[ModelFields], Field(min_length=2, max_length=50)]
    metric: Name | None = None
    confidence: float = Field(default=0.95, gt=0, lt=1)
    indifference: float = Field(default=0.0, ge=0, le=1e9)
    budget: float | None = Field(default=None, ge=0, le=1e9)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class Selecting(Answer):
    """How a race stands: what was concluded, or why it failed, once it has ended."""

    id: UUID
    status: Literal["running", "succeeded", "failed"]
    result: dict[str, Any] | None = None
    error: str | None = None


class Comparison(Answer):
    """A comparison of the workflows that have succeeded.

    Attributes:
        best: the model with the best value of the main score.
        verdict: in words.
        contrasts: what is shown of each model but the best: `model` against `other`, their `difference` with interval
            and corrected p-value. Each stands against the best, and against a model that beats it where the best one is
            not shown to.
        summary: one row per model and score, with interval and difference to the best.
        ranking: one row per model, with the ranks that it may have; empty for a score without better or worse.
        costs: one row per model.
        notes: what a reader must know besides, such as which metrics were skipped.
        not_computed: by metric and model why there are no scores.
        uncompared: by score and model those that only some models have.
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

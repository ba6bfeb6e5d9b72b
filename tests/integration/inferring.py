"""Makes workflows in a store and works through their inference step, without a database or a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb.engine import steps
from lumigator_nb.specs import Launch, Model, Step, StepResult, StoreSpec, Summarization, Task, WorkflowSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store
from lumigator_testing import ModelServer


def server_model(server: ModelServer, name: str = "lead-1", **settings) -> Model:
    return Model(name, provider="openai", base_url=server.base_url, **settings)


def examples(n: int, start: int = 0) -> list[str]:
    return [f"Case {i} came in. It was about a broken cup. Support sent a new one." for i in range(start, start + n)]


@dataclass
class Bench:
    """A store with workflows in it: a folder, or what `spec` says."""

    folder: Path
    spec: StoreSpec | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.spec = self.spec or StoreSpec(uri=self.folder.as_uri())
        self.store = Store(self.spec)

    def workflow(self, model: Model, texts: list[str], *, task: Task | None = None, metadata=None, **launch):
        dataset = layout.examples(uuid.uuid4().hex)
        with self.store.writing(dataset) as file:
            pq.write_table(pa.table({"example": texts, **(metadata or {})}), file)
        spec = WorkflowSpec(
            workflow_id=str(uuid.uuid4()),
            dataset=dataset,
            n_examples=len(texts),
            task=task or Summarization(),
            model=model,
            metrics=(),
            shard_size=launch.pop("shard_size", 16),
            launch=Launch(**launch),
        )
        results.write_spec(self.store, spec)
        return spec

    def again(self, spec: WorkflowSpec, **launch) -> WorkflowSpec:
        changed = {"attempt": spec.attempt + 1, "launch": spec.launch.model_copy(update=launch)}
        new = spec.model_copy(update=changed)
        results.write_spec(self.store, new)
        return new

    def infer(self, spec: WorkflowSpec) -> StepResult:
        return steps.execute(Step.INFERENCE, spec, self.store)

    def ask(self, model: Model, texts: list[str], **settings) -> tuple[StepResult, pd.DataFrame]:
        spec = self.workflow(model, texts, **settings)
        result = self.infer(spec)
        return result, self.predictions(spec)

    def predictions(self, spec: WorkflowSpec) -> pd.DataFrame:
        return results.read_step(self.store, spec.workflow_id, Step.INFERENCE)

    def worker(self, spec: WorkflowSpec, **environment: str) -> subprocess.Popen:
        endpoint = ["--endpoint-url", self.spec.endpoint_url] if self.spec.endpoint_url else []
        command = [sys.executable, "-m", "lumigator_nb.engine.worker", self.spec.uri, spec.workflow_id, *endpoint]
        return subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def everything(self) -> bytes:
        """All that is in the store but the datasets, names included."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and "datasets" not in path.parts]
        return b"\n".join(str(path).encode() + b"\n" + contents(path) for path in files)


def contents(path: Path) -> bytes:
    """A file's bytes, unpacked as far as it is packed."""
    import gzip

    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pylist()).encode()
    return data


def kill_after(process: subprocess.Popen, seconds: float) -> None:
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()

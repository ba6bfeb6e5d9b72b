"""Routes of datasets: upload, list, download, delete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from lumigator_nb.database.records import Dataset
from lumigator_nb.errors import ConfigurationError
from lumigator_nb.rest.access import READ, WRITE
from lumigator_nb.rest.errors import responses
from lumigator_nb.rest.state import Shared
from lumigator_nb.rest.wire import documents
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.paging import AnyLimit, AnySkip, base, location
from lumigator_nb.rest.wire.translation import dataset_response, filename_of
from lumigator_nb.specs import Step, now
from lumigator_nb.storage import layout

router = APIRouter(prefix="/datasets", tags=["datasets"])
files = APIRouter(prefix="/files", tags=["datasets"])


@dataclass(frozen=True)
class _Upload:
    """An uploaded file, as a source of a dataset: a file object with the name that the client sent."""

    file: IO[bytes]
    name: str

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


@router.post("", status_code=HTTPStatus.CREATED, dependencies=[WRITE], responses={
    200: {"description": "The file was stored already", "model": api.DatasetResponse}, **responses(409, 413),
})  # fmt: skip
def upload_dataset(
    services: Shared,
    request: Request,
    response: Response,
    dataset: Annotated[UploadFile, File(description="CSV, JSON, JSON Lines, Parquet or Excel, compressed or not")],
    format: Annotated[api.DatasetFormat, Form()] = api.DatasetFormat.JOB,
) -> api.DatasetResponse:
    """Upload a file. Other content under the same name becomes the next version; the same content is stored once.

    Rows with too few cells are filled with empty cells; `notes` of the dataset tell. Rows with too many are refused.
    """
    started_at = now()
    # Without folders, and without invisible characters, some of which reverse the direction of text.
    filename = "".join(filter(str.isprintable, re.split(r"[/\\]", dataset.filename or "")[-1])).strip()
    upload = _Upload(dataset.file, filename if filename.strip(".") else "upload")
    record = services.ws.datasets.upload(upload, new_version=True, short_rows="fill", progress=False)
    if record.created_at < started_at:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = location(request, f"datasets/{record.id}")
    return dataset_response(record)


@router.get("", dependencies=[READ], responses=responses())
def list_datasets(services: Shared, skip: AnySkip = 0, limit: AnyLimit = 100) -> api.Listing[api.DatasetResponse]:
    """List the newest datasets after skipping `skip` of them, oldest first."""
    newest_first = services.ws.datasets.list(limit=limit, offset=skip)
    items = [dataset_response(record) for record in reversed(newest_first)]
    return api.Listing(total=services.ws.datasets.count(), items=items)


@router.get("/{dataset_id}", dependencies=[READ], responses=responses(404))
def get_dataset(services: Shared, dataset_id: UUID) -> api.DatasetResponse:
    """Return a dataset."""
    return dataset_response(services.ws.datasets.get(str(dataset_id)))


@router.delete("/{dataset_id}", status_code=HTTPStatus.NO_CONTENT, dependencies=[WRITE], responses=responses(404, 409))
def delete_dataset(
    services: Shared,
    dataset_id: UUID,
    cascade: Annotated[
        bool, Query(description="also delete its experiments and jobs, even if they are running")
    ] = False,
) -> None:
    """Delete a dataset. Refused while experiments or jobs use it, unless `cascade`."""
    services.ws.datasets.delete(str(dataset_id), cascade=cascade, stop=cascade, wait=False)
    services.submit_soon()


@router.get("/{dataset_id}/download", dependencies=[READ], responses=responses(404))
def get_dataset_download(
    services: Shared,
    request: Request,
    dataset_id: UUID,
    extension: Annotated[
        str | None, Query(max_length=20, description="only files with this extension, such as csv; default: all")
    ] = None,
) -> api.DatasetDownload:
    """Return URLs of the uploaded file, and of the examples as CSV, Parquet, JSON Lines and Arrow.

    There is one URL per format: the uploaded file stands for its own format.
    """
    record = services.ws.datasets.get(str(dataset_id))
    was_file = record.filename != "dataframe.parquet"
    uploaded_format = record.filename.rpartition(".")[2].lower() if was_file else None
    filenames = {"original": record.filename} if was_file else {}
    for kind in ("csv", "parquet", "jsonl", "arrow"):
        if kind != uploaded_format:
            filenames[kind] = f"{layout.filename_of(record.name)}.{kind}"
    wanted = extension.strip().lower().lstrip(".") if extension and extension.strip() else None
    urls = []
    for kind, filename in filenames.items():
        if wanted not in (None, filename.rpartition(".")[2].lower()):
            continue
        url = f"{base(request)}/{services.links.path(kind, record.id, filename_of(record), filename)}"
        name = _name_in_store(record, kind)
        if name is not None:
            with suppress(ConfigurationError):  # a local folder cannot sign URLs
                url = services.ws.store.presigned(name)
        urls.append(url)
    return api.DatasetDownload(id=dataset_id, download_urls=urls)


def _name_in_store(record: Dataset, kind: str) -> str | None:
    """Return the name of a dataset's file in the store; None if it is not stored in this format."""
    names = {"original": layout.original(record.id, record.filename), "parquet": layout.examples(record.id)}
    return names.get(kind)


@files.get("/{folder}/{filename}", response_class=StreamingResponse, responses={
    200: {"description": "The file", "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }},
    **responses(404, 409, 410),
})  # fmt: skip
def load_file(
    services: Shared,
    folder: str,
    filename: str,
    signature: Annotated[str, Query(max_length=1000, description="part of a download URL")],
) -> StreamingResponse:
    """Download a file by a signed URL. Needs no token."""
    kind, key = services.links.read(signature)
    ws = services.ws
    chunks: Iterator[bytes]
    media_type = "application/json"
    if kind == "job":
        job = ws.jobs.get(key)
        make = documents.of_inference if job.job.step is Step.INFERENCE else documents.of_evaluation
        chunks = documents.encoded(make(ws, job.experiment, job.workflow, job.job))
    elif kind == "workflow":
        workflow = ws.workflows.get(key)
        experiment = ws.experiments.get(workflow.experiment_id)
        chunks = documents.encoded(documents.of_workflow(ws, experiment, workflow))
    elif kind in documents.WRITERS:
        write, media_type = documents.WRITERS[kind]
        chunks = write(ws, ws.datasets.get(key))
    else:
        media_type = "application/octet-stream"
        chunks = documents.stored(ws, _name_in_store(ws.datasets.get(key), kind) or "")
    # Always as an attachment: a browser must not show an uploaded file as a page of this server.
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"}
    return StreamingResponse(documents.with_first_chunk(chunks), media_type=media_type, headers=headers)

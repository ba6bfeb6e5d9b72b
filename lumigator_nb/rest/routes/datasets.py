"""Datasets: upload, look, load, delete."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from lumigator_nb.rest.state import Services, Shared
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
    """What is uploaded, under the name that the browser or program gave it."""

    file: IO[bytes]
    name: str

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def _shown_name(given: str) -> str:
    """A file's name without folders, and without characters that are not seen or turn the text round."""
    name = "".join(each for each in re.split(r"[/\\]", given)[-1] if each.isprintable()).strip()
    return name if name.strip(".") else "upload"


@router.post("", status_code=HTTPStatus.CREATED, dependencies=[WRITE], responses={
    200: {"description": "It was there already", "model": api.DatasetResponse}, **responses(409, 413),
})  # fmt: skip
def upload_dataset(
    services: Shared,
    request: Request,
    response: Response,
    dataset: Annotated[UploadFile, File(description="CSV, JSON, JSON Lines, Parquet or Excel, also packed")],
    format: Annotated[api.DatasetFormat, Form()] = api.DatasetFormat.JOB,
) -> api.DatasetResponse:
    """Upload a file. Another file of the same name becomes its next version; the same content is kept once.

    Cells that a row lacks at its end are empty, which `notes` of the dataset says; a row with too many is refused.
    """
    begun = now()
    upload = _Upload(dataset.file, _shown_name(dataset.filename or ""))
    record = services.ws.datasets.upload(upload, new_version=True, short_rows="fill", progress=False)
    if record.created_at < begun:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = location(request, f"datasets/{record.id}")
    return dataset_response(record)


@router.get("", dependencies=[READ], responses=responses())
def list_datasets(services: Shared, skip: AnySkip = 0, limit: AnyLimit = 100) -> api.Listing[api.DatasetResponse]:
    """List the newest datasets but `skip`, in the order of their creation."""
    found = services.ws.datasets.list(limit=limit, offset=skip)
    return api.Listing(total=services.ws.datasets.count(), items=[dataset_response(each) for each in reversed(found)])


@router.get("/{dataset_id}", dependencies=[READ], responses=responses(404))
def get_dataset(services: Shared, dataset_id: UUID) -> api.DatasetResponse:
    """Return a dataset."""
    return dataset_response(services.ws.datasets.get(str(dataset_id)))


@router.delete("/{dataset_id}", status_code=HTTPStatus.NO_CONTENT, dependencies=[WRITE], responses=responses(404, 409))
def delete_dataset(
    services: Shared,
    dataset_id: UUID,
    cascade: Annotated[
        bool, Query(description="what was done with it goes too: experiments and jobs, also those under way")
    ] = False,
) -> None:
    """Delete a dataset, at once, which is refused where experiments or jobs use it."""
    services.ws.datasets.delete(str(dataset_id), cascade=cascade, stop=cascade, wait=False)
    services.submit_soon()


@router.get("/{dataset_id}/download", dependencies=[READ], responses=responses(404))
def get_dataset_download(
    services: Shared,
    request: Request,
    dataset_id: UUID,
    extension: Annotated[str | None, Query(max_length=20, description="of the files, such as csv; default all")] = None,
) -> api.DatasetDownload:
    """Return addresses of the file as it was uploaded, and of the examples as CSV, Parquet, JSON Lines and Arrow.

    What was uploaded in one of these formats is not among them once more.
    """
    record = services.ws.datasets.get(str(dataset_id))
    wanted = extension.strip().lower().lstrip(".") if extension and extension.strip() else None
    kinds = {kind: name for kind, name in _files(record).items() if wanted in (None, name.rpartition(".")[2].lower())}
    urls = [_address(services, request, record, kind, name) for kind, name in kinds.items()]
    return api.DatasetDownload(id=dataset_id, download_urls=urls)


def _files(record: Dataset) -> dict[str, str]:
    """The files of a dataset by kind, with what they are called; one of each format is among them."""
    stem, was_file = layout.filename_of(record.name), record.filename != "dataframe.parquet"
    found = {"original": record.filename} if was_file else {}
    uploaded = record.filename.rpartition(".")[2].lower() if was_file else None
    return found | {kind: f"{stem}.{kind}" for kind in ("csv", "parquet", "jsonl", "arrow") if kind != uploaded}


def _address(services: Services, request: Request, record: Dataset, kind: str, name: str) -> str:
    inside = _stored(record, kind)
    if inside is not None:
        try:
            return services.ws.store.presigned(inside)
        except ConfigurationError:
            pass  # a folder cannot sign
    return f"{base(request)}/{services.links.path(kind, record.id, filename_of(record), name)}"


def _stored(record: Dataset, kind: str) -> str | None:
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
    signature: Annotated[str, Query(max_length=1000, description="which file it is, and until when")],
) -> StreamingResponse:
    """Load a file by an address that was signed here; it needs no token."""
    kind, key = services.links.read(signature)
    chunks, media_type = _content(services, kind, key)
    # Never shown as a page: the name and the content are whoever uploaded's.
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"}
    return StreamingResponse(documents.begun(chunks), media_type=media_type, headers=headers)


def _content(services: Services, kind: str, key: str) -> tuple[Iterator[bytes], str]:
    ws = services.ws
    if kind == "job":
        asked = ws.jobs.get(key)
        make = documents.of_inference if asked.job.step is Step.INFERENCE else documents.of_evaluation
        return documents.encoded(make(ws, asked.experiment, asked.workflow, asked.job)), "application/json"
    if kind == "workflow":
        workflow = ws.workflows.get(key)
        experiment = ws.experiments.get(workflow.experiment_id)
        return documents.encoded(documents.of_workflow(ws, experiment, workflow)), "application/json"
    record = ws.datasets.get(key)
    if kind in documents.WRITERS:
        write, media_type = documents.WRITERS[kind]
        return write(ws, record), media_type
    return documents.stored(ws, _stored(record, kind) or ""), "application/octet-stream"

"""Read results of other evaluation tools, one module per format. Nothing of a file is executed, and no tool is needed.

Formats are told by what is in a file, not by its name alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb.errors import InvalidInputError, NotFoundError
from lumigator_nb.eval_logs import every_eval_ever, inspect_ai, lighteval, lm_eval, lumigator, mlflow, promptfoo
from lumigator_nb.eval_logs.base import Better, ModelResults, malformed

__all__ = ["FORMATS", "Better", "ModelResults", "files_in", "read"]

Log = ModelResults | pd.DataFrame
FORMATS = (
    "an Inspect log (.eval, .json), lm-evaluation-harness's samples_*.jsonl, lighteval's details_*.parquet, "
    "promptfoo's output.json, an MLflow evaluation table, Every Eval Ever's samples, a result of Lumigator, an "
    "experiment of this package (.lumi.zip), or a table (.csv, .parquet, .jsonl)"
)
_SUFFIXES = (".eval", ".json", ".jsonl", ".parquet", ".csv", ".tsv")


def files_in(path: str | PathLike[str]) -> list[Path]:
    """Return a file, or the files of a folder and its folders that may hold results, in alphabetical order.

    Raises:
        NotFoundError: there is no such file or folder.
        InvalidInputError: the folder holds none.
    """
    target = Path(path).expanduser()
    if target.is_file():
        return [target]
    if not target.is_dir():
        raise NotFoundError("file", str(path), "give the path of a file or folder with results")
    files = sorted(
        file for file in target.rglob("*") if file.is_file() and file.name.endswith((*_SUFFIXES, ".lumi.zip"))
    )
    if not files:
        raise InvalidInputError(f"the folder {path} holds no results", f"it should hold {FORMATS}")
    return files


def read(path: str | PathLike[str], *, in_folder: bool = False) -> list[Log]:
    """Return the results in a file; a table without known columns as it is.

    Args:
        path: of the file.
        in_folder: whether it was found in a folder: files that accompany results, such as summaries, are then passed
            over, instead of being an error.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is of no known format.
        DamagedError: it is not what its format promises.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise NotFoundError("file", str(path), "give the path of a file or folder with results")
    readers: dict[str, Callable[[Path, bool], list[Log]]] = {
        ".eval": lambda file, _: [inspect_ai.read_archive(file)],
        ".json": _read_json,
        ".jsonl": _read_lines,
        ".parquet": _read_parquet,
        ".csv": lambda file, _: [_table(file, pd.read_csv(file))],
        ".tsv": lambda file, _: [_table(file, pd.read_csv(file, sep="\t"))],
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InvalidInputError(f"{file.name} is of no known format", f"give {FORMATS}")
    try:
        return reader(file, in_folder)
    except (UnicodeDecodeError, json.JSONDecodeError, pd.errors.ParserError, pa.ArrowInvalid) as error:
        raise malformed(file.name, f"it cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        # A field that the format has is missing, or of another kind.
        raise malformed(file.name, f"it is not as its format says: {type(error).__name__} {error}") from error


def _read_json(path: Path, in_folder: bool) -> list[Log]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if inspect_ai.is_log(document):
        return [inspect_ai.read_log(path, document)]
    if promptfoo.is_output(document):
        return list(promptfoo.read(path, document))
    if lumigator.is_result(document):
        return [lumigator.read(path, document)]
    if every_eval_ever.is_summary(document):
        # In a folder the samples are found themselves.
        return [] if in_folder else _read_lines(every_eval_ever.samples_of(path), in_folder)
    if isinstance(document, dict) and {"columns", "data"} <= document.keys():
        return [_table(path, pd.DataFrame(document["data"], columns=document["columns"]))]
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return [_table(path, pd.DataFrame(document))]
    if in_folder:
        return []
    if lm_eval.is_summary(document):
        raise InvalidInputError(
            f"{path.name} has overall results only", "run lm_eval with --log_samples, and give samples_*.jsonl"
        )
    raise InvalidInputError(f"{path.name} is of no known format", f"give {FORMATS}")


def _read_lines(path: Path, in_folder: bool) -> list[Log]:
    lines = list(_lines(path))
    if not lines:
        raise malformed(path.name, "it is empty")
    if lm_eval.is_sample(lines[0]):
        return [lm_eval.read(path, lines)]
    if every_eval_ever.is_sample(lines[0]):
        return list(every_eval_ever.read(path, lines))
    return [_table(path, pd.DataFrame(lines))]


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as error:
                    raise malformed(path.name, f"line {number} is not JSON: {error}") from error
                if not isinstance(value, dict):
                    raise malformed(path.name, f"line {number} is no JSON object")
                yield value


def _read_parquet(path: Path, in_folder: bool) -> list[Log]:
    if lighteval.is_details(pq.read_schema(path).names):
        return [lighteval.read(path)]
    return [_table(path, pd.read_parquet(path))]


def _table(path: Path, table: pd.DataFrame) -> Log:
    return mlflow.read(path, table) if mlflow.is_table(table.columns) else table

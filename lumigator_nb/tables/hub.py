"""Datasets of Hugging Face's library: objects of it, and ids of the hub, written down as Parquet piece by piece."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumigator_nb.errors import DatasetError, MissingExtraError
from lumigator_nb.tables.spool import is_full

_BATCH_ROWS = 1000
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti")
_OPTIONS = ("split", "name", "revision")
# A third part is a file in the repository, which is read as any other URL.
_ID = re.compile(r"hf://datasets/([\w.-]+(?:/[\w.-]+)?)(?:@([\w.-]+))?/?(?:\?(.*))?")


def is_hub_id(url: str) -> bool:
    """Whether that is ``hf://datasets/ORG/NAME``, perhaps with ``@REVISION`` and ``?split=…&name=…``."""
    return _ID.fullmatch(url) is not None


def is_hub_dataset(source: object) -> bool:
    """Whether that is a Dataset or IterableDataset, or several of them by their splits."""
    return _is_dataset(source) or bool(_splits(source))


def save_hub_id(url: str, target: Path) -> str:
    """Load a dataset of the hub row by row into a Parquet file, and return a name for it.

    Raises:
        DatasetError: there is no such dataset or split, or it cannot be read.
        MissingExtraError: the library is not installed.
    """
    found = _ID.fullmatch(url)
    assert found is not None
    options = dict(urllib.parse.parse_qsl(found[3] or ""))
    unknown = options.keys() - set(_OPTIONS)
    if unknown:
        raise DatasetError(f"{url}: there is no option {min(unknown)!r}", f"known: {', '.join(_OPTIONS)}")
    options.setdefault("revision", found[2] or "")
    source = _loaded(url, found[1], {key: value for key, value in options.items() if value})
    save_hub_dataset(source, target, what=url)
    parts = [found[1].rpartition("/")[2], options.get("name", ""), options.get("split", "")]
    return "-".join(part for part in parts if part) + ".parquet"


def save_hub_dataset(source: Any, target: Path, what: str = "the Hugging Face dataset") -> str:
    """Write a dataset as Parquet, a thousand rows at a time, and return a name for it.

    A column of class labels becomes their names; those inside of nested values stay numbers.

    Raises:
        DatasetError: it is several splits, has no rows, holds pictures or the like, its rows have no common type, or
            it breaks off.
    """
    splits = _splits(source)
    if splits:
        named = f"{what}?split={splits[0]}" if "://" in what else f"upload(datasets[{splits[0]!r}], …)"
        raise DatasetError(f"{what} has several splits: {', '.join(splits)}", f"name the one you mean: {named}")
    writer: pq.ParquetWriter | None = None
    try:
        for table in _tables(source, what):
            writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DatasetError(f"{what} has no rows", "add at least one example")
    split = getattr(source, "split", None)
    return f"dataset-{split}.parquet" if split else "dataset.parquet"


def _is_dataset(source: object) -> bool:
    return all(hasattr(source, name) for name in ("features", "with_format", "iter"))


def _splits(source: object) -> list[str]:
    if isinstance(source, Mapping) and source and all(map(_is_dataset, source.values())):
        return list(map(str, source))
    return []


def _tables(source: Any, what: str) -> Iterator[pa.Table]:
    features = source.features or {}
    _refuse_media(features, what)
    schema = source.features.arrow_schema.remove_metadata() if source.features else None
    row = 1
    for table in _batches(source, what):
        schema = schema or table.schema.remove_metadata()
        try:
            yield _with_label_names(_cast(table, schema), features)
        except (pa.ArrowException, KeyError, ValueError) as error:
            rows = f"rows {row} to {row + len(table) - 1}"
            raise DatasetError(
                f"{what}, {rows}: other columns or types than before: {str(error).splitlines()[0]}",
                "give all rows the same types: dataset.cast(features)",
            ) from error
        row += len(table)


def _batches(source: Any, what: str) -> Iterator[pa.Table]:
    batches = iter(source.with_format("arrow").iter(batch_size=_BATCH_ROWS))
    row = 1
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:  # what the library, or a generator behind it, raises is its own affair
            if isinstance(error, OSError) and is_full(error):
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DatasetError(
                f"{what} cannot be read from row {row} on: {reason}",
                "check the network; where rows differ in their types, give all the same: dataset.cast(features)",
            ) from None
        if batch is None:
            return
        table = batch if isinstance(batch, pa.Table) else pa.table(batch)
        yield table
        row += len(table)


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    late = [name for name in table.column_names if name not in schema.names]
    if late:
        raise ValueError(f"column {late[0]!r} is new")
    return table.select(schema.names).cast(schema)


def _with_label_names(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    for index, name in enumerate(table.column_names):
        names = getattr(features.get(name), "names", None)
        if names:
            labels = table[name]
            known = pc.if_else(pc.greater_equal(labels, 0), labels, None)  # -1 stands for no label
            table = table.set_column(index, name, pc.take(pa.array(names, pa.string()), known))
    return table


def _refuse_media(features: Mapping[str, Any], what: str) -> None:
    found = {name: kind for name, feature in features.items() if (kind := _media(feature))}
    if found:
        name, kind = next(iter(found.items()))
        raise DatasetError(
            f"{what}, column {name!r}: a feature of type {kind} is not text",
            f"leave it out: upload(dataset.remove_columns({list(found)}), …)",
        )


def _media(feature: Any) -> str | None:
    """Return what a feature holds that is no text, however deep."""
    if type(feature).__name__ in _MEDIA:
        return type(feature).__name__
    inner = feature.values() if isinstance(feature, Mapping) else feature if isinstance(feature, list) else ()
    nested = getattr(feature, "feature", None)
    return next(filter(None, map(_media, (*inner, *([nested] if nested is not None else [])))), None)


def _loaded(url: str, name: str, options: dict[str, str]) -> Any:
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("a dataset of the Hugging Face hub", "datasets") from error
    config = options.pop("name", None)
    try:
        return datasets.load_dataset(name, config, streaming=True, **options)
    except Exception as error:  # what the library raises is its own affair
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DatasetError(
            f"{url} cannot be loaded: {reason}", "check its name, split and configuration, the network, and HF_TOKEN"
        ) from None

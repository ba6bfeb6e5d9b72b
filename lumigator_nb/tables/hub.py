"""Hugging Face datasets, as objects of its library or as ids on its hub, written as Parquet piece by piece."""

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
# Classes of features that are not text. By name, as the library is optional.
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti")
_OPTIONS = ("split", "name", "revision")
# With a third part, hf://datasets/ORG/NAME/FILE, it is a file, which is read like any other URL.
_ID = re.compile(r"hf://datasets/([\w.-]+(?:/[\w.-]+)?)(?:@([\w.-]+))?/?(?:\?(.*))?")


def is_hub_id(url: str) -> bool:
    """Return whether `url` is ``hf://datasets/ORG/NAME``, optionally with ``@REVISION`` and ``?split=…&name=…``."""
    return _ID.fullmatch(url) is not None


def is_hub_dataset(source: object) -> bool:
    """Return whether `source` is a Dataset, an IterableDataset, or a mapping of split names to them."""
    return _is_dataset(source) or bool(_splits(source))


def save_hub_id(url: str, target: Path) -> str:
    """Load a dataset of the hub row by row into a Parquet file, and return a filename for it.

    Raises:
        DatasetError: the dataset or split does not exist, or cannot be read.
        MissingExtraError: the library `datasets` is not installed.
    """
    match = _ID.fullmatch(url)
    assert match is not None
    dataset, revision, query = match.groups()
    options = dict(urllib.parse.parse_qsl(query or ""))
    unknown = options.keys() - set(_OPTIONS)
    if unknown:
        raise DatasetError(f"{url}: there is no option {min(unknown)!r}", f"known: {', '.join(_OPTIONS)}")
    options.setdefault("revision", revision or "")
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("a dataset of the Hugging Face hub", "datasets") from error
    arguments = {key: value for key, value in options.items() if value}
    try:
        source = datasets.load_dataset(dataset, arguments.pop("name", None), streaming=True, **arguments)
    except Exception as error:  # the library raises errors of many packages
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DatasetError(
            f"{url} cannot be loaded: {reason}", "check its name, split and configuration, the network, and HF_TOKEN"
        ) from None
    save_hub_dataset(source, target, what=url)
    parts = [dataset.rpartition("/")[2], options.get("name", ""), options.get("split", "")]
    return "-".join(part for part in parts if part) + ".parquet"


def save_hub_dataset(source: Any, target: Path, what: str = "the Hugging Face dataset") -> str:
    """Write a dataset as Parquet, a thousand rows at a time, and return a filename for it.

    Columns of class labels become the labels' names. Labels within nested values stay numbers.

    Args:
        source: a dataset of the library, or a mapping of split names to datasets.
        what: the dataset's name in messages.

    Raises:
        DatasetError: it has several splits, no rows, images or other media, or rows without a common type, or reading
            it fails.
    """
    splits = _splits(source)
    if splits:
        named = f"{what}?split={splits[0]}" if "://" in what else f"upload(datasets[{splits[0]!r}], …)"
        raise DatasetError(f"{what} has several splits: {', '.join(splits)}", f"name one of them: {named}")
    writer: pq.ParquetWriter | None = None
    try:
        for table in _tables(source, what):
            # Opened with the first rows, whose schema it needs.
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
    """Yield the rows in batches, all with the same columns and types."""
    features = source.features or {}
    media = {name: kind for name, feature in features.items() if (kind := _media(feature))}
    if media:
        name, kind = next(iter(media.items()))
        raise DatasetError(
            f"{what}, column {name!r}: a feature of type {kind} is not text",
            f"omit it: upload(dataset.remove_columns({list(media)}), …)",
        )
    # A streamed dataset may not know its features. Then the first batch decides.
    schema = source.features.arrow_schema.remove_metadata() if source.features else None
    row = 1
    for table in _batches(source, what):
        schema = schema or table.schema.remove_metadata()
        try:
            new = [name for name in table.column_names if name not in schema.names]
            if new:
                raise ValueError(f"column {new[0]!r} is new")
            yield _with_label_names(table.select(schema.names).cast(schema), features)
        except (pa.ArrowException, KeyError, ValueError) as error:
            rows = f"rows {row} to {row + len(table) - 1}"
            raise DatasetError(
                f"{what}, {rows}: columns or types differ from earlier rows: {str(error).splitlines()[0]}",
                "give all rows the same types: dataset.cast(features)",
            ) from error
        row += len(table)


def _batches(source: Any, what: str) -> Iterator[pa.Table]:
    batches = iter(source.with_format("arrow").iter(batch_size=_BATCH_ROWS))
    row = 1
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:  # a dataset may come from any generator, with any error
            if isinstance(error, OSError) and is_full(error):
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DatasetError(
                f"{what} cannot be read from row {row} on: {reason}",
                "check the network; if rows have different types, convert them: dataset.cast(features)",
            ) from None
        if batch is None:
            return
        table = batch if isinstance(batch, pa.Table) else pa.table(batch)
        yield table
        row += len(table)


def _with_label_names(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    for index, name in enumerate(table.column_names):
        names = getattr(features.get(name), "names", None)
        if names:
            labels = table[name]
            indices = pc.if_else(pc.greater_equal(labels, 0), labels, None)  # -1 stands for no label
            table = table.set_column(index, name, pc.take(pa.array(names, pa.string()), indices))
    return table


def _media(feature: Any) -> str | None:
    """Return the type of the media in a feature, at any depth; None if there are none."""
    if type(feature).__name__ in _MEDIA:
        return type(feature).__name__
    inner = feature.values() if isinstance(feature, Mapping) else feature if isinstance(feature, list) else ()
    nested = getattr(feature, "feature", None)
    return next(filter(None, map(_media, (*inner, *([nested] if nested is not None else [])))), None)

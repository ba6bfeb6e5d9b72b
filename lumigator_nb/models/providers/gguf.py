"""GGUF models, computed by llama.cpp in the process that asks them, without torch.

``gguf//folder/file.gguf``, ``gguf/user/repository/file.gguf`` on the Hugging Face hub, or the name of a model that an
installed package ships (``gguf/HuggingFaceTB/SmolLM2-135M-Instruct``).

The binding is xllamacpp: it runs llama.cpp's own server loop in this process, so requests of several threads are
batched as they come (continuous batching). llama-cpp-python answers one request after another, and its index has no
wheels, so each installation compiles C++.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field

from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnknownModelError
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request, provider
from lumigator_nb.models.prices import SharedTime
from lumigator_nb.models.prompts import prompting
from lumigator_nb.models.prompts.decoding import described
from lumigator_nb.models.providers import gguf_files, packaged_weights
from lumigator_nb.models.providers.api_payloads import prediction_from
from lumigator_nb.models.providers.local_options import LocalOptions, read_options
from lumigator_nb.specs import Model, Task, digest

log = logging.getLogger(__name__)

# Answers under way at once (benchmarks/llama_cpp.py measures other numbers).
AT_ONCE = {"cpu": 8, "gpu": 16}
# Fields of llama.cpp's requests that hold answers to a form.
_FORMS = frozenset({"grammar", "json_schema", "response_format"})
# Tokens of prompt and answer for which memory is taken at first; a longer text makes it grow, up to the file's own.
FIRST_WINDOW = 2048


class Options(LocalOptions):
    """The options of ``Model(..., options={...})`` for this provider.

    Attributes:
        batch_size: most answers under way at once; None takes :data:`AT_ONCE`.
        context: most tokens of a prompt and its answer together. None takes what the file says the model was trained
            for; memory for it is taken as texts need it.
        gpu_layers: number of the model's layers on the GPU. None takes as many as fit; 0 stays on the CPU.
        revision, price: as of :class:`LocalOptions`.
        extra: further fields of llama.cpp's requests, such as ``json_schema``, ``grammar``, ``response_format``,
            ``logprobs``, ``top_k`` or ``chat_template_kwargs``.
    """

    batch_size: int | None = Field(default=None, ge=1, strict=True)
    context: int | None = Field(default=None, ge=64, strict=True)
    gpu_layers: int | None = Field(default=None, ge=0, strict=True)
    extra: dict[str, Any] = Field(default_factory=dict)


@provider("gguf")
class Gguf(Provider):
    """Chat and base models in GGUF files."""

    title = "GGUF, by llama.cpp"
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
        return gguf_files.is_path(model.name)

    def speaks_openai(self, model: Model) -> bool:
        """Return True: llama.cpp takes the parameters of OpenAI's chat completions in `extra`."""
        return True

    def has_weights(self, model: Model) -> bool:
        """Return whether the file is on this machine, without asking the hub; True if that cannot be checked."""
        if model.name in packaged_weights.SHIPPED:
            return packaged_weights.find(model.name) is not None
        if gguf_files.is_path(model.name) or find_spec("huggingface_hub") is None:
            return True
        repository, file = gguf_files.on_hub(model.name)
        return gguf_files.cached(repository, file, None) is not None

    def check(self, model: Model) -> None:
        """Refuse a malformed name, a missing file or one of another format, a bad option, and a missing package."""
        options = read_options(model, Options)
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
        if shipped or gguf_files.is_path(model.name):
            path = shipped.file if shipped else gguf_files.existing(model.name)
            _check_context(model, options, gguf_files.read_metadata(path))
        else:
            gguf_files.on_hub(model.name)
            if find_spec("huggingface_hub") is None:
                raise MissingExtraError(f"model {model.label!r}", "llamacpp")
        if not self.installed:
            raise MissingExtraError(f"model {model.label!r}", "llamacpp")

    def identify(self, model: Model, report: Report) -> str:
        """Return a digest of the file's content, wherever it lies; on the hub the file's SHA-256, as the hub tells."""
        if shipped := packaged_weights.find(model.name):
            return str(shipped)
        if gguf_files.is_path(model.name):
            return gguf_files.fingerprint(gguf_files.parts(gguf_files.existing(model.name)))
        options = read_options(model, Options)
        report("asking the hub")
        repository, file = gguf_files.on_hub(model.name)
        found, _ = gguf_files.ask_hub(repository, file, options.revision)
        if found:
            return digest([found.hashes])
        cached = gguf_files.cached(repository, file, options.revision)
        return digest([[path.resolve().name for path in gguf_files.parts(cached)]]) if cached else ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Find and load the file.

        Raises:
            UnknownModelError: there is no such file, or llama.cpp cannot load it.
            UnavailableError: the hub cannot be reached, and the file is not on this machine.
            InvalidInputError: `context` is more than the model was trained for.
        """
        options = read_options(model, Options)
        path, source = gguf_files.locate(model.name, options.revision, report)
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
        facts = gguf_files.read_metadata(path)
        trained = _check_context(model, options, facts)
        self._model, self._path, self._options = model, path, options
        held = task.answer_schema is not None and _FORMS.isdisjoint(options.extra)
        self._form = {"json_schema": task.answer_schema} if held else {}
        self._widest = options.context or trained or FIRST_WINDOW
        wanted = model.generation.max_new_tokens
        self._new = min(wanted, self._widest // 2)
        notes = [f"max_new_tokens lowered from {wanted} to {self._new}, what the model has room for"]
        self._continuation = None if "tokenizer.chat_template" in facts else prompting.continuation(task)
        devices = _devices() if options.gpu_layers != 0 else []
        self._most = options.batch_size or AT_ONCE["gpu" if devices else "cpu"]
        self._first = min(self._widest, max(FIRST_WINDOW, _power_of_two(2 * self._new)))
        self._time, self._lock = SharedTime(), threading.Lock()
        self._server: Any = None
        self.details: dict[str, Any] = {
            "engine": "llama.cpp",
            "source": source,
            "architecture": facts.get("general.architecture", ""),
            "device": ", ".join(devices) or "cpu",
            "threads": _threads(),
            "prompt": "chat: the file's template" if self._continuation is None else self._continuation.described,
            "max_new_tokens": self._new,
            **({"answer_form": "JSON Schema"} if held else {}),
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
        xllamacpp = _library()
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
        asked = request
        with self._lock:
            self._time.begin(id(request))
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
            with self._lock:
                seconds = self._time.end(id(request))
        # Its share of the time, not its latency, so that the seconds of all add up to the wall time.
        return request, replace(prediction, seconds=seconds, truncated=asked is not request)

    def _complete(self, request: Request, stop: threading.Event) -> _Answer:
        generation = self._model.generation
        # A seed per row makes an answer independent of the requests that are under way at the same time.
        seed = int(digest([generation.seed + self._model.repeat - 1, request.row]), 16) & 0x7FFF_FFFF
        body = {
            # Off, so that neither llama.cpp's own defaults nor the file's apply.
            **{"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0},
            **self._form,
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


def _threads() -> int:
    """Number of threads to compute with: what Ray has set for this process, or else its cores."""
    assigned = os.environ.get("OMP_NUM_THREADS", "")
    if assigned.isdecimal() and int(assigned):
        return int(assigned)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    """Names of the GPUs that llama.cpp can use here."""
    return [each["description"] for each in _library().get_device_info() if "GPU" in each["type"].name]


def _library() -> Any:
    """Import xllamacpp."""
    # As in the provider for transformers: threads that spin while they wait starve those of other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import xllamacpp

    return xllamacpp


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


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

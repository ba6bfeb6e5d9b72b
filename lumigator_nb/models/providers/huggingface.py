"""Models that run on the cluster itself, with transformers: ``hf/owner/name``, ``hf//folder``, ``hf//file.gguf``."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, ValidationError

from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnknownModelError
from lumigator_nb.models.base import LanguageModel, Provider, Report, check_options, provider
from lumigator_nb.models.loading import without_collecting
from lumigator_nb.models.prompts import prompting, translating
from lumigator_nb.models.providers import packaged_weights, vllm, weights
from lumigator_nb.models.providers.transformer import Room, TransformersModel
from lumigator_nb.models.providers.vllm import RefusedError
from lumigator_nb.models.providers.weights import Source
from lumigator_nb.specs import Model, Task, Value

log = logging.getLogger(__name__)

# Rows and tokens that go through a model together. CPU measured with benchmarks/batching.py; a batch that does not fit
# into memory is halved.
ROOM = {"cpu": Room(64, 4096), "cuda": Room(128, 65_536), "mps": Room(32, 8192)}


class Options(Value):
    """What ``Model(..., options={...})`` may hold for this provider.

    Attributes:
        batch_size: most examples that go through the model together, fewer where they are long; None takes
            :data:`ROOM`.
        device: where it runs; "auto" takes a GPU where there is one.
        dtype: of the weights; "auto" takes float32 on a CPU, half precision on a GPU.
        trust_remote_code: whether code that comes with the model may run.
        revision: branch, tag or commit on the hub; None takes its main branch.
        engine: what computes. "vllm" serves chat and base models, best on a GPU; where it is not installed or cannot
            compute the model, transformers does, and the record says so. It is never chosen without being asked for:
            its answers are not always the same to the letter.
        tensor_parallel_size: GPUs that share each layer of the model, all of one process (`num_gpus`); vLLM only.
    """

    batch_size: int | None = Field(default=None, ge=1, strict=True)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = Field(default=False, strict=True)
    revision: str | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    tensor_parallel_size: int = Field(default=1, ge=1, strict=True)


@provider("hf")
class HuggingFace(Provider):
    """Chat and base models (decoder-only), trained summarizers and translators (encoder-decoder)."""

    title = "Hugging Face"
    place = "on the cluster"
    uses_all_cores = True
    keeps_answers = True
    parallel_option = "batch_size"
    needs = "hf"
    modules = ("torch", "transformers")
    optional_modules = ("accelerate", "gguf", "sentencepiece")
    packages = ("torch", "transformers", "tokenizers", "huggingface_hub")

    def is_local_path(self, model: Model) -> bool:
        """As of :class:`Provider`."""
        return weights.is_local(model.name)

    def has_weights(self, model: Model) -> bool:
        """As of :class:`Provider`; looking further, and asking the hub, is for the worker."""
        if importlib.util.find_spec("huggingface_hub") is None or packaged_weights.find(model.name):
            return True
        return weights.cached(model.name, None) is not None

    def check(self, model: Model) -> None:
        """Refuse a malformed name, a missing path, a bad option, and a machine without torch or transformers."""
        _check_parallel(model, _options(model))
        if model.base_url is not None:
            raise InvalidInputError(
                f"model {model.label!r} is computed by the cluster, and base_url is for servers",
                "ask a server as Model(name, provider='openai', base_url=…)",
            )
        weights.check_name(model.name)
        if not self.installed:
            raise MissingExtraError(f"model {model.label!r}", "hf")

    def identify(self, model: Model, report: Report) -> str:
        """Return the commit, or a digest of the files of a local model, so that a retrained one is another.

        Where vLLM was asked for and cannot compute here, that is said too: its answers and those of transformers are
        kept apart. To find out, torch is loaded.
        """
        options = _options(model)
        if translating.GENERIC_MARIAN.fullmatch(model.name):
            # Which model that is depends on the languages, and those are part of every question.
            return ""
        found = weights.identify(model.name, options.revision, report)
        return f"{found} without vLLM" if options.engine == "vllm" and _obstacle(options) else found

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Find, load and set up the model.

        Raises:
            UnknownModelError: there is no such model, or transformers cannot load it.
            UnavailableError: the hub cannot be reached, and nothing is on this machine.
            InvalidInputError: the device asked for is not here.
            ExecutionError: vLLM takes the model, and has not enough memory for it.
        """
        # Read when torch is first imported (Linux). Threads that spin long while they wait starve each other where jobs
        # share cores: a step's matrix products took 600 to 1,650 ms by default and 80 to 130 ms so (2 cores, busy; the
        # fastest steps 33 and 35 ms).
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        with without_collecting():
            return self._load(model, task, report)

    def _load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        import transformers

        options = _options(model)
        # Progress bars make a mess of a log file; warnings stay.
        transformers.utils.logging.disable_progress_bar()
        source = weights.locate(translating.pair_name(model.name, task), options.revision, report)
        if options.engine == "transformers":
            report("loading the model")
            return _with_transformers(model, task, source, options)
        try:
            return _with_vllm(model, task, source, options, report)
        except RefusedError as error:
            note = f"transformers answers, not vLLM: {error}"
        log.warning("%s: %s", model.label, note)
        report(f"loading the model; {note}")
        return _with_transformers(model, task, source, options, note)


def _options(model: Model) -> Options:
    check_options(model, Options.model_fields)
    try:
        return Options(**model.own_options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(
            f"option {first['loc'][0]!r} of model {model.label!r}: {first['msg']}, got {first['input']!r}"
        ) from None


def _check_parallel(model: Model, options: Options) -> None:
    shared, gpus = options.tensor_parallel_size, model.resources.num_gpus
    if shared == 1:
        return
    if options.engine != "vllm":
        raise InvalidInputError(
            f"tensor_parallel_size of model {model.label!r} is a setting of vLLM", "set engine='vllm' too"
        )
    if gpus is None or 0 < gpus < shared:
        raise InvalidInputError(
            f"tensor_parallel_size={shared} of model {model.label!r} takes as many GPUs, and num_gpus is {gpus}",
            f"set num_gpus={shared} too; 0 stays on the CPU",
        )


def _obstacle(options: Options) -> str | None:
    return vllm.obstacle(options.device, options.tensor_parallel_size)


def _with_vllm(model: Model, task: Task, source: Source, options: Options, report: Report) -> LanguageModel:
    why = _obstacle(options)
    if why is not None:
        raise RefusedError(why)
    report("loading the model into vLLM")
    config, tokenizer = _described(model, source, options)
    wishes = vllm.Wishes(
        dtype=None if options.dtype == "auto" else options.dtype,
        at_once=options.batch_size,
        tensor_parallel_size=options.tensor_parallel_size,
        gpus=model.resources.num_gpus or 1.0,
        trust_remote_code=options.trust_remote_code,
    )
    return vllm.load(model, task, source, config, tokenizer, wishes)


def _with_transformers(model: Model, task: Task, source: Source, options: Options, *notes: str) -> LanguageModel:
    device = _device(options.device)
    tokenizer, network = _pretrained(model, source, options, _dtype(options.dtype, device))
    return _assembled(model, task, source, tokenizer, network.to(device).eval(), options, notes)


def _device(wanted: str) -> str:
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, here in present.items() if here)
    if not present[wanted]:
        raise InvalidInputError(f"device {wanted!r} is not on the machine that runs the model", "set device='auto'")
    return wanted


def _dtype(wanted: str, device: str) -> Any:
    import torch

    if wanted != "auto":
        return getattr(torch, wanted)
    if device == "cpu":
        return torch.float32
    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def _pretrained(model: Model, source: Source, options: Options, dtype: Any) -> tuple[Any, Any]:
    """Return tokenizer and network, the latter on the CPU."""
    import transformers

    config, tokenizer = _described(model, source, options)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with _explained(model, source), packaged_weights.no_progress_bar():
        return tokenizer, kind.from_pretrained(source.location, dtype=dtype, **_common(source, options))


def _described(model: Model, source: Source, options: Options) -> tuple[Any, Any]:
    """Return configuration and tokenizer."""
    import transformers

    common = _common(source, options)
    with _explained(model, source):
        return (
            transformers.AutoConfig.from_pretrained(source.location, **common),
            transformers.AutoTokenizer.from_pretrained(source.location, **common),
        )


def _common(source: Source, options: Options) -> dict[str, Any]:
    common = {"revision": source.revision or "main", "trust_remote_code": options.trust_remote_code}
    return {**common, "gguf_file": source.gguf} if source.gguf else common


@contextmanager
def _explained(model: Model, source: Source) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damaged files raise what the code raises that trips over them, down to struct.error
        raise UnknownModelError(
            f"model {model.label!r} ({source.described}) cannot be loaded: {_reason(error)}", _remedy(source, error)
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError | ValueError | ImportError):
        return str(error)  # transformers explains these to its users, over several lines
    # The first sentence: torch goes on to recommend loading a pickle that it refused.
    return f"{type(error).__name__}: {error}".partition("\n")[0].partition(". ")[0].rstrip(": ")


def _remedy(source: Source, error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install what is missing where the model is loaded"
    if source.described == "hub":
        return (
            "see on its page whether it needs a newer transformers, trust_remote_code=True or a licence to be accepted;"
            " if files are damaged, delete it from the Hugging Face cache, so that it is downloaded again"
        )
    return (
        f"a file in {source.location} may be damaged, incomplete or of another model: copy or download the model again,"
        " or write it once more with save_pretrained()"
    )


def _assembled(
    model: Model,
    task: Task,
    source: Source,
    tokenizer: Any,
    network: Any,
    options: Options,
    notes: tuple[str, ...],
) -> TransformersModel:
    import torch
    import transformers

    limits = prompting.limits(network.config, tokenizer, model.generation.max_new_tokens)
    for note in limits.notes:
        log.warning("%s: %s", model.label, note)
    wording = prompting.choose(model.name, network.config, tokenizer, task)
    device = network.device.type
    room = replace(ROOM[device], rows=options.batch_size or ROOM[device].rows)
    details = {
        "engine": "transformers",
        "source": source.described,
        "revision": source.revision,
        "architecture": type(network).__name__,
        "parameters": network.num_parameters(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
        "dtype": str(network.dtype).removeprefix("torch."),
        "batch_size": room.rows,
        "prompt": wording.described,
        "max_prompt_tokens": limits.prompt,
        "max_new_tokens": limits.new,
        "notes": [*notes, *limits.notes],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return TransformersModel(
        network,
        tokenizer,
        prompting.Encoder(tokenizer, wording, limits.prompt),
        model.generation.model_copy(update={"max_new_tokens": limits.new}),
        room,
        details,
        seed=model.generation.seed + model.repeat - 1,
        first_token=wording.first_token,
    )

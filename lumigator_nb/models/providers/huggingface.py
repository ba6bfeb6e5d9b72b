"""Hugging Face models, which the cluster itself computes: ``hf/owner/name``, ``hf//folder``, ``hf//file.gguf``."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnknownModelError
from lumigator_nb.models.base import LanguageModel, Provider, Report, provider
from lumigator_nb.models.loading import without_collecting
from lumigator_nb.models.prompts import prompting, translating
from lumigator_nb.models.providers import packaged_weights, vllm, weights
from lumigator_nb.models.providers.local_options import LocalOptions, read_options
from lumigator_nb.models.providers.transformer import Room, TransformersModel
from lumigator_nb.models.providers.vllm import RefusedError
from lumigator_nb.models.providers.weights import Source
from lumigator_nb.specs import Model, Task

log = logging.getLogger(__name__)

# The size of a batch by device; that for CPUs was measured (benchmarks/batching.py). A batch that does not fit into
# memory is halved.
ROOM = {"cpu": Room(64, 4096), "cuda": Room(128, 65_536), "mps": Room(32, 8192)}


class Options(LocalOptions):
    """The options of ``Model(..., options={...})`` for this provider.

    Attributes:
        batch_size: most examples in one batch, fewer if they are long; None takes :data:`ROOM`.
        device: "cpu", "cuda" or "mps"; "auto" takes a GPU if there is one.
        dtype: precision of the weights; "auto" takes float32 on a CPU, half precision on a GPU.
        trust_remote_code: whether Python code in the model's repository may run.
        engine: the library that computes. "vllm" takes chat and base models, best on a GPU; if it is not installed or
            cannot compute the model, transformers does, with a note in the workflow's details. "vllm" is never the
            default, because its answers can differ slightly from those of transformers.
        revision, price: as of :class:`LocalOptions`.
        tensor_parallel_size: number of GPUs of one process (`num_gpus`) that share each layer of the model; vLLM only.
    """

    batch_size: int | None = Field(default=None, ge=1, strict=True)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = Field(default=False, strict=True)
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
        """Return whether the model's name is a path of a folder or file."""
        return weights.is_local(model.name)

    def has_weights(self, model: Model) -> bool:
        """Return whether the weights are on this machine, without asking the hub; True if that cannot be checked."""
        if importlib.util.find_spec("huggingface_hub") is None or packaged_weights.find(model.name):
            return True
        return weights.cached(model.name, None) is not None

    def check(self, model: Model) -> None:
        """Refuse a malformed name, a missing path, a bad option, and a machine without torch or transformers."""
        options = read_options(model, Options)
        shared, gpus = options.tensor_parallel_size, model.resources.num_gpus
        if shared > 1 and options.engine != "vllm":
            raise InvalidInputError(
                f"tensor_parallel_size of model {model.label!r} is a setting of vLLM", "set engine='vllm' too"
            )
        if shared > 1 and (gpus is None or 0 < gpus < shared):
            raise InvalidInputError(
                f"tensor_parallel_size={shared} of model {model.label!r} takes as many GPUs, and num_gpus is {gpus}",
                f"set num_gpus={shared} too; 0 stays on the CPU",
            )
        if model.base_url is not None:
            raise InvalidInputError(
                f"model {model.label!r} is computed by the cluster, and base_url is for servers",
                "ask a server as Model(name, provider='openai', base_url=…)",
            )
        weights.check_name(model.name)
        if not self.installed:
            raise MissingExtraError(f"model {model.label!r}", "hf")

    def identify(self, model: Model, report: Report) -> str:
        """Return the commit, or a digest of a local model's files, so that a retrained model gets a new identity.

        If vLLM was requested and cannot compute here, the identity says so, because its answers and those of
        transformers are cached separately. That check loads torch.
        """
        options = read_options(model, Options)
        if translating.GENERIC_MARIAN.fullmatch(model.name):
            # The model depends on the languages, which are part of the key of every cached answer.
            return ""
        identity = weights.identify(model.name, options.revision, report)
        if options.engine == "vllm" and vllm.obstacle(options.device, options.tensor_parallel_size):
            return f"{identity} without vLLM"
        return identity

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Find, load and set up the model.

        Raises:
            UnknownModelError: the model does not exist, or transformers cannot load it.
            UnavailableError: the hub cannot be reached, and the weights are not on this machine.
            InvalidInputError: this machine does not have the device.
            ExecutionError: vLLM takes the model, but has not enough memory for it.
        """
        # libgomp reads this when torch is first imported (Linux). Threads that spin long while they wait starve each
        # other if several processes share the cores: on 2 busy cores a step's matrix products took 600 to 1,650 ms by
        # default and 80 to 130 ms this way (the fastest steps 33 and 35 ms).
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        with without_collecting():
            return self._load(model, task, report)

    def _load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        import transformers

        options = read_options(model, Options)
        # Progress bars would fill the log file; warnings stay.
        transformers.utils.logging.disable_progress_bar()
        source = weights.locate(translating.pair_name(model.name, task), options.revision, report)
        if options.engine == "transformers":
            report("loading the model")
            return _with_transformers(model, task, source, options)
        obstacle = vllm.obstacle(options.device, options.tensor_parallel_size)
        if obstacle is None:
            report("loading the model into vLLM")
            config, tokenizer = _config_and_tokenizer(model, source, options)
            settings = vllm.EngineSettings(
                dtype=None if options.dtype == "auto" else options.dtype,
                at_once=options.batch_size,
                tensor_parallel_size=options.tensor_parallel_size,
                gpus=model.resources.num_gpus or 1.0,
                trust_remote_code=options.trust_remote_code,
            )
            try:
                return vllm.load(model, task, source, config, tokenizer, settings)
            except RefusedError as error:
                obstacle = str(error)
        note = f"transformers answers, not vLLM: {obstacle}"
        log.warning("%s: %s", model.label, note)
        report(f"loading the model; {note}")
        return _with_transformers(model, task, source, options, note)


def _device_and_dtype(options: Options) -> tuple[str, Any]:
    """The device on this machine, and torch's dtype of the weights on it."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device: str = options.device
    if device == "auto":
        device = next(name for name, is_present in present.items() if is_present)
    elif not present[device]:
        raise InvalidInputError(f"device {device!r} is not on the machine that runs the model", "set device='auto'")
    if options.dtype != "auto":
        return device, getattr(torch, options.dtype)
    # CPUs compute half precision slowly, and GPUs before Ampere emulate bfloat16.
    if device == "cpu":
        return device, torch.float32
    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return device, torch.float16
    return device, torch.bfloat16


def _config_and_tokenizer(model: Model, source: Source, options: Options) -> tuple[Any, Any]:
    import transformers

    arguments = _loading_arguments(source, options)
    with _explained(model, source):
        return (
            transformers.AutoConfig.from_pretrained(source.location, **arguments),
            transformers.AutoTokenizer.from_pretrained(source.location, **arguments),
        )


def _loading_arguments(source: Source, options: Options) -> dict[str, Any]:
    arguments = {"revision": source.revision or "main", "trust_remote_code": options.trust_remote_code}
    return {**arguments, "gguf_file": source.gguf} if source.gguf else arguments


@contextmanager
def _explained(model: Model, source: Source) -> Iterator[None]:
    """Turn any exception of transformers into an error with a reason and a remedy."""
    try:
        yield
    except Exception as error:  # a damaged file can raise anything, down to struct.error
        reason = str(error)  # for these three, transformers writes an explanation of several lines
        if not isinstance(error, OSError | ValueError | ImportError):
            # Only the first sentence: torch goes on to recommend loading a pickle that it refused for safety.
            reason = f"{type(error).__name__}: {error}".partition("\n")[0].partition(". ")[0].rstrip(": ")
        if isinstance(error, ImportError):
            hint = "install what is missing where the model is loaded"
        elif source.described == "hub":
            hint = (
                "see on its page whether it needs a newer transformers, trust_remote_code=True or a licence to be "
                "accepted; if files are damaged, delete it from the Hugging Face cache, so that it is downloaded again"
            )
        else:
            hint = (
                f"a file in {source.location} may be damaged, incomplete or of another model: copy or download the "
                "model again, or write it once more with save_pretrained()"
            )
        raise UnknownModelError(
            f"model {model.label!r} ({source.described}) cannot be loaded: {reason}", hint
        ) from error


def _with_transformers(model: Model, task: Task, source: Source, options: Options, *notes: str) -> LanguageModel:
    import torch
    import transformers

    place, dtype = _device_and_dtype(options)
    config, tokenizer = _config_and_tokenizer(model, source, options)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with _explained(model, source), packaged_weights.no_progress_bar():
        network = kind.from_pretrained(source.location, dtype=dtype, **_loading_arguments(source, options))
    network = network.to(place).eval()
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

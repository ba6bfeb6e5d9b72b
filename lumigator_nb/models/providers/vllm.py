"""Hugging Face models that vLLM computes: ``Model("hf/NAME", engine="vllm")``.

Its engine runs in this process rather than in one of its own: whoever ends this process ends the engine, and nothing is
left behind that holds on to a GPU. Prompts are put and answers are read exactly as with transformers; what differs is
what happens between token ids and token ids.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lumigator_nb.errors import ExecutionError
from lumigator_nb.models.base import Prediction, Request
from lumigator_nb.models.prompts import prompting
from lumigator_nb.models.prompts.decoding import Reader, described, end_tokens, failed
from lumigator_nb.models.prompts.prompting import Encoded
from lumigator_nb.models.providers.transformer import Answered
from lumigator_nb.models.providers.weights import Source
from lumigator_nb.specs import GenerationConfig, Model, Task, digest

log = logging.getLogger(__name__)

# Examples under way at once; where memory has no room for all, some wait inside the engine.
AT_ONCE = {"cpu": 64, "cuda": 256}
# How much of a GPU's memory is taken; and on a CPU, bytes for what attention keeps of the examples under way.
GPU_SHARE, CPU_CACHE_BYTES = 0.9, 2 * 2**30

_REMEDY = "a smaller batch_size takes less memory; or engine='transformers'"


class RefusedError(Exception):
    """vLLM does not compute the model here; the message says why."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of the engine.

    Attributes:
        dtype: of the weights, by torch's name; None takes what fits the device.
        at_once: most examples under way; None takes :data:`AT_ONCE`.
        tensor_parallel_size: devices that share each layer of the model.
        gpus: that this process may take; a fraction is a share of one's memory.
        trust_remote_code: whether code that comes with the model may run.
    """

    dtype: str | None
    at_once: int | None
    tensor_parallel_size: int
    gpus: float
    trust_remote_code: bool


def obstacle(wanted: str, n_devices: int) -> str | None:
    """Say why vLLM can compute no model in this process; None where it can.

    Args:
        wanted: device.
        n_devices: that must be there.
    """
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed where the model is loaded"
    _set_up()
    import torch
    from vllm.platforms import current_platform

    device = current_platform.device_type
    if wanted not in ("auto", device):
        return f"the vLLM that is installed computes on {device or 'nothing that is here'}, not on {wanted}"
    # It looks for a driver; which GPUs this process was given is another question.
    found = 1 if device == "cpu" else torch.accelerator.device_count()
    if not device or not found:
        return "vLLM finds no GPU that this process may use"
    if device != "cpu" and found < n_devices:
        return f"tensor_parallel_size is {n_devices}, and this process may use {found} GPU"
    return None


def load(model: Model, task: Task, source: Source, config: Any, tokenizer: Any, wishes: Wishes) -> VllmModel:
    """Return the model, loaded.

    Args:
        config, tokenizer: as transformers reads them.

    Raises:
        RefusedError: vLLM does not take this model; found out before weights are loaded.
        ExecutionError: the weights cannot be loaded, mostly for want of memory.
    """
    if source.gguf or config.is_encoder_decoder:
        raise RefusedError("vLLM reads no GGUF file" if source.gguf else "vLLM has no encoder-decoder models")
    wording = prompting.choose(model.name, config, tokenizer, task)
    engine = _started(source, wishes)
    room = engine.model_config.max_model_len
    limits = prompting.limits(config, tokenizer, model.generation.max_new_tokens, room)
    for note in limits.notes:
        log.warning("%s: %s", model.label, note)
    ends = end_tokens(_own_settings(source, config), tokenizer)
    return VllmModel(
        engine,
        prompting.Encoder(tokenizer, wording, limits.prompt),
        Reader(tokenizer, ends),
        model.generation.model_copy(update={"max_new_tokens": limits.new}),
        ends,
        _details(engine, source, config, wording, limits),
        seed=model.generation.seed + model.repeat - 1,
    )


def _started(source: Source, wishes: Wishes) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor import Executor

    try:
        config = EngineArgs(**_arguments(source, wishes)).create_engine_config()
    except Exception as error:  # pydantic's, its own, and what transformers raises
        raise RefusedError(f"vLLM does not take this model: {_reason(error)}") from error
    try:
        return LLMEngine(config, Executor.get_class(config), log_stats=False)
    except Exception as error:
        raise ExecutionError(f"vLLM cannot load the model: {_reason(error)}", _REMEDY) from error


def _reason(error: Exception) -> str:
    """An error in one line; pydantic's has its own words in the third."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def _own_settings(source: Source, config: Any) -> Any:
    import transformers

    try:
        return transformers.GenerationConfig.from_pretrained(source.location, revision=source.revision)
    except OSError:  # a model without a generation_config.json
        return transformers.GenerationConfig.from_model_config(config)


def _details(
    engine: Any, source: Source, config: Any, wording: prompting.Wording, limits: prompting.Limits
) -> dict[str, Any]:
    import torch
    import transformers
    import vllm
    from vllm.platforms import current_platform

    return {
        "engine": "vllm",
        "source": source.described,
        "revision": source.revision,
        "architecture": (config.architectures or [""])[0],
        "device": current_platform.get_device_name(),
        "tensor_parallel_size": engine.vllm_config.parallel_config.tensor_parallel_size,
        "dtype": str(engine.model_config.dtype).removeprefix("torch."),
        "batch_size": engine.vllm_config.scheduler_config.max_num_seqs,
        "prompt": wording.described,
        "max_prompt_tokens": limits.prompt,
        "max_new_tokens": limits.new,
        "notes": list(limits.notes),
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _set_up() -> None:
    """Settings that vLLM reads from the environment; those of whoever runs this win."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")


def _arguments(source: Source, wishes: Wishes) -> dict[str, Any]:
    from vllm.platforms import current_platform

    on_cpu = current_platform.device_type == "cpu"
    memory: dict[str, Any] = {"gpu_memory_utilization": GPU_SHARE * min(1.0, wishes.gpus)}
    if on_cpu:
        # Compiling takes a C++ compiler and a minute.
        memory = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True}
    return {
        **memory,
        "model": source.location,
        "revision": source.revision,
        "trust_remote_code": wishes.trust_remote_code,
        "dtype": wishes.dtype or ("float32" if on_cpu else "auto"),
        # The longest that memory has room for.
        "max_model_len": -1,
        "max_num_seqs": wishes.at_once or AT_ONCE["cpu" if on_cpu else "cuda"],
        "tensor_parallel_size": wishes.tensor_parallel_size,
        # Left to itself, it would ask Ray for further processes, which nobody has reckoned with.
        "distributed_executor_backend": "mp" if wishes.tensor_parallel_size > 1 else "uni",
        "skip_tokenizer_init": True,
        "use_tqdm_on_load": False,
        # None of the model's own settings: ours are complete.
        "generation_config": "vllm",
    }


class VllmModel:
    """Generates with vLLM's engine, which takes requests up and finishes them at any time.

    Args:
        engine: vLLM's, in this process.
        encode: from a request to token ids; see :class:`prompting.Encoder`.
        read: from token ids to a prediction.
        generation: how to generate.
        ends: tokens that end an answer.
        details: for the record.
        seed: of the sampling.
    """

    def __init__(
        self,
        engine: Any,
        encode: Callable[[Request], Encoded],
        read: Reader,
        generation: GenerationConfig,
        ends: list[int],
        details: dict[str, Any],
        *,
        seed: int = 0,
    ) -> None:
        self._engine = engine
        self._encode = encode
        self._read = read
        self._generation = generation
        self._ends = ends
        self._seed = seed
        self._most = int(engine.vllm_config.scheduler_config.max_num_seqs)
        self._numbers = 0
        self.details = details
        # What it holds of the devices, and the processes that share the model, go with the model: metrics may follow.
        weakref.finalize(self, engine.engine_core.shutdown)

    def answer(self, requests: Iterable[Request]) -> Iterator[Answered]:
        """Answer each request; the next is taken when one that is under way is done."""
        source = iter(requests)
        under_way: dict[str, _UnderWay] = {}
        try:
            while True:
                while len(under_way) < self._most and (request := next(source, None)) is not None:
                    refused = self._put(request, under_way)
                    if refused is not None:
                        yield request, refused
                if not under_way:
                    return
                yield from self._step(under_way)
        finally:
            # Whoever asked may have stopped listening.
            self._engine.abort_request(list(under_way))

    def _put(self, request: Request, under_way: dict[str, _UnderWay]) -> Prediction | None:
        """Hand a request to the engine; return its prediction where that fails."""
        try:
            each = self._encode(request)
        except Exception as error:
            log.warning("row %d cannot be put to the model", request.row, exc_info=True)
            return Prediction(None, error=described(error))
        self._numbers += 1
        key = str(self._numbers)
        try:
            (prompt,) = self._engine.renderer.render_cmpl([{"prompt_token_ids": each.ids}])
            self._engine.add_request(key, prompt, self._sampling(request))
        except Exception as error:
            log.warning("row %d is refused by vLLM", request.row, exc_info=True)
            return failed(each, described(error))
        under_way[key] = _UnderWay(each)
        return None

    def _step(self, under_way: dict[str, _UnderWay]) -> list[Answered]:
        """Let each that is under way grow by a token; return those that are done by that."""
        started = time.perf_counter()
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise ExecutionError(f"vLLM failed while it answered: {described(error)}", _REMEDY) from error
        share = (time.perf_counter() - started) / len(under_way)
        for each in under_way.values():
            each.seconds += share
        return [self._finished(under_way.pop(out.request_id), out) for out in outputs if out.finished]

    def _finished(self, done: _UnderWay, output: Any) -> Answered:
        (written,) = output.outputs
        request = done.encoded.request
        if written.finish_reason not in ("stop", "length"):
            return request, failed(done.encoded, f"vLLM gave up: {written.finish_reason}")
        return request, self._read(done.encoded, list(written.token_ids), done.seconds)

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        wanted = self._generation
        sampling: dict[str, Any] = {"temperature": 0.0}
        if wanted.temperature > 0:
            # Each row draws by itself, so that it does not matter which are under way together.
            own = int(digest([self._seed, request.row]), 16) >> 1
            sampling = {"temperature": wanted.temperature, "top_p": wanted.top_p, "seed": own}
        return SamplingParams(
            **sampling,
            max_tokens=wanted.max_new_tokens,
            stop_token_ids=self._ends,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


@dataclass
class _UnderWay:
    encoded: Encoded
    seconds: float = 0.0

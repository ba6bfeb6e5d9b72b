"""Hugging Face models computed by vLLM: ``Model("hf/NAME", engine="vllm")``.

The engine runs in this process, not in a separate one: it ends with this process, so that nothing is left behind that
occupies a GPU. Prompts are encoded and answers decoded exactly as with transformers; only the generation of token ids
differs.
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

# Examples under way at once by device; if memory has no room for all, some wait inside the engine.
AT_ONCE = {"cpu": 64, "cuda": 256}
# The share of a GPU's memory to use; and on a CPU, the bytes of the attention cache (KV cache).
GPU_SHARE, CPU_CACHE_BYTES = 0.9, 2 * 2**30

_REMEDY = "a smaller batch_size takes less memory; or engine='transformers'"


class RefusedError(Exception):
    """vLLM does not compute the model here; the message says why."""


@dataclass(frozen=True)
class EngineSettings:
    """Settings of the engine.

    Attributes:
        dtype: precision of the weights, by torch's name; None takes the default of the device.
        at_once: most examples under way; None takes :data:`AT_ONCE`.
        tensor_parallel_size: number of devices that share each layer of the model.
        gpus: number of GPUs for this process; a fraction is a share of one GPU's memory.
        trust_remote_code: whether Python code in the model's repository may run.
    """

    dtype: str | None
    at_once: int | None
    tensor_parallel_size: int
    gpus: float
    trust_remote_code: bool


def obstacle(wanted: str, n_devices: int) -> str | None:
    """Return why vLLM cannot compute models in this process; None if it can.

    Args:
        wanted: device, or "auto".
        n_devices: number of devices that the model needs.
    """
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed where the model is loaded"
    # vLLM reads these when it is imported. In-process is required (see above); the other two only if the user set none.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    import torch
    from vllm.platforms import current_platform

    device = current_platform.device_type
    if wanted not in ("auto", device):
        return f"the installed vLLM computes on {device or 'no device of this machine'}, not on {wanted}"
    # vLLM only looks for a driver, but Ray may have assigned no GPU to this process.
    n_usable = 1 if device == "cpu" else torch.accelerator.device_count()
    if not device or not n_usable:
        return "vLLM finds no GPU that this process may use"
    if device != "cpu" and n_usable < n_devices:
        return f"tensor_parallel_size is {n_devices}, and this process may use {n_usable} GPU"
    return None


def load(model: Model, task: Task, source: Source, config: Any, tokenizer: Any, settings: EngineSettings) -> VllmModel:
    """Load the model.

    Args:
        model: the model with its settings.
        task: the task.
        source: where its files are.
        config: its configuration, as transformers reads it.
        tokenizer: its tokenizer, as transformers reads it.
        settings: settings of the engine.

    Raises:
        RefusedError: vLLM does not take this model; raised before weights are loaded.
        ExecutionError: the weights cannot be loaded, mostly for lack of memory.
    """
    if source.gguf or config.is_encoder_decoder:
        raise RefusedError("vLLM reads no GGUF file" if source.gguf else "vLLM has no encoder-decoder models")
    import torch
    import transformers
    import vllm
    from vllm.platforms import current_platform

    wording = prompting.choose(model.name, config, tokenizer, task)
    engine = _start_engine(source, settings)
    room = engine.model_config.max_model_len
    limits = prompting.limits(config, tokenizer, model.generation.max_new_tokens, room)
    for note in limits.notes:
        log.warning("%s: %s", model.label, note)
    try:
        own = transformers.GenerationConfig.from_pretrained(source.location, revision=source.revision)
    except OSError:  # a model without a generation_config.json
        own = transformers.GenerationConfig.from_model_config(config)
    ends = end_tokens(own, tokenizer)
    details = {
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
    return VllmModel(
        engine,
        prompting.Encoder(tokenizer, wording, limits.prompt),
        Reader(tokenizer, ends),
        model.generation.model_copy(update={"max_new_tokens": limits.new}),
        ends,
        details,
        seed=model.generation.seed + model.repeat - 1,
    )


def _start_engine(source: Source, settings: EngineSettings) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor import Executor

    on_cpu = current_platform.device_type == "cpu"
    memory: dict[str, Any] = {"gpu_memory_utilization": GPU_SHARE * min(1.0, settings.gpus)}
    if on_cpu:
        # Eager, because compiling needs a C++ compiler and a minute.
        memory = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True}
    try:
        config = EngineArgs(
            **memory,
            model=source.location,
            revision=source.revision,
            trust_remote_code=settings.trust_remote_code,
            dtype=settings.dtype or ("float32" if on_cpu else "auto"),
            max_model_len=-1,  # the longest that memory has room for
            max_num_seqs=settings.at_once or AT_ONCE["cpu" if on_cpu else "cuda"],
            tensor_parallel_size=settings.tensor_parallel_size,
            # Inside a Ray job vLLM would by default ask Ray for more processes, which the workflow has not reserved.
            distributed_executor_backend="mp" if settings.tensor_parallel_size > 1 else "uni",
            skip_tokenizer_init=True,
            use_tqdm_on_load=False,
            # vLLM's own defaults instead of the model's settings, since every request has all settings.
            generation_config="vllm",
        ).create_engine_config()
    except Exception as error:  # of pydantic, vLLM or transformers
        raise RefusedError(f"vLLM does not take this model: {_reason(error)}") from error
    try:
        return LLMEngine(config, Executor.get_class(config), log_stats=False)
    except Exception as error:
        raise ExecutionError(f"vLLM cannot load the model: {_reason(error)}", _REMEDY) from error


def _reason(error: Exception) -> str:
    """An error in one line. Not only its first one: pydantic's message begins in the third."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


class VllmModel:
    """Generates with vLLM's engine, which can start and finish a request at every step (continuous batching).

    Args:
        engine: vLLM's engine, in this process.
        encode: from a request to token ids; see :class:`prompting.Encoder`.
        read: from token ids to a prediction.
        generation: the workflow's generation settings.
        ends: ids of the tokens that end an answer.
        details: facts about the model, as plain JSON values.
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
        self._n_requests = 0
        self.details = details
        # Free the devices' memory, and end the processes that share the model, as soon as the model is deleted: the
        # same process may go on to compute metrics.
        weakref.finalize(self, engine.engine_core.shutdown)

    def answer(self, requests: Iterable[Request]) -> Iterator[Answered]:
        """Answer each request; a new one starts as soon as one is finished."""
        source = iter(requests)
        under_way: dict[str, _UnderWay] = {}
        try:
            while True:
                while len(under_way) < self._most and (request := next(source, None)) is not None:
                    failure = self._start(request, under_way)
                    if failure is not None:
                        yield request, failure
                if not under_way:
                    return
                yield from self._step(under_way)
        finally:
            # The caller may have stopped before all requests were finished.
            self._engine.abort_request(list(under_way))

    def _start(self, request: Request, under_way: dict[str, _UnderWay]) -> Prediction | None:
        """Pass a request to the engine; return a failed prediction if that is not possible."""
        try:
            encoded = self._encode(request)
        except Exception as error:
            log.warning("row %d cannot be encoded", request.row, exc_info=True)
            return Prediction(None, error=described(error))
        self._n_requests += 1
        key = str(self._n_requests)
        try:
            (prompt,) = self._engine.renderer.render_cmpl([{"prompt_token_ids": encoded.ids}])
            self._engine.add_request(key, prompt, self._sampling(request))
        except Exception as error:
            log.warning("vLLM refuses row %d", request.row, exc_info=True)
            return failed(encoded, described(error))
        under_way[key] = _UnderWay(encoded)
        return None

    def _step(self, under_way: dict[str, _UnderWay]) -> list[Answered]:
        """Generate one token for each request under way; return the requests that this finishes."""
        started = time.perf_counter()
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise ExecutionError(f"vLLM failed while it answered: {described(error)}", _REMEDY) from error
        # A request's seconds are its share of the time, not its latency, so that they add up to the wall time.
        share = (time.perf_counter() - started) / len(under_way)
        for waiting in under_way.values():
            waiting.seconds += share
        answered: list[Answered] = []
        for output in outputs:
            if not output.finished:
                continue
            done = under_way.pop(output.request_id)
            (completion,) = output.outputs
            if completion.finish_reason in ("stop", "length"):
                prediction = self._read(done.encoded, list(completion.token_ids), done.seconds)
            else:
                prediction = failed(done.encoded, f"vLLM gave up: {completion.finish_reason}")
            answered.append((done.encoded.request, prediction))
        return answered

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        generation = self._generation
        sampling: dict[str, Any] = {"temperature": 0.0}
        if generation.temperature > 0:
            # A seed per row makes an answer independent of the requests that are under way at the same time.
            seed = int(digest([self._seed, request.row]), 16) >> 1
            sampling = {"temperature": generation.temperature, "top_p": generation.top_p, "seed": seed}
        return SamplingParams(
            **sampling,
            max_tokens=generation.max_new_tokens,
            stop_token_ids=self._ends,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


@dataclass
class _UnderWay:
    encoded: Encoded
    seconds: float = 0.0

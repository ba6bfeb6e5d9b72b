"""A loaded transformers model that answers in batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lumigator_nb.models.base import Prediction, Request
from lumigator_nb.models.prompts.decoding import Reader, described, end_tokens, failed
from lumigator_nb.models.prompts.prompting import Encoded
from lumigator_nb.specs import GenerationConfig

log = logging.getLogger(__name__)

Answered = tuple[Request, Prediction]

# Token ids are part of what a model is; everything else of its own generation settings would go against ours. Its
# `forced_eos_token_id` would put an end mark on an answer that was cut off, which then looks finished.
_KEPT_IDS = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id", "bad_words_ids")

# Requests that are sorted by length together.
WINDOW = 256


@dataclass(frozen=True)
class Room:
    """What goes through a model at once.

    Attributes:
        rows: most examples.
        tokens: most tokens of their prompts, padding included; a single longer prompt goes alone.
    """

    rows: int
    tokens: int


class TransformersModel:
    """Generates with a causal or a sequence-to-sequence model.

    Args:
        model: on its device, in evaluation mode; its generation settings are replaced.
        tokenizer: of the model.
        encode: from a request to token ids; see :class:`prompting.Encoder`.
        generation: how to generate.
        room: how much goes through the model together.
        details: for the record.
        seed: of the sampling.
        first_token: what the decoder must begin with, such as the target language; None leaves it to the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        encode: Callable[[Request], Encoded],
        generation: GenerationConfig,
        room: Room,
        details: dict[str, Any],
        *,
        seed: int = 0,
        first_token: int | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._encode = encode
        self._seed = seed
        self._room = room
        self.details = details
        self._decodes_apart = bool(model.config.is_encoder_decoder)
        self._settings = _transformers_settings(model, tokenizer, generation)
        if first_token is not None:
            self._settings.forced_bos_token_id = first_token
        forced = self._settings.forced_bos_token_id if self._decodes_apart else None
        self._read = Reader(tokenizer, self._settings.eos_token_id or [], forced=forced)
        # generate() fills what ours leaves open from the model's own settings: leave nothing there to be filled in.
        model.generation_config = self._settings

    def answer(self, requests: Iterable[Request]) -> Iterator[Answered]:
        """Answer each request, some hundred at a time. The same call gives the same answers."""
        import torch

        torch.manual_seed(self._seed)
        source = iter(requests)
        while window := list(islice(source, WINDOW)):
            encoded = []
            for request in window:
                try:
                    encoded.append(self._encode(request))
                except Exception as error:
                    log.warning("row %d cannot be put to the model", request.row, exc_info=True)
                    yield request, Prediction(None, error=described(error))
            for batch in batches(encoded, self._room):
                yield from self._answer(batch)

    def _answer(self, batch: list[Encoded]) -> list[Answered]:
        """Answer a batch; where that fails, its halves, down to the example that is to blame."""
        try:
            return self._generate(batch)
        except Exception as caught:
            # Keep the words only: the traceback would hold on to the batch's memory.
            error = described(caught)
            log.warning("a batch of %d failed", len(batch), exc_info=True)
        _free_memory(self._model.device.type)
        if len(batch) == 1:
            return [(batch[0].request, failed(batch[0], error))]
        middle = len(batch) // 2
        return self._answer(batch[:middle]) + self._answer(batch[middle:])

    def _generate(self, batch: list[Encoded]) -> list[Answered]:
        import torch

        started = time.perf_counter()
        inputs = self._padded([each.ids for each in batch])
        with torch.inference_mode():
            output = self._model.generate(**inputs, generation_config=self._settings)
        # A decoder-only model repeats its prompt; a decoder apart begins with its start token.
        skip = 1 if self._decodes_apart else inputs["input_ids"].shape[1]
        rows = output[:, skip:].tolist()
        seconds = (time.perf_counter() - started) / len(batch)
        return [(each.request, self._read(each, row, seconds)) for each, row in zip(batch, rows, strict=True)]

    def _padded(self, rows: list[list[int]]) -> dict[str, Any]:
        """Two (batch, longest) tensors; a decoder-only model goes on at the right end, so it is padded left."""
        import torch

        longest = max(1, *(len(row) for row in rows))
        ids = torch.full((len(rows), longest), self._settings.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            filled = slice(0, len(row)) if self._decodes_apart else slice(longest - len(row), longest)
            ids[at, filled] = torch.tensor(row, dtype=torch.long)
            mask[at, filled] = 1
        device = self._model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def batches(encoded: Sequence[Encoded], room: Room) -> Iterator[list[Encoded]]:
    """Yield requests of like length together, which wastes least on padding.

    The longest come first, so that memory runs out early or never.
    """
    waiting = sorted(encoded, key=lambda each: (-len(each.ids), each.request.row))
    while waiting:
        longest = max(1, len(waiting[0].ids))
        rows = max(1, min(room.rows, room.tokens // longest))
        yield waiting[:rows]
        waiting = waiting[rows:]


def _transformers_settings(model: Any, tokenizer: Any, wanted: GenerationConfig) -> Any:
    """The generation settings, complete, so that no default of the model or of transformers decides."""
    import transformers

    own = model.generation_config
    ids = {name: value for name in _KEPT_IDS if (value := getattr(own, name, None)) is not None}
    ends = end_tokens(own, tokenizer)
    padding = [tokenizer.pad_token_id, own.pad_token_id, *ends, 0]
    sampling: dict[str, Any] = {"do_sample": False}
    if wanted.temperature > 0:
        sampling = {"do_sample": True, "temperature": wanted.temperature, "top_p": wanted.top_p, "top_k": 0}
    return transformers.GenerationConfig(
        **ids,
        **sampling,
        eos_token_id=ends or None,
        pad_token_id=next(each for each in padding if each is not None),
        max_new_tokens=wanted.max_new_tokens,
        num_beams=1,
    )


def _free_memory(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()

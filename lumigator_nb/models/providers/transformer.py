"""A model loaded by transformers, which answers in batches."""

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

# Of a model's own generation settings only these token ids are used; the others would conflict with the workflow's.
# Not `forced_eos_token_id`: it ends an answer that was cut off, which then looks complete.
_KEPT_IDS = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id", "bad_words_ids")

# The number of requests that are encoded and sorted by length at a time.
WINDOW = 256


@dataclass(frozen=True)
class Room:
    """The size of a batch.

    Attributes:
        rows: most examples.
        tokens: most tokens of their prompts, including padding; a longer prompt is a batch by itself.
    """

    rows: int
    tokens: int


class TransformersModel:
    """Generates with a causal or a sequence-to-sequence model.

    Args:
        model: the network on its device, in evaluation mode; its generation settings are replaced.
        tokenizer: the model's tokenizer.
        encode: from a request to token ids; see :class:`prompting.Encoder`.
        generation: the workflow's generation settings.
        room: the size of a batch.
        details: facts about the model, as plain JSON values.
        seed: of the sampling.
        first_token: id of the token that the decoder must begin with, such as that of the target language; None leaves
            it to the model.
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
        self._is_encoder_decoder = bool(model.config.is_encoder_decoder)
        self._settings = _transformers_settings(model, tokenizer, generation)
        if first_token is not None:
            self._settings.forced_bos_token_id = first_token
        forced = self._settings.forced_bos_token_id if self._is_encoder_decoder else None
        self._read = Reader(tokenizer, self._settings.eos_token_id or [], forced=forced)
        # generate() takes missing settings from the model's own, so those have to go.
        model.generation_config = self._settings

    def answer(self, requests: Iterable[Request]) -> Iterator[Answered]:
        """Answer each request, a window at a time. The same call gives the same answers."""
        import torch

        torch.manual_seed(self._seed)
        source = iter(requests)
        while window := list(islice(source, WINDOW)):
            encoded = []
            for request in window:
                try:
                    encoded.append(self._encode(request))
                except Exception as error:
                    log.warning("row %d cannot be encoded", request.row, exc_info=True)
                    yield request, Prediction(None, error=described(error))
            for batch in batches(encoded, self._room):
                yield from self._answer(batch)

    def _answer(self, batch: list[Encoded]) -> list[Answered]:
        """Answer a batch. If that fails, answer its halves, down to the example that causes the failure."""
        import torch

        try:
            return self._generate(batch)
        except Exception as caught:
            # Only the text: the exception's traceback would keep the batch's memory in use.
            error = described(caught)
            log.warning("a batch of %d failed", len(batch), exc_info=True)
        # Most often memory ran out; smaller batches need what the failed one has left behind.
        if (device := self._model.device.type) == "cuda":
            torch.cuda.empty_cache()
        elif device == "mps":
            torch.mps.empty_cache()
        if len(batch) == 1:
            return [(batch[0].request, failed(batch[0], error))]
        middle = len(batch) // 2
        return self._answer(batch[:middle]) + self._answer(batch[middle:])

    def _generate(self, batch: list[Encoded]) -> list[Answered]:
        import torch

        started = time.perf_counter()
        longest = max(1, *(len(prompt.ids) for prompt in batch))
        ids = torch.full((len(batch), longest), self._settings.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            # A decoder-only model continues at the right end, so its padding is on the left.
            n = len(prompt.ids)
            filled = slice(0, n) if self._is_encoder_decoder else slice(longest - n, longest)
            ids[row, filled] = torch.tensor(prompt.ids, dtype=torch.long)
            mask[row, filled] = 1
        inputs = {"input_ids": ids.to(self._model.device), "attention_mask": mask.to(self._model.device)}
        with torch.inference_mode():
            output = self._model.generate(**inputs, generation_config=self._settings)
        # The output of a decoder-only model begins with its prompt, that of an encoder-decoder with a start token.
        skip = 1 if self._is_encoder_decoder else longest
        rows = output[:, skip:].tolist()
        seconds = (time.perf_counter() - started) / len(batch)
        return [(prompt.request, self._read(prompt, row, seconds)) for prompt, row in zip(batch, rows, strict=True)]


def batches(encoded: Sequence[Encoded], room: Room) -> Iterator[list[Encoded]]:
    """Yield batches of requests of similar length, which need little padding.

    The longest come first, so that memory runs out early or never.
    """
    ordered = sorted(encoded, key=lambda prompt: (-len(prompt.ids), prompt.request.row))
    while ordered:
        longest = max(1, len(ordered[0].ids))
        rows = max(1, min(room.rows, room.tokens // longest))
        yield ordered[:rows]
        ordered = ordered[rows:]


def _transformers_settings(model: Any, tokenizer: Any, generation: GenerationConfig) -> Any:
    """All generation settings, so that no default of the model or of transformers applies."""
    import transformers

    own = model.generation_config
    ids = {name: value for name in _KEPT_IDS if (value := getattr(own, name, None)) is not None}
    ends = end_tokens(own, tokenizer)
    # Many base models have no padding token. Its value does not matter, since the attention mask hides it.
    padding = [tokenizer.pad_token_id, own.pad_token_id, *ends, 0]
    sampling: dict[str, Any] = {"do_sample": False}
    if generation.temperature > 0:
        # transformers would by default sample from the 50 most likely tokens only.
        sampling = {"do_sample": True, "temperature": generation.temperature, "top_p": generation.top_p, "top_k": 0}
    return transformers.GenerationConfig(
        **ids,
        **sampling,
        eos_token_id=ends or None,
        pad_token_id=next(token for token in padding if token is not None),
        max_new_tokens=generation.max_new_tokens,
        num_beams=1,
    )

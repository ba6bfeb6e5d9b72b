"""Contextual embeddings of the tokens of texts, by the lower layers of a transformers model; and their matching."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lumigator_nb.errors import InvalidInputError, UnavailableError, UnknownModelError
from lumigator_nb.metrics.base import FloatArray
from lumigator_nb.models.loading import without_collecting
from lumigator_nb.models.providers import weights as resolving

if TYPE_CHECKING:
    from torch import Tensor

Tokens = tuple[int, ...]
T = TypeVar("T")

# Tokens that go through the model together, padding included. More gained nothing on a CPU.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768, "mps": 8192}
CACHE_BYTES = 512 * 2**20

# Tokenizers that know no greatest length name 10^30.
_NO_LIMIT = 10**9
# A text of two tokens has a beginning and an end, and nothing between.
_FRAME = 2
# Models that bert-score gives the first word as it gives every other: after a space.
_SPACE_FIRST = ("roberta", "gpt2")


class Encoder:
    """A model without its upper layers, its tokenizer, and what both have found so far.

    Args:
        network: on its device, in evaluation mode; its output is that of the last layer wanted.
        tokenizer: of the model.
        batch_tokens: most tokens that go through it together, padding included; a longer text goes alone.
        cache_bytes: memory for embeddings that may be asked for again.
    """

    def __init__(
        self, network: Any, tokenizer: Any, batch_tokens: int | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.network = network
        self._tokenizer = tokenizer
        self._limit = _longest(network.config, tokenizer)
        self._prefix = " " if _space_first(network.config, tokenizer) else ""
        self._batch_tokens = batch_tokens or BATCH_TOKENS.get(network.device.type, BATCH_TOKENS["cuda"])
        self._known: OrderedDict[Tokens, Tensor] = OrderedDict()
        self._room = cache_bytes

    @property
    def device(self) -> Any:
        """The torch device that it computes on."""
        return self.network.device

    @property
    def frame(self) -> list[int]:
        """The ids that open and close a text, as far as the model has them."""
        ids = (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id)
        return [token for token in ids if token is not None]

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of each text, cut at the model's greatest length; of no text only what frames it."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return []
        stripped = [text.strip() for text in distinct]
        wanted: dict[str, Any] = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        if self._limit:
            wanted |= {"truncation": True, "max_length": self._limit}
        found = self._tokenizer([text and self._prefix + text for text in stripped], **wanted)
        ids = dict(zip(distinct, map(tuple, found["input_ids"]), strict=True))
        return [ids[text] for text in texts]

    def embed(self, fleeting: Iterable[Tokens], lasting: Iterable[Tokens]) -> dict[Tokens, Tensor]:
        """Return the embeddings of texts: (tokens, width), each of length 1, on the CPU.

        Args:
            fleeting: texts unlikely to be asked for again; where memory is short they are forgotten first.
            lasting: texts that will be.
        """
        kept = dict.fromkeys(lasting)
        wanted = {**dict.fromkeys(fleeting), **kept}
        found = {ids: self._known[ids] for ids in wanted if ids in self._known}
        for batch in batches((ids for ids in wanted if ids not in found), len, self._batch_tokens):
            found.update(zip(batch, self._encode(batch), strict=True))
        for ids in wanted:
            self._remember(ids, found[ids], ids in kept)
        return found

    def _encode(self, batch: list[Tokens]) -> list[Tensor]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        padding = self._tokenizer.pad_token_id or 0
        ids = pad_sequence([torch.tensor(row) for row in batch], batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(row) for row in batch])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode():
            output = self.network(ids.to(self.device), attention_mask=mask.to(self.device))[0]
            vectors = (output / output.norm(dim=-1, keepdim=True)).cpu()
        # A slice would hold on to the whole batch.
        return [vectors[row, : len(tokens)].clone() for row, tokens in enumerate(batch)]

    def _remember(self, ids: Tokens, vectors: Tensor, lasting: bool) -> None:
        if ids not in self._known:
            self._known[ids] = vectors
            self._room -= vectors.nbytes
            self._known.move_to_end(ids, last=lasting)
        elif lasting:
            self._known.move_to_end(ids)
        while self._room < 0:
            _, forgotten = self._known.popitem(last=False)
            self._room += forgotten.nbytes


def load(name: str, layers: int, device: str | None, batch_tokens: int | None) -> Encoder:
    """Load the lower `layers` of a model, in float32.

    Args:
        name: on the Hugging Face hub, or a folder.
        layers: how many to keep; what is above is left out, as bert-score does.
        device: of torch; None takes a GPU where there is one.
        batch_tokens: as of :class:`Encoder`.

    Raises:
        UnknownModelError: there is no such model, or it cannot be loaded.
        UnavailableError: the hub cannot be reached, and the model is not on this machine.
        InvalidInputError: it has fewer layers, or the device is not here.
    """
    # As for models/huggingface.py: threads that spin while they wait starve each other where jobs share cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with without_collecting():
        return _load(name, layers, device, batch_tokens)


def _load(name: str, layers: int, device: str | None, batch_tokens: int | None) -> Encoder:
    import torch
    import transformers

    chosen = _device(device)
    place, revision = _place(name)
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, revision=revision)
        network = transformers.AutoModel.from_pretrained(place, revision=revision, dtype=torch.float32)
    except (OSError, ValueError, ImportError) as error:
        raise UnknownModelError(f"model {name!r} cannot be loaded: {error}") from error
    if hasattr(network, "encoder") and hasattr(network, "decoder"):
        network = network.encoder
    _cut(network, name, layers)
    return Encoder(network.to(chosen).eval(), tokenizer, batch_tokens)


def _cut(network: Any, name: str, layers: int) -> None:
    """Take away what is above the lower `layers`, so that what comes after all of them, such as a norm, comes next."""
    from torch.nn import ModuleList

    stack: Any = next((part for part in network.modules() if isinstance(part, ModuleList)), [])
    albert, xlm = network.config.model_type == "albert", hasattr(network, "n_layers")
    depth = network.config.num_hidden_layers if albert else network.n_layers if xlm else len(stack)
    if layers > depth:
        raise InvalidInputError(
            f"option 'num_layers' of metric 'bertscore' cannot be {layers}: {name!r} has {depth} layers",
            f"it is a whole number from 0 to {depth}",
        )
    # ALBERT goes through the same layer again and again; XLM keeps the parts of its layers in several lists.
    if albert:
        network.config.num_hidden_layers = layers
    elif xlm:
        network.n_layers = layers
    else:
        del stack[layers:]


def match(
    left: list[Tokens], right: list[Tokens], vectors: dict[Tokens, Tensor], weights: Tensor, device: Any
) -> FloatArray:
    """Match the tokens of pairs of texts, each with the nearest of the other text (section 3 of the paper).

    Args:
        left: the predictions.
        right: the ground truth of each.
        vectors: as :meth:`Encoder.embed` gives them.
        weights: (ids,) how much each token counts.
        device: where to compute.

    Returns:
        (pairs, 3) precision, recall and F-measure; precision or recall is NaN where no token of its text counts.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    a, b = (pad_sequence([vectors[ids] for ids in texts], batch_first=True).to(device) for texts in (left, right))
    # Padding has embeddings of 0. In bert-score the cosine 0 of the padding stands in for nearest ones below it in all
    # but the longest text of a batch; here in all, whatever else is in the batch.
    cosines = torch.bmm(a, b.transpose(1, 2)).clamp_(min=0.0)
    precision = _weighted_mean(cosines.amax(dim=2), left, weights)
    recall = _weighted_mean(cosines.amax(dim=1), right, weights)
    f_measure = (2 * precision * recall / (precision + recall)).nan_to_num(nan=0.0)
    # Only now: bert-score takes the F-measure of what it has before it sets both to 0.
    empty = torch.tensor([_FRAME in (len(ids), len(others)) for ids, others in zip(left, right, strict=True)])
    parts = [precision, recall, f_measure]
    parts[:2] = [part.masked_fill(empty.to(device), 0.0) for part in parts[:2]]
    return np.asarray(torch.stack(parts, dim=1).cpu(), dtype=np.float64)


def _weighted_mean(nearest: Tensor, texts: list[Tokens], weights: Tensor) -> Tensor:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [weights[torch.tensor(ids)] for ids in texts]
    shares = pad_sequence([row / row.sum() for row in rows], batch_first=True).to(nearest.device)
    return (nearest * shares).sum(dim=1)


def is_folder(name: str) -> bool:
    """Whether a model's name is a path and not a name on the hub."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def check_folder(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        UnknownModelError: there is none, or it holds no model.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UnknownModelError(f"there is no model at {folder}", "give a folder with a config.json")
    if not (folder / "config.json").is_file():
        raise UnknownModelError(f"the folder {folder} has no config.json", "give one that save_pretrained() wrote")
    return folder


def _device(wanted: str | None) -> str:
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted is None:
        return next(name for name, here in present.items() if here)
    if not present.get(wanted.partition(":")[0]):
        raise InvalidInputError(f"device {wanted!r} is not on the machine that scores", "leave out option 'device'")
    return wanted


def _place(name: str) -> tuple[str, str]:
    """Return folder or hub id, and revision: one request decides whether it is the hub or its cache."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if is_folder(name):
        return str(check_folder(name)), "main"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UnknownModelError(f"{name!r} is neither a model on the Hugging Face hub nor a folder") from error
    commit, obstacle = resolving.ask_hub(name, None)
    if commit:
        return name, commit
    if folder := resolving.cached(name, None):
        return str(folder), "main"
    raise UnavailableError(
        f"cannot get the model {name!r}: the hub cannot be reached ({obstacle}), and its cache does not have it",
        "download it where there is a network and give its folder: model='/absolute/path', num_layers=…",
    )


def _longest(config: Any, tokenizer: Any) -> int | None:
    """Return the most tokens of a text, or None where neither tokenizer nor model limits them."""
    if tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa and its kin count positions from behind the padding's id.
    offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
    return int(positions) - offset if positions and positions > 0 else None


def _space_first(config: Any, tokenizer: Any) -> bool:
    # bert-score asks the tokenizer for it, which transformers 5 ignores; what has been published was computed so.
    from transformers import GPT2Tokenizer, RobertaTokenizer

    return config.model_type in _SPACE_FIRST and isinstance(tokenizer, GPT2Tokenizer | RobertaTokenizer)


def batches(items: Iterable[T], length: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """Yield items of like length together, so many that padded they have at most `budget` tokens, and at least one.

    The longest come first, so that memory runs out early or never.
    """
    waiting = sorted(items, key=length, reverse=True)
    while waiting:
        count = max(1, budget // max(1, length(waiting[0])))
        yield waiting[:count]
        waiting = waiting[count:]

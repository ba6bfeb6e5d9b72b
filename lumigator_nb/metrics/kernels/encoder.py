"""Contextual embeddings of tokens from the lower layers of a transformers model, and the matching of tokens."""

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
from lumigator_nb.models.providers import weights as weights_of

if TYPE_CHECKING:
    from torch import Tensor

Tokens = tuple[int, ...]
T = TypeVar("T")

# Tokens in a batch, padding included. On a CPU, larger batches were not faster.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768, "mps": 8192}
CACHE_BYTES = 512 * 2**20

# Tokenizers without a maximum length report 10^30.
_NO_LIMIT = 10**9
# An empty text has two tokens: its beginning and its end.
_FRAME = 2
# Model types for which bert-score puts a space before the first word, as before every other.
_SPACE_FIRST = ("roberta", "gpt2")


class Encoder:
    """A model without its upper layers, with its tokenizer and a cache of embeddings.

    Args:
        network: on its device, in evaluation mode; its output is that of the layer to compare.
        tokenizer: of the model.
        batch_tokens: largest number of tokens in a batch, padding included; a longer text is a batch by itself.
        cache_bytes: memory for embeddings that may be needed again.
    """

    def __init__(
        self, network: Any, tokenizer: Any, batch_tokens: int | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        from transformers import GPT2Tokenizer, RobertaTokenizer

        self.network = network
        self._tokenizer = tokenizer
        self._limit = _longest(network.config, tokenizer)
        # bert-score asks the tokenizer for the space, which transformers 5 ignores; published scores were computed with
        # it.
        space_first = network.config.model_type in _SPACE_FIRST and isinstance(
            tokenizer, GPT2Tokenizer | RobertaTokenizer
        )
        self._prefix = " " if space_first else ""
        self._batch_tokens = batch_tokens or BATCH_TOKENS.get(network.device.type, BATCH_TOKENS["cuda"])
        self._cache: OrderedDict[Tokens, Tensor] = OrderedDict()
        self._room = cache_bytes

    @property
    def device(self) -> Any:
        """The torch device that it computes on."""
        return self.network.device

    @property
    def frame(self) -> list[int]:
        """The ids of the tokens that open and close a text, if the model has them."""
        ids = (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id)
        return [token for token in ids if token is not None]

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of each text, cut at the model's maximum length; an empty text is :attr:`frame` only."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return []
        stripped = [text.strip() for text in distinct]
        options: dict[str, Any] = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        if self._limit:
            options |= {"truncation": True, "max_length": self._limit}
        encoding = self._tokenizer([text and self._prefix + text for text in stripped], **options)
        ids = dict(zip(distinct, map(tuple, encoding["input_ids"]), strict=True))
        return [ids[text] for text in texts]

    def embed(self, fleeting: Iterable[Tokens], lasting: Iterable[Tokens]) -> dict[Tokens, Tensor]:
        """Return the embeddings of texts: (tokens, width), each of length 1, on the CPU.

        Args:
            fleeting: texts that are unlikely to be needed again; the cache drops them first.
            lasting: texts that will be needed again.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        keep = dict.fromkeys(lasting)
        texts = {**dict.fromkeys(fleeting), **keep}
        vectors = {ids: self._cache[ids] for ids in texts if ids in self._cache}
        padding = self._tokenizer.pad_token_id or 0
        for batch in batches((ids for ids in texts if ids not in vectors), len, self._batch_tokens):
            ids = pad_sequence([torch.tensor(row) for row in batch], batch_first=True, padding_value=padding)
            lengths = torch.tensor([len(row) for row in batch])
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            with torch.inference_mode():
                output = self.network(ids.to(self.device), attention_mask=mask.to(self.device))[0]
                normalized = (output / output.norm(dim=-1, keepdim=True)).cpu()
            # A copy, since a slice would keep the whole batch in memory.
            vectors.update({tokens: normalized[row, : len(tokens)].clone() for row, tokens in enumerate(batch)})
        for tokens in texts:
            self._remember(tokens, vectors[tokens], tokens in keep)
        return vectors

    def _remember(self, ids: Tokens, vectors: Tensor, lasting: bool) -> None:
        """Put embeddings into the cache; the first in it are dropped first when memory runs out."""
        if ids not in self._cache:
            self._cache[ids] = vectors
            self._room -= vectors.nbytes
            self._cache.move_to_end(ids, last=lasting)
        elif lasting:
            self._cache.move_to_end(ids)
        while self._room < 0:
            _, dropped = self._cache.popitem(last=False)
            self._room += dropped.nbytes


def load(name: str, layers: int, device: str | None, batch_tokens: int | None) -> Encoder:
    """Load the lower `layers` of a model, in float32.

    Args:
        name: name on the Hugging Face hub, or a folder.
        layers: number of layers to keep; the others are removed, as bert-score does.
        device: of torch; None for a GPU if there is one.
        batch_tokens: as in :class:`Encoder`.

    Raises:
        UnknownModelError: the model does not exist, or cannot be loaded.
        UnavailableError: the hub cannot be reached, and the model is not on this machine.
        InvalidInputError: the model has fewer layers, or this machine does not have the device.
    """
    # libgomp's threads spin while they wait. Where several processes share the cores, that starves the others. It must
    # be set before torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # Loading creates many objects that live on: to search them for garbage is wasted time.
    with without_collecting():
        import torch
        import transformers

        present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if device is None:
            device = next(name for name, available in present.items() if available)
        elif not present.get(device.partition(":")[0]):
            raise InvalidInputError(f"device {device!r} is not on the machine that scores", "leave out option 'device'")
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
        return Encoder(network.to(device).eval(), tokenizer, batch_tokens)


def _cut(network: Any, name: str, layers: int) -> None:
    """Remove the layers above the lower `layers`. What follows all layers, such as a norm, then follows these."""
    from torch.nn import ModuleList

    stack: Any = next((part for part in network.modules() if isinstance(part, ModuleList)), [])
    albert, xlm = network.config.model_type == "albert", hasattr(network, "n_layers")
    depth = network.config.num_hidden_layers if albert else network.n_layers if xlm else len(stack)
    if layers > depth:
        raise InvalidInputError(
            f"option 'num_layers' of metric 'bertscore' cannot be {layers}: {name!r} has {depth} layers",
            f"give a whole number from 0 to {depth}",
        )
    # ALBERT repeats one layer; XLM keeps the parts of its layers in several lists.
    if albert:
        network.config.num_hidden_layers = layers
    elif xlm:
        network.n_layers = layers
    else:
        del stack[layers:]


def match(
    left: list[Tokens], right: list[Tokens], vectors: dict[Tokens, Tensor], weights: Tensor, device: Any
) -> FloatArray:
    """Match each token of a text with the nearest token of the other text (section 3 of the BERTScore paper).

    Args:
        left: n predictions.
        right: the reference of each.
        vectors: from :meth:`Encoder.embed`.
        weights: (ids,) the weight of each token.
        device: torch device to compute on.

    Returns:
        (n, 3) precision, recall and F-measure; precision or recall is NaN where all tokens of a text have weight 0.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    a, b = (pad_sequence([vectors[ids] for ids in texts], batch_first=True).to(device) for texts in (left, right))
    # Padding has embeddings, and so cosines, of 0. In bert-score it thereby raises negative maxima to 0 in all but the
    # longest text of a batch. Here it is done for all texts, so that scores do not depend on the batch.
    cosines = torch.bmm(a, b.transpose(1, 2)).clamp_(min=0.0)
    precision = _weighted_mean(cosines.amax(dim=2), left, weights)
    recall = _weighted_mean(cosines.amax(dim=1), right, weights)
    f_measure = (2 * precision * recall / (precision + recall)).nan_to_num(nan=0.0)
    # After the F-measure, as in bert-score, which computes it before it sets precision and recall of empty texts to 0.
    empty = torch.tensor([_FRAME in (len(ids), len(others)) for ids, others in zip(left, right, strict=True)])
    parts = [precision, recall, f_measure]
    parts[:2] = [part.masked_fill(empty.to(device), 0.0) for part in parts[:2]]
    return np.asarray(torch.stack(parts, dim=1).cpu(), dtype=np.float64)


def _weighted_mean(nearest: Tensor, texts: list[Tokens], weights: Tensor) -> Tensor:
    """Return (n,) weighted means of (n, tokens) cosines."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [weights[torch.tensor(ids)] for ids in texts]
    shares = pad_sequence([row / row.sum() for row in rows], batch_first=True).to(nearest.device)
    return (nearest * shares).sum(dim=1)


def is_folder(name: str) -> bool:
    """Whether the name of a model is a path, not a name on the hub."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def check_folder(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        UnknownModelError: it does not exist, or does not hold a model.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UnknownModelError(f"there is no model at {folder}", "give a folder with a config.json")
    if not (folder / "config.json").is_file():
        raise UnknownModelError(f"the folder {folder} has no config.json", "give a folder that save_pretrained() wrote")
    return folder


def _place(name: str) -> tuple[str, str]:
    """Return folder or hub id, and revision. One request decides between the hub and its cache on this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if is_folder(name):
        return str(check_folder(name)), "main"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UnknownModelError(f"{name!r} is neither a model on the Hugging Face hub nor a folder") from error
    commit, obstacle = weights_of.ask_hub(name, None)
    if commit:
        return name, commit
    if folder := weights_of.cached(name, None):
        return str(folder), "main"
    raise UnavailableError(
        f"cannot get the model {name!r}: the hub cannot be reached ({obstacle}), and its cache does not have it",
        "download it where there is a network and give its folder: model='/absolute/path', num_layers=…",
    )


def _longest(config: Any, tokenizer: Any) -> int | None:
    """Return the largest number of tokens of a text; None if neither tokenizer nor model limits it."""
    if tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa and models derived from it number positions from the padding's id + 1.
    offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
    return int(positions) - offset if positions and positions > 0 else None


def batches(items: Iterable[T], length: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """Yield batches of items of similar length, with at most `budget` tokens when padded, but at least one item.

    The longest come first, so that memory runs out at once or never.
    """
    queue = sorted(items, key=length, reverse=True)
    while queue:
        count = max(1, budget // max(1, length(queue[0])))
        yield queue[:count]
        queue = queue[count:]

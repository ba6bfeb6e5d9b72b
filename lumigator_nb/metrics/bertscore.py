"""BERTScore (Zhang et al. 2020, https://arxiv.org/abs/1904.09675) with the scores of the package bert-score 0.3.13."""

from __future__ import annotations

import ast
import csv
import importlib.util
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError
from lumigator_nb.metrics.base import FloatArray, Metric, Rows, ScoreInfo, Scores, best, choice
from lumigator_nb.metrics.kernels import encoder
from lumigator_nb.metrics.kernels.encoder import Encoder, Tokens
from lumigator_nb.metrics.registry import metric_class

if TYPE_CHECKING:
    from torch import Tensor

# bert-score's model for languages without a specific one.
MULTILINGUAL = "bert-base-multilingual-cased"
NO_WEIGHT = "every token is in all of the ground truth, so that idf gives each the weight 0"

# Tokens of predictions and ground truth whose embeddings are in memory at once, and that are compared at once.
_WINDOW, _COMPARED = 65_536, 8192


def _info(part: str, what: str) -> ScoreInfo:
    return ScoreInfo(f"bertscore_{part}", what, True, (-1.0, 1.0))


@metric_class
class BertScore(Metric):
    """Precision, recall and F-measure of tokens matched by the cosine of their contextual embeddings.

    Scores lie in (-1, 1), in practice between 0 and 1; with `rescale` a bad one may lie below -1. The overall value is
    the mean over the examples. Of several references the best counts, separately for each score. An empty prediction or
    reference scores 0, and texts longer than the model's limit are cut, both as in bert-score.

    RoBERTa's tokenizer puts a space before the first word, as under transformers 4, with which the published scores and
    baselines were computed; bert-score under transformers 5 does not.

    Args:
        model: name on the Hugging Face hub or absolute path of a folder; None for bert-score's model for `language`.
        num_layers: the layer whose output is compared; None for bert-score's layer for `model`. Required for a folder.
        language: of the texts; it chooses the model, and the baseline of `rescale`.
        rescale: rescale the scores so that unrelated sentences get 0, with bert-score's baselines.
        idf: weight tokens by their inverse document frequency in the ground truth. It is counted over the references of
            each call of :meth:`score`, so scores from calls with different references are not comparable.
        batch_tokens: largest number of tokens in a batch; None for a number that suits the device.
        device: "cpu", "cuda", "mps"; None for a GPU if there is one.

    Raises:
        InvalidInputError: an option's value is not allowed, or a folder is passed without `num_layers`.
    """

    name = "bertscore"
    display_name = "BERTScore"
    modules = ("torch", "transformers", "bert_score")
    extra = "bertscore"
    on_gpu = True
    packages = ("torch", "transformers")
    uses_pandas = False
    infos = (
        _info("precision", "how well the prediction's tokens are matched in the ground truth, in meaning"),
        _info("recall", "how well the ground truth's tokens are matched in the prediction, in meaning"),
        _info("f1", "harmonic mean of BERTScore's precision and recall"),
    )

    def __init__(
        self,
        *,
        model: str | None = None,
        num_layers: int | None = None,
        language: str = "en",
        rescale: bool = False,
        idf: bool = False,
        batch_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        choice(self.name, "rescale", rescale, (True, False))
        choice(self.name, "idf", idf, (True, False))
        for option, value in (("model", model), ("language", language), ("device", device)):
            optional = option != "language"
            if not (isinstance(value, str) and value) and not (optional and value is None):
                raise InvalidInputError(f"option {option!r} of metric 'bertscore' cannot be {value!r}", "give a text")
        _check_whole("num_layers", num_layers, 0)
        _check_whole("batch_tokens", batch_tokens, 1)
        self._model, self._num_layers, self.language = model, num_layers, language.lower()
        self.rescale, self.idf, self.batch_tokens, self.device = rescale, idf, batch_tokens, device
        if model is not None and encoder.is_folder(model):
            if not Path(model).expanduser().is_absolute():
                raise InvalidInputError(
                    f"option 'model' of metric 'bertscore': the path {model!r} is relative, and another process "
                    "elsewhere computes the scores",
                    f"write model={str(Path(model).resolve())!r}",
                )
            if num_layers is None:
                raise _no_layer(model)

    @classmethod
    def options_for(cls, language: str) -> Mapping[str, Any]:
        """As in :class:`Metric`."""
        return {} if language == "en" else {"language": language}

    @property
    def model(self) -> str:
        """Name or folder of the model that embeds the tokens."""
        if self._model is not None:
            return self._model
        models = _table("lang2model")
        base = self.language.partition("-")[0]
        return str(models.get(self.language) or models.get(base, MULTILINGUAL))

    @property
    def num_layers(self) -> int:
        """The layer whose output is compared.

        Raises:
            InvalidInputError: bert-score does not know the model.
        """
        layer = self._num_layers if self._num_layers is not None else _table("model2layers").get(self.model)
        if layer is None:
            raise _no_layer(self.model)
        return int(layer)

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        idf = "references-of-each-call" if self.idf else "no"
        rescale = f"bert-score-{_version('bert_score')}:{self.language}" if self.rescale else "no"
        versions = "|".join(f"{package}:{_version(package)}" for package in ("torch", "transformers"))
        return (
            f"bertscore|impl:lumigator_nb,equal-to:bert-score-0.3.13|{versions}|model:{self.model}"
            f"|layer:{self.num_layers}|idf:{idf}|rescale:{rescale}|references:best"
        )

    def prepare(self) -> None:
        """As in :class:`Metric`; loads neither torch nor the model.

        Raises:
            MissingExtraError: packages are missing.
            InvalidInputError: bert-score does not know which layer of the model to compare.
            UnknownModelError: the model's folder does not exist.
            ConfigurationError: bert-score has no baseline to rescale with.
        """
        super().prepare()
        if encoder.is_folder(self.model):
            encoder.check_folder(self.model)
        _ = self.num_layers
        if self.rescale:
            _baseline(self.language, self.model, self.num_layers)

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded at first use; errors as in :func:`encoder.load`."""
        self.prepare()
        return encoder.load(self.model, self.num_layers, self.device, self.batch_tokens)

    def _score(self, rows: Rows) -> list[Scores]:
        predictions, references, starts = rows.pairs()
        pairs = self._pairs(predictions, references) if len(rows) else np.empty((0, 3))
        values = np.stack([best(column, starts) for column in pairs.T], axis=1)
        if self.rescale:
            baseline = _baseline(self.language, self.model, self.num_layers)
            values = (values - baseline) / (1 - baseline)
        return [
            Scores.of(info, column, [NO_WEIGHT if np.isnan(value) else None for value in column])
            for info, column in zip(self.infos, values.T, strict=True)
        ]

    def _pairs(self, predictions: Sequence[str], references: Sequence[str]) -> FloatArray:
        """Return (pairs, 3) precision, recall and F-measure of each prediction with its reference."""
        left, right = self.encoder.tokenize(predictions), self.encoder.tokenize(references)
        weights = _weights(left, right, self.encoder.frame, self.idf)
        values = np.empty((len(left), 3))

        def length(pair: int) -> int:
            return len(left[pair]) + len(right[pair])

        for window in encoder.batches(range(len(left)), length, _WINDOW):
            vectors = self.encoder.embed([left[pair] for pair in window], [right[pair] for pair in window])
            for batch in encoder.batches(window, length, _COMPARED):
                texts, others = [left[pair] for pair in batch], [right[pair] for pair in batch]
                values[batch] = encoder.match(texts, others, vectors, weights, self.encoder.device)
        return values


def _weights(left: Sequence[Tokens], right: Sequence[Tokens], frame: list[int], idf: bool) -> Tensor:
    """Return (ids,) weights of tokens: 1, or 0 for those that open and close a text.

    With `idf` they are log((n + 1) / (df + 1)): n is the number of references and df the number of those
    that contain the token (section 3 of the paper).
    """
    import torch

    size = 1 + max((max(ids, default=0) for ids in (*left, *right)), default=0)
    if not idf:
        weights = torch.ones(max([size, *(token + 1 for token in frame)]))
        weights[frame] = 0
        return weights
    counts = Counter(token for ids in right for token in set(ids))
    return torch.tensor([math.log((len(right) + 1) / (counts[token] + 1)) for token in range(size)])


def _check_whole(option: str, value: Any, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise InvalidInputError(
            f"option {option!r} of metric 'bertscore' cannot be {value!r}", f"give a whole number of at least {least}"
        )


def _no_layer(model: str) -> InvalidInputError:
    return InvalidInputError(
        f"bert-score does not say which layer of the model {model!r} to compare",
        "pass it as num_layers=…; its authors use the one whose scores agree best with human ones",
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _package() -> Path:
    """Return the folder of bert-score. It is not imported, as that would import torch, which takes seconds."""
    spec = importlib.util.find_spec("bert_score")
    if spec is None:
        raise MissingExtraError("metric 'bertscore'", "bertscore")
    return Path(str(spec.origin)).parent


@cache
def _table(name: str) -> dict[str, Any]:
    """Return the tables `lang2model` or `model2layers` from bert-score's source."""
    tree = ast.parse((_package() / "utils.py").read_text("utf-8"))
    for statement in tree.body:
        # lang2model is a defaultdict that a second statement, .update({…}), fills; hence the expressions.
        parts = list(ast.walk(statement))
        if isinstance(statement, ast.Assign | ast.Expr) and any(
            isinstance(part, ast.Name) and part.id == name for part in parts
        ):
            for part in parts:
                if isinstance(part, ast.Dict):
                    return dict(ast.literal_eval(part))
    raise ConfigurationError(f"the installed bert-score has no table {name!r}", "pip install 'bert-score==0.3.13'")


@cache
def _baseline(language: str, model: str, layer: int) -> FloatArray:
    """Return (3,) mean precision, recall and F-measure of unrelated sentences."""
    folder = _package() / "rescale_baseline"
    file = folder / language / f"{model}.tsv"
    # The first row has the names; then there is a row for each layer, from 0.
    rows = list(csv.reader(file.read_text("utf-8").splitlines())) if file.is_file() else []
    if layer + 1 >= len(rows):
        names = sorted(
            path.relative_to(folder / language).with_suffix("").as_posix()
            for path in (folder / language).rglob("*.tsv")
        )
        raise ConfigurationError(
            f"bert-score has no baseline for layer {layer} of {model!r} in language {language!r}",
            f"leave out rescale, or use a model with a baseline: {', '.join(names) or 'none in that language'}",
        )
    return np.array(rows[layer + 1][1:], dtype=np.float64)

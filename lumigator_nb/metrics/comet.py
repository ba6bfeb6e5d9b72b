"""COMET (Rei et al. 2020, https://aclanthology.org/2020.emnlp-main.213): human judgements of translations, predicted.

Its package requires older versions of numpy and transformers than this one, so that it runs in a separate virtual
environment; see :mod:`lumigator_nb.metrics.kernels.own_environment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import Metric, Rows, ScoreInfo, Scores, best
from lumigator_nb.metrics.kernels import own_environment
from lumigator_nb.metrics.registry import metric_class

# unbabel-comet's trainer imports pkg_resources, which setuptools 81 no longer has.
REQUIREMENTS = ("unbabel-comet>=2.2.4,<3", "setuptools<81")
MODULE = "comet"


def predict(payload: Mapping[str, Any]) -> list[float]:
    """Return scores of rows. Runs where unbabel-comet is installed, from its source alone: it imports nothing of ours.

    Args:
        payload: "model" (hub name or path of a checkpoint), "batch_size", and "rows" of "src", "mt" and optionally
            "ref".
    """
    from pathlib import Path

    import torch
    from comet import download_model, load_from_checkpoint

    name = payload["model"]
    path = name if Path(name).is_file() else download_model(name)
    gpus = 1 if torch.cuda.is_available() else 0
    model = load_from_checkpoint(path)
    prediction = model.predict(
        payload["rows"], batch_size=payload["batch_size"], gpus=gpus, num_workers=0, progress_bar=False
    )
    return [float(score) for score in prediction.scores]


class _Comet(Metric):
    """The common part of COMET and COMET-Kiwi."""

    on_gpu = True

    def __init__(self, model: str, batch_size: int) -> None:
        if not isinstance(model, str) or not model:
            raise InvalidInputError(f"option 'model' of metric {self.name!r} cannot be {model!r}", "name or .ckpt file")
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise InvalidInputError(
                f"option 'batch_size' of metric {self.name!r} cannot be {batch_size!r}",
                "give a whole number of at least 1",
            )
        self.model, self.batch_size = model, batch_size

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"{self.name}|impl:{REQUIREMENTS[0]}|model:{self.model}|references:best"

    def _predict(self, rows: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return (rows,) scores of (source, translation[, reference]); equal rows are scored once."""
        distinct = list(dict.fromkeys(rows))
        if not distinct:
            return np.empty(0)
        named = [dict(zip(("src", "mt", "ref"), row, strict=False)) for row in distinct]
        payload = {"model": self.model, "batch_size": self.batch_size, "rows": named}
        values = own_environment.call(f"metric {self.name!r}", MODULE, REQUIREMENTS, predict, payload)
        scores = dict(zip(distinct, values, strict=True))
        # The models are trained on scores from 0 to 1, but the last layer of the older ones is not limited to them.
        return np.clip(np.array([scores[row] for row in rows], dtype=np.float64), 0.0, 1.0)


@metric_class
class Comet(_Comet):
    """The predicted quality of a translation from source and reference, in [0, 1]; the best reference counts.

    Args:
        model: name on the Hugging Face hub, or path of a checkpoint (.ckpt).
        batch_size: number of rows in a batch.
    """

    name = "comet"
    display_name = "COMET"
    infos = (ScoreInfo("comet", "quality of a translation as a trained model predicts it", True, (0.0, 1.0)),)

    def __init__(self, *, model: str = "Unbabel/wmt22-comet-da", batch_size: int = 16) -> None:
        super().__init__(model, batch_size)

    def _score(self, rows: Rows) -> list[Scores]:
        predictions, references, starts = rows.pairs()
        # The example of each pair.
        owners = np.repeat(np.arange(len(rows)), np.diff(starts)).tolist()
        triples = [
            (rows.examples[owner], prediction, reference)
            for owner, prediction, reference in zip(owners, predictions, references, strict=True)
        ]
        return [Scores.of(self.infos[0], best(self._predict(triples), starts))]


@metric_class
class CometKiwi(_Comet):
    """The predicted quality of a translation from its source alone, in [0, 1] (Rei et al. 2022).

    https://aclanthology.org/2022.wmt-1.60

    Args:
        model, batch_size: as in :class:`Comet`. The default model requires access on the hub (HF_TOKEN).
    """

    name = "comet_kiwi"
    display_name = "COMET-Kiwi"
    needs = frozenset()
    infos = (ScoreInfo("comet_kiwi", "quality of a translation without a reference, as predicted", True, (0.0, 1.0)),)

    def __init__(self, *, model: str = "Unbabel/wmt22-cometkiwi-da", batch_size: int = 16) -> None:
        super().__init__(model, batch_size)

    def _score(self, rows: Rows) -> list[Scores]:
        pairs = list(zip(rows.examples, rows.predictions, strict=True))
        return [Scores.of(self.infos[0], self._predict(pairs))]

"""Read by the kernel of Lumigator's notebooks: what cannot be had here is stood in for, and the address is ours."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pandas as pd
from lumigator_sdk.lumigator import DEFAULT_RETRY, LumigatorClient

SAMPLES = Path(os.environ["LUMIGATOR_REPO"]) / "lumigator" / "sample_data"
# Of datasets on the hub: a sample of Lumigator's own, and what its columns are called there.
ON_THE_HUB = {
    "knkarthick/dialogsum": ("summarization/dialogsum_exc.csv", ("dialogue", "summary"), ("id", "topic")),
    "google/wmt24pp": ("translation/sample_translation_en_de.csv", ("source", "target"), ("lp",)),
}


def load_dataset(name: str, *_: str, split: str) -> datasets.Dataset:
    sample, columns, more = ON_THE_HUB[name]
    frame = pd.read_csv(SAMPLES / sample)[["examples", "ground_truth"]].set_axis(list(columns), axis="columns")
    return datasets.Dataset.from_pandas(frame.assign(**dict.fromkeys(more, split)), preserve_index=False)


datasets.load_dataset = load_dataset
# Where the SDK asks about jobs.
LumigatorClient.__init__.__defaults__ = (os.environ["LUMIGATOR_ADDRESS"], DEFAULT_RETRY)

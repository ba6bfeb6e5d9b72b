"""Placeholder until the catalogue is there."""

from pathlib import Path


class Models:
    def __init__(self, file: Path | None = None) -> None:
        self.file = file

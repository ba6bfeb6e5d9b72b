"""A model server for tests: real provider protocols over HTTP, answers by rule, faults on demand."""

from lumigator_nb.testing.behaviour import Behaviour, Stats
from lumigator_nb.testing.client import ModelServer

__all__ = ["Behaviour", "ModelServer", "Stats"]

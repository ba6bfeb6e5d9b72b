"""A model server for tests and notebooks: provider protocols over HTTP, rule-based answers, faults on demand."""

from lumigator_testing.behaviour import Behaviour, Stats
from lumigator_testing.client import ModelServer

__all__ = ["Behaviour", "ModelServer", "Stats"]

"""A model server for tests: real provider protocols over HTTP, answers by rule, faults on demand."""

from lumigator_testing.behaviour import Behaviour, Stats
from lumigator_testing.client import ModelServer

__all__ = ["Behaviour", "ModelServer", "Stats"]

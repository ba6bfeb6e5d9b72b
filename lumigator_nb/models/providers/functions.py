"""Answers that the user provides: by a Python function, or as recorded predictions."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lumigator_nb.errors import InvalidInputError, UnknownModelError
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request, check_options, provider
from lumigator_nb.specs import Model, Task, function_identity

log = logging.getLogger(__name__)

RECORDED = "recorded"


@provider("function")
class Functions(Provider):
    """``Model.from_function(f)``: each example is answered by a call of `f`."""

    runs_user_code = True
    recipe = "ws.workflows.launch(ex, lm.Model.from_function(..., name={name}, label={label}))\n"

    def packages_of(self, model: Model) -> Sequence[str]:
        """The top-level module of the function, which for most distributions is also their name."""
        return [str(model.options.get("import") or "").partition(":")[0].partition(".")[0]]

    def check(self, model: Model) -> None:
        """Refuse a model that was not made by :meth:`Model.from_function`."""
        check_options(model, ("code", "import"))
        if model.function is None and not model.options.get("import"):
            raise UnknownModelError(
                f"the function of model {model.label!r} is not in this process",
                "make the model again: lm.Model.from_function(f)",
            )

    def identify(self, model: Model, report: Report) -> str:
        """Return nothing: the digest of the function's code is among the model's settings."""
        return ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Return the function, imported if it is not in this process.

        Raises:
            UnknownModelError: it cannot be imported, or it has different code here.
        """
        return FunctionModel(model.function or _import(model), model)


class FunctionModel:
    """Calls a function for each example. An exception fails one example."""

    def __init__(self, function: Callable[..., Any], model: Model) -> None:
        self._function = function
        self._takes_metadata = "metadata" in inspect.signature(function).parameters
        self.details: dict[str, Any] = {"source": model.options.get("import") or "function of the workspace's process"}

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Call the function for one example after another."""
        for request in requests:
            started = time.perf_counter()
            try:
                metadata = {"metadata": dict(request.metadata)} if self._takes_metadata else {}
                text = self._function(request.example, **metadata)
                if not isinstance(text, str):
                    raise TypeError(f"the function returned {type(text).__name__} and must return str")
                prediction = Prediction(text, seconds=time.perf_counter() - started)
            except Exception as error:
                log.warning("the function failed in row %d", request.row, exc_info=True)
                prediction = Prediction(None, error=f"{type(error).__name__}: {error}"[:500])
            yield request, prediction


@provider(RECORDED)
class Recorded(Provider):
    """Predictions made elsewhere; :meth:`Workflows.record` stores them."""

    recipe = "ws.workflows.record(ex, name={name}, predictions=...)\n"

    def check(self, model: Model) -> None:
        """Refuse: recorded predictions cannot be launched."""
        raise InvalidInputError(
            f"model {model.label!r} has no way to answer",
            "record its predictions: ws.workflows.record(experiment, name=…, predictions=…)",
        )

    def identify(self, model: Model, report: Report) -> str:
        """Return nothing: the digest of the predictions is among the model's settings."""
        return ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Refuse, as :meth:`check` does."""
        self.check(model)
        raise AssertionError


def runs_here(model: Model) -> bool:
    """Return whether only this process can run the model: its function cannot be imported elsewhere."""
    return model.provider == "function" and not model.options.get("import")


def _import(model: Model) -> Callable[..., Any]:
    path = str(model.options["import"])
    module, _, name = path.partition(":")
    try:
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as error:
        raise UnknownModelError(
            f"the function {path} cannot be imported where the model runs: {error}",
            "install its module on the cluster, or define the function in the notebook to have it called there",
        ) from error
    # Answers are cached by the code's digest: another version would answer under the name of this one.
    if function_identity(function)[1] != model.options["code"]:
        raise UnknownModelError(
            f"the function {path} has different code where the model runs", "install the same version there"
        )
    return function  # type: ignore[no-any-return]

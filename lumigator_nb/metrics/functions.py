"""Metrics that are a function of the user's: ``@lm.metric``."""

from __future__ import annotations

import base64
import importlib
import inspect
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.metrics.base import Metric, Needed, Rows, Score, ScoreInfo, Scores
from lumigator_nb.metrics.registry import metric_class, register_function
from lumigator_nb.specs import MetricSpec, function_identity

Function = Callable[..., Any]

MOST_PICKLED_BYTES = 1_000_000
NO_VALUE = "the function gave no value"
_GIVEN = ("prediction", "ground_truth", "references", "example")


class MetricFunction:
    """A function that :func:`metric` decorated: it is called as before, and may stand among metrics.

    Attributes:
        spec: what an experiment keeps of it.
    """

    def __init__(self, function: Function, spec: MetricSpec) -> None:
        self._function = function
        self.spec = spec
        self.__doc__, self.__name__ = function.__doc__, getattr(function, "__name__", spec.options["name"])
        self.__wrapped__ = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    def __repr__(self) -> str:
        return f"<metric {self.spec.options['name']!r}>"


@overload
def metric(function: Function) -> MetricFunction: ...


@overload
def metric(
    *,
    name: str | None = None,
    higher_is_better: bool | None = True,
    range: tuple[float, float] = ...,
    scores: Sequence[str] = (),
) -> Callable[[Function], MetricFunction]: ...


def metric(
    function: Function | None = None,
    *,
    name: str | None = None,
    higher_is_better: bool | None = True,
    range: tuple[float, float] = (-float("inf"), float("inf")),
    scores: Sequence[str] = (),
) -> MetricFunction | Callable[[Function], MetricFunction]:
    """Make a metric of a function of one example.

    The function may take `prediction`, `ground_truth` (the first reference; without a default value the metric needs
    one), `references` (all of them, a tuple), `example`, and metadata columns by their names or as ``**metadata``. It
    returns a number, a :class:`Score` with the reason, a dict of several numbers (each becomes the score
    ``name_key``), or None where the example cannot be scored.

    On the cluster it is imported where it belongs to an installed package; one of a notebook or script goes along
    pickled (cloudpickle), so that the cluster's Python must be of the same version.

    Args:
        function: the decorated one.
        name: of the metric and its score; default the function's.
        higher_is_better: None where it only describes.
        range: least and greatest possible value.
        scores: the keys of the dict it returns, so that they are known beforehand; default what the first gives.

    Raises:
        InvalidInputError: a metric has that name already, or the function cannot be taken along.

    Examples:
        >>> @lm.metric(range=(0, 1))
        ... def polite(prediction):
        ...     return "please" in prediction.lower()
        >>> lm.score(["Please wait.", "Wait!"], metrics=[polite])
           polite
        0     1.0
        1     0.0
    """

    def decorate(decorated: Function) -> MetricFunction:
        title = name or getattr(decorated, "__name__", "function").strip("<>")
        options = {
            "name": title,
            "higher_is_better": higher_is_better,
            "range": [None if np.isinf(bound) else float(bound) for bound in range],
            "scores": list(scores),
            **_packed(decorated, title),
        }
        spec = MetricSpec(name=FunctionMetric.name, options=options)
        register_function(title, spec)
        return MetricFunction(decorated, spec)

    return decorate if function is None else decorate(function)


def replaces(new: MetricSpec, old: MetricSpec) -> bool:
    """Whether a metric is a function that was written anew under its old name."""
    names = [spec.options.get("name") for spec in (new, old) if spec.name == FunctionMetric.name]
    return len(names) == 2 and names[0] == names[1]


def pickled_by(specs: Iterable[MetricSpec]) -> set[str]:
    """Return the Python versions, such as "3.11", by which functions among metrics were pickled."""
    return {
        str(spec.options["python"]) for spec in specs if spec.name == FunctionMetric.name and "pickle" in spec.options
    }


def _packed(function: Function, title: str) -> dict[str, Any]:
    importable, code = function_identity(function)
    needs_truth = _requires(function, "ground_truth") or _requires(function, "references")
    known = {"needs_ground_truth": needs_truth, "columns": _columns(function), "code": code}
    if importable and not hasattr(function, "__wrapped__"):
        return {**known, "importable": importable}
    import cloudpickle

    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:
        raise InvalidInputError(
            f"metric {title!r} cannot be taken to the cluster: {error}", "let it use values, not open files or locks"
        ) from None
    if len(pickled) > MOST_PICKLED_BYTES:
        raise InvalidInputError(
            f"metric {title!r} brings {len(pickled) / 1e6:.1f} MB along; at most {MOST_PICKLED_BYTES / 1e6:.0f} MB may",
            "load large data inside the function, or put it into an installed package",
        )
    python = ".".join(platform.python_version_tuple()[:2])
    return {**known, "pickle": base64.b64encode(pickled).decode(), "python": python}


def _columns(function: Function) -> list[str]:
    """The metadata columns without which the function cannot be called."""
    parameters = inspect.signature(function).parameters
    if not set(parameters) & set(_GIVEN):
        return []  # it is called by position
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = [name for name, each in parameters.items() if each.kind in named and each.default is each.empty]
    return [name for name in required if name not in _GIVEN]


def _requires(function: Function, name: str) -> bool:
    parameter = inspect.signature(function).parameters.get(name)
    return parameter is not None and parameter.default is inspect.Parameter.empty


@metric_class
class FunctionMetric(Metric):
    """A metric made from a function; see :func:`metric`, which makes its options."""

    name = "_function"
    runs_user_code = True

    def __init__(
        self,
        *,
        name: str,
        code: str,
        higher_is_better: bool | None = True,
        range: Sequence[float | None] = (None, None),
        scores: Sequence[str] = (),
        needs_ground_truth: bool = False,
        columns: Sequence[str] = (),
        importable: str | None = None,
        pickle: str | None = None,
        python: str | None = None,
    ) -> None:
        self._title, self._code, self.columns = name, code, tuple(columns)
        self._importable, self._pickle, self._python = importable, pickle, python
        needed: list[Needed] = ["metadata", "ground_truth"] if needs_ground_truth else ["metadata"]
        self.needs = frozenset(needed)
        low, high = (sign * np.inf if bound is None else bound for sign, bound in zip((-1, 1), range, strict=True))
        self._higher_is_better, self._range = higher_is_better, (float(low), float(high))
        self.infos = tuple(self._info(f"{name}_{key}") for key in scores) or (self._info(name),)
        self._keys = list(scores)

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As of :class:`Metric`: its own name."""
        return f"{spec.title} (a function)"

    def _info(self, name: str) -> ScoreInfo:
        return ScoreInfo(name, f"the function {self._title!r}", self._higher_is_better, self._range)

    @property
    def title(self) -> str:
        """As of :class:`Metric`."""
        return self._title

    @property
    def signature(self) -> str:
        """As of :class:`Metric`; the code's digest does not cover what the function calls."""
        origin = self._importable or f"python-{self._python}"
        return f"function|name:{self._title}|code:{self._code}|from:{origin}"

    def _score(self, rows: Rows) -> list[Scores]:
        function = self._load()
        call = _caller(function)
        found = [self._one(call, row) for row in _each(rows)]
        keys = self._keys or list(dict.fromkeys(key for scores in found for key in scores if key)) or [""]
        # A dict's keys that were not announced become known with the first that has some.
        infos = [self._info(f"{self._title}_{key}" if key else self._title) for key in keys]
        return [self._column(info, key, found) for info, key in zip(infos, keys, strict=True)]

    def _column(self, info: ScoreInfo, key: str, found: list[dict[str, Score]]) -> Scores:
        column = [scores.get(key) or scores.get("") or Score(None, f"no value {key!r}") for scores in found]
        values = [np.nan if score.value is None else score.value for score in column]
        return Scores.of(info, values, [score.reason for score in column])

    def _one(self, call: Callable[[Mapping[str, Any]], Any], row: Mapping[str, Any]) -> dict[str, Score]:
        """Return the scores of an example by their keys; of one that cannot be scored, the reason under ""."""
        try:
            value = call(row)
            return {key: _score_of(each) for key, each in (value if isinstance(value, dict) else {"": value}).items()}
        except Exception as error:  # whatever the user's code raises for this example
            return {"": Score(None, f"{type(error).__name__}: {error}")}

    def _load(self) -> Function:
        if self._importable:
            module, _, name = self._importable.partition(":")
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            function: Function = getattr(found, "__wrapped__", found)
            return function
        if self._pickle is None:
            raise ConfigurationError(
                f"the function of metric {self._title!r} is not here: it was loaded, and code does not travel",
                "define it again, and give it to ws.evaluate(experiment, …)",
            )
        here = ".".join(platform.python_version_tuple()[:2])
        if here != self._python:
            raise ConfigurationError(
                f"metric {self._title!r} was written with Python {self._python}, and this is {here}",
                "use the same version, or put the function into a package that is installed on both",
            )
        import cloudpickle

        pickled: Function = cloudpickle.loads(base64.b64decode(self._pickle))
        return pickled


def _each(rows: Rows) -> Sequence[dict[str, Any]]:
    columns = zip(rows.predictions, rows.ground_truth, rows.examples, rows.metadata, strict=True)
    return [
        {
            **metadata,
            "prediction": prediction,
            "ground_truth": references[0] if references else None,
            "references": references,
            "example": example,
        }
        for prediction, references, example, metadata in columns
    ]


def _caller(function: Function) -> Callable[[Mapping[str, Any]], Any]:
    """Return what calls a function with as much of a row as it takes: by name, or the first ones in our order."""
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if not kinds & {inspect.Parameter.VAR_KEYWORD} and not set(parameters) & set(_GIVEN):
        order = ("prediction", "ground_truth", "example")[: len(parameters)]
        return lambda row: function(*(row[name] for name in order))
    if inspect.Parameter.VAR_KEYWORD in kinds:
        hidden = {name for name in _GIVEN if name not in parameters}
        return lambda row: function(**{name: value for name, value in row.items() if name not in hidden})
    return lambda row: function(**{name: row[name] for name in parameters if name in row})


def _score_of(value: Any) -> Score:
    if isinstance(value, Score):
        return value
    if value is None:
        return Score(None, NO_VALUE)
    number = float(value)
    return Score(number) if np.isfinite(number) else Score(None, f"the function gave {number}")

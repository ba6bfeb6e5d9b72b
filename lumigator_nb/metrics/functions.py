"""``@lm.metric``: functions of the user as metrics."""

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

# The pickle is stored in the database and in each workflow's specification.
MOST_PICKLED_BYTES = 1_000_000
NO_VALUE = "the function gave no value"
# Names of parameters that stand for an example's parts; all others are metadata columns.
_PARTS = ("prediction", "ground_truth", "references", "example")


class MetricFunction:
    """A function that :func:`metric` decorated: it can be called as before, and passed as a metric.

    Attributes:
        spec: the specification that an experiment stores.
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
    """Turn a function of one example into a metric.

    The function may take `prediction`, `ground_truth` (the first reference; without a default value the metric needs
    one), `references` (all of them, a tuple), `example`, and metadata columns by their names or as ``**metadata``. It
    returns a number, a :class:`Score` with the reason, a dict of several numbers (each becomes the score
    ``name_key``), or None if the example cannot be scored.

    On the cluster a function of an installed package is imported. A function of a notebook or script is pickled
    (cloudpickle), so that the cluster must have the same Python version.

    Args:
        function: the decorated function.
        name: of the metric and its score; default the function's name.
        higher_is_better: None for a score that only describes.
        range: least and greatest possible value.
        scores: the keys of the dict that the function returns; default those of the first result.

    Raises:
        InvalidInputError: a metric has that name already, or the function cannot be pickled.

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
    """Whether both metrics are functions of the same name, so that `new` is a changed version of `old`."""
    names = [spec.options.get("name") for spec in (new, old) if spec.name == FunctionMetric.name]
    return len(names) == 2 and names[0] == names[1]


def pickled_by(specs: Iterable[MetricSpec]) -> set[str]:
    """Return the Python versions, such as "3.11", that pickled the functions among metrics."""
    return {
        str(spec.options["python"]) for spec in specs if spec.name == FunctionMetric.name and "pickle" in spec.options
    }


def _packed(function: Function, title: str) -> dict[str, Any]:
    """Return the options of :class:`FunctionMetric` that say what the function needs and how to load it elsewhere."""
    importable, code = function_identity(function)
    parameters = inspect.signature(function).parameters
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    columns = []
    if set(parameters) & set(_PARTS):  # otherwise it is called by position, and takes no columns
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        named = [name for name, parameter in parameters.items() if parameter.kind in by_name]
        columns = [name for name in named if name in required and name not in _PARTS]
    needs_truth = bool(required & {"ground_truth", "references"})
    options = {"needs_ground_truth": needs_truth, "columns": columns, "code": code}
    # The name of a decorated function leads to what the decorator returned, so it has to be pickled.
    if importable and not hasattr(function, "__wrapped__"):
        return {**options, "importable": importable}
    import cloudpickle

    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:
        raise InvalidInputError(
            f"metric {title!r} cannot be sent to the cluster: {error}", "let it use values, not open files or locks"
        ) from None
    if len(pickled) > MOST_PICKLED_BYTES:
        raise InvalidInputError(
            f"metric {title!r} has {len(pickled) / 1e6:.1f} MB with its data, above {MOST_PICKLED_BYTES / 1e6:.0f} MB",
            "load large data inside the function, or put it into an installed package",
        )
    python = ".".join(platform.python_version_tuple()[:2])
    return {**options, "pickle": base64.b64encode(pickled).decode(), "python": python}


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
        needs: list[Needed] = ["metadata", "ground_truth"] if needs_ground_truth else ["metadata"]
        self.needs = frozenset(needs)
        low, high = (sign * np.inf if bound is None else bound for sign, bound in zip((-1, 1), range, strict=True))
        self._higher_is_better, self._range = higher_is_better, (float(low), float(high))
        self.infos = tuple(self._info(f"{name}_{key}") for key in scores) or (self._info(name),)
        self._keys = list(scores)

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As in :class:`Metric`: the function's name."""
        return f"{spec.title} (a function)"

    def _info(self, name: str) -> ScoreInfo:
        return ScoreInfo(name, f"the function {self._title!r}", self._higher_is_better, self._range)

    @property
    def title(self) -> str:
        """As in :class:`Metric`."""
        return self._title

    @property
    def signature(self) -> str:
        """As in :class:`Metric`; the digest covers the function's code, not that of functions it calls."""
        origin = self._importable or f"python-{self._python}"
        return f"function|name:{self._title}|code:{self._code}|from:{origin}"

    def _score(self, rows: Rows) -> list[Scores]:
        call = _caller(self._load())
        scores = []
        columns = zip(rows.predictions, rows.ground_truth, rows.examples, rows.metadata, strict=True)
        for prediction, references, example, metadata in columns:
            parts: dict[str, Any] = {"prediction": prediction, "references": references, "example": example}
            parts["ground_truth"] = references[0] if references else None
            try:
                value = call({**metadata, **parts})
                values = value if isinstance(value, dict) else {"": value}
                scores.append({key: _score_of(number) for key, number in values.items()})
            except Exception as error:  # whatever the user's code raises for this example
                scores.append({"": Score(None, f"{type(error).__name__}: {error}")})
        # A dict's keys that were not announced are those of the first results that have some.
        keys = self._keys or list(dict.fromkeys(key for row in scores for key in row if key)) or [""]
        result = []
        for key in keys:
            info = self._info(f"{self._title}_{key}" if key else self._title)
            # Under "" lies the score of a function without keys, or the reason why the example has none.
            column = [row.get(key) or row.get("") or Score(None, f"no value {key!r}") for row in scores]
            numbers = [np.nan if score.value is None else score.value for score in column]
            result.append(Scores.of(info, numbers, [score.reason for score in column]))
        return result

    def _load(self) -> Function:
        """Return the function.

        Raises:
            ConfigurationError: the experiment holds no code, or another Python version pickled it.
        """
        if self._importable:
            module, _, name = self._importable.partition(":")
            value: Any = importlib.import_module(module)
            for part in name.split("."):
                value = getattr(value, part)
            function: Function = getattr(value, "__wrapped__", value)
            return function
        if self._pickle is None:
            raise ConfigurationError(
                f"the function of metric {self._title!r} is missing: shared files contain no code",
                "define it again, and pass it to ws.evaluate(experiment, …)",
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


def _caller(function: Function) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that calls `function` with the parts of a row that it takes, by name or by position."""
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if not kinds & {inspect.Parameter.VAR_KEYWORD} and not set(parameters) & set(_PARTS):
        order = ("prediction", "ground_truth", "example")[: len(parameters)]
        return lambda row: function(*(row[name] for name in order))
    if inspect.Parameter.VAR_KEYWORD in kinds:
        hidden = {name for name in _PARTS if name not in parameters}
        return lambda row: function(**{name: value for name, value in row.items() if name not in hidden})
    return lambda row: function(**{name: row[name] for name in parameters if name in row})


def _score_of(value: Any) -> Score:
    # What float() refuses is reported as the example's reason.
    if isinstance(value, Score):
        return value
    if value is None:
        return Score(None, NO_VALUE)
    number = float(value)
    return Score(number) if np.isfinite(number) else Score(None, f"the function gave {number}")

"""All metrics by name.

Other packages register metrics through the entry-point group ``lumigator_nb.metrics``: the entry's name is the metric's
name, its value the class, or a function decorated with ``@lm.metric``.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from inspect import signature
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from lumigator_nb.errors import (
    ConfigurationError,
    InvalidInputError,
    MissingFieldsError,
    UnknownMetricError,
    did_you_mean,
)
from lumigator_nb.metrics.base import WITHOUT_SPACES, Metric, ScoreInfo
from lumigator_nb.specs import MetricSpec, Model, Task, language_name

if TYPE_CHECKING:
    import pandas as pd

ENTRY_POINTS = "lumigator_nb.metrics"

M = TypeVar("M", bound=type[Metric])

_METRICS: dict[str, type[Metric]] = {}
# Metrics that `@lm.metric` made from functions, by name.
_FUNCTIONS: dict[str, MetricSpec] = {}


def metric_class(cls: M) -> M:
    """Register a metric under its name."""
    _METRICS[cls.name] = cls
    return cls


def arrange(modules: Iterable[ModuleType]) -> None:
    """Sort the registered metrics by the order of their modules."""
    places = {module.__name__: place for place, module in enumerate(modules)}
    ordered = sorted(_METRICS.items(), key=lambda entry: places[entry[1].__module__])
    _METRICS.clear()
    _METRICS.update(ordered)


def register_function(name: str, spec: MetricSpec) -> None:
    """Make a metric that is a function available by its name.

    Raises:
        InvalidInputError: a built-in metric has that name.
    """
    if name in _METRICS:
        raise InvalidInputError(f"a metric {name!r} exists already", "choose another name: @lm.metric(name=…)")
    _FUNCTIONS[name] = spec


def known() -> tuple[str, ...]:
    """Return the sorted names of all metrics, built-in and installed."""
    return tuple(sorted(name for name, cls in _all().items() if not name.startswith("_")))


def shown() -> list[str]:
    """Return the names of the metrics whose scores do not depend on settings, in the order of :func:`arrange`."""
    classes = {**_METRICS, **_all()}
    return [name for name, cls in classes.items() if name in known() and hasattr(cls, "infos")]


def catalogue() -> pd.DataFrame:
    """Return all metrics, one row per score: `metric`, `score`, `better`, `range`, `needs`.

    Metrics that are made from settings (judges, functions, regular expressions) are left out, as their scores depend on
    the settings.

    Examples:
        >>> table = lm.metrics.catalogue()
        >>> table.set_index("metric").loc["rouge", ["score", "better", "range"]]
                    score  better   range
        metric
        rouge      rouge1  higher  0 to 1
        rouge      rouge2  higher  0 to 1
        rouge      rougeL  higher  0 to 1
        rouge   rougeLsum  higher  0 to 1
    """
    import pandas as pd

    rows = []
    for name in known():
        cls = _all()[name]
        for score in getattr(cls, "infos", ()):
            better = {True: "higher", False: "lower", None: ""}[score.higher_is_better]
            low, high = score.range
            rows.append([name, score.name, better, f"{low:g} to {high:g}", ", ".join(sorted(cls.needs))])
    return pd.DataFrame(rows, columns=["metric", "score", "better", "range", "needs"])


def parse(metric: str | MetricSpec | Any) -> MetricSpec:
    """Return the specification of a metric, after a check of its name and options.

    Args:
        metric: a name, a specification, a judge, or a function decorated with ``@lm.metric``.

    Raises:
        UnknownMetricError: there is no such metric.
        InvalidInputError: it does not have such an option, or the option's value is not allowed.
    """
    spec = getattr(metric, "spec", metric)
    if isinstance(spec, str):
        name = spec
        spec = _FUNCTIONS.get(name)
        if spec is None and name not in _METRICS:
            # An entry point of another package may be a decorated function instead of a class.
            installed = getattr(_installed().get(name), "spec", None)
            spec = installed if isinstance(installed, MetricSpec) else None
        spec = spec or MetricSpec(name=name)
    if not isinstance(spec, MetricSpec):
        raise InvalidInputError(
            f"{metric!r} is not a metric", "give a name, lm.MetricSpec(…), lm.Judge(…), or decorate it with @lm.metric"
        )
    create(spec)
    return spec


def create(spec: MetricSpec) -> Metric:
    """Return the metric that a specification describes; errors as in :func:`parse`."""
    cls = _find(spec.name)
    options = [name for name in signature(cls).parameters if not name.startswith("_")]
    unknown = sorted(spec.options.keys() - set(options))
    if unknown:
        rule = did_you_mean(unknown[0], options) if options else f"{spec.name!r} takes no options"
        raise InvalidInputError(f"unknown option {unknown[0]!r} of metric {spec.name!r}", rule)
    try:
        return cls(**spec.options)
    except TypeError as error:
        raise InvalidInputError(f"metric {spec.name!r}: {error}", f"its options: {', '.join(options)}") from None


def class_of(spec: MetricSpec) -> type[Metric]:
    """Return the class of the metric that a specification describes.

    Raises:
        UnknownMetricError: there is no such metric.
    """
    return _find(spec.name)


def localized(spec: MetricSpec, language: str | None, task: Task | None = None) -> MetricSpec:
    """Return a metric with the default options for a language and a task added.

    See :meth:`Metric.options_for` and :meth:`Metric.options_of`.

    Args:
        spec: its own options win over the defaults.
        language: code; None if unknown.
        task: None if unknown.
    """
    base, cls = (language or "").partition("-")[0], class_of(spec)
    options = {**(cls.options_for(base) if base else {}), **(cls.options_of(task) if task else {})}
    return spec.model_copy(update={"options": {**options, **spec.options}}) if options else spec


def defaults(task: str) -> list[str]:
    """Return the names of the default metrics of a kind of task, in display order."""
    return [name for name, cls in _METRICS.items() if task in cls.default_for]


def headline(score: str) -> int:
    """Return :attr:`ScoreInfo.headline` of a score by its name; 0 if its metric is made from settings."""
    description = _infos(_METRICS).get(score)
    return description.headline if description else 0


def extra_of(module: str) -> str | None:
    """Return the extra of this package that installs a module which some metric needs, or None."""
    return next((cls.extra for cls in _METRICS.values() if module in (*cls.modules, *cls.optional_modules)), None)


def models_of(specs: Iterable[MetricSpec]) -> list[Model]:
    """Return the language models that metrics call."""
    return [model for spec in specs for model in create(spec).asks]


def texts_of(spec: MetricSpec) -> list[str]:
    """Return all texts in a metric's options, including pickled functions, to search them for secrets."""
    return list(_texts(spec.options))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        pickled = value.get("pickle")
        if isinstance(pickled, str):
            # Latin-1 maps each byte to one character, so that texts inside of the pickle stay readable.
            yield base64.b64decode(pickled).decode("latin-1")
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def info(score: str) -> ScoreInfo:
    """Return the description of a score, by its name, of a metric that needs no options.

    Raises:
        UnknownMetricError: no metric reports it.
    """
    # Built-in metrics first: installed ones may be slow to import.
    infos = _infos(_METRICS)
    if score not in infos:
        infos = _infos(_all())
    if score not in infos:
        raise UnknownMetricError(f"no metric reports the score {score!r}", did_you_mean(score, infos))
    return infos[score]


def reporting(score: str) -> MetricSpec:
    """Return the metric, of those that need no options, that reports a score.

    Raises:
        UnknownMetricError: no metric reports it.
    """
    for name in known():
        if score in _infos({name: _all()[name]}):
            return MetricSpec(name=name)
    raise UnknownMetricError(f"no metric reports the score {score!r}", did_you_mean(score, _infos(_all())))


def _infos(classes: Mapping[str, type[Metric]]) -> dict[str, ScoreInfo]:
    # The class of a metric made from options has no scores; only its instances do.
    return {info.name: info for cls in classes.values() for info in getattr(cls, "infos", ())}


def check(
    specs: Iterable[MetricSpec],
    *,
    has_ground_truth: bool,
    language: str | None = None,
    columns: Collection[str] | None = None,
    here: bool = True,
) -> None:
    """Check that metrics can score a dataset: its columns, its language, and this machine's packages.

    Args:
        specs: the metrics.
        has_ground_truth: whether the dataset has ground truth.
        language: code of the language of predictions and ground truth; None if unknown.
        columns: names of the metadata columns; None skips their check.
        here: whether this machine will score; another one may have the packages and data that are missing here.

    Raises:
        MissingFieldsError: a metric needs ground truth, or a metadata column, that the dataset does not have.
        InvalidInputError: a metric does not support the language, or two report a score of the same name.
        MissingExtraError, ConfigurationError: packages or data are missing.
    """
    chosen = [(spec, create(spec)) for spec in specs]
    lacking = [spec.name for spec, metric in chosen if "ground_truth" in metric.needs and not has_ground_truth]
    if lacking:
        free = [name for name, cls in sorted(_all().items()) if "ground_truth" not in cls.needs and name in known()]
        raise MissingFieldsError(
            f"ground truth is needed for: {', '.join(lacking)}; the dataset has none",
            f"upload it with ground_truth='…', or use metrics that do not need it: {', '.join(free)}",
        )
    for _, metric in chosen:
        absent = [] if columns is None else [name for name in metric.columns if name not in columns]
        if absent:
            raise MissingFieldsError(
                f"metric {metric.title!r} needs the column {absent[0]!r}, which the dataset does not have",
                did_you_mean(absent[0], columns or ()) if columns else "give the examples' other columns: metadata=…",
            )
        _check_language(metric, language)
        with suppress(*(() if here else (ConfigurationError,))):
            metric.prepare()
    check_distinct(spec for spec, _ in chosen)


def check_distinct(specs: Iterable[MetricSpec]) -> None:
    """Check that no two metrics report a score of the same name.

    Raises:
        InvalidInputError: two do.
    """
    owners: dict[str, str] = {}
    for spec in specs:
        for name in {info.name for info in create(spec).infos}:
            if name in owners:
                both = f"{owners[name]!r} and {spec.name!r} both report"
                twice = f"metric {spec.name!r} is named twice and reports twice"
                raise InvalidInputError(
                    f"{both if owners[name] != spec.name else twice} the score {name!r}",
                    "name each once; judges and functions take name=…",
                )
            owners[name] = spec.name


def _check_language(metric: Metric, language: str | None) -> None:
    base = (language or "").partition("-")[0]
    if metric.needs_spaces and base in WITHOUT_SPACES:
        raise InvalidInputError(
            f"metric {metric.name!r} counts words, and {language_name(language)} does not separate them by spaces",
            "use one that counts characters, such as 'chrf'",
        )
    if metric.languages is None or not base or base in metric.languages:
        return
    names = ", ".join(sorted(language_name(code) for code in metric.languages)[:8])
    raise InvalidInputError(
        f"metric {metric.name!r} does not support {language_name(language)}; it supports {names}",
        "use one that does, such as 'chrf'",
    )


def _find(name: str) -> type[Metric]:
    # Installed metrics may be slow to import, so they are loaded only for a name that is not built in.
    cls = _METRICS.get(name) or _all().get(name)
    if cls is not None:
        return cls
    owner = next(
        (cls.name for cls in _all().values() if name in {info.name for info in getattr(cls, "infos", ())}), None
    )
    if owner:
        raise UnknownMetricError(f"{name!r} is a score, not a metric", f"the metric {owner!r} reports it")
    raise UnknownMetricError(f"unknown metric {name!r}", did_you_mean(name, [*known(), *_FUNCTIONS]))


def _all() -> dict[str, type[Metric]]:
    """Return all metric classes by name; a built-in one wins over an installed one of the same name."""
    classes = {name: value for name, value in _installed().items() if isinstance(value, type)}
    return {**classes, **_METRICS}


@cache
def _installed() -> dict[str, Any]:
    """Return the values of all entry points by name."""
    values = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            values[entry.name] = entry.load()
        except Exception as error:  # a bug in another package must not make all metrics unusable
            warnings.warn(f"the metric {entry.name!r} ({entry.value}) cannot be loaded: {error!r}", stacklevel=2)
    return values

"""All metrics by name.

Third parties join through the entry-point group ``lumigator_nb.metrics``: the entry's name is the metric's, its value
the class, or a function made a metric by ``@lm.metric``.
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
from lumigator_nb.specs import MetricSpec, Model, language_name

if TYPE_CHECKING:
    import pandas as pd

ENTRY_POINTS = "lumigator_nb.metrics"

M = TypeVar("M", bound=type[Metric])

_METRICS: dict[str, type[Metric]] = {}
# What `@lm.metric` made of functions of this process and of installed packages.
_FUNCTIONS: dict[str, MetricSpec] = {}


def metric_class(cls: M) -> M:
    """Register a metric under its name."""
    _METRICS[cls.name] = cls
    return cls


def arrange(modules: Iterable[ModuleType]) -> None:
    """Put the metrics that are registered in the order of the modules that they come from."""
    places = {module.__name__: place for place, module in enumerate(modules)}
    ordered = sorted(_METRICS.items(), key=lambda entry: places[entry[1].__module__])
    _METRICS.clear()
    _METRICS.update(ordered)


def register_function(name: str, spec: MetricSpec) -> None:
    """Let a metric made from a function be asked for by its name.

    Raises:
        InvalidInputError: a metric that is no function has that name.
    """
    if name in _METRICS:
        raise InvalidInputError(f"there is a metric {name!r} already", "name yours otherwise: @lm.metric(name=…)")
    _FUNCTIONS[name] = spec


def known() -> tuple[str, ...]:
    """The sorted names of all metrics, built in and installed."""
    return tuple(sorted(name for name, cls in _all().items() if not name.startswith("_")))


def shown() -> list[str]:
    """Return the names of the metrics whose scores are known without settings, in the order of :func:`arrange`."""
    classes = {**_METRICS, **_all()}
    return [name for name, cls in classes.items() if name in known() and hasattr(cls, "infos")]


def catalogue() -> pd.DataFrame:
    """Return what there is to choose from, one row per score: `metric`, `score`, `better`, `range`, `needs`.

    Metrics that are made from settings (judges, functions, regular expressions) are not among them, as their scores
    depend on those.

    Examples:
        >>> table = lm.metrics.catalogue()
        >>> table.loc[table["metric"] == "rouge", ["score", "better", "range"]]
                score  better   range
        15     rouge1  higher  0 to 1
        16     rouge2  higher  0 to 1
        17     rougeL  higher  0 to 1
        18  rougeLsum  higher  0 to 1
    """
    import pandas as pd

    rows = []
    for name in known():
        cls = _all()[name]
        for each in getattr(cls, "infos", ()):
            better = {True: "higher", False: "lower", None: ""}[each.higher_is_better]
            low, high = each.range
            rows.append([name, each.name, better, f"{low:g} to {high:g}", ", ".join(sorted(cls.needs))])
    return pd.DataFrame(rows, columns=["metric", "score", "better", "range", "needs"])


def parse(metric: str | MetricSpec | Any) -> MetricSpec:
    """Return the specification of a metric whose name and options have been checked.

    Args:
        metric: a name, a specification, or a function made a metric by ``@lm.metric``.

    Raises:
        UnknownMetricError: there is no such metric.
        InvalidInputError: it has no such option, or not with that value.
    """
    spec = getattr(metric, "spec", metric)
    if isinstance(spec, str):
        spec = _FUNCTIONS.get(spec) or _installed_function(spec) or MetricSpec(name=spec)
    if not isinstance(spec, MetricSpec):
        raise InvalidInputError(
            f"{metric!r} is no metric", "give a name, lm.MetricSpec(…), lm.Judge(…), or decorate it with @lm.metric"
        )
    create(spec)
    return spec


def create(spec: MetricSpec) -> Metric:
    """Return the metric that a specification describes; errors as of :func:`parse`."""
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


def localized(spec: MetricSpec, language: str | None) -> MetricSpec:
    """Return a metric with the settings for a language, where none were given; see :meth:`Metric.options_for`.

    Args:
        language: code; None where it is not known.
    """
    base = (language or "").partition("-")[0]
    options = class_of(spec).options_for(base) if base else {}
    return spec.model_copy(update={"options": {**options, **spec.options}}) if options else spec


def defaults(task: str) -> list[str]:
    """Return the names of the usual metrics of a kind of task, in the order in which they are shown."""
    return [name for name, cls in _METRICS.items() if task in cls.default_for]


def headline(score: str) -> int:
    """Return :attr:`ScoreInfo.headline` of a score by its name; 0 where its metric is made from settings."""
    found = _infos(_METRICS).get(score)
    return found.headline if found else 0


def extra_of(module: str) -> str | None:
    """Return the extra of this package that brings a module which some metric needs."""
    return next((cls.extra for cls in _METRICS.values() if module in (*cls.modules, *cls.optional_modules)), None)


def models_of(specs: Iterable[MetricSpec]) -> list[Model]:
    """Return the language models that metrics ask."""
    return [model for spec in specs for model in create(spec).asks]


def texts_of(spec: MetricSpec) -> list[str]:
    """Return all texts that a metric's options hold, pickled functions included, to look for secrets in them."""
    return list(_texts(spec.options))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        pickled = value.get("pickle")
        if isinstance(pickled, str):
            yield base64.b64decode(pickled).decode("latin-1")
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def info(score: str) -> ScoreInfo:
    """Return what describes a score of a metric that needs no options.

    Raises:
        UnknownMetricError: no metric reports it.
    """
    infos = _infos(_METRICS)
    if score not in infos:
        infos = _infos(_all())
    if score not in infos:
        raise UnknownMetricError(f"no metric reports the score {score!r}", did_you_mean(score, infos))
    return infos[score]


def reporting(score: str) -> MetricSpec:
    """Return the metric, of those that need no options, that reports a score.

    Raises:
        UnknownMetricError: none does.
    """
    for name in known():
        if score in _infos({name: _all()[name]}):
            return MetricSpec(name=name)
    raise UnknownMetricError(f"no metric reports the score {score!r}", did_you_mean(score, _infos(_all())))


def _infos(classes: Mapping[str, type[Metric]]) -> dict[str, ScoreInfo]:
    # Metrics made from options know their scores only as instances.
    return {info.name: info for cls in classes.values() for info in getattr(cls, "infos", ())}


def check(
    specs: Iterable[MetricSpec],
    *,
    has_ground_truth: bool,
    language: str | None = None,
    columns: Collection[str] | None = None,
    here: bool = True,
) -> None:
    """Refuse metrics that need what a dataset lacks, do not know its language, or cannot work here.

    Args:
        language: code of the language of predictions and ground truth; None where it is not known.
        columns: names of the metadata columns; None does not look at them.
        here: whether this machine will score; another one may have the packages and data that are missing here.

    Raises:
        MissingFieldsError: a metric needs ground truth, or a metadata column, and there is none.
        InvalidInputError: a metric does not know the language, or two report a score of the same name.
        MissingExtraError, ConfigurationError: packages or data are missing.
    """
    chosen = [(spec, create(spec)) for spec in specs]
    lacking = [spec.name for spec, metric in chosen if "ground_truth" in metric.needs and not has_ground_truth]
    if lacking:
        free = [name for name, cls in sorted(_all().items()) if "ground_truth" not in cls.needs and name in known()]
        raise MissingFieldsError(
            f"ground truth is needed for: {', '.join(lacking)}; the dataset has none",
            f"upload it with ground_truth='…', or take metrics that do without: {', '.join(free)}",
        )
    for _, metric in chosen:
        _check_columns(metric, columns)
        _check_language(metric, language)
        with suppress(*(() if here else (ConfigurationError,))):
            metric.prepare()
    check_distinct(spec for spec, _ in chosen)


def check_distinct(specs: Iterable[MetricSpec]) -> None:
    """Refuse metrics of which two report a score of the same name.

    Raises:
        InvalidInputError: two do.
    """
    _refuse_same_scores([(spec, create(spec)) for spec in specs])


def _check_columns(metric: Metric, columns: Collection[str] | None) -> None:
    missing = [] if columns is None else [name for name in metric.columns if name not in columns]
    if missing:
        raise MissingFieldsError(
            f"metric {metric.title!r} needs the column {missing[0]!r}, which the dataset does not have",
            did_you_mean(missing[0], columns or ()) if columns else "give the examples' other columns: metadata=…",
        )


def _check_language(metric: Metric, language: str | None) -> None:
    base = (language or "").partition("-")[0]
    if metric.needs_spaces and base in WITHOUT_SPACES:
        raise InvalidInputError(
            f"metric {metric.name!r} counts words, and {language_name(language)} puts no spaces between them",
            "take one that counts characters, such as 'chrf'",
        )
    if metric.languages is None or not base or base in metric.languages:
        return
    names = ", ".join(sorted(language_name(code) for code in metric.languages)[:8])
    raise InvalidInputError(
        f"metric {metric.name!r} does not know {language_name(language)}; it knows {names}",
        "take one that knows it, such as 'chrf'",
    )


def _refuse_same_scores(chosen: Iterable[tuple[MetricSpec, Metric]]) -> None:
    owners: dict[str, str] = {}
    for spec, metric in chosen:
        for name in {info.name for info in metric.infos}:
            if name in owners:
                what = (
                    f"{owners[name]!r} and {spec.name!r} both report"
                    if owners[name] != spec.name
                    else (f"metric {spec.name!r} is named twice and reports twice")
                )
                raise InvalidInputError(
                    f"{what} the score {name!r}", "name each once; judges and functions take name=…"
                )
            owners[name] = spec.name


def _find(name: str) -> type[Metric]:
    # What is installed may be slow to import, so it is looked at only for a name that is not built in.
    found = _METRICS.get(name) or _all().get(name)
    if found is not None:
        return found
    owner = next(
        (cls.name for cls in _all().values() if name in {info.name for info in getattr(cls, "infos", ())}), None
    )
    if owner:
        raise UnknownMetricError(f"{name!r} is a score, not a metric", f"the metric {owner!r} reports it")
    raise UnknownMetricError(f"unknown metric {name!r}", did_you_mean(name, [*known(), *_FUNCTIONS]))


def _all() -> dict[str, type[Metric]]:
    classes = {name: value for name, value in _installed().items() if isinstance(value, type)}
    return {**classes, **_METRICS}


def _installed_function(name: str) -> MetricSpec | None:
    if name in _METRICS:
        return None
    found = getattr(_installed().get(name), "spec", None)
    return found if isinstance(found, MetricSpec) else None


@cache
def _installed() -> dict[str, Any]:
    found = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # another package's mistake must not take the other metrics away
            warnings.warn(f"the metric {entry.name!r} ({entry.value}) cannot be loaded: {error!r}", stacklevel=2)
    return found

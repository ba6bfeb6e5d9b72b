"""Checks: conditions that an answer meets or not, without a model and without ground truth."""

from __future__ import annotations

import ast
import json
import platform
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lumigator_nb.errors import InvalidInputError, MissingExtraError, did_you_mean
from lumigator_nb.metrics import copying
from lumigator_nb.metrics.base import Metric, Needed, Rows, ScoreInfo, Scores
from lumigator_nb.metrics.kernels import languages
from lumigator_nb.metrics.registry import metric_class
from lumigator_nb.specs import MetricSpec, digest, language_code, language_name

Texts = str | Sequence[str]

# One Markdown code block that is the whole answer; chat models wrap code in it.
_FENCED = re.compile(r"\s*```[\w+-]*[ \t]*\n(?P<code>.*?)\n?[ \t]*```\s*", re.DOTALL)
_LONGEST_TEXT = 60


def Check(  # noqa: N802 - reads like the class it makes
    name: str | None = None,
    *,
    contains: Texts = (),
    contains_any: Texts = (),
    contains_none: Texts = (),
    starts_with: Texts = (),
    ignore_case: bool = True,
    min_words: int | None = None,
    max_words: int | None = None,
    min_characters: int | None = None,
    max_characters: int | None = None,
    max_seconds: float | None = None,
    max_cost: float | None = None,
    max_copied: float | None = None,
    language: str | None = None,
    json_schema: Mapping[str, Any] | type[BaseModel] | None = None,
    parses: Literal["python", "sql"] | None = None,
    dialect: str | None = None,
) -> MetricSpec:
    """Return the metric that checks each answer by rules: 1 if it meets all conditions, else 0 with the reason.

    Args:
        name: of the score; default the names of the conditions, joined by "_and_".
        contains: texts that must all occur in the answer.
        contains_any: texts of which at least one must occur.
        contains_none: texts that must not occur.
        starts_with: texts with one of which the answer must begin, white space apart.
        ignore_case: whether upper and lower case are equal in the conditions above.
        min_words, max_words: length in words, split at white space.
        min_characters, max_characters: length in characters.
        max_seconds: latency of the answer, in seconds. For models on the cluster it is the answer's share of the time.
        max_cost: what the answer cost, in dollars.
        max_copied: share of the answer's words that occur in the example, from 0 to 1; see
            :func:`lumigator_nb.metrics.copying.coverage`.
        language: of the answer, by code or name, as py3langid detects it. Answers of fewer than 20 bytes, and those
            whose language is doubtful, have no score.
        json_schema: JSON Schema, or a pydantic model, that the answer must satisfy.
        parses: "python" (the grammar of the Python that scores) or "sql". SQL that sqlglot knows only by its first
            word has no score.
        dialect: of the SQL, by sqlglot's name, such as "postgres"; default sqlglot's own, which is permissive.

    An answer that is one Markdown code block counts without the fence in `json_schema` and `parses`.

    Raises:
        InvalidInputError: there is no condition, or one cannot be met or is malformed.

    Examples:
        >>> brief = lm.Check("brief", max_words=4, contains_none="sorry")
        >>> scores = lm.score(["Take bus 5.", "I am sorry, I do not know."], metrics=[brief, lm.Check(min_words=3)])
        >>> scores["brief"].tolist(), scores["min_words"].tolist()
        ([1.0, 0.0], [1.0, 1.0])
        >>> scores["brief.reason"][1]
        "contains 'sorry'; 7 words, and at most 4 are allowed"
    """
    given = {
        "name": name,
        "contains": contains,
        "contains_any": contains_any,
        "contains_none": contains_none,
        "starts_with": starts_with,
        "ignore_case": ignore_case,
        "min_words": min_words,
        "max_words": max_words,
        "min_characters": min_characters,
        "max_characters": max_characters,
        "max_seconds": max_seconds,
        "max_cost": max_cost,
        "max_copied": max_copied,
        "language": language,
        "json_schema": json_schema,
        "parses": parses,
        "dialect": dialect,
    }
    return check_of(given)


def check_of(conditions: Mapping[str, Any]) -> MetricSpec:
    """Return the check with the arguments of :func:`Check` by name, as they come from JSON.

    Raises:
        InvalidInputError: as :func:`Check`, or a condition is unknown.
    """
    unknown = sorted(conditions.keys() - Rules.model_fields.keys())
    if unknown:
        raise InvalidInputError(
            f"unknown condition {unknown[0]!r} of a check", did_you_mean(unknown[0], Rules.model_fields)
        )
    rules = Rules.of(conditions)
    return MetricSpec(name=CheckMetric.name, options={"name": rules.title, **rules.options})


class Rules(BaseModel):
    """The conditions of a check, after validation; as in :func:`Check`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    contains: tuple[str, ...] = ()
    contains_any: tuple[str, ...] = ()
    contains_none: tuple[str, ...] = ()
    starts_with: tuple[str, ...] = ()
    ignore_case: bool = Field(default=True, strict=True)
    min_words: int | None = Field(default=None, ge=1, strict=True)
    max_words: int | None = Field(default=None, ge=0, strict=True)
    min_characters: int | None = Field(default=None, ge=1, strict=True)
    max_characters: int | None = Field(default=None, ge=0, strict=True)
    max_seconds: float | None = Field(default=None, gt=0)
    max_cost: float | None = Field(default=None, ge=0)
    max_copied: float | None = Field(default=None, ge=0, le=1)
    language: str | None = None
    json_schema: dict[str, Any] | None = None
    parses: Literal["python", "sql"] | None = None
    dialect: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Rules:
        """Return the rules in options.

        Raises:
            InvalidInputError: there is no condition, or one cannot be met or is malformed.
        """
        try:
            rules = cls(**options)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            option = str(first["loc"][0]) if first["loc"] else "the conditions"
            message = str(first.get("ctx", {}).get("error") or first["msg"])
            raise InvalidInputError(f"a check cannot have {option}={first['input']!r}: {message}") from None
        if not rules.conditions:
            raise InvalidInputError("a check needs a condition", "for example lm.Check(max_words=50)")
        if rules.json_schema is not None:
            _check_schema(rules.json_schema)
        if rules.dialect is not None and rules.parses != "sql":
            raise InvalidInputError("a check has a dialect without parses='sql'", "lm.Check(parses='sql', dialect=…)")
        return rules

    @field_validator("contains", "contains_any", "contains_none", "starts_with", mode="before")
    @classmethod
    def _as_texts(cls, value: Any) -> Any:
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, (list, tuple)) and "" in texts:
            raise ValueError("an empty text occurs everywhere")
        return texts

    @field_validator("json_schema", mode="before")
    @classmethod
    def _as_schema(cls, value: Any) -> Any:
        return value.model_json_schema() if isinstance(value, type) and issubclass(value, BaseModel) else value

    @field_validator("language")
    @classmethod
    def _as_code(cls, value: str | None) -> str | None:
        return None if value is None else language_code(value)

    @model_validator(mode="after")
    def _fits_together(self) -> Rules:
        for unit in ("words", "characters"):
            least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{unit} is greater than max_{unit}")
        return self

    @property
    def conditions(self) -> list[str]:
        """The names of the conditions."""
        settings = ("name", "ignore_case", "dialect")
        return [
            name for name in type(self).model_fields if name not in settings and getattr(self, name) not in (None, ())
        ]

    @property
    def title(self) -> str:
        """The name of the score."""
        return self.name or "_and_".join(self.conditions)

    @property
    def options(self) -> dict[str, Any]:
        """The settings that differ from the defaults, as JSON values, without the name."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"name"})

    @property
    def needs_facts(self) -> bool:
        """Whether latency or cost of the answers is a condition."""
        return self.max_seconds is not None or self.max_cost is not None


@dataclass(frozen=True)
class _Answer:
    text: str
    example: str
    facts: Mapping[str, Any]

    @property
    def code(self) -> str:
        """The text, without the fence of a code block around all of it."""
        fenced = _FENCED.fullmatch(self.text)
        return fenced["code"] if fenced else self.text


class _UnknownError(Exception):
    """A condition cannot be decided; the message is the reason."""


@metric_class
class CheckMetric(Metric):
    """Whether an answer meets conditions: 1 or 0; see :func:`Check`, which makes its options."""

    name = "check"
    display_name = "Check"
    needs = frozenset()
    optional_modules = ("sqlglot",)
    extra = "sql"

    def __init__(
        self,
        *,
        name: str | None = None,
        contains: Texts = (),
        contains_any: Texts = (),
        contains_none: Texts = (),
        starts_with: Texts = (),
        ignore_case: bool = True,
        min_words: int | None = None,
        max_words: int | None = None,
        min_characters: int | None = None,
        max_characters: int | None = None,
        max_seconds: float | None = None,
        max_cost: float | None = None,
        max_copied: float | None = None,
        language: str | None = None,
        json_schema: Mapping[str, Any] | type[BaseModel] | None = None,
        parses: Literal["python", "sql"] | None = None,
        dialect: str | None = None,
    ) -> None:
        given = locals()
        self.rules = Rules.of({field: given[field] for field in Rules.model_fields})
        needed: list[Needed] = ["facts"] if self.rules.needs_facts else []
        self.needs = frozenset(needed)
        self.slow = self.rules.parses == "sql"
        description = f"share of answers that meet: {', '.join(self.rules.conditions)}"
        self.infos = (ScoreInfo(self.rules.title, description, True, (0.0, 1.0)),)

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As in :class:`Metric`: its name and its conditions."""
        conditions = ", ".join(f"{name}={value!r}" for name, value in spec.options.items() if name != "name")
        return f"check {spec.title} ({conditions})"

    @property
    def title(self) -> str:
        """As in :class:`Metric`."""
        return self.rules.title

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        used = {"language": "py3langid", "json_schema": "jsonschema"}
        packages = [package for name, package in used.items() if name in self.rules.conditions]
        if self.rules.parses == "sql":
            packages.append("sqlglot")
        versions = [f"{package}:{version(package)}" for package in packages]
        if self.rules.parses == "python":
            versions.append(f"python:{platform.python_version()}")
        rules = json.dumps(self.rules.options, ensure_ascii=False, sort_keys=True)
        shown = rules if len(rules) <= 500 else digest(self.rules.options)
        return "|".join(["check", "impl:lumigator_nb", *versions, f"rules:{shown}"])

    def prepare(self) -> None:
        """As in :class:`Metric`; also refuse a dialect that sqlglot does not know."""
        if self.rules.language is not None and find_spec("py3langid") is None:
            raise MissingExtraError("detecting languages", "languages")
        if self.rules.parses != "sql":
            return
        if find_spec("sqlglot") is None:
            raise MissingExtraError("parsing SQL", "sql")
        from sqlglot.dialects.dialect import Dialect

        try:
            Dialect.get_or_raise(self.rules.dialect)
        except ValueError as error:
            raise InvalidInputError(f"a check cannot have dialect={self.rules.dialect!r}: {error}") from None

    def _score(self, rows: Rows) -> list[Scores]:
        values: list[float] = []
        reasons: list[str | None] = []
        faults_of = _all_conditions(self.rules)
        for text, example, facts in zip(rows.predictions, rows.examples, rows.facts, strict=True):
            answer = _Answer(text, example, facts)
            faults: list[str] = []
            unknown: list[str] = []
            for condition in faults_of:
                try:
                    faults += condition(answer)
                except _UnknownError as error:
                    unknown.append(str(error))
            # An answer that breaks one condition fails, even if another cannot be decided.
            values.append(0.0 if faults else float("nan") if unknown else 1.0)
            reasons.append("; ".join(faults or unknown) or None)
        return [Scores.of(self.infos[0], values, reasons)]


_Condition = Callable[[_Answer], Iterator[str]]


def _all_conditions(rules: Rules) -> list[_Condition]:
    """Return functions that yield the faults of an answer, and raise _UnknownError where they cannot tell."""
    conditions: list[_Condition] = [partial(_text_faults, rules), partial(_length_faults, rules)]
    if rules.needs_facts:
        conditions.append(partial(_usage_faults, rules))
    if rules.max_copied is not None:
        conditions.append(partial(_copied_faults, rules.max_copied))
    if rules.language is not None:
        conditions.append(partial(_language_faults, rules.language))
    if rules.json_schema is not None:
        conditions.append(partial(_schema_faults, _validator(rules.json_schema)))
    if rules.parses == "python":
        conditions.append(_python_faults)
    if rules.parses == "sql":
        conditions.append(partial(_sql_faults, rules.dialect))
    return conditions


def _text_faults(rules: Rules, answer: _Answer) -> Iterator[str]:
    fold: Callable[[str], str] = str.casefold if rules.ignore_case else str
    text = fold(answer.text)
    yield from (f"does not contain {each!r}" for each in rules.contains if fold(each) not in text)
    if rules.contains_any and not any(fold(each) in text for each in rules.contains_any):
        yield f"contains none of {_listed(rules.contains_any)}"
    yield from (f"contains {each!r}" for each in rules.contains_none if fold(each) in text)
    if rules.starts_with and not text.lstrip().startswith(tuple(map(fold, rules.starts_with))):
        yield f"does not start with {' or '.join(map(repr, rules.starts_with))}"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts))


def _length_faults(rules: Rules, answer: _Answer) -> Iterator[str]:
    for unit, n, least, most in (
        ("words", len(answer.text.split()), rules.min_words, rules.max_words),
        ("characters", len(answer.text), rules.min_characters, rules.max_characters),
    ):
        length = f"{n} {unit if n != 1 else unit[:-1]}"
        if least is not None and n < least:
            yield f"{length}, and at least {least} are needed"
        if most is not None and n > most:
            yield f"{length}, and at most {most} are allowed"


def _usage_faults(rules: Rules, answer: _Answer) -> Iterator[str]:
    seconds, cost = answer.facts.get("seconds"), answer.facts.get("cost")
    if rules.max_seconds is not None and seconds is not None and seconds > rules.max_seconds:
        yield f"took {seconds:.3g} s, and at most {rules.max_seconds:g} are allowed"
    if rules.max_cost is not None and cost is not None and cost > rules.max_cost:
        yield f"cost ${cost:.3g}, and at most ${rules.max_cost:g} are allowed"
    if rules.max_seconds is not None and seconds is None:
        raise _UnknownError("the latency of the answer is not known")
    if rules.max_cost is not None and cost is None:
        raise _UnknownError("the cost of the answer is not known")


def _copied_faults(most: float, answer: _Answer) -> Iterator[str]:
    share = copying.coverage(answer.example, answer.text)
    if share > most:  # NaN, for an answer without words, is not
        yield f"{share:.0%} of its words occur in the example, and at most {most:.0%} may"


def _language_faults(wanted: str, answer: _Answer) -> Iterator[str]:
    from langcodes import Language

    code = languages.detected(answer.text)
    if code is None:
        raise _UnknownError("the text is too short or mixed to tell its language")
    # py3langid knows no regions and scripts, and "no" where the code may be "nb".
    found, expected = (Language.get(each).prefer_macrolanguage().language for each in (code, wanted))
    if found != expected:
        yield f"the language is {language_name(code)}, not {language_name(wanted)}"


def _schema_faults(validator: Any, answer: _Answer) -> Iterator[str]:
    from jsonschema.exceptions import best_match

    try:
        value = json.loads(answer.code)
        worst = best_match(validator.iter_errors(value))
    except (ValueError, RecursionError) as error:  # the latter from thousands of opening brackets
        yield f"not JSON: {error}"
        return
    if worst is not None:
        yield f"{worst.json_path}: {worst.message}"[:200]


def _validator(schema: dict[str, Any]) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY

    kind = validator_for(schema, default=Draft202012Validator)
    # With this registry, nothing is fetched for a reference to an address.
    return kind(schema, registry=REGISTRY, format_checker=kind.FORMAT_CHECKER)


def _check_schema(schema: dict[str, Any]) -> None:
    from jsonschema.exceptions import SchemaError

    try:
        validator = _validator(schema)
        validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInputError(f"json_schema is malformed at {error.json_path}: {error.message}"[:300]) from None
    elsewhere = [reference for reference in _references(schema) if not reference.startswith("#")]
    if elsewhere:
        raise InvalidInputError(
            f"json_schema refers to {elsewhere[0]!r}, which is not in it", "put it under $defs: {'$ref': '#/$defs/…'}"
        )


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _python_faults(answer: _Answer) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about doubtful but valid code
            ast.parse(answer.code)
    except SyntaxError as error:
        yield f"no Python: {f'line {error.lineno}: ' if error.lineno else ''}{error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes, and code that is nested too deeply
        yield f"no Python: {error or type(error).__name__}"


def _sql_faults(dialect: str | None, answer: _Answer) -> Iterator[str]:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [statement for statement in sqlglot.parse(answer.code, read=dialect) if statement is not None]
    except SqlglotError as error:
        yield f"no SQL: {str(error).partition(chr(10))[0]}"
        return
    except RecursionError:
        yield "no SQL: nested too deeply"
        return
    if not statements:
        yield "no SQL: there is no statement"
    for statement in statements:
        text = " ".join(answer.code.split())[:_LONGEST_TEXT]
        # sqlglot reads words without a keyword as an expression: "hello world" is a column with an alias.
        if isinstance(statement, (exp.Condition, exp.Alias, exp.Tuple)):
            yield f"no SQL: an expression, not a statement: {text!r}"
        elif isinstance(statement, exp.Command):
            raise _UnknownError(f"sqlglot knows only the first word of this statement: {text!r}")

"""Requests: the examples of a dataset in the words of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.models.base import Request
from lumigator_nb.specs import Example, Task


class Conversation:
    """Makes requests of examples: system prompt, few-shot turns, and the user's turn by the task's template.

    Args:
        task: the task with its prompt, template and shots.

    Raises:
        InvalidInputError: the template is malformed.
    """

    def __init__(self, task: Task) -> None:
        self._system = task.instruction
        self._template = _compile(task.template) if task.template is not None else None
        self._shots = tuple((self._user(shot.example, shot.metadata), shot.answer) for shot in task.shots)

    def request(self, example: Example, redact: Callable[[str], str] = str) -> Request:
        """Return the request for one example; its references are not sent.

        Args:
            redact: takes secrets out of text and metadata before they enter the template, which may change them.

        Raises:
            InvalidInputError: the template cannot be filled in with this row.
        """
        text, metadata = redact(example.text), example.metadata
        if metadata:
            metadata = {name: redact(value) if isinstance(value, str) else value for name, value in metadata.items()}
        return Request(
            row=example.row,
            example=text,
            user=self._user(text, metadata),
            system=self._system,
            shots=self._shots,
            metadata=metadata,
        )

    def _user(self, example: str, metadata: Mapping[str, Any]) -> str:
        if self._template is None:
            return example
        try:
            return str(self._template.render({**metadata, "example": example}))
        except Exception as error:  # a template's expressions can raise anything
            raise InvalidInputError(f"the prompt template cannot be filled in: {error}") from None


def check(task: Task, columns: Iterable[str], *, prompted: bool = True) -> None:
    """Refuse a task whose prompt is missing or whose template does not fit a dataset.

    Args:
        task: the task.
        columns: names of the dataset's metadata columns.
        prompted: whether the task needs a prompt; False if every model has its own.

    Raises:
        InvalidInputError: with the defect and, if a column is unknown, similar names.
    """
    if prompted and task.kind == "text_generation" and not (task.prompt and task.prompt.strip()):
        raise InvalidInputError("text generation needs a prompt", "lm.TextGeneration('Answer in one sentence.')")
    if task.kind == "translation" and not (task.source and task.target):
        raise InvalidInputError("translation needs two languages", "lm.Translation('English', 'German')")
    if task.kind == "classification" and not task.labels:
        raise InvalidInputError("classification needs labels", "lm.Classification(['billing', 'delivery'])")
    if task.template is None:
        return
    fields = ["example", *columns]
    variables = _variables(task.template)
    if unknown := variables - set(fields):
        word = min(unknown)
        raise InvalidInputError(
            f"the prompt template names {word!r}, which the dataset does not have", did_you_mean(word, fields)
        )
    if "example" not in variables:
        raise InvalidInputError("the prompt template never uses the example", "write {{ example }} where it belongs")
    # The shots have to fit the template, too.
    Conversation(task)


def _compile(template: str) -> Any:
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        # Sandboxed, because a shared experiment brings another user's template. No escaping: prompts are not HTML.
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        return environment.from_string(template)
    except TemplateSyntaxError as error:
        raise InvalidInputError(f"the prompt template is malformed in line {error.lineno}: {error.message}") from None


def _variables(template: str) -> set[str]:
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    _compile(template)  # for its error message about malformed templates
    return meta.find_undeclared_variables(ImmutableSandboxedEnvironment().parse(template))

"""From a row of a dataset to what a model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.models.base import Request
from lumigator_nb.specs import Example, Task


class Conversation:
    """Puts examples into a task's words: system prompt, few-shot turns, and the user's turn by its template.

    Raises:
        InvalidInputError: the template is malformed.
    """

    def __init__(self, task: Task) -> None:
        self._system = task.instruction
        self._template = _compiled(task.template) if task.template is not None else None
        self._shots = tuple((self._user(shot.example, shot.metadata), shot.answer) for shot in task.shots)

    def request(self, example: Example, redact: Callable[[str], str] = str) -> Request:
        """Return what is asked about one example; its references do not go along.

        Args:
            redact: takes secrets out of text and metadata before the template, which may change what it is given.

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
        except Exception as error:  # whatever the template's own expressions raise
            raise InvalidInputError(f"the prompt template cannot be filled in: {error}") from None


def check(task: Task, columns: Iterable[str], *, prompted: bool = True) -> None:
    """Refuse a task whose prompt is missing or whose template does not fit a dataset.

    Args:
        columns: names of the dataset's metadata columns.
        prompted: whether the task has to bring its prompt; False where each model brings its own.

    Raises:
        InvalidInputError: what is wrong, and the columns there are.
    """
    if prompted and task.kind == "text_generation" and not (task.prompt and task.prompt.strip()):
        raise InvalidInputError("text generation needs a prompt", "lm.TextGeneration('Answer in one sentence.')")
    if task.kind == "translation" and not (task.source and task.target):
        raise InvalidInputError("translation needs two languages", "lm.Translation('English', 'German')")
    if task.template is None:
        return
    known = ["example", *columns]
    unknown = _variables(task.template) - set(known)
    if unknown:
        word = min(unknown)
        raise InvalidInputError(
            f"the prompt template names {word!r}, which the dataset does not have", did_you_mean(word, known)
        )
    if "example" not in _variables(task.template):
        raise InvalidInputError("the prompt template never uses the example", "write {{ example }} where it belongs")
    Conversation(task)


def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        # Templates come with shared experiments too, so they must not reach Python's insides; prompts are no HTML.
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        return environment.from_string(template)
    except TemplateSyntaxError as error:
        raise InvalidInputError(f"the prompt template is malformed in line {error.lineno}: {error.message}") from None


def _variables(template: str) -> set[str]:
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    _compiled(template)
    return meta.find_undeclared_variables(ImmutableSandboxedEnvironment().parse(template))

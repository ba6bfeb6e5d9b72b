"""All errors that the package raises on purpose.

The message says what is wrong and where; the hint says what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable


class LumigatorError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what is wrong and where (file, row, column, setting).
        hint: what the user can do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Pickle would call the class with `args`, which holds the message only; subclasses take other arguments.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[LumigatorError], args: tuple[object, ...], state: dict[str, object]) -> LumigatorError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(LumigatorError):
    """A setting is missing, malformed or contradicts another one."""


class StoreNotSharedError(ConfigurationError):
    """The store is a folder of this machine, which a remote cluster cannot read."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed.

    Args:
        feature: what needs it, in the user's words.
        extra: the extra of this package that installs it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed",
            f"install them where this runs, on a cluster on its nodes: pip install 'lumigator-nb[{extra}]'",
        )
        self.extra = extra


class ExecutionError(LumigatorError):
    """Processes of the cluster did not finish their work: they died, or took too long."""


class InvalidInputError(LumigatorError, ValueError):
    """An argument, a file or a request cannot be used."""


class DatasetError(InvalidInputError):
    """A dataset cannot be read, or violates a rule; the message names file, row and column."""


class MissingFieldsError(InvalidInputError):
    """A metric or task needs a field that the dataset does not have."""


class UnknownMetricError(InvalidInputError):
    """No metric has that name."""


class UnknownModelError(InvalidInputError):
    """No provider knows that model, or the model's name is malformed."""


class NotFoundError(LumigatorError, LookupError):
    """Nothing is stored under that name or id.

    Args:
        kind: "dataset", "experiment", "workflow", "job" or "file".
        key: the name or id that was looked up.
    """

    def __init__(self, kind: str, key: str, hint: str | None = None) -> None:
        super().__init__(f"there is no {kind} {key!r}", hint)
        self.kind = kind
        self.key = key


class ConflictError(LumigatorError):
    """The name is taken.

    Args:
        kind: as in :class:`NotFoundError`.
        name: the name that is taken.
    """

    def __init__(self, kind: str, name: str, hint: str | None = None) -> None:
        super().__init__(f"a {kind} named {name!r} exists already", hint)
        self.kind = kind
        self.name = name


class InUseError(LumigatorError):
    """Something else depends on what should be deleted."""


class SecretError(LumigatorError):
    """A secret cannot be encrypted or decrypted; the message never contains a value."""


class DamagedError(LumigatorError):
    """A file is truncated, altered, or of a version that this one does not know."""


class UnavailableError(LumigatorError):
    """A required service does not answer."""


class ClusterUnavailableError(UnavailableError):
    """The Ray cluster does not answer."""


class StoreUnavailableError(UnavailableError):
    """The store cannot be read or written."""


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be reached, or its schema does not fit this version."""


class JobError(LumigatorError):
    """An error of one workflow or job.

    Args:
        job_id: the id of the workflow or job.
    """

    def __init__(self, message: str, hint: str | None = None, *, job_id: str) -> None:
        super().__init__(message, hint)
        self.job_id = job_id


class BudgetReachedError(LumigatorError):
    """The next question might cost more than the budget has left."""


class JobFailedError(JobError):
    """A workflow or job failed; the message has the reason, the hint how to continue."""


class JobLostError(JobError):
    """The cluster no longer knows an unfinished workflow or job; it can be resumed."""


class WaitTimeoutError(JobError):
    """Waiting took longer than allowed; the workflow or job itself continues."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? Known: …" for an unknown word; the question only if a known word is similar."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    start = f"did you mean {near[0]!r}? " if near else ""
    return f"{start}Known: {', '.join(names)}"

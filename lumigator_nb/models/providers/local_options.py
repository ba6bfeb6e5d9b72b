"""The options that all providers share whose models are computed by the cluster itself."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.base import check_options
from lumigator_nb.models.prices import Price
from lumigator_nb.specs import Model, Value


class LocalOptions(Value):
    """Options of ``Model(..., options={...})``; each provider adds more.

    Attributes:
        revision: branch, tag or commit on the hub; None takes its main branch.
        price: US dollars per hour of what one process takes, ``{"hour": 2.5}``; default none.
    """

    revision: str | None = None
    price: Price | None = None


V = TypeVar("V", bound=LocalOptions)


def read_options(model: Model, kind: type[V]) -> V:
    """Return a model's options after validation.

    Raises:
        InvalidInputError: an option is unknown or out of range, or the price is per token.
    """
    check_options(model, kind.model_fields)
    try:
        options = kind(**model.own_options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(
            f"option {first['loc'][0]!r} of model {model.label!r}: {first['msg']}, got {first['input']!r}"
        ) from None
    if options.price is not None and options.price.hour is None:
        raise InvalidInputError(
            f"the price of model {model.label!r} is per token, but the model runs on your own machine",
            "let the price have the one entry hour: dollars for an hour of the machine",
        )
    return options

"""Read a price list or catalogue from a file, or from the network, which only a caller asks for."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnavailableError
from lumigator_nb.models.price_list import Origin
from lumigator_nb.specs import now

# The list of genai-prices has 1.5 MB.
_MOST_BYTES = 20 * 2**20
_TIMEOUT_S = 10.0
_MOST_S = 60.0


def price_address() -> str:
    """Return the address at which genai-prices publishes its list.

    Raises:
        MissingExtraError: genai-prices is not installed.
    """
    try:
        from genai_prices.update_prices import DEFAULT_UPDATE_URL
    except ImportError:
        raise MissingExtraError("refreshing prices", "api") from None
    return str(DEFAULT_UPDATE_URL)


def read(source: str | Path) -> tuple[bytes, Origin]:
    """Return the content of a file, or of an address that begins with ``http://`` or ``https://``, and its origin.

    Raises:
        InvalidInputError: there is no such file, or it is too large.
        UnavailableError: the address does not answer.
        MissingExtraError: the HTTP client is not installed.
    """
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        return _fetched(source)
    path = Path(source).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        hint = "name a file, or an address that begins with https://"
        raise InvalidInputError(f"the file {path} cannot be read: {error.strerror}", hint) from None
    return _of_fair_size(data, str(path)), Origin(path.name, now())


def _fetched(address: str) -> tuple[bytes, Origin]:
    try:
        import httpx2
    except ImportError:
        raise MissingExtraError("reading from the network", "api") from None
    public = _public(address)
    data, ends = bytearray(), time.monotonic() + _MOST_S
    try:
        with httpx2.stream("GET", address, timeout=_TIMEOUT_S, follow_redirects=True) as response:
            if response.status_code != 200:
                hint = "check the address, or read from a file instead; nothing has changed"
                raise UnavailableError(f"{public} answers HTTP {response.status_code}", hint)
            for piece in response.iter_bytes():
                data += piece
                if len(data) > _MOST_BYTES:
                    break
                if time.monotonic() > ends:
                    raise httpx2.ReadTimeout("the whole takes too long")
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        # Its text may repeat a password of the address.
        raise UnavailableError(
            f"{public} cannot be reached: {type(error).__name__}",
            "if this machine is offline, fetch the file on another and read it from there; nothing has changed",
        ) from None
    return _of_fair_size(bytes(data), public), Origin(public, now())


def _public(address: str) -> str:
    """Return an address without credentials and query, which may hold a token."""
    try:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "the address"


def _of_fair_size(data: bytes, where: str) -> bytes:
    if len(data) > _MOST_BYTES:
        raise InvalidInputError(f"{where} has more than {_MOST_BYTES >> 20} MiB", "it is no price list or catalogue")
    return data

"""Which cluster the settings name: by RAY_ADDRESS, by RAY_HEAD_NODE_HOST and RAY_DASHBOARD_PORT, or none."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from lumigator_nb.config import Settings
from lumigator_nb.errors import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def jobs_api(settings: Settings) -> str | None:
    """Return the address of the Jobs API of the cluster that the settings name; None means a local head.

    RAY_ADDRESS counts where it starts with http:// or https://. What else it may hold for Ray's own tools
    (``ray://…``, ``host:6379``, ``auto``) names no Jobs API, and neither does RAY_API_SERVER_ADDRESS here: a local head
    ignores them, as its processes do not inherit them. Beside a cluster they must name the same host, as two answers to
    one question are a mistake.

    Raises:
        ConfigurationError: RAY_ADDRESS is malformed, or two of them contradict each other.
    """
    address = _http(settings.ray_address)
    if settings.ray_head_node_host:
        host, port = settings.ray_head_node_host, settings.ray_dashboard_port
        named = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        words = f"RAY_HEAD_NODE_HOST={host} with RAY_DASHBOARD_PORT={port}"
        _refuse_another(named, words, "RAY_ADDRESS", settings.ray_address)
        _refuse_another(named, words, "RAY_API_SERVER_ADDRESS", settings.configured("RAY_API_SERVER_ADDRESS"))
        return address or named
    if address:
        other = settings.configured("RAY_API_SERVER_ADDRESS")
        _refuse_another(address, f"RAY_ADDRESS={address}", "RAY_API_SERVER_ADDRESS", other)
    return address


def _http(value: str | None) -> str | None:
    """Return an address of HTTP as it is used; None for any other."""
    if not value or not value.lower().startswith(("http://", "https://")):
        return None
    parts = _split("RAY_ADDRESS", value)
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(f"RAY_ADDRESS={value} is no address of a cluster", "write http://HOST:8265")
    if parts.username is not None:
        raise ConfigurationError(
            "RAY_ADDRESS holds a user or password, which would be shown with it", "set RAY_AUTH_TOKEN instead"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _split(name: str, value: str) -> SplitResult:
    try:
        parts = urlsplit(value if "://" in value else f"//{value}")
        parts.port  # noqa: B018 - is looked at here, so that it fails here
    except ValueError as error:
        raise ConfigurationError(f"{name} is no address: {error}", "write http://HOST:8265") from None
    return parts


def _refuse_another(address: str, words: str, name: str, value: str | None) -> None:
    if not value or value == "auto":
        return
    mine, other = urlsplit(address), _split(name, value)
    speaks_http = other.scheme in _DEFAULT_PORTS
    if other.hostname != mine.hostname or (speaks_http and _port(other) != _port(mine)):
        raise ConfigurationError(f"{name}={value} contradicts {words}", f"unset {name}, or give both the same head")


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS[parts.scheme]

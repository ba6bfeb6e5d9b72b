"""What a caller may have a model do here: run code, read files, ask addresses, and be sent secrets."""

from __future__ import annotations

import ipaddress
import re
import socket
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from lumigator_nb import models
from lumigator_nb.errors import ConfigurationError
from lumigator_nb.rest.errors import RefusedError
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.specs import Model, Scope

# What other parsers of addresses could take for something else than the host.
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
# IPv6 addresses that lead to an IPv4 address (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Permissions:
    """What one request may ask of models. Tokens of the scope "admin" may more; so may all by the server's settings."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services, self._request = services, request

    @property
    def _is_admin(self) -> bool:
        # Without a token, on loopback, other accounts of the machine come in, too.
        return self._request.scope.get("token_scope") is Scope.ADMIN

    def check_remote_code(self) -> None:
        """Refuse code that comes with a model.

        Raises:
            RefusedError: the caller may not.
        """
        if not (self._is_admin or self._services.ws.settings.lumigator_rest_trust_remote_code):
            raise RefusedError(
                HTTPStatus.FORBIDDEN, "trust_remote_code runs code that comes with the model",
                "use a token of the scope 'admin', or start the server with LUMIGATOR_REST_TRUST_REMOTE_CODE=true",
            )  # fmt: skip

    def check_model(self, model: Model) -> None:
        """Refuse files of this machine, and addresses that this server must not ask.

        Raises:
            RefusedError: the caller may not.
            MissingExtraError, ConfigurationError: the provider's packages are not installed.
        """
        if "://" in model.name:  # Hugging Face's client takes it for the address to ask
            raise RefusedError(HTTPStatus.FORBIDDEN, "the model's name is an address", "write it as base_url")
        may = self._is_admin or self._services.ws.settings.lumigator_rest_local_models
        if models.is_local_path(model) and not may:
            raise RefusedError(
                HTTPStatus.FORBIDDEN, "the model is named by a path of the cluster's machines",
                "use a token of the scope 'admin', or start the server with LUMIGATOR_REST_LOCAL_MODELS=true",
            )  # fmt: skip
        if model.base_url is not None and not models.is_own_address(model):
            self._check_address(model, model.base_url)

    def check_key(self, model: Model, name: str) -> None:
        """Refuse to send a secret elsewhere than to its provider, unless the server's settings say so.

        Raises:
            RefusedError: it may not be sent there.
            ConfigurationError: the environment has a secret of that name, too, which would be sent instead.
        """
        settings = self._services.ws.settings
        bound = settings.rest_keys.get(name, set())
        if models.is_own_address(model):
            target = model.provider
            allowed = target in bound or models.is_own_key(model, name)
        else:
            target = (model.base_url or "").rstrip("/")
            allowed = target in bound
            if allowed and settings.configured(name):
                raise ConfigurationError(
                    f"the environment has a {name}, too, and only secrets of the database are sent to {target}",
                    f"unset {name} where the server runs, or give the secret another name",
                )
        if not allowed:
            raise RefusedError(
                HTTPStatus.FORBIDDEN, f"the secret {name} may not be sent to {target}",
                f"a secret is sent to the provider in its name; for others start the server with LUMIGATOR_REST_KEYS="
                f"{name}={target}",
            )  # fmt: skip

    def _check_address(self, model: Model, address: str) -> None:
        settings = self._services.ws.settings
        if any(address.rstrip("/") in bound for bound in settings.rest_keys.values()):
            return
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not _HOST.fullmatch(host):
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "base_url is not an address", "http://host:port/v1")
        if settings.rest_hosts & {host, f"{host}:{port}"}:
            return
        hint = f"start the server with LUMIGATOR_REST_HOSTS={host}"
        if not models.finds_no_credentials(model):
            raise RefusedError(
                HTTPStatus.FORBIDDEN,
                f"the library of {model.provider!r} would send keys of the server's environment to base_url",
                f"write provider 'openai' for a server that speaks its protocol; or {hint}",
            )
        if not self._services.local:
            if not models.follows_no_redirects(model):
                raise RefusedError(
                    HTTPStatus.FORBIDDEN, f"the library of {model.provider!r} goes where base_url sends it on",
                    f"write provider 'openai' for a server that speaks its protocol; or {hint}",
                )  # fmt: skip
            _refuse_own_network(host, port, hint)


def _refuse_own_network(host: str, port: int | None, hint: str) -> None:
    """Refuse a host of this machine or its network; a name is refused where one of its addresses is such.

    The worker that asks looks the name up once more: a name server that changes its mind in between gets around this.
    """
    try:
        found = socket.getaddrinfo(host, port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RefusedError(HTTPStatus.FORBIDDEN, f"the host {host!r} of base_url is not known", hint) from None
    if not all(_is_public(str(address[4][0])) for address in found):
        raise RefusedError(HTTPStatus.FORBIDDEN, f"the host {host!r} of base_url is in the server's own network", hint)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        address = address.ipv4_mapped or address.sixtofour or low or address
    return address.is_global and not address.is_multicast


async def _permissions_of(services: Shared, request: Request) -> Permissions:
    return Permissions(services, request)


Permitted = Annotated[Permissions, Depends(_permissions_of)]

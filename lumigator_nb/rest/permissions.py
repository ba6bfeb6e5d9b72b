"""Permissions of a request about models: run their code, read local files, call addresses, receive secrets."""

from __future__ import annotations

import ipaddress
import re
import socket
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from lumigator_nb import models
from lumigator_nb.errors import ConfigurationError, LumigatorError
from lumigator_nb.rest.errors import RefusedError
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.specs import Model, Scope

# Only these characters: URL parsers disagree on the host of stranger addresses.
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
# IPv6 addresses that are translated to IPv4 addresses (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Permissions:
    """What one request may ask of models. Tokens with the scope "admin", and the server's settings, allow more."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services, self._request = services, request

    @property
    def _is_admin(self) -> bool:
        # Not without a token, even on loopback: other accounts of the machine reach it, too.
        return self._request.scope.get("token_scope") is Scope.ADMIN

    def check_remote_code(self) -> None:
        """Check that the caller may run code that comes with a model.

        Raises:
            RefusedError: the caller may not.
        """
        if not (self._is_admin or self._services.ws.settings.lumigator_rest_trust_remote_code):
            raise RefusedError(
                HTTPStatus.FORBIDDEN, "trust_remote_code runs code that comes with the model",
                "use a token of the scope 'admin', or start the server with LUMIGATOR_REST_TRUST_REMOTE_CODE=true",
            )  # fmt: skip

    def check_model(self, model: Model) -> None:
        """Check that the caller may use a model's local path or address.

        Raises:
            RefusedError: the caller may not.
            MissingExtraError, ConfigurationError: the provider's packages are not installed.
        """
        if "://" in model.name:  # Hugging Face's client would call it
            raise RefusedError(HTTPStatus.FORBIDDEN, "the model's name is an address", "write it as base_url")
        allowed = self._is_admin or self._services.ws.settings.lumigator_rest_local_models
        if models.is_local_path(model) and not allowed:
            raise RefusedError(
                HTTPStatus.FORBIDDEN, "the model is a path on the cluster's machines",
                "use a token of the scope 'admin', or start the server with LUMIGATOR_REST_LOCAL_MODELS=true",
            )  # fmt: skip
        if model.base_url is not None and not models.is_own_address(model):
            self._check_address(model, model.base_url)

    def allow(self, model: Model) -> bool:
        """Return whether the caller may use a model's local path or address; see :meth:`check_model`."""
        try:
            self.check_model(model)
        except (RefusedError, LumigatorError):
            return False
        return True

    def check_key(self, model: Model, name: str) -> None:
        """Check that a secret may be sent to the model: to its own provider, or where the server's settings allow.

        Raises:
            RefusedError: it may not be sent there.
            ConfigurationError: the environment has a variable of that name, which would be sent instead.
        """
        settings = self._services.ws.settings
        allowed_targets = settings.rest_keys.get(name, set())
        if models.is_own_address(model):
            target = model.provider
            allowed = target in allowed_targets or models.is_own_key(model, name)
        else:
            target = (model.base_url or "").rstrip("/")
            allowed = target in allowed_targets
            if allowed and settings.configured(name):
                raise ConfigurationError(
                    f"the environment has a {name}, too, and only secrets of the database are sent to {target}",
                    f"unset {name} where the server runs, or give the secret another name",
                )
        if not allowed:
            raise RefusedError(
                HTTPStatus.FORBIDDEN, f"the secret {name} may not be sent to {target}",
                f"a secret goes only to the provider in its name; for others, start the server with "
                f"LUMIGATOR_REST_KEYS={name}={target}",
            )  # fmt: skip

    def _check_address(self, model: Model, address: str) -> None:
        """Raise RefusedError if a call to the address could leak keys or reach the server's own network (SSRF)."""
        settings = self._services.ws.settings
        if any(address.rstrip("/") in targets for targets in settings.rest_keys.values()):
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
                    HTTPStatus.FORBIDDEN, f"the library of {model.provider!r} follows redirects of base_url",
                    f"write provider 'openai' for a server that speaks its protocol; or {hint}",
                )  # fmt: skip
            # Known gap: the worker resolves the name again. A name server that then gives another address gets around
            # this check (DNS rebinding).
            try:
                addresses = socket.getaddrinfo(host, port or 80, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                raise RefusedError(HTTPStatus.FORBIDDEN, f"the host {host!r} of base_url is unknown", hint) from None
            if not all(_is_public(str(address[4][0])) for address in addresses):
                detail = f"the host {host!r} of base_url is in the server's own network"
                raise RefusedError(HTTPStatus.FORBIDDEN, detail, hint)


def _is_public(text: str) -> bool:
    """Return whether an IP address is on the Internet, and not on this machine or in its network."""
    address = ipaddress.ip_address(text.partition("%")[0])  # without the zone of a link-local address
    if isinstance(address, ipaddress.IPv6Address):
        # Look at the IPv4 address inside, if there is one: mapped, 6to4 (RFC 3056) or NAT64.
        low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        address = address.ipv4_mapped or address.sixtofour or low or address
    return address.is_global and not address.is_multicast


async def _permissions(services: Shared, request: Request) -> Permissions:  # async: others take a thread each
    return Permissions(services, request)


Permitted = Annotated[Permissions, Depends(_permissions)]

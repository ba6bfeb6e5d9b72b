"""How people prove who they are: by a password file, by a token, or at an OAuth provider."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from panel.auth import AUTH_PROVIDERS

from lumigator_nb.config import Settings
from lumigator_nb.errors import ConfigurationError
from lumigator_nb.serving.passwords import Passwords

SHORTEST_TOKEN = 16
# Not those of Panel's that ask for a password themselves.
OAUTH_PROVIDERS = sorted(set(AUTH_PROVIDERS) - {"password", "pam"})


class Gate(Protocol):
    """How people prove who they are.

    Attributes:
        kind: of the proof.
    """

    @property
    def kind(self) -> str: ...

    def admits(self, name: str, proof: str) -> bool:
        """Say whether the proof is right; may take long."""

    def stamp(self, name: str) -> str | None:
        """Return what a login stays valid with; another text or None ends it."""


class Token:
    """A text that everybody shares who may come in.

    Raises:
        ConfigurationError: it is too short.
    """

    kind = "token"

    def __init__(self, text: str) -> None:
        if len(text) < SHORTEST_TOKEN:
            hint = "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
            raise ConfigurationError(f"LUMIGATOR_DASHBOARD_TOKEN has fewer than {SHORTEST_TOKEN} characters", hint)
        self._digest = hashlib.sha256(text.encode()).digest()

    def admits(self, name: str, proof: str) -> bool:
        """Say whether it is the token."""
        return hmac.compare_digest(hashlib.sha256(proof.encode()).digest(), self._digest)

    def stamp(self, name: str) -> str | None:
        """A login ends with the token."""
        return hashlib.sha256(self._digest).hexdigest()[:16]


@dataclass(frozen=True)
class OAuth:
    """A provider at which people log in.

    Attributes:
        provider: one of :data:`OAUTH_PROVIDERS`.
        key, secret: of the application, as it is registered there.
        users: who may come in: names or addresses as the provider has them, ``@example.org`` for all addresses there,
            ``*`` for everybody with an account.
        redirect_uri: the dashboard's address, where the provider sees another one.

    Raises:
        ConfigurationError: something is missing, or the provider is unknown.
    """

    provider: str
    key: str
    secret: str = field(repr=False)
    users: Collection[str] = ()
    redirect_uri: str | None = None
    kind = "oauth"

    def __post_init__(self) -> None:
        name = "LUMIGATOR_DASHBOARD_OAUTH"
        if self.provider not in OAUTH_PROVIDERS:
            known = ", ".join(OAUTH_PROVIDERS)
            raise ConfigurationError(f"{name}_PROVIDER: {self.provider!r} is no provider", f"known: {known}")
        if not (self.key and self.secret):
            raise ConfigurationError(f"{name}_KEY and {name}_SECRET are needed", "the provider shows them")
        if not self.users:
            hint = (
                "names or addresses with commas between; @example.org for a domain, * for everybody who has an account"
            )
            raise ConfigurationError(f"{name}_USERS does not say who may come in", hint)

    def admits(self, name: str, proof: str) -> bool:
        """Nothing is proved here."""
        return False

    def stamp(self, name: str) -> str | None:
        """A login lasts as long as the person is among the users."""
        lower = name.lower()
        allowed = {each.lower() for each in self.users}
        person, _, domain = lower.rpartition("@")
        return "" if lower in allowed or "*" in allowed or (person and f"@{domain}" in allowed) else None


def gate_of(settings: Settings, password_file: Path | None = None, token: str | None = None) -> Gate | None:
    """Return how people log in, by arguments or else by settings; None where nothing says so.

    Raises:
        ConfigurationError: two ways are set, or one is not set rightly.
    """
    if password_file and token:
        raise ConfigurationError("the dashboard has a password file and a token", "choose one")
    if password_file:
        return Passwords(password_file.expanduser())
    if token is not None:
        return Token(token)
    ways: dict[str, Callable[[], Gate]] = {}
    if file := settings.lumigator_dashboard_password_file:
        ways["LUMIGATOR_DASHBOARD_PASSWORD_FILE"] = lambda: Passwords(file.expanduser())
    if text := settings.lumigator_dashboard_token:
        ways["LUMIGATOR_DASHBOARD_TOKEN"] = lambda: Token(text.get_secret_value())
    if provider := settings.lumigator_dashboard_oauth_provider:
        ways["LUMIGATOR_DASHBOARD_OAUTH_PROVIDER"] = lambda: _oauth(settings, provider)
    if len(ways) > 1:
        raise ConfigurationError(f"there are two ways to log in: {' and '.join(ways)}", "leave one of them empty")
    return next((make() for make in ways.values()), None)


def _oauth(settings: Settings, provider: str) -> OAuth:
    secret = settings.lumigator_dashboard_oauth_secret
    users = [each.strip() for each in (settings.lumigator_dashboard_oauth_users or "").split(",") if each.strip()]
    return OAuth(
        provider=provider,
        key=settings.lumigator_dashboard_oauth_key or "",
        secret=secret.get_secret_value() if secret else "",
        users=users,
        redirect_uri=settings.lumigator_dashboard_oauth_redirect_uri,
    )

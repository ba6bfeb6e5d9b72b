"""Login methods of the dashboard: password file, shared token, or an OAuth provider."""

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

MIN_TOKEN_LENGTH = 16
# Without those of Panel that check passwords themselves.
OAUTH_PROVIDERS = sorted(set(AUTH_PROVIDERS) - {"password", "pam"})


class AuthMethod(Protocol):
    """A way to log in.

    Attributes:
        kind: "password", "token" or "oauth".
    """

    @property
    def kind(self) -> str: ...

    def admits(self, name: str, proof: str) -> bool:
        """Return whether the password or token is right. May take long."""

    def stamp(self, name: str) -> str | None:
        """Return a text that a login is bound to. The login ends when the text changes, or is None."""


class Token:
    """Login by a token that all users share.

    Raises:
        ConfigurationError: the token is too short.
    """

    kind = "token"

    def __init__(self, text: str) -> None:
        if len(text) < MIN_TOKEN_LENGTH:
            hint = "python -c 'import secrets; print(secrets.token_urlsafe())' generates one"
            raise ConfigurationError(f"LUMIGATOR_DASHBOARD_TOKEN has fewer than {MIN_TOKEN_LENGTH} characters", hint)
        self._digest = hashlib.sha256(text.encode()).digest()

    def admits(self, name: str, proof: str) -> bool:
        """Return whether `proof` is the token."""
        return hmac.compare_digest(hashlib.sha256(proof.encode()).digest(), self._digest)

    def stamp(self, name: str) -> str | None:
        """Return a text that changes with the token."""
        return hashlib.sha256(self._digest).hexdigest()[:16]


@dataclass(frozen=True)
class OAuth:
    """Login at an OAuth provider.

    Attributes:
        provider: one of :data:`OAUTH_PROVIDERS`.
        key, secret: credentials of the application that is registered at the provider.
        users: allowed users: names or e-mail addresses at the provider, ``@example.org`` for a whole domain, ``*``
            for all users with an account.
        redirect_uri: address of the dashboard, if the provider sees another one than browsers.

    Raises:
        ConfigurationError: a setting is missing, or the provider is unknown.
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
            hint = f"use one of: {', '.join(OAUTH_PROVIDERS)}"
            raise ConfigurationError(f"{name}_PROVIDER: {self.provider!r} is not a known provider", hint)
        if not (self.key and self.secret):
            raise ConfigurationError(f"{name}_KEY and {name}_SECRET are needed", "the provider shows them")
        if not self.users:
            hint = "give names or addresses, separated by commas; @example.org for a domain, * for all accounts"
            raise ConfigurationError(f"{name}_USERS is empty: no user may log in", hint)

    def admits(self, name: str, proof: str) -> bool:
        """Return False: users prove their identity at the provider."""
        return False

    def stamp(self, name: str) -> str | None:
        """Return a constant text while the user is allowed, and None otherwise."""
        lower = name.lower()
        allowed = {user.lower() for user in self.users}
        account, _, domain = lower.rpartition("@")
        return "" if lower in allowed or "*" in allowed or (account and f"@{domain}" in allowed) else None


def auth_method_of(
    settings: Settings, password_file: Path | None = None, token: str | None = None
) -> AuthMethod | None:
    """Return the login method that arguments or settings name, or None. Arguments override settings.

    Raises:
        ConfigurationError: more than one method is set, or its settings are invalid.
    """
    if password_file and token:
        raise ConfigurationError("both a password file and a token are given", "choose one")
    if password_file:
        return Passwords(password_file.expanduser())
    if token is not None:
        return Token(token)
    methods: dict[str, Callable[[], AuthMethod]] = {}
    if file := settings.lumigator_dashboard_password_file:
        methods["LUMIGATOR_DASHBOARD_PASSWORD_FILE"] = lambda: Passwords(file.expanduser())
    if text := settings.lumigator_dashboard_token:
        methods["LUMIGATOR_DASHBOARD_TOKEN"] = lambda: Token(text.get_secret_value())
    if provider := settings.lumigator_dashboard_oauth_provider:
        secret = settings.lumigator_dashboard_oauth_secret
        users = (settings.lumigator_dashboard_oauth_users or "").split(",")
        methods["LUMIGATOR_DASHBOARD_OAUTH_PROVIDER"] = lambda: OAuth(
            provider=provider,
            key=settings.lumigator_dashboard_oauth_key or "",
            secret=secret.get_secret_value() if secret else "",
            users=[user.strip() for user in users if user.strip()],
            redirect_uri=settings.lumigator_dashboard_oauth_redirect_uri,
        )
    if len(methods) > 1:
        names = " and ".join(methods)
        raise ConfigurationError(f"there are two ways to log in: {names}", "leave one of these settings empty")
    return next((make() for make in methods.values()), None)

"""API keys, connections, the answer cache and versions on screens. Values of keys are never part of it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from lumigator_nb._version import __version__
from lumigator_nb.display.html import Html, chip, join, tag
from lumigator_nb.display.html import name as breaking
from lumigator_nb.display.text import MISSING, count, joined, moment, one_line, size
from lumigator_nb.errors import ConfigurationError, InvalidInputError, LumigatorError
from lumigator_nb.models.key_check import KeyCheck, providers_of
from lumigator_nb.presentation.launch.models import maker_of
from lumigator_nb.presentation.markup import empty, link, listing
from lumigator_nb.presentation.routes import Route
from lumigator_nb.security import redaction
from lumigator_nb.services.answer_cache import CacheSize, Trimmed
from lumigator_nb.workspace import doctor

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace
    from lumigator_nb.workspace.doctor import Finding

Source = Literal["environment", ".env", "stored", ""]
NEW = "new"
MOST_FOLDERS = 12
_SUFFIX = "_API_KEY"
_PARTS = {"database": "Database", "store": "Store", "cluster": "Cluster"}
_STATES = {"ok": ("OK", "good"), "note": ("Note", ""), "wrong": ("Does not work", "bad")}


@dataclass(frozen=True)
class KeyView:
    """An API key without its value.

    Attributes:
        name: of the variable, such as OPENAI_API_KEY.
        providers: display names of the providers that use it; empty if none is known.
        n_models: number of models in the catalogue that need it.
        source: where its value comes from; empty if it is not set.
        stored: whether the database has a value too. Environment and .env take precedence over it.
        updated_at: when the stored value was set, in UTC.
    """

    name: str
    providers: tuple[str, ...] = ()
    n_models: int = 0
    source: Source = ""
    stored: bool = False
    description: str = ""
    updated_at: datetime | None = None

    @property
    def from_words(self) -> str:
        """The source in words."""
        words = {"environment": "From the environment", ".env": "From .env", "stored": "Stored", "": "Not set"}
        return words[self.source]


def keys_of(ws: Workspace) -> tuple[KeyView, ...]:
    """Return the API keys that models of the catalogue need and all others that are set; set keys come first.

    Raises:
        InvalidInputError: ``models.yaml`` is malformed.
    """
    catalogue = ws.models.list()
    in_file = ws.settings.env_file_variables
    stored: dict[str, Any] = {str(row.name): row for row in ws.secrets.list().itertuples(index=False)}
    needed = {model.api_key for model in catalogue if model.api_key}
    variables = {name for name in (*os.environ, *in_file) if name.endswith(_SUFFIX) and redaction.NAME.fullmatch(name)}

    def view(name: str) -> KeyView:
        row = stored.get(name)
        source: Source = "stored" if row else ""
        if os.environ.get(name):
            source = "environment"
        elif name in in_file:
            source = ".env"
        return KeyView(
            name=name,
            providers=tuple(maker_of(provider) for provider in providers_of(name, catalogue)),
            n_models=sum(model.api_key == name for model in catalogue),
            source=source,
            stored=row is not None,
            description=row.description if row else "",
            updated_at=row.updated_at.to_pydatetime() if row else None,
        )

    views = [view(name) for name in sorted(needed | variables | set(stored))]
    return tuple(sorted(views, key=lambda view: not view.source))


def key_of(views: Sequence[KeyView], name: str) -> KeyView:
    """Return the key of that name; a view of a key that is not set if there is none."""
    return next((view for view in views if view.name == name), KeyView(name))


@dataclass
class SecretForm:
    """Stores an API key, or replaces it.

    Attributes:
        name: of the variable, in upper or lower case.
        value: removed from the form as soon as it is stored.
        description: purpose of the key; not secret.
    """

    ws: Workspace = field(repr=False)
    name: str = ""
    value: str = field(default="", repr=False)
    description: str = ""

    def validate(self) -> dict[str, str]:
        """Return errors by field. They never repeat the value."""
        errors = {}
        if not self.name.strip():
            errors["name"] = "Enter the name of the variable, such as OPENAI_API_KEY."
        else:
            try:
                self.ws.secrets.check_name(self.name.strip())
            except InvalidInputError as error:
                errors["name"] = sentence(error)
        if not self.value.strip():
            errors["value"] = "Paste the key."
        return errors

    def submit(self) -> str:
        """Store the key, and return its name in upper case.

        Raises:
            InvalidInputError: a field is not valid.
            SecretError, ConfigurationError: the key cannot be encrypted.
        """
        name, value = self.ws.secrets.check_name(self.name.strip()), self.value.strip()
        self.value = ""
        self.ws.secrets.set(name, value, description=self.description.strip() or None)
        return name

    def errors(self, error: Exception) -> dict[str, str]:
        """Return the message of an error of :meth:`submit`, by its field; "" is the whole form."""
        text = sentence(error)
        if not isinstance(error, InvalidInputError):
            return {"": text}
        fields = (("description", "the description"), ("name", "the name of"), ("value", "the value of"))
        return {next((name for name, words in fields if str(error).startswith(words)), ""): text}


@dataclass
class TrimForm:
    """Removes answers from the cache until the rest is within a limit.

    Attributes:
        gigabytes: limit, in 10⁹ bytes.
    """

    ws: Workspace = field(repr=False)
    gigabytes: float | None = None

    def validate(self) -> dict[str, str]:
        """Return errors by field."""
        if self.gigabytes is None or self.gigabytes < 0:
            return {"gigabytes": "Enter the gigabytes to keep, 0 or more."}
        return {}

    def submit(self) -> Trimmed:
        """Remove answers, beginning with the model that was used least recently.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        return self.ws.cache.trim(self.gigabytes)


def all_gigabytes(size: CacheSize) -> float:
    """Return the limit that keeps everything, in gigabytes rounded up to 0.1."""
    return math.ceil(size.n_bytes / 1e8) / 10


def sentence(error: Exception) -> str:
    """Return an error and its hint in sentences."""
    parts = [error.message, error.hint] if isinstance(error, LumigatorError) else [type(error).__name__, str(error)]
    return " ".join(f"{part[:1].upper()}{part[1:].rstrip('.')}." for part in parts if part)


def connections(ws: Workspace) -> tuple[Finding, ...]:
    """Check database, store and cluster; takes seconds if one does not answer."""
    return tuple(doctor.connections(ws))


def about(ws: Workspace) -> tuple[tuple[str, str], ...]:
    """Return versions and settings, as pairs of label and value."""
    facts = [("Lumigator", __version__), ("Python", platform.python_version())]
    for title, name in (
        ("Ray", "ray"),
        ("Panel", "panel"),
        ("any-llm", "any-llm-sdk"),
        ("Transformers", "transformers"),
    ):
        try:
            facts.append((title, version(name)))
        except PackageNotFoundError:
            facts.append((title, "not installed"))
    return (*facts, ("Home", str(ws.settings.home)), ("Licence", "Apache 2.0"))


# --- Markup ---


def keys_markup(views: Sequence[KeyView], route: Route | None = None) -> Html:
    """Return the keys as a list.

    Args:
        route: of the settings page, for a link to the form of each key; None leaves the links out.
    """
    if not views:
        return empty("No API key yet", "Keys that models of the catalogue need are listed here.")
    headers = ["Key", "For", "State", *([""] if route else [])]
    rows = []
    for view in views:
        under = tag("span", one_line(view.description), class_="lm-sub") if view.description else Html("")
        models = f"{count(view.n_models, 'model')} in the catalogue" if view.n_models else ""
        row: list[object] = [
            join([breaking(view.name), under]),
            tag("div", joined(view.providers) or MISSING, tag("span", models, class_="lm-sub") if models else ""),
            tag("div", state(view)),
        ]
        if route is not None:
            verb = "Change" if view.source else "Set"
            row.append(link(route.with_(key=view.name), verb, aria_label=f"{verb} {view.name}"))
        rows.append(row)
    return listing(headers, rows)


def state(view: KeyView) -> Html:
    """Return the source of a key, with notes."""
    notes = []
    if view.stored and view.source != "stored":
        notes.append("The stored key is not used; this wins.")
    if view.source == "stored" and view.updated_at:
        notes.append(f"Since {moment(view.updated_at)}")
    under = tag("span", " ".join(notes), class_="lm-sub") if notes else Html("")
    return join([chip(view.from_words, "good" if view.source else ""), under])


def key_facts(view: KeyView) -> Html:
    """Return what the form of a key shows above its fields."""
    makers = tag("p", f"For {joined(view.providers)}.") if view.providers else Html("")
    wins = Html("")
    if view.source in ("environment", ".env"):
        place = "environment" if view.source == "environment" else ".env file"
        text = f"The key in the {place} takes precedence over a stored one. To change it, change it there."
        wins = tag("p", text, class_="lm-soft")
    return join([makers, tag("p", state(view)), wins])


def checked_words(name: str, checked: KeyCheck) -> str:
    """Return the message after a provider has accepted a key."""
    return f"{maker_of(checked.provider)} accepts {name}, which opens {count(checked.n_models, 'model')}."


def check_errors(error: Exception) -> dict[str, str]:
    """Return the message of a failed check, by its field; "" is the whole form."""
    return {"value" if isinstance(error, ConfigurationError) else "": sentence(error)}


def connections_markup(findings: Sequence[Finding] | None) -> Html:
    """Return the state of each connection, with its remedy; None means that they are being checked."""
    if findings is None:
        return tag("p", "Checking…", class_="lm-soft", role="status")
    rows = []
    for finding in findings:
        text, kind = _STATES[finding.state]
        hint = tag("span", f"{_capital(finding.hint)}.", class_="lm-sub") if finding.hint else Html("")
        part = _PARTS.get(finding.part, finding.part)
        rows.append((part, chip(text, kind), tag("div", _capital(finding.message), hint)))
    return listing(("Part", "State", "Details"), rows)


def _capital(text: str) -> str:
    # A text may begin with an address, in which letters matter.
    return text if ":" in text.split(" ", 1)[0] else text[:1].upper() + text[1:]


def cache_markup(cache: CacheSize | None) -> Html:
    """Return the size of the answer cache; None means that it is being measured."""
    if cache is None:
        return tag("p", "Measuring…", class_="lm-soft", role="status")
    if not cache.folders:
        return tag(
            "p", "Empty. The cache keeps the answers of models, so that the same question is not paid for twice."
        )
    limit = f" of at most {size(cache.limit)}" if cache.limit is not None else ""
    head = tag("p", tag("b", size(cache.n_bytes)), limit, f", answers of {count(len(cache.folders), 'model')}.")
    folders = cache.folders[:MOST_FOLDERS]
    rows = [(breaking(folder.model), size(folder.n_bytes), moment(folder.used_at)) for folder in folders]
    more = len(cache.folders) - len(folders)
    rest = tag("p", f"And {count(more, 'smaller one')}.", class_="lm-soft") if more else Html("")
    return join([head, listing(("Model", "Size", "Last used"), rows, numeric=(1,)), rest])


def about_markup(facts: Sequence[tuple[str, str]]) -> Html:
    """Return versions and settings as a table."""
    rows = [tag("tr", tag("th", label, scope="row"), tag("td", value)) for label, value in facts]
    return tag("table", tag("tbody", *rows), class_="lm-facts")

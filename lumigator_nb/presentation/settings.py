"""API keys, connections, kept answers and versions as a screen shows them; a key's value is never among them."""

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
_STATES = {"ok": ("In order", "good"), "note": ("Note", ""), "wrong": ("Does not work", "bad")}


@dataclass(frozen=True)
class KeyView:
    """What is known about an API key, besides its value.

    Attributes:
        name: of the variable, such as OPENAI_API_KEY.
        providers: whose it is, for readers; empty where nobody knows.
        n_models: models of the catalogue that need it.
        source: where it is taken from; empty where it is nowhere.
        stored: whether the database has one too; the environment and .env win over that.
        updated_at: when the stored one was set, in UTC.
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
        """Where it comes from, in words."""
        words = {"environment": "From the environment", ".env": "From .env", "stored": "Stored", "": "Not set"}
        return words[self.source]


def keys_of(ws: Workspace) -> tuple[KeyView, ...]:
    """Return the API keys that models of the catalogue need, and all others that are set; what is set first.

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
        found: Source = "environment" if os.environ.get(name) else ".env" if name in in_file else ""
        return KeyView(
            name=name,
            providers=tuple(maker_of(each) for each in providers_of(name, catalogue)),
            n_models=sum(model.api_key == name for model in catalogue),
            source=found or ("stored" if row else ""),
            stored=row is not None,
            description=row.description if row else "",
            updated_at=row.updated_at.to_pydatetime() if row else None,
        )

    views = [view(name) for name in sorted(needed | variables | set(stored))]
    return tuple(sorted(views, key=lambda each: not each.source))


def key_of(views: Sequence[KeyView], name: str) -> KeyView:
    """Return the key of that name, set or not."""
    return next((each for each in views if each.name == name), KeyView(name))


@dataclass
class SecretForm:
    """Stores an API key or replaces it.

    Attributes:
        name: of the variable, in capitals or not.
        value: taken away as soon as it is stored.
        description: what it is for; others can read it.
    """

    ws: Workspace = field(repr=False)
    name: str = ""
    value: str = field(default="", repr=False)
    description: str = ""

    def validate(self) -> dict[str, str]:
        """Return what is wrong, by field; nothing that was typed is repeated."""
        found = {}
        if not self.name.strip():
            found["name"] = "Give the name of the variable, such as OPENAI_API_KEY."
        else:
            try:
                self.ws.secrets.check_name(self.name.strip())
            except InvalidInputError as error:
                found["name"] = sentence(error)
        if not self.value.strip():
            found["value"] = "Paste the key."
        return found

    def submit(self) -> str:
        """Store it; return its name in capitals.

        Raises:
            InvalidInputError: a field cannot be used.
            SecretError, ConfigurationError: it cannot be sealed.
        """
        name, value = self.ws.secrets.check_name(self.name.strip()), self.value.strip()
        self.value = ""
        self.ws.secrets.set(name, value, description=self.description.strip() or None)
        return name

    def errors(self, error: Exception) -> dict[str, str]:
        """Return the field that an error of :meth:`submit` concerns, with the message; "" is the whole form."""
        text = sentence(error)
        if not isinstance(error, InvalidInputError):
            return {"": text}
        fields = (("description", "the description"), ("name", "the name of"), ("value", "the value of"))
        return {next((name for name, words in fields if str(error).startswith(words)), ""): text}


@dataclass
class TrimForm:
    """Removes kept answers until the rest is within a limit.

    Attributes:
        gigabytes: to keep, of 10⁹ bytes.
    """

    ws: Workspace = field(repr=False)
    gigabytes: float | None = None

    def validate(self) -> dict[str, str]:
        """Return what is wrong, by field."""
        if self.gigabytes is None or self.gigabytes < 0:
            return {"gigabytes": "Give the gigabytes to keep, 0 or more."}
        return {}

    def submit(self) -> Trimmed:
        """Remove them, those first whose model was not used for longest.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        return self.ws.cache.trim(self.gigabytes)


def all_gigabytes(size: CacheSize) -> float:
    """Return the gigabytes that keep everything, in steps of 0.1."""
    return math.ceil(size.n_bytes / 1e8) / 10


def sentence(error: Exception) -> str:
    """Return an error and its remedy in sentences."""
    parts = [error.message, error.hint] if isinstance(error, LumigatorError) else [type(error).__name__, str(error)]
    return " ".join(f"{part[:1].upper()}{part[1:].rstrip('.')}." for part in parts if part)


def connections(ws: Workspace) -> tuple[Finding, ...]:
    """Look at database, store and cluster; may take seconds where one does not answer."""
    return tuple(doctor.connections(ws))


def about(ws: Workspace) -> tuple[tuple[str, str], ...]:
    """Return what runs here, label and value."""
    found = [("Lumigator", __version__), ("Python", platform.python_version())]
    for title, name in (
        ("Ray", "ray"),
        ("Panel", "panel"),
        ("any-llm", "any-llm-sdk"),
        ("Transformers", "transformers"),
    ):
        try:
            found.append((title, version(name)))
        except PackageNotFoundError:
            found.append((title, "not installed"))
    return (*found, ("Home", str(ws.settings.home)), ("Licence", "Apache 2.0"))


# --- Markup ---


def keys_markup(views: Sequence[KeyView], route: Route | None = None) -> Html:
    """Return the keys as a list.

    Args:
        route: of the settings, where each row leads to its key; None where there is no such place.
    """
    if not views:
        return empty("No API key yet", "Models of the catalogue that need one would stand here.")
    headers = ["Key", "For", "State", *([""] if route else [])]
    return listing(headers, [_key_row(view, route) for view in views])


def _key_row(view: KeyView, route: Route | None) -> tuple[object, ...]:
    under = tag("span", one_line(view.description), class_="lm-sub") if view.description else Html("")
    models = tag("span", f"{count(view.n_models, 'model')} in the catalogue", class_="lm-sub") if view.n_models else ""
    row = (
        join([breaking(view.name), under]),
        tag("div", joined(view.providers) or MISSING, models),
        tag("div", state(view)),
    )
    if route is None:
        return row
    words = "Change" if view.source else "Set"
    return (*row, link(route.with_(key=view.name), words, aria_label=f"{words} {view.name}"))


def state(view: KeyView) -> Html:
    """Return where a key comes from."""
    notes = []
    if view.stored and view.source != "stored":
        notes.append("A stored one is not used: this wins.")
    if view.source == "stored" and view.updated_at:
        notes.append(f"Since {moment(view.updated_at)}")
    under = tag("span", " ".join(notes), class_="lm-sub") if notes else Html("")
    return join([chip(view.from_words, "good" if view.source else ""), under])


def key_facts(view: KeyView) -> Html:
    """Return what the form of one key says above its fields."""
    makers = tag("p", f"For {joined(view.providers)}.") if view.providers else Html("")
    now = tag("p", state(view))
    wins = (
        tag("p", f"{view.name} of the {'environment' if view.source == 'environment' else '.env file'} is used as long "
                 "as it is there; change it where it stands.", class_="lm-soft")
        if view.source in ("environment", ".env") else Html("")
    )  # fmt: skip
    return join([makers, now, wins])


def checked_words(name: str, checked: KeyCheck) -> str:
    """Return that a provider has taken a key."""
    return f"{maker_of(checked.provider)} takes {name}: {count(checked.n_models, 'model')} for it."


def check_errors(error: Exception) -> dict[str, str]:
    """Return the field that a failed check concerns, with the message; "" is the whole form."""
    return {"value" if isinstance(error, ConfigurationError) else "": sentence(error)}


def connections_markup(findings: Sequence[Finding] | None) -> Html:
    """Return how the connections stand, each with its remedy; None while they are looked at."""
    if findings is None:
        return tag("p", "Looking…", class_="lm-soft", role="status")
    rows = []
    for each in findings:
        text, kind = _STATES[each.state]
        hint = tag("span", f"{_capital(each.hint)}.", class_="lm-sub") if each.hint else Html("")
        rows.append((_PARTS.get(each.part, each.part), chip(text, kind), tag("div", _capital(each.message), hint)))
    return listing(("Part", "State", "Found"), rows)


def _capital(text: str) -> str:
    # What begins with an address stays as it is.
    return text if ":" in text.split(" ", 1)[0] else text[:1].upper() + text[1:]


def cache_markup(cache: CacheSize | None) -> Html:
    """Return what the kept answers of models take; None while it is counted."""
    if cache is None:
        return tag("p", "Counting…", class_="lm-soft", role="status")
    if not cache.folders:
        return tag("p", "None yet. Answers of models are kept, so that the same question costs nothing again.")
    limit = f" of at most {size(cache.limit)}" if cache.limit is not None else ""
    head = tag("p", tag("b", size(cache.n_bytes)), limit, f" in {count(len(cache.folders), 'model')}.")
    shown = cache.folders[:MOST_FOLDERS]
    rows = [(breaking(each.model), size(each.n_bytes), moment(each.used_at)) for each in shown]
    more = len(cache.folders) - len(shown)
    rest = tag("p", f"And {count(more, 'smaller one')}.", class_="lm-soft") if more else Html("")
    return join([head, listing(("Model", "Size", "Last used"), rows, numeric=(1,)), rest])


def about_markup(facts: Sequence[tuple[str, str]]) -> Html:
    """Return what runs here."""
    rows = [tag("tr", tag("th", label, scope="row"), tag("td", value)) for label, value in facts]
    return tag("table", tag("tbody", *rows), class_="lm-facts")

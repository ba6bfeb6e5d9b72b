"""Settings: API keys, connections, kept answers, and what runs here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.progress import dialog
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.dashboards.users import signed_in
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.models.key_check import KeyCheck
from lumigator_nb.presentation import settings as shown
from lumigator_nb.presentation.markup import button, heading
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.access.secrets import MOST_BYTES
from lumigator_nb.services.answer_cache import CacheSize, Trimmed

_KEYS = (
    "Encrypted in the database, and shown to nobody. A key in the environment or in .env wins over a stored one of the "
    "same name."
)


class SettingsPage(Page):
    """The page; `key` in the route's query opens the form of one key."""

    title = "Settings"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self._keys = shown.keys_of(context.ws)
        self._list, self._connections, self._cache = html(), html(), html()
        self.key = KeyDialog(context, self._close, self._changed)
        self.trim = TrimRow(context, self._measure)
        self.again = _plain("Look again", "refresh", lambda _: self._look())
        self.again.margin = (8, 0)
        add = button(route.to("settings", key=shown.NEW), "Add a key", primary=True)
        self.layout = pn.Column(
            html(heading("Settings", under=_session())),
            html(_section("API keys", _KEYS, add)), self._list,
            html(_section("Connections")), self._connections, self.again,
            html(_section("Kept answers")),
            self._cache, self.trim.layout,
            html(join([_section("About"), shown.about_markup(shown.about(context.ws))])),
            self.key.dialog,
            sizing_mode="stretch_width",
        )  # fmt: skip
        self._draw()
        self._look()
        self._measure()

    def refresh(self) -> None:
        """Draw the keys anew; connections and the cache are looked at when one asks for it."""
        self._changed()

    def reroute(self, route: Route) -> bool:
        """Open or close the form of a key."""
        self.route = route
        self._draw()
        return True

    def _changed(self) -> None:
        def arrived(views: tuple[shown.KeyView, ...]) -> None:
            self._keys = views
            show(self._list, shown.keys_markup(views, Route(("settings",))))

        self.context.background(lambda: shown.keys_of(self.context.ws), arrived)

    def _draw(self) -> None:
        show(self._list, shown.keys_markup(self._keys, Route(("settings",))))
        name = self.route.query.get("key", "")
        if name:
            self.key.open(shown.KeyView("") if name == shown.NEW else shown.key_of(self._keys, name))
        else:
            self.key.close()

    def _close(self) -> None:
        if "key" in self.route.query:
            self.context.go(Route(("settings",)))

    def _look(self) -> None:
        show(self._connections, shown.connections_markup(None))
        self.context.background(
            lambda: shown.connections_markup(shown.connections(self.context.ws)),
            lambda markup: show(self._connections, markup),
            lambda error: show(self._connections, _problem(in_words(error))),
        )

    def _measure(self) -> None:
        show(self._cache, shown.cache_markup(None))

        def arrived(size: CacheSize) -> None:
            show(self._cache, shown.cache_markup(size))
            self.trim.offer(size)

        self.context.background(
            lambda: self.context.ws.cache.size(count=False),
            arrived,
            lambda error: show(self._cache, _problem(in_words(error))),
        )


class KeyDialog:
    """Sets, replaces, checks and deletes one key.

    Args:
        closed: called when it is put away.
        changed: called when a key was stored or deleted.
    """

    def __init__(self, context: Context, closed: Callable[[], None], changed: Callable[[], None]) -> None:
        self._context, self._closed, self._changed = context, closed, changed
        self._form = shown.SecretForm(context.ws)
        self._view = shown.KeyView("")
        self._facts, self.said = html(), html()
        wide = {"sizing_mode": "stretch_width", "margin": (8, 0)}
        self.name = pmui.TextInput(label="Name, such as OPENAI_API_KEY", **wide)
        self.value = pmui.PasswordInput(label="Key", max_length=MOST_BYTES, **wide)
        self.description = pmui.TextInput(label="What it is for (optional; others can read it)", **wide)
        self.save = pmui.Button(label="Save", variant="contained", margin=0, on_click=lambda _: self._save())
        self.check = _plain("Check", "verified_user", lambda _: self._check())
        self.delete = _plain("Delete", "delete", lambda _: self._delete(), color="error")
        self.cancel = pmui.Button(label="Close", variant="text", margin=0, on_click=lambda _: self._closed())
        self.value.param.watch(lambda _: self._save(), "enter_pressed")
        fields = (self._facts, self.name, self.value, self.description, self.said)
        self.dialog = dialog("API key", *fields, buttons=[self.delete, self.check, self.cancel, self.save])
        # Escape and a click beside it close it, too.
        self.dialog.param.watch(lambda event: None if event.new else self._closed(), "open")

    def open(self, view: shown.KeyView) -> None:
        """Ask for a key; one without a name asks for the name, too."""
        self._view = view
        self.dialog.title = view.name or "Add a key"
        show(self._facts, shown.key_facts(view) if view.name else "")
        self.name.param.update(value=view.name, visible=not view.name)
        self.value.param.update(value="", label="New key" if view.stored else "Key")
        self.description.value = view.description
        self.save.label = "Replace" if view.stored else "Save"
        self.check.visible, self.delete.visible = bool(view.source), view.stored
        self._confirm(False)
        self._say("")
        self._mark({})
        self.dialog.open = True

    def close(self) -> None:
        """Put it away; what was typed is forgotten."""
        self.value.value = ""
        self.dialog.open = False

    def _save(self) -> None:
        form = self._form
        form.name, form.description = self.name.value_input, self.description.value_input
        form.value = self.value.value_input
        found = form.validate()
        self._mark(found)
        if found:
            return
        self.value.value = ""
        self.save.disabled = True
        self._context.background(form.submit, self._saved, lambda error: self._failed(form.errors(error)))

    def _saved(self, name: str) -> None:
        self.save.disabled = False
        self._context.notify(f"{name} is stored")
        self._changed()
        self._closed()

    def _failed(self, errors: dict[str, str]) -> None:
        self.save.disabled = False
        self._mark(errors)

    def _mark(self, errors: dict[str, str]) -> None:
        """Put each message beside its field."""
        for name, box in (("name", self.name), ("value", self.value), ("description", self.description)):
            box.param.update(error_state=name in errors, helper_text=errors.get(name, ""))
        if "" in errors:
            self._say(errors[""], wrong=True)

    def _check(self) -> None:
        name = self._view.name
        self.check.param.update(disabled=True, label="Asking…")
        self._mark({})

        def ended(text: str, errors: dict[str, str]) -> None:
            self.check.param.update(disabled=False, label="Check")
            if self._view.name == name:
                self._say(text)
                self._mark(errors)

        def taken(checked: KeyCheck) -> None:
            ended(shown.checked_words(name, checked), {})

        self._context.background(
            lambda: self._context.ws.models.check_key(name), taken, lambda error: ended("", shown.check_errors(error))
        )

    def _delete(self) -> None:
        """The first click asks, the second one does it."""
        if self.delete.label == "Delete":
            self._confirm(True)
            return
        name = self._view.name
        self._context.background(lambda: self._context.ws.secrets.delete(name), lambda _: self._deleted(name))

    def _deleted(self, name: str) -> None:
        self._context.notify(f"{name} was deleted")
        self._changed()
        self._closed()

    def _confirm(self, asked: bool) -> None:
        self.delete.param.update(label="Really delete" if asked else "Delete", variant="contained" if asked else "text")

    def _say(self, text: str, *, wrong: bool = False) -> None:
        show(self.said, (_problem(text) if wrong else tag("p", text, role="status")) if text else "")


class TrimRow:
    """Makes the kept answers smaller; `trimmed` is called afterwards."""

    def __init__(self, context: Context, trimmed: Callable[[], None]) -> None:
        self._context, self._trimmed = context, trimmed
        self._form = shown.TrimForm(context.ws)
        self.gigabytes = pmui.FloatInput(label="Keep at most (GB)", value=0.0, start=0, step=0.1, width=180, margin=0)
        self.button = _plain("Remove the oldest", "cleaning_services", lambda _: self._trim())
        self.problem = html()
        row = pn.FlexBox(self.gigabytes, self.button, gap="16px", align_items="center", margin=(8, 0))
        self.layout = pn.Column(row, self.problem, sizing_mode="stretch_width", margin=0, visible=False)

    def offer(self, size: CacheSize) -> None:
        """Begin with what is there, by which nothing is removed."""
        self.gigabytes.value = shown.all_gigabytes(size)
        self.layout.visible = bool(size.folders)

    def _trim(self) -> None:
        self._form.gigabytes = self.gigabytes.value
        found = self._form.validate()
        show(self.problem, _problem(found["gigabytes"]) if found else "")
        if found:
            return
        self.button.disabled = True
        self._context.background(self._form.submit, self._done, self._failed)

    def _done(self, trimmed: Trimmed) -> None:
        self.button.disabled = False
        self._context.notify(str(trimmed))
        self._trimmed()

    def _failed(self, error: Exception) -> None:
        self.button.disabled = False
        show(self.problem, _problem(in_words(error)))


def _section(title: str, under: str = "", *beside: Html) -> Html:
    right = tag("div", *beside, class_="lm-actions") if beside else None
    return join(
        [tag("div", tag("h2", title), right, class_="lm-head"), tag("p", under, class_="lm-soft") if under else ""]
    )


def _session() -> Html | None:
    name = signed_in()
    if name is None:
        return None
    return join([f"You are logged in {f'as {name}' if name else 'by the token'}. ", tag("a", "Log out", href="logout")])


def _problem(text: str) -> Html:
    return tag("p", text, class_="lm-error", role="alert")


def _plain(label: str, icon: str, act: Callable[[Any], None], color: str = "primary") -> pmui.Button:
    return pmui.Button(label=label, icon=icon, variant="text", size="small", color=color, margin=0, on_click=act)

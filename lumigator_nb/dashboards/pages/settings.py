"""Settings: API keys, connections, the answer cache, and versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.dialogs import dialog, problem, text_button
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.dashboards.users import signed_in
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.models.key_check import KeyCheck
from lumigator_nb.presentation import settings
from lumigator_nb.presentation.markup import button, heading
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.access.secrets import MOST_BYTES
from lumigator_nb.services.answer_cache import CacheSize, Trimmed

_KEYS = (
    "Stored keys are encrypted in the database and never shown. A key in the environment or in .env takes precedence "
    "over a stored one of the same name."
)


class SettingsPage(Page):
    """The page. `key` in the route's query opens the form of one key."""

    title = "Settings"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self._keys = settings.keys_of(context.ws)
        self._list, self._connections, self._cache = html(), html(), html()
        self.key = KeyDialog(context, self._close, self._changed)
        self.trim = TrimRow(context, self._measure)
        self.again = text_button("Check again", self._look, icon="refresh", size="small")
        self.again.margin = (8, 0)
        add = button(route.to("settings", key=settings.NEW), "Add a key", primary=True)
        user = signed_in()
        session = None
        if user is not None:
            text = f"You are logged in as {user}. " if user else "You are logged in with the token. "
            session = join([text, tag("a", "Log out", href="logout")])
        self.layout = pn.Column(
            html(heading("Settings", under=session)),
            html(_section("API keys", _KEYS, add)), self._list,
            html(_section("Connections")), self._connections, self.again,
            html(_section("Answer cache")),
            self._cache, self.trim.layout,
            html(join([_section("About"), settings.about_markup(settings.about(context.ws))])),
            self.key.dialog,
            sizing_mode="stretch_width",
        )  # fmt: skip
        self._draw()
        self._look()
        self._measure()

    def refresh(self) -> None:
        """Draw the keys. Connections and the cache are slow to read, so they are read on request."""
        self._changed()

    def reroute(self, route: Route) -> bool:
        """Open or close the form of a key."""
        self.route = route
        self._draw()
        return True

    def _changed(self) -> None:
        def arrived(views: tuple[settings.KeyView, ...]) -> None:
            self._keys = views
            show(self._list, settings.keys_markup(views, Route(("settings",))))

        self.context.background(lambda: settings.keys_of(self.context.ws), arrived)

    def _draw(self) -> None:
        show(self._list, settings.keys_markup(self._keys, Route(("settings",))))
        name = self.route.query.get("key", "")
        if name:
            self.key.open(settings.KeyView("") if name == settings.NEW else settings.key_of(self._keys, name))
        else:
            self.key.close()

    def _close(self) -> None:
        if "key" in self.route.query:
            self.context.go(Route(("settings",)))

    def _look(self) -> None:
        show(self._connections, settings.connections_markup(None))
        self.context.background(
            lambda: settings.connections_markup(settings.connections(self.context.ws)),
            lambda markup: show(self._connections, markup),
            lambda error: show(self._connections, problem(in_words(error))),
        )

    def _measure(self) -> None:
        show(self._cache, settings.cache_markup(None))

        def arrived(size: CacheSize) -> None:
            show(self._cache, settings.cache_markup(size))
            self.trim.offer(size)

        self.context.background(
            lambda: self.context.ws.cache.size(count=False),
            arrived,
            lambda error: show(self._cache, problem(in_words(error))),
        )


class KeyDialog:
    """Sets, replaces, checks and deletes one key.

    Args:
        closed: called when the dialog is closed.
        changed: called when a key was stored or deleted.
    """

    def __init__(self, context: Context, closed: Callable[[], None], changed: Callable[[], None]) -> None:
        self._context, self._closed, self._changed = context, closed, changed
        self._form = settings.SecretForm(context.ws)
        self._view = settings.KeyView("")
        self._facts, self.message = html(), html()
        wide = {"sizing_mode": "stretch_width", "margin": (8, 0)}
        self.name = pmui.TextInput(label="Name, such as OPENAI_API_KEY", **wide)
        self.value = pmui.PasswordInput(label="Key", max_length=MOST_BYTES, **wide)
        self.description = pmui.TextInput(label="Purpose (optional; not secret)", **wide)
        self.save = pmui.Button(label="Save", variant="contained", margin=0, on_click=lambda _: self._save())
        self.check = text_button("Check", self._check, icon="verified_user", size="small")
        self.delete = text_button("Delete", self._delete, icon="delete", size="small", color="error")
        self.cancel = text_button("Close", self._closed)
        self.value.param.watch(lambda _: self._save(), "enter_pressed")
        fields = (self._facts, self.name, self.value, self.description, self.message)
        self.dialog = dialog("API key", *fields, buttons=[self.delete, self.check, self.cancel, self.save])
        # Escape and a click beside the dialog close it, too.
        self.dialog.param.watch(lambda event: None if event.new else self._closed(), "open")

    def open(self, view: settings.KeyView) -> None:
        """Show the form of a key; a view without a name asks for the name, too."""
        self._view = view
        self.dialog.title = view.name or "Add a key"
        show(self._facts, settings.key_facts(view) if view.name else "")
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
        """Close the dialog, and forget what was typed."""
        self.value.value = ""
        self.dialog.open = False

    def _save(self) -> None:
        form = self._form
        form.name, form.description = self.name.value_input, self.description.value_input
        form.value = self.value.value_input
        errors = form.validate()
        self._mark(errors)
        if errors:
            return
        self.value.value = ""  # the key leaves the browser's page before it is stored
        self.save.disabled = True

        def saved(name: str) -> None:
            self.save.disabled = False
            self._done(f"{name} is stored")

        def failed(error: Exception) -> None:
            self.save.disabled = False
            self._mark(form.errors(error))

        self._context.background(form.submit, saved, failed)

    def _done(self, message: str) -> None:
        self._context.notify(message)
        self._changed()
        self._closed()

    def _mark(self, errors: dict[str, str]) -> None:
        """Show each error beside its field; that of "" below them."""
        for name, box in (("name", self.name), ("value", self.value), ("description", self.description)):
            box.param.update(error_state=name in errors, helper_text=errors.get(name, ""))
        if "" in errors:
            show(self.message, problem(errors[""]))

    def _check(self) -> None:
        name = self._view.name
        self.check.param.update(disabled=True, label="Checking…")
        self._mark({})

        def ended(text: str, errors: dict[str, str]) -> None:
            self.check.param.update(disabled=False, label="Check")
            # The user may have opened another key in the meantime.
            if self._view.name == name:
                self._say(text)
                self._mark(errors)

        def accepted(checked: KeyCheck) -> None:
            ended(settings.checked_words(name, checked), {})

        work = partial(self._context.ws.models.check_key, name)
        self._context.background(work, accepted, lambda error: ended("", settings.check_errors(error)))

    def _delete(self) -> None:
        """The first click asks for confirmation; the second deletes."""
        if self.delete.label == "Delete":
            self._confirm(True)
            return
        name = self._view.name
        work = partial(self._context.ws.secrets.delete, name)
        self._context.background(work, lambda _: self._done(f"{name} was deleted"))

    def _confirm(self, asking: bool) -> None:
        label, variant = ("Really delete", "contained") if asking else ("Delete", "text")
        self.delete.param.update(label=label, variant=variant)

    def _say(self, text: str) -> None:
        show(self.message, tag("p", text, role="status") if text else "")


class TrimRow:
    """Shrinks the answer cache; `trimmed` is called afterwards."""

    def __init__(self, context: Context, trimmed: Callable[[], None]) -> None:
        self._context, self._trimmed = context, trimmed
        self._form = settings.TrimForm(context.ws)
        self.gigabytes = pmui.FloatInput(label="Keep at most (GB)", value=0.0, start=0, step=0.1, width=180, margin=0)
        self.button = text_button("Remove the oldest", self._trim, icon="cleaning_services", size="small")
        self.problem = html()
        row = pn.FlexBox(self.gigabytes, self.button, gap="16px", align_items="center", margin=(8, 0))
        self.layout = pn.Column(row, self.problem, sizing_mode="stretch_width", margin=0, visible=False)

    def offer(self, size: CacheSize) -> None:
        """Propose the present size, which removes nothing."""
        self.gigabytes.value = settings.all_gigabytes(size)
        self.layout.visible = bool(size.folders)

    def _trim(self) -> None:
        self._form.gigabytes = self.gigabytes.value
        errors = self._form.validate()
        show(self.problem, problem(errors.get("gigabytes")))
        if errors:
            return
        self.button.disabled = True

        def done(trimmed: Trimmed) -> None:
            self.button.disabled = False
            self._context.notify(str(trimmed))
            self._trimmed()

        def failed(error: Exception) -> None:
            self.button.disabled = False
            show(self.problem, problem(in_words(error)))

        self._context.background(self._form.submit, done, failed)


def _section(title: str, under: str = "", *beside: Html) -> Html:
    right = tag("div", *beside, class_="lm-actions") if beside else None
    return join(
        [tag("div", tag("h2", title), right, class_="lm-head"), tag("p", under, class_="lm-soft") if under else ""]
    )

"""API keys, connections and kept answers in a notebook cell; what a key is worth is never shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets

from lumigator_nb.display.html import tag
from lumigator_nb.presentation import settings as shown
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.services.answer_cache import CacheSize
from lumigator_nb.widgets.kit import alert, heading, labelled, put, sheet
from lumigator_nb.workspace import Workspace

_BOX = ipywidgets.Layout


def settings(ws: Workspace) -> SettingsPanel:
    """Set, replace, check and delete API keys, and look at connections and kept answers.

    A key that is saved leaves the field at once; do not run a cell with a key in its code instead.

    Args:
        ws: workspace.

    Examples:
        >>> widget = lm.ui.settings(ws)
        >>> widget.close()
    """
    return SettingsPanel(ws)


class SettingsPanel(ipywidgets.VBox):  # type: ignore[misc]
    """The form; made by :func:`settings`.

    Attributes:
        name, value, description: fields of the key.
        save, check, delete: what is done with it.
    """

    def __init__(self, ws: Workspace) -> None:
        super().__init__()
        self._ws = ws
        self._form = shown.SecretForm(ws)
        self._keys = shown.keys_of(ws)
        self.sheet, self.key_list, self.said = (ipywidgets.HTML() for _ in range(3))
        self.sheet.value = str(sheet())
        self._problems = {name: ipywidgets.HTML() for name in ("name", "value", "description")}
        fields = self._make_fields()
        self.connections, self.kept = ipywidgets.HTML(), ipywidgets.HTML()
        self.look = _button("Look at the connections", "plug", self._look)
        self.look.layout.align_self = "flex-start"
        self.children = [
            self.sheet, heading("API keys"), self.key_list, fields,
            ipywidgets.HBox([self.save, self.check, self.delete], layout=_BOX(flex_flow="row wrap")), self.said,
            heading("Connections"), self.connections, self.look,
            heading("Kept answers"), self.kept, self._make_trim(),
        ]  # fmt: skip
        self._draw()
        self._measure()
        self._unsubscribe = watcher_of(ws).subscribe(self._changed)

    def _make_fields(self) -> ipywidgets.VBox:
        # Sent when the field is left, not with each letter.
        own = {"layout": _BOX(width="auto"), "continuous_update": False}
        names = [each.name for each in self._keys]
        self.name = ipywidgets.Combobox(placeholder="such as OPENAI_API_KEY", options=names, ensure_option=False, **own)
        self.value = ipywidgets.Password(placeholder="paste it; it is never shown", **own)
        self.description = ipywidgets.Text(**own)
        self.save = _button("Save", "check", self._save, "primary")
        self.check = _button("Check", "question-circle", self._check)
        self.delete = _button("Delete", "trash", self._delete)
        self.name.observe(lambda _: self._chosen(), "value")
        rows = (
            labelled("Name", self.name, self._problems["name"]),
            labelled("Key", self.value, self._problems["value"]),
            labelled("What it is for (optional; others can read it)", self.description, self._problems["description"]),
        )
        for row in rows:
            row.layout.flex = "none"
        return ipywidgets.VBox(rows, layout=_BOX(max_width="480px"))

    def _make_trim(self) -> ipywidgets.HBox:
        self.gigabytes = ipywidgets.FloatText(
            description="Keep at most (GB)",
            value=1.0,
            style={"description_width": "initial"},
            layout=_BOX(width="15em"),
        )
        self.trim = _button("Remove the oldest", "eraser", self._trim)
        return ipywidgets.HBox([self.gigabytes, self.trim], layout=_BOX(flex_flow="row wrap"))

    def close(self) -> None:
        """Take the form away."""
        self._unsubscribe()
        self.value.value = ""
        super().close()

    @property
    def _chosen_key(self) -> shown.KeyView:
        return shown.key_of(self._keys, self.name.value.strip().upper())

    def _chosen(self) -> None:
        view = self._chosen_key
        self.description.value = view.description
        self._confirm(False)
        self._draw()
        self._say("")

    def _changed(self) -> None:
        """Read the keys anew in a thread: the watcher waits for nobody."""
        self._start(lambda: shown.keys_of(self._ws), self._arrived)

    def _arrived(self, views: tuple[shown.KeyView, ...]) -> None:
        self._keys = views
        self._draw()

    def _draw(self) -> None:
        view = self._chosen_key
        put(self.key_list, shown.keys_markup(self._keys))
        self.name.options = tuple(each.name for each in self._keys)
        self.save.description = "Replace" if view.stored else "Save"
        self.check.disabled, self.delete.disabled = not view.source, not view.stored

    def _save(self) -> None:
        form = self._form
        form.name, form.value, form.description = self.name.value, self.value.value, self.description.value
        found = form.validate()
        self._mark(found)
        if found:
            return
        self.value.value = ""
        self.save.disabled = True
        self._start(form.submit, self._saved, lambda error: self._mark(form.errors(error)), self.save)

    def _saved(self, name: str) -> None:
        self._say(f"{name} is stored.")
        self._changed()

    def _check(self) -> None:
        name = self._chosen_key.name
        self._mark({})
        self._say("Asking…")
        self.check.disabled = True
        self._start(
            lambda: self._ws.models.check_key(name),
            lambda checked: self._say(shown.checked_words(name, checked)),
            lambda error: self._mark(shown.check_errors(error)),
            self.check,
        )

    def _delete(self) -> None:
        """The first click asks, the second one does it."""
        name = self._chosen_key.name
        if self.delete.button_style != "danger":
            self._confirm(True)
            return
        self._confirm(False)
        self._start(lambda: self._ws.secrets.delete(name), lambda _: self._deleted(name))

    def _deleted(self, name: str) -> None:
        self._say(f"{name} was deleted.")
        self._changed()

    def _confirm(self, asked: bool) -> None:
        self.delete.description = "Really delete" if asked else "Delete"
        self.delete.button_style = "danger" if asked else ""

    def _look(self) -> None:
        put(self.connections, shown.connections_markup(None))
        self.look.disabled = True
        self._start(
            lambda: shown.connections(self._ws),
            lambda found: put(self.connections, shown.connections_markup(found)),
            button=self.look,
        )

    def _measure(self) -> None:
        put(self.kept, shown.cache_markup(None))
        self._start(
            lambda: self._ws.cache.size(count=False),
            self._measured,
            lambda error: put(self.kept, tag("p", shown.sentence(error), class_="lm-error")),
        )

    def _measured(self, size: CacheSize) -> None:
        put(self.kept, shown.cache_markup(size))
        # By which nothing is removed.
        self.gigabytes.value = shown.all_gigabytes(size)
        self.gigabytes.layout.display = self.trim.layout.display = "" if size.folders else "none"

    def _trim(self) -> None:
        form = shown.TrimForm(self._ws, self.gigabytes.value)
        found = form.validate()
        if found:
            self._say(found["gigabytes"], wrong=True)
            return
        self.trim.disabled = True

        def done(trimmed: object) -> None:
            self._say(str(trimmed))
            self._measure()

        self._start(form.submit, done, button=self.trim)

    def _start(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None] | None = None,
        button: ipywidgets.Button | None = None,
    ) -> None:
        threading.Thread(target=partial(self._run, work, then, failed, button), daemon=True).start()

    def _run(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None] | None,
        button: ipywidgets.Button | None,
    ) -> None:
        try:
            then(work())
        except Exception as error:
            (failed or (lambda each: self._say(shown.sentence(each), wrong=True)))(error)
        finally:
            if button is not None:
                button.disabled = False

    def _mark(self, errors: dict[str, str]) -> None:
        for name, place in self._problems.items():
            text = errors.get(name, "")
            put(place, alert(text))
        self._say(errors.get("", ""), wrong=True)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        kind, role = ("lm-error", "alert") if wrong else ("lm-note", "status")
        put(self.said, tag("div", text, class_=kind, role=role) if text else "")

    def __repr__(self) -> str:
        # The default lists everything inside.
        n_set = sum(bool(view.source) for view in self._keys)
        return f"SettingsPanel({n_set} of {len(self._keys)} API keys set)"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        note = tag("div", "As it was when the cell ran; run it to change something.", class_="lm-note")
        body = tag("div", sheet(), shown.keys_markup(self._keys), note, class_="lm")
        return {**bundle, "text/html": str(body), "text/plain": repr(self)}


def _button(text: str, icon: str, act: Callable[[], None], look: str = "") -> ipywidgets.Button:
    made = ipywidgets.Button(description=text, icon=icon, button_style=look, layout=_BOX(width="auto"))
    made.on_click(lambda _: act())
    return made

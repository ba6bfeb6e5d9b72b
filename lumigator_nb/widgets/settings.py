"""API keys, connections and the answer cache in a notebook cell. Values of keys are never shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets

from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation import settings as presentation
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.services.answer_cache import CacheSize
from lumigator_nb.widgets.kit import CellWidget, alert, heading, labelled, put, sheet, with_hint
from lumigator_nb.workspace import Workspace

_BOX = ipywidgets.Layout


def settings(ws: Workspace) -> SettingsPanel:
    """Set, replace, check and delete API keys, and see the connections and the answer cache.

    A saved key leaves its field at once. Code of cells is saved with the notebook, so do not put keys there.

    Args:
        ws: workspace.

    Examples:
        >>> widget = lm.ui.settings(ws)
        >>> widget.close()
    """
    return with_hint(SettingsPanel(ws))


class SettingsPanel(CellWidget):
    """The form; made by :func:`settings`.

    Attributes:
        name, value, description: fields of the key.
        save, check, delete: buttons of the key.
    """

    def __init__(self, ws: Workspace) -> None:
        super().__init__()
        self._ws = ws
        self._form = presentation.SecretForm(ws)
        self._keys = presentation.keys_of(ws)
        self.sheet, self.key_list, self.message = (ipywidgets.HTML() for _ in range(3))
        self.sheet.value = str(sheet())
        self._problems = {name: ipywidgets.HTML() for name in ("name", "value", "description")}
        fields = self._make_fields()
        self.connections, self.cache = ipywidgets.HTML(), ipywidgets.HTML()
        self.look = _button("Check the connections", "plug", self._look)
        self.look.layout.align_self = "flex-start"
        self.gigabytes = ipywidgets.FloatText(
            description="Keep at most (GB)",
            value=1.0,
            style={"description_width": "initial"},
            layout=_BOX(width="15em"),
        )
        self.trim = _button("Remove the oldest", "eraser", self._trim)
        self.children = [
            self.sheet, heading("API keys"), self.key_list, fields,
            ipywidgets.HBox([self.save, self.check, self.delete], layout=_BOX(flex_flow="row wrap")), self.message,
            heading("Connections"), self.connections, self.look,
            heading("Answer cache"), self.cache,
            ipywidgets.HBox([self.gigabytes, self.trim], layout=_BOX(flex_flow="row wrap")),
        ]  # fmt: skip
        self._draw()
        self._measure()
        self._unsubscribe = watcher_of(ws).subscribe(self._changed)

    def _make_fields(self) -> ipywidgets.VBox:
        # Sent when a field is left, not with each letter.
        late = {"continuous_update": False}
        names = [view.name for view in self._keys]
        self.name = ipywidgets.Combobox(
            placeholder="such as OPENAI_API_KEY", options=names, ensure_option=False, layout=_BOX(width="auto"), **late
        )
        self.value = ipywidgets.Password(placeholder="paste the key", layout=_BOX(width="auto"), **late)
        self.description = ipywidgets.Text(layout=_BOX(width="auto"), **late)
        self.save = _button("Save", "check", self._save, "primary")
        self.check = _button("Check", "question-circle", self._check)
        self.delete = _button("Delete", "trash", self._delete)

        def chosen(_: object) -> None:
            self.description.value = self._chosen_key.description
            self._confirm(False)
            self._draw()
            self._say("")

        self.name.observe(chosen, "value")
        rows = (
            labelled("Name", self.name, self._problems["name"]),
            labelled("Key", self.value, self._problems["value"]),
            labelled("Purpose (optional; not secret)", self.description, self._problems["description"]),
        )
        for row in rows:
            row.layout.flex = "none"
        return ipywidgets.VBox(rows, layout=_BOX(max_width="480px"))

    def close(self) -> None:
        """Remove the form, and forget a key that was typed."""
        self._unsubscribe()
        self.value.value = ""
        super().close()

    @property
    def _chosen_key(self) -> presentation.KeyView:
        return presentation.key_of(self._keys, self.name.value.strip().upper())

    def _changed(self) -> None:
        """Read the keys in a thread, since the watcher must not wait."""

        def arrived(views: tuple[presentation.KeyView, ...]) -> None:
            self._keys = views
            self._draw()

        self._start(lambda: presentation.keys_of(self._ws), arrived)

    def _draw(self) -> None:
        view = self._chosen_key
        put(self.key_list, presentation.keys_markup(self._keys))
        self.name.options = tuple(key.name for key in self._keys)
        self.save.description = "Replace" if view.stored else "Save"
        self.check.disabled, self.delete.disabled = not view.source, not view.stored

    def _save(self) -> None:
        form = self._form
        form.name, form.value, form.description = self.name.value, self.value.value, self.description.value
        errors = form.validate()
        self._mark(errors)
        if errors:
            return
        self.value.value = ""  # the key leaves the notebook before it is stored
        self.save.disabled = True

        def saved(name: str) -> None:
            self._say(f"{name} is stored.")
            self._changed()

        self._start(form.submit, saved, lambda error: self._mark(form.errors(error)), self.save)

    def _check(self) -> None:
        name = self._chosen_key.name
        self._mark({})
        self._say("Checking…")
        self.check.disabled = True
        self._start(
            lambda: self._ws.models.check_key(name),
            lambda checked: self._say(presentation.checked_words(name, checked)),
            lambda error: self._mark(presentation.check_errors(error)),
            self.check,
        )

    def _delete(self) -> None:
        """The first click asks for confirmation; the second deletes."""
        name = self._chosen_key.name
        if self.delete.button_style != "danger":
            self._confirm(True)
            return
        self._confirm(False)

        def deleted(_: object) -> None:
            self._say(f"{name} was deleted.")
            self._changed()

        self._start(lambda: self._ws.secrets.delete(name), deleted)

    def _confirm(self, asking: bool) -> None:
        self.delete.description = "Really delete" if asking else "Delete"
        self.delete.button_style = "danger" if asking else ""

    def _look(self) -> None:
        put(self.connections, presentation.connections_markup(None))
        self.look.disabled = True
        self._start(
            lambda: presentation.connections(self._ws),
            lambda findings: put(self.connections, presentation.connections_markup(findings)),
            button=self.look,
        )

    def _measure(self) -> None:
        def measured(size: CacheSize) -> None:
            put(self.cache, presentation.cache_markup(size))
            # A proposal that removes nothing.
            self.gigabytes.value = presentation.all_gigabytes(size)
            self.gigabytes.layout.display = self.trim.layout.display = "" if size.folders else "none"

        put(self.cache, presentation.cache_markup(None))
        self._start(
            lambda: self._ws.cache.size(count=False),
            measured,
            lambda error: put(self.cache, tag("p", presentation.sentence(error), class_="lm-error")),
        )

    def _trim(self) -> None:
        form = presentation.TrimForm(self._ws, self.gigabytes.value)
        errors = form.validate()
        if errors:
            self._say(errors["gigabytes"], wrong=True)
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
        """Do work in a thread; enable the button again after it."""

        def run() -> None:
            try:
                then(work())
            except Exception as error:
                if failed is None:
                    self._say(presentation.sentence(error), wrong=True)
                else:
                    failed(error)
            finally:
                if button is not None:
                    button.disabled = False

        threading.Thread(target=run, daemon=True).start()

    def _mark(self, errors: dict[str, str]) -> None:
        for name, place in self._problems.items():
            put(place, alert(errors.get(name)))
        self._say(errors.get("", ""), wrong=True)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        kind, role = ("lm-error", "alert") if wrong else ("lm-note", "status")
        put(self.message, tag("div", text, class_=kind, role=role) if text else "")

    def __repr__(self) -> str:
        # ipywidgets' own lists every widget inside.
        n_set = sum(bool(view.source) for view in self._keys)
        return f"SettingsPanel({n_set} of {len(self._keys)} API keys set)"

    @property
    def otherwise(self) -> str:
        # Not ws.secrets.set: code of cells is saved with the notebook.
        return "run lumigator-nb secrets set NAME"

    def static(self) -> Html:
        return presentation.keys_markup(self._keys)


def _button(text: str, icon: str, act: Callable[[], None], look: str = "") -> ipywidgets.Button:
    button = ipywidgets.Button(description=text, icon=icon, button_style=look, layout=_BOX(width="auto"))
    button.on_click(lambda _: act())
    return button

"""Dialogs and buttons that several pages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.shell import Context, in_words
from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.deletion import Deletion


def dialog(title: str, *content: Any, buttons: Sequence[Any]) -> pmui.Dialog:
    """Return a closed dialog with its buttons at the bottom right."""
    below = pn.FlexBox(*buttons, gap="8px", justify_content="end", margin=(16, 0, 0, 0))
    return pmui.Dialog(pn.Column(*content, below, sizing_mode="stretch_width", margin=8), title=title, open=False)


def text_button(label: str, act: Callable[[], None], **params: Any) -> pmui.Button:
    """Return a button without a frame that calls `act`."""
    return pmui.Button(label=label, variant="text", on_click=lambda _: act(), **{"margin": 0, **params})


def problem(text: str | None) -> Html | str:
    """Return an error that a screen reader announces; nothing without a text."""
    return tag("p", text, class_="lm-error", role="alert") if text else ""


class DeleteDialog:
    """Shows what a deletion removes before it happens.

    Args:
        context: of the browser session.
        name: of what is deleted.
        delete: deletes it; with ``dry_run=True`` it only returns what it would remove.
        preview: draws what would be removed.
        after: where to go afterwards.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        delete: Callable[..., Deletion],
        preview: Callable[[Deletion], Html],
        after: Route,
    ) -> None:
        self._context, self._name, self._work, self._markup, self._after = context, name, delete, preview, after
        self._preview = html()
        self.confirm = pmui.Button(
            label="Delete", color="error", variant="contained", margin=0, on_click=lambda _: self._delete()
        )
        cancel = text_button("Cancel", self.close)
        self.dialog = dialog(f"Delete {name}?", self._preview, buttons=[cancel, self.confirm])

    def open(self) -> None:
        """Find out what would be removed, and ask."""

        def previewed(deletion: Deletion) -> None:
            self._ready(self._markup(deletion))
            self.dialog.open = True

        self._context.background(partial(self._work, dry_run=True), previewed)

    def close(self) -> None:
        """Close the dialog."""
        self.dialog.open = False

    def _ready(self, markup: Html | str) -> None:
        show(self._preview, markup)
        self.confirm.param.update(disabled=False, label="Delete")

    def _delete(self) -> None:
        def deleted(deletion: Deletion) -> None:
            self.close()
            self._context.notify("; ".join([f"{self._name} was deleted", *deletion.problems]))
            self._context.go(self._after)

        self.confirm.param.update(disabled=True, label="Deleting…")
        self._context.background(self._work, deleted, lambda error: self._ready(problem(in_words(error))))


class ArchiveButton:
    """Archives a record, or restores one that is archived.

    Args:
        context: of the browser session.
        archive, restore: called without arguments.
        changed: called afterwards.
    """

    def __init__(
        self,
        context: Context,
        archive: Callable[[], object],
        restore: Callable[[], object],
        changed: Callable[[], None],
    ) -> None:
        self._context, self._archive, self._restore, self._changed = context, archive, restore, changed
        self._archived = False
        self.widget = text_button("", self._press, size="small", color="default")

    def show(self, archived_at: datetime | None) -> None:
        """Offer what can be done now."""
        self._archived = archived_at is not None
        label, icon = ("Restore", "unarchive") if self._archived else ("Archive", "archive")
        self.widget.param.update(label=label, icon=icon)

    def _press(self) -> None:
        act = self._restore if self._archived else self._archive
        message = "Restored" if self._archived else "Archived. Lists no longer show it"

        def done(_: object) -> None:
            self._context.notify(message)
            self._changed()

        self._context.background(act, done)

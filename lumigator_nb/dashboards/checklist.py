"""A list of checkboxes with a text under each, of which some cannot be chosen; one component however long it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import param
from panel.custom import JSComponent

from lumigator_nb.dashboards.kit import sheet, stylesheet
from lumigator_nb.display.html import Html


@dataclass(frozen=True)
class Item:
    """One checkbox.

    Attributes:
        key: its value.
        title: beside the box; `under` stands below it.
        disabled: whether it cannot be chosen.
    """

    key: str
    title: str
    under: Html
    disabled: bool = False


class Checklist(JSComponent):  # type: ignore[misc]
    """Some of many, as real checkboxes; made by :func:`checklist`."""

    items = param.List(default=[], doc="What there is to choose, as dictionaries of the fields of Item.")
    value = param.List(default=[], doc="Keys of what is chosen.")
    legend = param.String(default="", doc="Read by screen readers.")
    height_limit = param.String(default="none", doc="CSS height from which on it scrolls.")
    enabled = param.Boolean(default=True)

    _esm = """
export function render({ model, el }) {
  const root = document.createElement("fieldset")
  const boxes = new Map()
  function pick(key, on) {
    const others = model.value.filter((each) => each !== key)
    model.value = on ? [...others, key] : others
  }
  function line(item) {
    const label = document.createElement("label"), box = document.createElement("input")
    const text = document.createElement("span"), under = document.createElement("span")
    box.type = "checkbox"
    box.disabled = item.disabled || !model.enabled
    box.checked = model.value.includes(item.key)
    box.addEventListener("change", () => pick(item.key, box.checked))
    const title = document.createElement("span")
    title.className = "title"
    title.textContent = item.title
    under.className = "under"
    under.innerHTML = item.under
    text.className = "text"
    text.append(title, under)
    label.className = item.disabled ? "line off" : "line"
    label.append(box, text)
    boxes.set(item.key, box)
    return label
  }
  function draw() {
    boxes.clear()
    const legend = document.createElement("legend")
    legend.textContent = model.legend
    root.className = "lm checklist"
    root.style.maxHeight = model.height_limit
    root.replaceChildren(legend, ...model.items.map(line))
  }
  function mark() {
    for (const [key, box] of boxes) box.checked = model.value.includes(key)
  }
  model.on("items", draw)
  model.on("enabled", draw)
  model.on("value", mark)
  draw()
  return root
}
"""

    def show(self, items: Sequence[Item], chosen: Sequence[str]) -> None:
        """Draw anew what differs."""
        written = [{**vars(item), "under": str(item.under)} for item in items]
        changed: dict[str, Any] = {}
        if written != self.items:
            changed["items"] = written
        if list(chosen) != self.value:
            changed["value"] = list(chosen)
        if changed:
            self.param.update(**changed)


def checklist(legend: str, *, height: str = "none", **params: Any) -> Checklist:
    """Return an empty list; fill it with :meth:`Checklist.show`.

    Args:
        legend: what is chosen here, for screen readers.
        height: CSS height from which on it scrolls.
        params: of the component.
    """
    sheets = [stylesheet(), sheet("checklist.css")]
    return Checklist(
        legend=legend, height_limit=height, stylesheets=sheets, sizing_mode="stretch_width", margin=0, **params
    )

"""A list of checkboxes with a text under each, as one component however long the list is.

With Panel's own widgets, each checkbox and each text would be a separate model that the browser has to lay out.
"""

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
        title: text beside the box; `under` is the line below it.
        disabled: whether it cannot be chosen.
    """

    key: str
    title: str
    under: Html
    disabled: bool = False


class Checklist(JSComponent):  # type: ignore[misc]
    """Several choices of many, as real checkboxes; made by :func:`checklist`."""

    items = param.List(default=[], doc="The choices, as dictionaries of the fields of Item.")
    value = param.List(default=[], doc="Keys of the chosen items.")
    legend = param.String(default="", doc="Name of the list for screen readers.")
    height_limit = param.String(default="none", doc="CSS height above which the list scrolls.")
    enabled = param.Boolean(default=True)

    _esm = """
export function render({ model, el }) {
  const root = document.createElement("fieldset")
  const boxes = new Map()
  function pick(key, on) {
    const others = model.value.filter((other) => other !== key)
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
        """Change items and choice, and send the browser only what differs."""
        records = [{**vars(item), "under": str(item.under)} for item in items]
        changed: dict[str, Any] = {}
        if records != self.items:
            changed["items"] = records
        if list(chosen) != self.value:
            changed["value"] = list(chosen)
        if changed:
            self.param.update(**changed)


def checklist(legend: str, *, height: str = "none", **params: Any) -> Checklist:
    """Return an empty list; fill it with :meth:`Checklist.show`.

    Args:
        legend: name of the list for screen readers.
        height: CSS height above which it scrolls.
        params: of the component.
    """
    sheets = [stylesheet(), sheet("checklist.css")]
    return Checklist(
        legend=legend, height_limit=height, stylesheets=sheets, sizing_mode="stretch_width", margin=0, **params
    )

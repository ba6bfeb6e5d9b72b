"""The browser's address, the title of its tab, and its dark mode."""

from __future__ import annotations

import panel as pn
import param


class Address(pn.custom.JSComponent):  # type: ignore[misc]
    """Keeps the browser's fragment and title in step with the session.

    Panel's own location component adds a second history entry for each link, so that going back takes two steps.

    Attributes:
        fragment: part of the address from # on; empty until the browser has sent it.
        title: of the tab.
        visits: number of pages opened; the browser scrolls to the top of each.
        seen: number of visits that the browser has answered.
        replaced: old and new fragment of a change that adds no entry to the browser's history.
        dark: as chosen in this browser before, else as the reader's system is.
        replacing: whether the session itself changes the fragment, so that the page need not be opened again.
    """

    fragment = param.String()
    title = param.String()
    visits = param.Integer()
    seen = param.Integer()
    replaced = param.List(default=["", ""])
    dark = param.Boolean()
    replacing = False

    _esm = """
    export function render({model}) {
      const read = () => { model.fragment = window.location.hash || "#/" }
      window.addEventListener("hashchange", read)
      model.on("replaced", () => {
        const [before, after] = model.replaced
        // A reader who has followed a link in the meantime stays there.
        if (window.location.hash === before) window.history.replaceState(null, "", after)
      })
      model.on("fragment", () => {
        if (window.location.hash === model.fragment || !model.fragment) return
        if (model.fragment === model.replaced[1]) read()
        else window.location.hash = model.fragment
      })
      model.on("visits", () => {
        window.scrollTo(0, 0)
        // Bokeh sends the definitions of all new components along with the first event of one of them, and fails if
        // a definition holds a function. An event of this component, which it knows, makes the others known first.
        setTimeout(() => { model.seen = model.visits })
      })
      model.on("title", () => { document.title = model.title })
      const theme = window.localStorage.getItem("lumigator-theme")
      const system = window.matchMedia("(prefers-color-scheme: dark)").matches
      model.dark = theme ? theme === "dark" : system
      model.on("dark", () => window.localStorage.setItem("lumigator-theme", model.dark ? "dark" : "light"))
      read()
    }
    """

    def go(self, fragment: str) -> None:
        """Open another page."""
        self.replaced = ["", ""]
        self.fragment = fragment

    def replace(self, fragment: str) -> None:
        """Change the address of the open page, without an entry in the browser's history."""
        self.replacing = True
        try:
            self.param.update(replaced=[self.fragment, fragment], fragment=fragment)
        finally:
            self.replacing = False

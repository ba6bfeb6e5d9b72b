"""The browser's address, the title of its tab, and whether it is to be dark."""

from __future__ import annotations

import panel as pn
import param


class Address(pn.custom.JSComponent):  # type: ignore[misc]
    """Keeps the fragment of the address and the title as the session has them, and the other way round.

    Panel's own location adds an entry to the browser's history for each link that is followed, so that going back
    would take two steps.

    Attributes:
        fragment: what stands behind the address, # included; empty until the browser has told it.
        title: of the tab.
        visits: pages that were opened; each begins at its top.
        seen: the visits that the browser has answered.
        replaced: the fragment before and the one in its place, where no entry of the history is wanted.
        dark: as chosen here before, or else as the reader's system is.
        told: whether a change of the fragment is known to who made it.
    """

    fragment = param.String()
    title = param.String()
    visits = param.Integer()
    seen = param.Integer()
    replaced = param.List(default=["", ""])
    dark = param.Boolean()
    told = False

    _esm = """
    export function render({model}) {
      const read = () => { model.fragment = window.location.hash || "#/" }
      window.addEventListener("hashchange", read)
      model.on("replaced", () => {
        const [before, after] = model.replaced
        // Whoever has followed a link meanwhile stays where it led.
        if (window.location.hash === before) window.history.replaceState(null, "", after)
      })
      model.on("fragment", () => {
        if (window.location.hash === model.fragment || !model.fragment) return
        if (model.fragment === model.replaced[1]) read()
        else window.location.hash = model.fragment
      })
      model.on("visits", () => {
        window.scrollTo(0, 0)
        // Bokeh sends the definitions of all components that are new along with the first event that one of them sends,
        // and fails where they hold a function; an event of one that it knows makes the others known.
        setTimeout(() => { model.seen = model.visits })
      })
      model.on("title", () => { document.title = model.title })
      const kept = window.localStorage.getItem("lumigator-theme")
      const system = window.matchMedia("(prefers-color-scheme: dark)").matches
      model.dark = kept ? kept === "dark" : system
      model.on("dark", () => window.localStorage.setItem("lumigator-theme", model.dark ? "dark" : "light"))
      read()
    }
    """

    def go(self, fragment: str) -> None:
        """Open another place."""
        self.replaced = ["", ""]
        self.fragment = fragment

    def replace(self, fragment: str) -> None:
        """Name the place anew that is open already."""
        self.told = True
        try:
            self.param.update(replaced=[self.fragment, fragment], fragment=fragment)
        finally:
            self.told = False

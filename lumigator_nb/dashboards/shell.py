"""The frame around all pages of the dashboard: navigation, routing and messages, for one browser session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

import panel as pn
import panel_material_ui as pmui
from panel.io.state import set_curdoc

from lumigator_nb.dashboards.address import Address
from lumigator_nb.dashboards.kit import html, sheet, show
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.errors import LumigatorError, NotFoundError
from lumigator_nb.presentation.markup import button, empty, link
from lumigator_nb.presentation.routes import Route
from lumigator_nb.presentation.watcher import Watcher
from lumigator_nb.workspace import Workspace

T = TypeVar("T")
log = logging.getLogger(__name__)

# Slow work runs here, so that one session does not block the others.
_POOL = ThreadPoolExecutor(max_workers=8, thread_name_prefix="lumigator-dashboard")

# Module and class of a page, by the first part of its route and the number of parts after it. A page is imported at its
# first visit, so that the dashboard starts fast.
_PAGES: dict[tuple[str, int], str] = {
    ("datasets", 0): "datasets:DatasetsPage",
    ("datasets", 1): "datasets:DatasetPage",
    ("upload", 0): "datasets:UploadPage",
    ("experiments", 0): "experiments:ExperimentsPage",
    ("experiments", 1): "experiments:ExperimentPage",
    ("experiments", 2): "comparison:ComparisonPage",
    ("launch", 0): "launch:LaunchPage",
    ("models", 0): "models:ModelsPage",
    ("workflows", 0): "workflows:WorkflowsPage",
    ("workflows", 1): "workflows:WorkflowPage",
    ("settings", 0): "settings:SettingsPage",
}
# Pages that were renamed: addresses that people have kept still open.
_RENAMED = {"jobs": "workflows"}
# The first parts of all addresses.
HEADS = sorted({*(head for head, _ in _PAGES), *_RENAMED})
_PLACES = (
    ("datasets", "Datasets", "table_rows"),
    ("experiments", "Experiments", "science"),
    ("models", "Models", "smart_toy"),
    ("workflows", "Workflows", "list_alt"),
    ("settings", "Settings", "settings"),
)
# The place in the navigation of pages that are not in it themselves.
_BELONGS = {"": "experiments", "upload": "datasets", "launch": "experiments"}


def _palette(accent: str, on_accent: str, ground: str, paper: str, bar: str) -> dict[str, Any]:
    # The bar is dark in both themes, so its title must be white.
    dark = {"backgroundColor": bar, "color": "#ffffff", "boxShadow": "none"}
    return {
        "palette": {
            "primary": {"main": accent, "contrastText": on_accent},
            "background": {"default": ground, "paper": paper},
        },
        "components": {"MuiAppBar": {"styleOverrides": {"root": dark, "colorPrimary": dark}}},
    }


_THEME = {
    "light": _palette("#1558a0", "#ffffff", "#ffffff", "#ffffff", "#10294a"),
    "dark": _palette("#8ab4f8", "#10243f", "#16181c", "#1d2025", "#1d2a3d"),
}


class Context:
    """What a page may use of its browser session.

    Attributes:
        ws: workspace.
        watcher: reports changes; one per process.
        local: whether only this machine reaches the server, so that its files are the user's own.
    """

    def __init__(
        self, ws: Workspace, watcher: Watcher, address: Address, toasts: pn.pane.HTML, *, local: bool = True
    ) -> None:
        self.ws, self.watcher, self.local = ws, watcher, local
        self._address, self._toasts = address, toasts
        self._document = pn.state.curdoc
        self.closed = False
        self._at_end: list[Callable[[], None]] = []

    def go(self, route: Route) -> None:
        """Open another page; the browser's back button returns."""
        self._address.go(str(route))

    def replace(self, route: Route) -> None:
        """Change the address of the open page without a step in the browser's history."""
        self._address.replace(str(route))

    def notify(self, text: str, kind: str = "success") -> None:
        """Show a message that disappears after a while; `kind` is "success", "error" or "info"."""
        role = "alert" if kind == "error" else "status"
        # A new element each time, so that a repeated message appears again.
        self._toasts.object = ""
        show(self._toasts, tag("div", text, class_=f"lm-toast lm-{kind}", role=role))

    def later(self, act: Callable[[], None]) -> None:
        """Call `act` in this session. Safe from any thread."""

        def run() -> None:
            if self.closed:
                return
            with set_curdoc(self._document):
                act()

        if self._document is None or self._document.session_context is None:
            act()
        elif not self.closed:
            # A Bokeh document may be changed only in its event loop, where these callbacks run.
            self._document.add_next_tick_callback(run)

    def background(
        self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None] | None = None
    ) -> None:
        """Do slow work in a thread, and handle its result in this session.

        Args:
            work: called in a thread; must not touch the page.
            then: called with its result, unless the session has ended.
            failed: called with its exception; default shows a message.
        """

        def report(error: Exception) -> None:
            self.notify(in_words(error), "error")

        def run() -> None:
            try:
                result = work()
            except Exception as error:
                if not isinstance(error, LumigatorError):
                    log.exception("work for a page failed")
                self.later(partial(failed or report, error))
            else:
                self.later(partial(then, result))

        _POOL.submit(run)

    def at_end(self, act: Callable[[], None]) -> None:
        """Call `act` when the session ends."""
        self._at_end.append(act)

    def end(self) -> None:
        """Release what the session holds."""
        self.closed = True
        for act in self._at_end:
            try:
                act()
            except Exception:
                log.exception("ending a session failed")


class Page:
    """A page of the dashboard; made anew for each visit.

    Attributes:
        title: for the browser's tab.
        layout: what Panel shows.
    """

    title = ""
    layout: Any = None

    def __init__(self, context: Context, route: Route) -> None:
        self.context, self.route = context, route

    def refresh(self) -> None:
        """Draw what has changed in the workspace. Called in the session."""

    def reroute(self, route: Route) -> bool:
        """Show the same page with other choices; False if a new page is needed."""
        return False


class Shell:
    """Shows the page of the current route, and refreshes it after changes."""

    def __init__(self, ws: Workspace, watcher: Watcher, *, local: bool = True) -> None:
        self._toasts = html(stylesheets=[sheet("toasts.css")], sizing_mode=None)
        self._banner = html()
        self._navigation = html(stylesheets=[sheet("navigation.css")], sizing_mode=None)
        self._main = pn.Column(
            sizing_mode="stretch_width", stylesheets=[sheet("main.css")], css_classes=["lm-main"], margin=0
        )
        self._page: Page | None = None
        self._place: tuple[str, ...] | None = None
        self._redraw_is_due = False
        self._address = Address(width=0, height=0, margin=0)
        self._address.param.watch(
            lambda event: None if self._address.replacing else self.open(Route.parse(event.new)), "fragment"
        )
        self.context = Context(ws, watcher, self._address, self._toasts, local=local)

    def open(self, route: Route) -> None:
        """Show the page of a route."""
        if route.head in _RENAMED:
            route = Route((_RENAMED[route.head], *route.path[1:]), route.query)
        self._navigation.object = _navigation(_BELONGS.get(route.head, route.head))
        if self._page is not None and route.path == self._place:
            # A page that cannot follow is made anew, which also shows what is wrong.
            with suppress(LumigatorError):
                if self._page.reroute(route):
                    return
        self._place = route.path
        try:
            self._page = _page_class(route)(self.context, route)
        except NotFoundError as error:
            self._page = _Missing(self.context, route, in_words(error))
        except LumigatorError as error:
            self._page = _Missing(self.context, route, in_words(error), "This page cannot be shown")
        except Exception as error:
            log.exception("the page %s failed", route)
            self._page = _Missing(self.context, route, in_words(error), "This page has failed")
        self._main[:] = [self._page.layout]
        self._address.param.update(title=f"{self._page.title} · Lumigator", visits=self._address.visits + 1)

    def changed(self) -> None:
        """Refresh the page soon. Safe from any thread; several calls before the refresh count as one."""
        if not self._redraw_is_due:
            self._redraw_is_due = True
            self.context.later(self._redraw)

    def _redraw(self) -> None:
        self._redraw_is_due = False
        problem = self.context.watcher.problem
        show(self._banner, tag("div", problem, class_="lm-banner", role="alert") if problem else "")
        if self._page is None:
            return
        try:
            self._page.refresh()
        except LumigatorError as error:
            # The record behind the page may have been deleted.
            if isinstance(error, NotFoundError):
                self.open(self._page.route)
        except Exception:
            log.exception("refreshing %s failed", self._page.route)

    def view(self) -> pmui.Page:
        """Return the whole window."""
        page = pmui.Page(
            title="Lumigator",
            meta_description="Compare language models on your own data",
            favicon=_ICON,
            logo=_ICON,
            site_url="#/experiments",
            main=[
                pn.Column(
                    self._address, self._navigation, self._banner, self._main, self._toasts, sizing_mode="stretch_width"
                )
            ],
            theme_config=_THEME,
            sidebar=[],
            busy_indicator=None,
        )
        self._address.param.watch(lambda event: setattr(page, "dark_theme", event.new), "dark")
        page.param.watch(lambda event: setattr(self._address, "dark", event.new), "dark_theme")
        return page


def session(ws: Workspace, watcher: Watcher, *, local: bool = True) -> pmui.Page:
    """Return the dashboard of one browser session. Its route is the part of the address after #.

    Args:
        ws: workspace.
        watcher: of the workspace.
        local: whether only this machine reaches the server.
    """
    shell = Shell(ws, watcher, local=local)
    shell.context.at_end(watcher.subscribe(shell.changed))
    if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
        pn.state.on_session_destroyed(lambda _: shell.context.end())
    return shell.view()


def in_words(error: Exception) -> str:
    """Return an error in sentences: what is wrong, and what to do."""
    if isinstance(error, LumigatorError):
        return error.message + (f"\n{error.hint[:1].upper()}{error.hint[1:]}." if error.hint else "")
    return f"{type(error).__name__}: {error}\nSee the server's log for details."


def _page_class(route: Route) -> type[Page]:
    head = route.head or "experiments"
    place = _PAGES.get((head, len(route.path[1:])))
    if place is None or (len(route.path) == 3 and route.path[2] != "comparison"):
        raise NotFoundError("page", str(route), "choose a page above")
    module, name = place.split(":")
    page_class: type[Page] = getattr(import_module(f"lumigator_nb.dashboards.pages.{module}"), name)
    return page_class


class _Missing(Page):
    def __init__(self, context: Context, route: Route, text: str, title: str = "There is nothing here") -> None:
        super().__init__(context, route)
        names = {head: name for head, name, _ in _PLACES}
        head = _BELONGS.get(route.head, route.head)
        home = head if head in names else "experiments"
        self.title = title
        self.layout = html(empty(title, text, button(Route((home,)), f"To {names[home].lower()}")))


def _navigation(current: str) -> str:
    def item(head: str, name: str, icon: str) -> Html:
        here = "page" if head == current else None
        return link(
            Route((head,)),
            tag("span", icon, class_="lm-icon", aria_hidden="true"),
            tag("span", name),
            class_="lm-place",
            aria_current=here,
        )

    return str(tag("div", tag("nav", join(item(*place) for place in _PLACES), aria_label="Main"), class_="lm"))


_ICON = (
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>"
    "<rect width='32' height='32' rx='7' fill='%231558a0'/><path d='M9 7v18h14' fill='none' stroke='white' "
    "stroke-width='3'/><circle cx='20' cy='12' r='4' fill='%23ffd166'/></svg>"
)

from __future__ import annotations

import pytest
from waiting import until

from lumigator_nb.dashboards.shell import Context
from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError, InvalidInputError, NotFoundError
from lumigator_nb.models.key_check import KeyCheck, providers_of
from lumigator_nb.presentation import settings as presentation
from lumigator_nb.presentation.routes import Route
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.services.answer_cache import CacheSize
from lumigator_nb.widgets.embedded import Dashboard, dashboard
from lumigator_nb.widgets.settings import settings
from lumigator_testing.client import ModelServer

VALUE = "sk-0123456789-mine"
NAME = "OPENAI_API_KEY"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    import os

    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)


@pytest.fixture
def panel(inline_ws):
    made = settings(inline_ws)
    yield made
    made.close()


def key(ws, name=NAME):
    return presentation.key_of(presentation.keys_of(ws), name)


def test_keys_that_models_need_are_there_although_not_set(inline_ws) -> None:
    view = key(inline_ws)
    assert (view.source, view.stored, view.providers) == ("", False, ("OpenAI",))
    assert view.n_models > 0


def test_a_key_says_where_it_comes_from_and_the_environment_wins(inline_ws, monkeypatch) -> None:
    inline_ws.secrets.set(NAME, VALUE, description="the team's")
    assert key(inline_ws).source == "stored"
    assert presentation.keys_of(inline_ws)[0].name == NAME
    monkeypatch.setenv(NAME, "sk-another-one-here")
    view = key(inline_ws)
    assert (view.source, view.stored, view.description) == ("environment", True, "the team's")
    markup = presentation.keys_markup(presentation.keys_of(inline_ws), Route(("settings",)))
    assert "this wins" in markup
    assert VALUE not in markup + repr(view)
    assert "sk-another" not in markup + repr(view)


def test_keys_of_the_env_file_are_told_by_name(inline_ws, tmp_path) -> None:
    file = tmp_path / ".env"
    file.write_text("COHERE_API_KEY=co-0123456789\nAWS_SECRET_ACCESS_KEY=not-for-models\n")
    inline_ws.settings._env_file = file
    assert key(inline_ws, "COHERE_API_KEY").source == ".env"
    assert key(inline_ws, "COHERE_API_KEY").providers == ("Cohere",)
    assert "AWS_SECRET_ACCESS_KEY" not in [view.name for view in presentation.keys_of(inline_ws)]


def test_a_description_is_no_markup(inline_ws) -> None:
    inline_ws.secrets.set("MY_KEY", VALUE, description="<script>alert(1)</script>")
    assert "<script>" not in presentation.keys_markup(presentation.keys_of(inline_ws))


@pytest.mark.parametrize(
    ("name", "value", "fields"),
    [
        ("", "", {"name", "value"}),
        ("my key", VALUE, {"name"}),
        ("LUMIGATOR_HOME", VALUE, {"name"}),
        (NAME, " ", {"value"}),
        ("mine_api_key", VALUE, set()),
    ],
)
def test_a_form_says_what_is_wrong_beside_its_field(inline_ws, name, value, fields) -> None:
    form = presentation.SecretForm(inline_ws, name, value)
    assert form.validate().keys() == fields
    assert VALUE not in repr(form) + repr(form.validate())


def test_a_form_stores_the_key_and_forgets_it(inline_ws) -> None:
    form = presentation.SecretForm(inline_ws, "openai_api_key", f" {VALUE}\n", " the team's ")
    assert form.submit() == NAME
    assert form.value == ""
    assert inline_ws.secrets.value(NAME) == VALUE
    assert key(inline_ws).description == "the team's"


def test_errors_of_storing_go_to_their_field(inline_ws) -> None:
    form = presentation.SecretForm(inline_ws, NAME, VALUE, f"it is {VALUE}")
    with pytest.raises(InvalidInputError) as caught:
        form.submit()
    found = form.errors(caught.value)
    assert found.keys() == {"description"}
    assert VALUE not in str(found)
    assert form.errors(ConfigurationError("no keyring", "install one")) == {"": "No keyring. Install one."}


def test_connections_say_what_is_wrong_and_what_to_do(inline_ws, cluster, monkeypatch) -> None:
    def unreachable() -> None:
        raise ClusterUnavailableError("the cluster does not answer", "start it")

    assert [each.state for each in presentation.connections(inline_ws)] == ["ok", "ok", "note"]
    monkeypatch.setattr(cluster, "info", unreachable)
    found = presentation.connections(inline_ws)
    assert [each.state for each in found] == ["ok", "ok", "wrong"]
    markup = presentation.connections_markup(found)
    assert "Start it." in markup
    assert "Does not work" in markup
    assert "Checking" in presentation.connections_markup(None)


def test_what_keeps_everything_is_rounded_up(inline_ws) -> None:
    assert presentation.all_gigabytes(CacheSize(())) == 0.0
    inline_ws.store.write("predictions/abc/part-1.jsonl.gz", b"x" * 1000)
    size = inline_ws.cache.size(count=False)
    assert presentation.all_gigabytes(size) == 0.1
    assert "unknown model" in presentation.cache_markup(size)
    assert presentation.TrimForm(inline_ws, 0.1).submit().n_files == 0
    assert presentation.TrimForm(inline_ws, 0.0).submit().n_files == 1


@pytest.mark.parametrize("gigabytes", [None, -1.0])
def test_a_limit_that_is_none_is_refused(inline_ws, gigabytes) -> None:
    assert "gigabytes" in presentation.TrimForm(inline_ws, gigabytes).validate()


def test_whose_a_key_is_is_told_by_the_catalogue_or_its_name(inline_ws) -> None:
    catalogue = inline_ws.models.list()
    assert providers_of("GEMINI_API_KEY", catalogue) == ("gemini",)
    assert providers_of("TOGETHER_API_KEY", catalogue) == ("together",)
    assert providers_of("MY_API_KEY", catalogue) == ()


def test_a_key_is_checked_by_a_request_that_costs_nothing(inline_ws, monkeypatch) -> None:
    with pytest.raises(NotFoundError):
        inline_ws.models.check_key(NAME)
    inline_ws.secrets.set("MY_API_KEY", VALUE)
    with pytest.raises(InvalidInputError, match="no provider is known"):
        inline_ws.models.check_key("MY_API_KEY")
    with ModelServer(api_key=VALUE) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        inline_ws.secrets.set(NAME, VALUE)
        found = inline_ws.models.check_key(NAME)
        assert found.n_models > 0
        assert "OpenAI accepts OPENAI_API_KEY" in presentation.checked_words(NAME, found)
        inline_ws.secrets.set(NAME, "sk-0123456789-wrong")
        with pytest.raises(ConfigurationError, match="openai refuses the key") as caught:
            inline_ws.models.check_key(NAME)
        assert "0123456789" not in str(caught.value)
        assert server.prompts() == {}


def test_the_widget_stores_replaces_and_deletes(inline_ws, panel) -> None:
    panel.name.value, panel.value.value = "openai_api_key", VALUE
    panel.save.click()
    assert panel.value.value == ""
    until(lambda: "is stored" in panel.message.value)
    assert inline_ws.secrets.value(NAME) == VALUE
    until(lambda: panel.save.description == "Replace" and not panel.save.disabled)
    panel.delete.click()
    assert panel.delete.description == "Really delete"
    assert inline_ws.secrets.names() == [NAME]
    panel.delete.click()
    until(lambda: inline_ws.secrets.names() == [])


def test_the_widget_puts_messages_beside_fields_and_keeps_no_key(inline_ws, panel) -> None:
    panel.name.value, panel.value.value = "my key", VALUE
    panel.save.click()
    assert "letters, digits" in panel._problems["name"].value
    assert panel._problems["value"].value == ""
    assert inline_ws.secrets.names() == []
    panel.name.value = NAME
    panel.save.click()
    until(lambda: inline_ws.secrets.names() == [NAME])
    state = repr([each.get_state() for each in (panel, panel.value, panel.key_list, panel.message)])
    assert VALUE not in state + str(panel._repr_mimebundle_())


def test_the_widget_shows_a_key_that_was_set_elsewhere(inline_ws, panel) -> None:
    watcher_of(inline_ws).look()
    inline_ws.secrets.set("THEIR_API_KEY", VALUE)
    watcher_of(inline_ws).look()
    until(lambda: "THEIR_API_KEY" in panel.key_list.value.replace("<wbr>", ""))


def test_the_widget_checks_a_key_and_says_what_is_wrong(inline_ws, panel, monkeypatch) -> None:
    inline_ws.secrets.set(NAME, VALUE)
    panel._changed()
    until(lambda: NAME in panel.name.options)
    panel.name.value = NAME
    until(lambda: not panel.check.disabled)
    monkeypatch.setattr(inline_ws.models, "check_key", lambda name: KeyCheck("openai", 7))
    panel.check.click()
    until(lambda: "7 models" in panel.message.value)

    def refused(name: str) -> KeyCheck:
        raise ConfigurationError(f"the key {name} is refused by openai")

    monkeypatch.setattr(inline_ws.models, "check_key", refused)
    until(lambda: not panel.check.disabled)
    panel.check.click()
    until(lambda: "is refused" in panel._problems["value"].value)
    assert not panel.message.value


def test_the_widget_survives_a_dead_cluster(panel, cluster, monkeypatch) -> None:
    def unreachable() -> None:
        raise ClusterUnavailableError("the cluster does not answer")

    monkeypatch.setattr(cluster, "info", unreachable)
    panel.look.click()
    until(lambda: "The cluster does not answer" in panel.connections.value)
    until(lambda: not panel.look.disabled)


def test_without_a_kernel_the_widget_shows_the_keys(panel) -> None:
    bundle = panel._repr_mimebundle_()
    assert "OpenAI" in bundle["text/html"]
    assert "API keys set)" in bundle["text/plain"]


class Page:
    """The settings' page in a session without a browser."""

    def __init__(self, ws, address="#/settings") -> None:
        from lumigator_nb.dashboards.pages.settings import SettingsPage

        self.told, self.gone = [], []
        context = Context(ws, watcher_of(ws), None, None)
        context.notify = lambda text, kind="success": self.told.append(text)
        context.go = self.gone.append
        self.page = SettingsPage(context, Route.parse(address))
        self.dialog = self.page.key


def test_the_page_opens_the_form_that_its_address_names(inline_ws) -> None:
    page = Page(inline_ws, "#/settings?key=OPENAI_API_KEY")
    assert page.dialog.dialog.open
    assert page.dialog.dialog.title == NAME
    assert not page.dialog.name.visible
    assert not page.dialog.delete.visible
    page.page.reroute(Route.parse("#/settings"))
    assert not page.dialog.dialog.open
    page.page.reroute(Route.parse("#/settings?key=new"))
    assert page.dialog.name.visible


def test_the_page_stores_a_key_and_takes_it_out_of_the_field(inline_ws) -> None:
    page = Page(inline_ws, "#/settings?key=new")
    page.dialog._save()
    assert page.dialog.name.error_state
    assert page.dialog.value.helper_text == "Paste the key."
    page.dialog.name.value, page.dialog.value.value = NAME, VALUE
    page.dialog._save()
    assert page.dialog.value.value == ""
    until(lambda: page.told)
    assert page.told == [f"{NAME} is stored"]
    assert str(page.gone[-1]) == "#/settings"
    assert inline_ws.secrets.value(NAME) == VALUE
    assert not page.dialog.name.error_state


def test_the_page_asks_before_it_deletes(inline_ws) -> None:
    inline_ws.secrets.set(NAME, VALUE)
    page = Page(inline_ws, f"#/settings?key={NAME}")
    page.dialog._delete()
    assert page.dialog.delete.label == "Really delete"
    assert inline_ws.secrets.names() == [NAME]
    page.dialog._delete()
    until(lambda: page.told)
    assert inline_ws.secrets.names() == []


def test_the_page_shows_a_refused_key_beside_its_field(inline_ws, monkeypatch) -> None:
    def refused(name: str) -> KeyCheck:
        raise ConfigurationError(f"the key {name} is refused by openai", "replace it")

    inline_ws.secrets.set(NAME, VALUE)
    monkeypatch.setattr(inline_ws.models, "check_key", refused)
    dialog = Page(inline_ws, f"#/settings?key={NAME}").dialog
    dialog._check()
    until(lambda: dialog.value.error_state)
    assert dialog.value.helper_text == f"The key {NAME} is refused by openai. Replace it."
    assert dialog.check.label == "Check"
    monkeypatch.setattr(inline_ws.models, "check_key", lambda name: KeyCheck("openai", 7))
    dialog._check()
    until(lambda: "7 models" in dialog.message.object)
    assert not dialog.value.error_state


def test_the_frame_of_a_notebook_leads_where_the_browser_can_go(inline_ws, monkeypatch) -> None:
    class Served:
        port, path, running = 4321, "/secret-path/", True

    monkeypatch.setattr("lumigator_nb.widgets.embedded._served", lambda ws: Served())
    assert dashboard(inline_ws).url == "http://127.0.0.1:4321/secret-path/#/experiments"
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    found = dashboard(inline_ws)
    assert found.url == "/user/ada/proxy/4321/secret-path/#/experiments"
    assert isinstance(found, Dashboard)
    assert 'src="/user/ada/proxy/4321/secret-path/#/experiments"' in found._repr_html_()
    assert dashboard(inline_ws, address="https://h/p/{port}/").url.startswith("https://h/p/4321/secret-path/")
    with pytest.raises(NotFoundError):
        dashboard(inline_ws, "nobody")
    with pytest.raises(InvalidInputError, match="height"):
        dashboard(inline_ws, height=5)
    with pytest.raises(InvalidInputError, match="port"):
        dashboard(inline_ws, address="https://h/")

"""Launching from a screen: the form, the widget and the dashboard's pages."""

from __future__ import annotations

import pandas as pd
import pytest
from waiting import until

from lumigator_nb import models
from lumigator_nb.errors import ConfigurationError, InvalidInputError, NotFoundError
from lumigator_nb.presentation.launch import models as catalogue
from lumigator_nb.presentation.launch.estimating import estimate_html
from lumigator_nb.presentation.launch.form import LaunchForm, facts_html
from lumigator_nb.presentation.launch.models import Filter, ModelView, models_list, ordered
from lumigator_nb.presentation.routes import Route
from lumigator_nb.specs import Classification, Status

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "GEMINI_API_KEY")


@pytest.fixture(autouse=True)
def without_keys(monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tickets(inline_ws):
    texts = [f"Ticket {n}. The printer on floor {n} is out of paper. Please help." for n in range(12)]
    frame = pd.DataFrame({"example": texts, "ground_truth": [f"Printer {n} is empty." for n in range(12)]})
    return inline_ws.datasets.upload(frame, name="tickets", progress=False)


@pytest.fixture
def questions(inline_ws):
    frame = pd.DataFrame({"example": ["What is red?", "What is blue?"]})
    return inline_ws.datasets.upload(frame, name="questions", progress=False)


@pytest.fixture
def form(inline_ws, tickets):
    made = LaunchForm(inline_ws)
    made.change(dataset="tickets")
    return made


# --- The catalogue ---


def view_of(ws, name):
    return next(view for view in catalogue.catalogue(ws) if view.name == name)


def test_a_model_without_its_key_says_so_until_the_key_is_there(inline_ws, monkeypatch):
    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: True)
    missing = view_of(inline_ws, "openai/gpt-4o-mini").missing
    assert (missing.what, missing.text, missing.blocks) == ("key", "OPENAI_API_KEY is not set", True)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    found = view_of(inline_ws, "openai/gpt-4o-mini")
    assert found.usable
    assert "sk-of-a-test" not in repr(found)


def test_a_missing_package_comes_with_the_command_that_brings_it(inline_ws, monkeypatch):
    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: module != "anthropic")
    missing = view_of(inline_ws, "anthropic/claude-haiku-5-5").missing
    assert (missing.what, missing.command) == ("package", "pip install 'lumigator-nb[anthropic]'")
    assert not view_of(inline_ws, "anthropic/claude-haiku-5-5").usable


def test_on_a_remote_cluster_its_nodes_may_have_what_is_missing_here(inline_ws, monkeypatch):
    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: True)
    inline_ws.cluster.head = None
    found = view_of(inline_ws, "openai/gpt-4o-mini")
    assert found.usable
    assert "cluster" in found.missing.remedy


def test_weights_that_are_not_here_are_told_and_do_not_block(inline_ws, monkeypatch, tmp_path):
    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: True)
    monkeypatch.setattr("lumigator_nb.models.providers.weights.cached", lambda name, revision: None)
    found = view_of(inline_ws, "hf/facebook/bart-large-cnn")
    assert found.usable
    assert "1.6 GB" in found.missing.remedy
    monkeypatch.setattr("lumigator_nb.models.providers.weights.cached", lambda name, revision: tmp_path)
    assert view_of(inline_ws, "hf/facebook/bart-large-cnn").missing is None


def made(name="x/y", **fields):
    return ModelView(**{"name": name, "title": name, "provider": name.partition("/")[0], "maker": "M",
                        "tasks": ("summarization",), "place": "there", **fields})  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), ["a/one", "b/two", "b/three"]),
        (Filter(search="TWO b"), ["b/two"]),
        (Filter(provider="b"), ["b/two", "b/three"]),
        (Filter(task="translation"), ["b/three"]),
        (Filter(size="small"), ["a/one"]),
        (Filter(size="unknown"), ["b/three"]),
        (Filter(search="nothing"), []),
    ],
)
def test_filters(wanted, names):
    found = [
        made("a/one", parameters=10**9),
        made("b/two", parameters=10**9 + 1),
        made("b/three", tasks=("translation",)),
    ]
    assert [each.name for each in wanted(found)] == names


def test_a_filter_is_read_from_the_address_and_strange_values_find_nothing_at_worst():
    wanted = Filter.of(Route.parse("#/models?search=gpt&task=translation&size=huge&usable=1&page=x"))
    assert wanted == Filter("gpt", "translation", "", "huge", usable=True)
    assert wanted([made()]) == []


def test_what_has_no_size_or_price_comes_last_in_either_order():
    found = [made("a/1"), made("a/2", parameters=5, price=(1, 2)), made("a/3", parameters=7, price=(0.5, 1))]
    assert [each.name for each in ordered(found, "size")] == ["a/2", "a/3", "a/1"]
    assert [each.name for each in ordered(found, "-size")] == ["a/3", "a/2", "a/1"]
    assert [each.name for each in ordered(found, "price")] == ["a/3", "a/2", "a/1"]
    assert ordered(found, "nonsense") == found


def test_the_list_of_models_escapes_what_models_yaml_says(inline_ws):
    inline_ws.models.add({"name": "hf/a/b", "display_name": "<b>x</b>", "tasks": ["summarization"], "notes": "<i>"})
    shown = models_list(Filter(search="hf/a/b")(catalogue.catalogue(inline_ws)), Route(("models",)))
    assert "<b>x</b>" not in shown
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "No model matches" in models_list([], Route(("models",)))


# --- The form ---


def test_a_dataset_brings_a_name_and_the_usual_metrics(form):
    assert form.name == "tickets-summaries"
    assert {"rouge", "bleu"} <= set(form.metrics)
    form.change(task="translation")
    assert form.name == "tickets-translations"


def test_what_a_reader_has_entered_stays(form, questions):
    form.change(name="mine", metrics=("length", "rouge"))
    form.change(dataset="questions")
    assert form.name == "mine"
    assert form.metrics == ("length",)  # there is no ground truth for the other


def test_the_proposed_name_is_free(form, inline_ws):
    inline_ws.experiments.create("tickets-summaries", dataset="tickets")
    assert LaunchForm(inline_ws, dataset="tickets").name == "tickets-summaries-2"


def test_metrics_that_need_ground_truth_are_refused_with_the_reason(inline_ws, questions):
    views = {view.key: view for view in LaunchForm(inline_ws, dataset="questions").metric_views}
    assert "ground truth" in views["rouge"].problem
    assert views["length"].problem is None


def test_models_are_those_of_the_task(form):
    assert "baseline/lead-3" in {view.name for view in form.model_views}
    form.change(models=("baseline/lead-3", "baseline/copy"))
    form.change(task="translation")
    assert form.models == ("baseline/copy",)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", " ", "name"),
        ("name", "taken", "already"),
        ("sample", "many", "whole number"),
        ("sample", "13", "there are 12"),
        ("sample", "0", "less than one row"),
        ("budget", "-1", "out of range"),
        ("budget", "nan", "out of range"),
        ("temperature", "warm", "not a number"),
        ("max_new_tokens", "0", "max_new_tokens"),
        ("seed", "1.5", "whole number"),
        ("models", (), "at least one"),
        ("metrics", (), "at least one"),
    ],
)
def test_each_error_stands_beside_its_field(form, inline_ws, field, value, said):
    inline_ws.experiments.create("taken", dataset="tickets")
    form.change(models=("baseline/lead-3",))
    assert form.validate() == {}
    form.change(**{field: value})
    assert list(form.validate()) == [field]
    assert said in form.validate(field)[field]
    assert form.submit() is None
    assert list(form.errors) == [field]
    assert len(inline_ws.experiments.list()) == 1


def test_each_task_asks_for_its_settings(form):
    form.change(models=("baseline/copy",), task="translation")
    assert set(form.validate()) == {"source", "target"}
    form.change(source="German", target="deutsch-ish")
    assert set(form.validate()) == {"target"}
    form.change(target="de")
    assert "translate from" in form.validate()["target"]
    form.change(target="en")
    assert form.validate() == {}
    assert (form.built_task().source, form.built_task().target) == ("de", "en")
    form.change(task="text_generation", models=("baseline/copy",))
    form.change(models=())
    form.add_model("baseline/copy")
    assert set(form.validate()) == {"prompt"}


def test_a_classification_takes_its_labels_from_the_form(form, inline_ws):
    form.change(task="classification")
    assert form.name == "tickets-labels"
    assert form.metrics == ()
    form.change(models=("baseline/label-in-text",))
    assert set(form.validate()) == {"labels", "metrics"}
    form.change(labels="one")
    assert "1 labels" in form.validate("labels")["labels"]
    form.change(labels="billing: invoices, refunds\n\n delivery \n")
    assert form.metrics == ("classification",)
    assert form.validate() == {}
    record = form.submit()
    assert record.task == Classification(["billing", "delivery"], descriptions={"billing": "invoices, refunds"})
    again = LaunchForm.like(inline_ws, record)
    assert again.labels == "billing: invoices, refunds\ndelivery"
    assert again.built_task() == record.task
    assert again.metrics == ("classification",)
    assert "Classification: billing and delivery" in str(facts_html(LaunchForm.into(inline_ws, record)))


def test_launching(form, inline_ws):
    form.change(models=("baseline/lead-3", "baseline/copy"), sample="4", max_new_tokens="20", budget="1,5")
    record = form.submit()
    assert form.errors == {}
    assert record.name == "tickets-summaries"
    assert (record.sample.n, inline_ws.datasets.of(record).n_examples, inline_ws.datasets.count()) == (4, 4, 1)
    clone = LaunchForm.like(inline_ws, record)
    assert (clone.dataset, clone.sample) == ("tickets", "4")
    workflows = inline_ws.workflows.refresh(record)
    assert [each.label for each in workflows] == ["baseline/lead-3", "baseline/copy"]
    assert {each.status for each in workflows} == {Status.SUCCEEDED}
    assert {each.launch.budget for each in workflows} == {1.5}
    assert {each.model.generation.max_new_tokens for each in workflows} == {20}


def test_where_nothing_could_be_launched_nothing_stays(form, inline_ws, monkeypatch):
    form.change(models=("baseline/lead-3",))

    def refuse(*_, **options):
        raise ConfigurationError("no")

    monkeypatch.setattr(inline_ws.workflows, "launch", refuse)
    assert form.submit() is None
    assert form.errors == {"": "No."}
    assert inline_ws.experiments.list() == []
    assert form.experiment is None


def test_a_launch_that_breaks_off_goes_on_when_it_is_submitted_again(form, inline_ws):
    form.change(models=("baseline/lead-3", "baseline/copy"))
    inline_ws.cluster.reachable = False
    assert form.submit() is None
    assert "does not answer" in form.errors[""]
    assert "Launch again" in form.errors[""]
    inline_ws.cluster.reachable = True
    record = form.submit()
    assert {each.status for each in inline_ws.workflows.refresh(record)} == {Status.SUCCEEDED}
    assert len(inline_ws.experiments.list()) == 1


def test_more_models_go_into_an_experiment(form, inline_ws):
    form.change(models=("baseline/lead-3",))
    record = form.submit()
    more = LaunchForm.into(inline_ws, record)
    assert (more.dataset, more.name, more.validate()) == ("tickets", record.name, {"models": more.validate()["models"]})
    more.change(models=("baseline/copy", "baseline/lead-3"))
    assert more.submit().id == record.id
    assert len(inline_ws.workflows.of(record)) == 2
    again = LaunchForm.into(inline_ws, record)
    again.change(models=("baseline/copy",), temperature="0.5")
    assert again.submit().id == record.id
    assert [each.label for each in inline_ws.workflows.of(record)][2:] == [
        "baseline/copy (temperature 0.5, 128 tokens, seed 0)"
    ]


def test_a_clone_has_the_same_settings_under_another_name(inline_ws, tickets):
    from lumigator_nb.specs import MetricSpec, Model, Summarization

    task = Summarization("Be brief.", template="Text: {{ example }}")
    metrics = ["rouge", MetricSpec(name="regex", options={"pattern": "a"})]
    record = inline_ws.experiments.create("first", dataset=tickets, task=task, metrics=metrics)
    inline_ws.workflows.launch(record, [Model("baseline/lead-2", label="two", seed=7)])
    form = LaunchForm.like(inline_ws, record)
    assert form.name == "tickets-summaries"
    assert {view.title for view in form.metric_views if view.key in form.metrics} == {"ROUGE", "Regex"}
    clone = form.submit()
    assert form.errors == {}
    assert clone.task == task
    assert sorted(spec.name for spec in clone.metrics) == ["regex", "rouge"]
    assert [(each.label, each.model.generation.seed) for each in inline_ws.workflows.of(clone)] == [("two", 7)]
    with pytest.raises(NotFoundError):
        form.change(dataset="gone")


def test_other_models_are_checked_when_they_are_added(form, monkeypatch):
    key = form.add_model(" openai/my-model ", "http://localhost:8000/v1")
    assert (key, form.models) == ("openai/my-model", ("openai/my-model",))
    added = form.model_views[0]
    assert (added.place, added.usable) == ("on your server", True)
    assert form.chosen_models()[0].base_url == "http://localhost:8000/v1"
    for name, url in (("nonsense", ""), ("bart/large", ""), ("openai/x", "localhost:8000"), ("hf/a b", "")):
        with pytest.raises(InvalidInputError):
            form.add_model(name, url)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        form.add_model("openai/x")
    assert form.models == ("openai/my-model",)


def test_a_model_that_lost_its_key_is_told_beside_the_models(form, monkeypatch):
    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: True)
    form.change(models=("openai/gpt-4o-mini",))
    assert "OPENAI_API_KEY is not set" in form.validate("models")["models"]


def test_a_judge_takes_the_place_of_another_for_the_same_criterion(form, monkeypatch):
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        form.add_judge("coherence", "openai/gpt-4o-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    first = form.add_judge("coherence", "openai/gpt-4o-mini")
    second = form.add_judge("coherence", "openai/gpt-4o")
    assert first not in form.metrics
    assert form.metrics[0] == second
    assert form.metric_views[0].title == "Judge: coherence"
    assert form.specs[0].name == "judge"


# --- The estimate ---


def test_nothing_is_estimated_before_there_is_something_to_ask(form):
    assert form.estimate() is None
    form.change(models=("baseline/copy",), sample="x")
    assert form.estimate() is None
    assert "Choose a dataset" in estimate_html(None)


def test_an_estimate_scales_from_the_first_examples(form, monkeypatch):
    monkeypatch.setattr("lumigator_nb.presentation.launch.estimating.LOOKED_AT", 6)
    form.add_model("openai/my-model", "http://localhost:8000/v1")
    form.added["openai/my-model"] = models.Model(
        "openai/my-model", base_url="http://localhost:8000/v1", price={"prompt": 1000, "completion": 2000}
    )
    found = form.estimate()
    row = found.models[0]
    assert found.n_examples == 12
    assert row.dollars == pytest.approx((row.tokens_in * 1000 + row.tokens_out * 2000) / 1e6)
    form.change(sample="6")
    assert form.estimate().dollars == pytest.approx(found.dollars / 2)
    form.change(budget="0.001", sample="")
    bounded = form.estimate()
    assert bounded.at_most == 0.001
    assert "expected to stop at the budget" in estimate_html(bounded)


def test_a_model_takes_as_long_as_when_it_last_ran(form, inline_ws):
    form.change(models=("baseline/copy",))
    assert form.estimate().seconds is None
    form.submit()
    inline_ws.workflows.refresh(form.name)
    assert form.estimate().seconds > 0
    assert "No fee" in estimate_html(form.estimate())


# --- The widget ---


@pytest.fixture
def widget(inline_ws, tickets):
    from lumigator_nb.widgets.launch import launch

    made = launch(inline_ws)
    yield made
    made.close()


def choice(widget, kind, title):
    return next(each.box for each in getattr(widget, kind).children if each.box.description == title)


def test_the_widget_launches_and_shows_the_progress(widget, inline_ws):
    assert widget.fields["dataset"].value == "tickets"  # the only one
    assert widget.fields["name"].value == "tickets-summaries"
    choice(widget, "models", "First three sentences").value = True
    choice(widget, "metrics", "BLEU").value = False
    widget.fields["sample"].value = "5"
    until(lambda: "1 model" in widget.estimate.value and "5 examples" in widget.estimate.value)
    widget.button.click()
    until(lambda: widget.after.children)
    assert widget.experiment.name == "tickets-summaries"
    assert widget.button.disabled
    assert "bleu" not in {spec.name for spec in widget.experiment.metrics}
    assert [each.label for each in inline_ws.workflows.of(widget.experiment)] == ["baseline/lead-3"]
    widget.after.children[0].close()
    assert "Launched: tickets-summaries" in widget._repr_mimebundle_()["text/html"]


def test_the_widget_says_beside_the_field_what_is_wrong(widget):
    widget.fields["sample"].value = "99"
    assert "draw 99 rows" in widget._problems["sample"].value
    widget.fields["sample"].value = ""
    assert widget._problems["sample"].value == ""
    widget.button.click()
    until(lambda: not widget.button.disabled)
    assert "at least one model" in widget._problems["models"].value
    assert "Correct the marked fields" in widget._problems[""].value
    assert widget.experiment is None


def test_the_widget_goes_on_when_the_cluster_is_back(widget, inline_ws):
    choice(widget, "models", "First three sentences").value = True
    inline_ws.cluster.reachable = False
    widget.button.click()
    until(lambda: "does not answer" in widget._problems[""].value)
    until(lambda: not widget.button.disabled)
    inline_ws.cluster.reachable = True
    widget.button.click()
    until(lambda: widget.after.children)
    widget.after.children[0].close()


def test_the_widget_searches_and_keeps_what_was_chosen(widget, inline_ws):
    choice(widget, "models", "The input, unchanged").value = True
    widget.search.value = "bart"
    assert {each.box.description for each in widget.models.children} == {
        "BART large, CNN/DailyMail",
        "DistilBART, CNN/DailyMail",
    }
    assert "1 chosen: The input, unchanged" in widget.chosen.value
    widget.search.value = "nobody has heard of it"
    assert "No model matches" in widget.hidden.value
    widget.search.value = ""
    assert choice(widget, "models", "The input, unchanged").value


def test_what_cannot_be_used_is_disabled_with_the_reason(inline_ws, questions, monkeypatch):
    from lumigator_nb.widgets.launch import launch

    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: True)
    widget = launch(inline_ws, "questions")
    assert choice(widget, "models", "GPT-4o mini").disabled
    assert choice(widget, "metrics", "ROUGE").disabled
    texts = "".join(each.text.value for each in (*widget.models.children, *widget.metrics.children))
    assert "OPENAI_API_KEY is not set" in texts
    assert "Needs ground truth" in texts
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    widget._refresh()
    assert not choice(widget, "models", "GPT-4o mini").disabled
    assert "sk-of-a-test" not in str(widget.get_state()) + str([each.get_state() for each in widget.children])
    widget.close()


def test_the_widget_offers_a_dataset_that_comes_later(inline_ws):
    from lumigator_nb.widgets.launch import launch

    widget = launch(inline_ws)
    assert widget.fields["dataset"].options[0][0] == "No dataset yet: lm.ui.upload(ws)"
    inline_ws.datasets.upload(pd.DataFrame({"example": ["a", "b"]}), name="late", progress=False)
    widget._refresh()
    widget.fields["dataset"].value = "late"
    assert widget.fields["name"].value == "late-summaries"
    widget.close()


def test_a_model_of_ones_own_is_added_in_the_widget(widget):
    widget.other.value = "nobody/knows"
    widget.add_model.click()
    until(lambda: not widget.add_model.disabled)
    assert "nobody" in widget._problems["other"].value
    widget.other.value, widget.base_url.value = "openai/mine", "http://localhost:8000/v1"
    widget.add_model.click()
    until(lambda: widget.form.models == ("openai/mine",))
    until(lambda: widget.models.children[0].box.description == "openai/mine")
    assert widget.other.value == ""


def test_the_widget_adds_models_to_an_experiment(inline_ws, tickets):
    from lumigator_nb.widgets.launch import launch

    record = inline_ws.experiments.create("mine", dataset=tickets, metrics=["rouge"])
    inline_ws.workflows.launch(record, ["baseline/lead-3"])
    inline_ws.workflows.refresh(record)
    widget = launch(inline_ws, experiment="mine")
    assert "succeeded" in next(each.text.value for each in widget.models.children if "lead-3" in each.text.value)
    choice(widget, "models", "The input, unchanged").value = True
    widget.button.click()
    until(lambda: widget.after.children)
    assert widget.experiment.id == record.id
    assert len(inline_ws.workflows.of(record)) == 2
    widget.after.children[0].close()
    with pytest.raises(NotFoundError):
        launch(inline_ws, experiment="gone")
    with pytest.raises(NotFoundError):
        launch(inline_ws, "gone")


def test_names_of_others_are_escaped_in_the_widget(inline_ws):
    from lumigator_nb.widgets.launch import launch

    inline_ws.datasets.upload(pd.DataFrame({"example": ["a"]}), name="<img src=x>", progress=False)
    widget = launch(inline_ws)
    widget.form.change(name="<b>")
    assert "<img" not in widget._repr_mimebundle_()["text/html"]
    widget.close()


# --- The pages of the dashboard ---


@pytest.fixture
def context(inline_ws):
    pytest.importorskip("panel_material_ui")
    from lumigator_nb.dashboards.address import Address
    from lumigator_nb.dashboards.kit import html
    from lumigator_nb.dashboards.shell import Context
    from lumigator_nb.presentation.watcher import Watcher

    made = Context(inline_ws, Watcher(inline_ws), Address(), html())
    made.went = []
    made.go = made.went.append
    yield made
    made.end()


def launch_page(context, fragment):
    from lumigator_nb.dashboards.pages.launch import LaunchPage

    return LaunchPage(context, Route.parse(fragment))


def test_the_page_launches_and_opens_the_experiment(context, tickets, inline_ws):
    page = launch_page(context, "#/launch?dataset=tickets&model=baseline/copy")
    assert page.fields["name"].value == "tickets-summaries"
    assert page.models.value == ["baseline/copy"]
    page.models.value = ["baseline/copy", "baseline/lead-3"]
    page.fields["sample"].value = "3"
    until(lambda: "2 models" in page.estimate.object)
    page.button.param.trigger("clicks")
    until(lambda: context.went)
    assert str(context.went[0]) == "#/experiments/tickets-summaries"
    record = inline_ws.experiments.get("tickets-summaries")
    assert inline_ws.datasets.of(record).n_examples == 3
    assert len(inline_ws.workflows.of(record)) == 2


def test_the_page_marks_the_fields_that_are_wrong(context, tickets):
    page = launch_page(context, "#/launch?dataset=tickets")
    page.fields["temperature"].value = "hot"
    assert page.fields["temperature"].error_state
    assert "not a number" in page.fields["temperature"].helper_text
    page.fields["name"].value = ""
    page.button.param.trigger("clicks")
    until(lambda: "Correct the marked fields" in page.problem.object)
    assert page.fields["name"].error_state
    assert "at least one model" in page.errors["models"].object
    page.fields["name"].value = "mine"
    assert not page.fields["name"].error_state
    assert context.went == []


def test_the_page_follows_the_task(context, tickets):
    page = launch_page(context, "#/launch?dataset=tickets")
    assert not page._task_fields.visible
    page.fields["task"].value = "translation"
    assert page._task_fields.visible
    assert page.fields["name"].value == "tickets-translations"
    assert "hf/facebook/bart-large-cnn" not in {item["key"] for item in page.models.items}


def test_the_page_and_the_widget_ask_for_labels(context, tickets, inline_ws):
    from lumigator_nb.widgets.launch import launch

    page = launch_page(context, "#/launch?dataset=tickets")
    assert not page.fields["labels"].visible
    page.fields["task"].value = "classification"
    assert page.fields["labels"].visible
    page.fields["labels"].value = "a\nb"
    assert page.form.built_task().labels == ("a", "b")
    assert page.metrics.value == ["classification"]
    widget = launch(inline_ws, dataset="tickets")
    assert widget._labels.layout.display == "none"
    widget.fields["task"].value = "classification"
    assert widget._labels.layout.display == ""
    widget.fields["labels"].value = "a\nb"
    assert widget.form.metrics == ("classification",)
    widget.close()


def test_the_page_of_an_experiment_adds_models_and_a_clone_makes_a_new_one(context, tickets, inline_ws):
    record = inline_ws.experiments.create("mine", dataset=tickets, metrics=["rouge"])
    inline_ws.workflows.launch(record, ["baseline/lead-3"])
    more = launch_page(context, "#/launch?experiment=mine")
    assert "tickets" in more.about.object
    assert "Already in this experiment" in next(i["under"] for i in more.models.items if i["key"] == "baseline/lead-3")
    clone = launch_page(context, "#/launch?clone=mine")
    assert (clone.models.value, clone.metrics.value) == (["baseline/lead-3"], ["rouge"])
    assert clone.fields["name"].value == "tickets-summaries"
    for gone in ("dataset", "experiment", "clone"):
        with pytest.raises(NotFoundError):
            launch_page(context, f"#/launch?{gone}=gone")


def test_without_a_dataset_the_page_says_what_to_do(context, inline_ws):
    page = launch_page(context, "#/launch")
    assert "#/upload" in page.layout.object
    inline_ws.datasets.upload(pd.DataFrame({"example": ["a"]}), name="late", progress=False)
    page.refresh()
    assert str(context.went[0]).startswith("#/launch")


def test_the_page_of_models_keeps_its_choices_in_the_address(context):
    from lumigator_nb.dashboards.pages.models import ModelsPage

    page = ModelsPage(context, Route.parse("#/models?search=bart&size=small"))
    assert "hf/<wbr>facebook/<wbr>bart-large-cnn" in page._list.object
    assert "gpt" not in page._list.object
    page.choices["provider"].value = "openai"
    assert context.went[-1].query == {"search": "bart", "size": "small", "provider": "openai"}
    assert page.reroute(Route.parse("#/models?provider=mistral&size=nonsense"))
    assert (page.search.value, page.choices["size"].value) == ("", "")
    assert "No model matches" in page._list.object


def test_a_key_that_is_set_makes_its_models_ready_on_the_open_page(context, monkeypatch):
    from lumigator_nb.dashboards.pages.models import ModelsPage

    monkeypatch.setattr("lumigator_nb.models.base._is_importable", lambda module: True)
    page = ModelsPage(context, Route.parse("#/models?provider=openai"))
    assert "OPENAI_API_KEY is not set" in page._list.object
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    page.refresh()
    until(lambda: "OPENAI_API_KEY is not set" not in page._list.object)
    assert "sk-of-a-test" not in page._list.object

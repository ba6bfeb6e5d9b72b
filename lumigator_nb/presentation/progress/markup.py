"""Progress as markup: one block per model, which is drawn anew only where it differs, and figures over all of them."""

from __future__ import annotations

from collections import Counter

from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, chip, escape, join, name, tag, unfolding
from lumigator_nb.display.text import count, duration, first_line
from lumigator_nb.presentation.markup import link, tiles
from lumigator_nb.presentation.progress.view import ORDER, Act, ModelProgress, ProgressView
from lumigator_nb.presentation.routes import Route
from lumigator_nb.specs import Status

_DOTS = {Status.SUCCEEDED: "good", Status.FAILED: "bad", Status.STOPPED: "bad", Status.RUNNING: "busy"}
_WORDS = {Status.CREATED: "waiting", Status.PENDING: "queued"}


def word(status: Status) -> str:
    """Return what a status is called on screens."""
    return _WORDS.get(status, str(status))


def rollup(counts: Counter[Status]) -> Html:
    """Return how many models stand how, what is under way first."""
    if not counts.total():
        return tag("span", "nothing launched", class_="lm-soft")
    chips = [chip(f"{counts[status]:,} {word(status)}", _DOTS.get(status, "")) for status in ORDER if counts[status]]
    return tag("span", *chips, class_="lm-chips")


def act_words(act: Act, models: list[ModelProgress], *, alone: bool = False) -> str:
    """Return what a button says.

    Args:
        models: with which that is done.
        alone: whether the button belongs to one model, beside whose name it stands.
    """
    if act == "retry":
        return f"Retry {count(sum(model.failed for model in models), 'failed example')}"
    if act == "score":
        return "Score again" if alone else "Compute skipped metrics"
    verb = {"stop": "Stop", "resume": "Resume"}[act]
    return verb if alone else f"{verb} {count(len(models), 'model')}"


def doing_words(act: Act) -> str:
    """Return what a button says while its act goes on."""
    return {"stop": "Stopping…", "resume": "Resuming…", "retry": "Retrying…", "score": "Scoring…"}[act]


def done_words(act: Act, number: int) -> str:
    """Return what is said when an act is done."""
    models = count(number, "model")
    did = {"stop": "stopped", "resume": "resumed", "retry": "asked again", "score": "to be scored again"}
    return f"{models} {did[act]}"


def summary(view: ProgressView) -> Html:
    """Return the figures over all models."""
    if not view.models:
        return Html("")
    n = len(view.models)
    done = sum(view.counts[status] for status in Status if status.ended)
    facts: list[tuple[str, object]] = [("Models ended", f"{done:,} of {n:,}" if done < n else f"{n:,}")]
    facts.append(("Took", took(view.took_s)) if view.ended else ("Running for", _coarse(view.took_s)))
    if not view.ended:
        facts.append(("Time left", "not known yet" if view.left_s is None else f"about {duration_left(view.left_s)}"))
    if view.cost is not None:
        facts.append(("Cost" if view.ended else "Cost so far", dollars(view.cost)))
    return tag("div", rollup(view.counts), tiles(facts), class_="lm-figures-of")


def model_block(model: ModelProgress, place: Route | None = None) -> Html:
    """Return how far one model is, under its name.

    Args:
        place: what its name links to.
    """
    label = name(model.workflow.label)
    head = tag(
        "div",
        tag("span", link(place, label) if place else label, class_="lm-model-name"),
        chip(model.state, _DOTS.get(model.status, "")),
        _standing(model),
        class_="lm-model-head",
    )
    return tag("div", head, *_parts(model), _log(model), class_="lm-model")


def own_block(model: ModelProgress) -> Html:
    """Return how far the model is whose page it is, which names it already."""
    state = tag("div", chip(model.state, _DOTS.get(model.status, "")), _standing(model), class_="lm-model-head")
    return tag("div", state, *_parts(model), class_="lm-model lm-own")


def _parts(model: ModelProgress) -> list[Html | None]:
    return [_bar(model), _figures(model), _skipped(model), _error(model)]


def static(view: ProgressView) -> Html:
    """Return all of it, for a reader without a kernel."""
    return join([heading(view), summary(view), *(model_block(model) for model in view.models)])


def heading(view: ProgressView) -> Html:
    """Return what is shown."""
    return tag("div", view.title, class_="lm-title")


def speed(rate: float | None) -> str:
    """Return a rate with two digits, so that it does not flicker: ``12 examples/s``, ``4.2 s per example``."""
    if not rate:
        return ""
    if rate < 1 / 60:
        return f"{_two(1 / rate / 60)} min per example"
    return f"{_two(rate)} examples/s" if rate >= 1 else f"{_two(1 / rate)} s per example"


def took(seconds: float) -> str:
    """Return how long something took; ``under 1 s`` where that is not worth a figure."""
    return "under 1 s" if seconds < 1 else duration(seconds)


def duration_left(seconds: float) -> str:
    """Return an estimate in one unit or two: ``25 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _two(value: float) -> str:
    return f"{float(f'{value:.2g}'):,g}"


def _coarse(seconds: float) -> str:
    return duration(seconds) if seconds < 60 else duration_left(60 * (seconds // 60))


def _standing(model: ModelProgress) -> Html | None:
    found = model.standing
    if found is None:
        return None
    partial = f" so far, {count(found.n, 'example')}" if found.n and not model.status.ended else ""
    title = "95% interval that holds however often one looks" if found.interval else None
    interval = tag("span", found.interval, class_="lm-soft") if found.interval else None
    return tag(
        "span", f"{found.score} ", tag("b", found.value), " ", interval, partial, class_="lm-standing", title=title
    )


def _bar(model: ModelProgress) -> Html | None:
    if model.status.ended:
        return None
    share = round(100 * model.share)
    return tag(
        "div",
        tag("div", style=f"width:{model.share:.1%}"),
        class_="lm-bar lm-wide" if model.total or model.status is not Status.RUNNING else "lm-bar lm-wide lm-moving",
        role="progressbar",
        aria_valuenow=str(share) if model.total else None,
        aria_valuemin="0",
        aria_valuemax="100",
        aria_label=f"{model.workflow.label}: {model.state}",
    )


def _figures(model: ModelProgress) -> Html | None:
    left = "" if model.left_s is None else f"about {duration_left(model.left_s)} left"
    so_far = "" if model.status.ended else " so far"
    facts = (
        f"{model.done:,} of {count(model.total, 'example')}" if model.total else "",
        speed(model.rate),
        left,
        "" if model.took_s is None else f"took {took(model.took_s)}",
        "" if model.cost is None else f"{dollars(model.cost)}{so_far}",
        f"{model.failed:,} without an answer" if model.failed else "",
        *model.notes,
    )
    said = " · ".join(fact for fact in facts if fact)
    return tag("div", said, class_="lm-soft lm-figures") if said else None


def _skipped(model: ModelProgress) -> Html | None:
    said = first_line(model.skipped, 500)
    return tag("div", said[0].upper() + said[1:], class_="lm-note") if said else None


def _error(model: ModelProgress) -> Html | None:
    if not model.error:
        return None
    first = first_line(model.error, 300)
    if first == model.error.strip():
        return tag("div", first, class_="lm-error")
    return tag("div", tag("div", first, class_="lm-error"), unfolding("Whole message", tag("pre", model.error)))


def _log(model: ModelProgress) -> Html | None:
    if not model.log:
        return None
    # Turned round by its style, so that it opens at its end.
    end = tag("div", tag("pre", escape(model.log)), class_="lm-tail", tabindex="0", aria_label="End of the log")
    return unfolding("End of the log", end)

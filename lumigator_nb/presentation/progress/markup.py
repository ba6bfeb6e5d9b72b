"""Markup of progress: one block per model, and figures for all of them."""

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
    """Return the word for a status on screens."""
    return _WORDS.get(status, str(status))


def rollup(counts: Counter[Status]) -> Html:
    """Return the number of models in each status, running ones first."""
    if not counts.total():
        return tag("span", "nothing launched", class_="lm-soft")
    chips = [chip(f"{counts[status]:,} {word(status)}", _DOTS.get(status, "")) for status in ORDER if counts[status]]
    return tag("span", *chips, class_="lm-chips")


def act_words(act: Act, models: list[ModelProgress], *, alone: bool = False) -> str:
    """Return the label of a button.

    Args:
        models: the models that it acts on.
        alone: whether the button belongs to a single model, beside its name.
    """
    if act == "retry":
        return f"Retry {count(sum(model.failed for model in models), 'failed example')}"
    if act == "score":
        return "Score again" if alone else "Compute skipped metrics"
    verb = {"stop": "Stop", "resume": "Resume"}[act]
    return verb if alone else f"{verb} {count(len(models), 'model')}"


def doing_words(act: Act) -> str:
    """Return the label of a button while it works."""
    return {"stop": "Stopping…", "resume": "Resuming…", "retry": "Retrying…", "score": "Scoring…"}[act]


def done_words(act: Act, number: int) -> str:
    """Return the message after a button has worked."""
    results = {"stop": "stopped", "resume": "resumed", "retry": "asked again", "score": "queued for scoring"}
    return f"{count(number, 'model')} {results[act]}"


def summary(view: ProgressView) -> Html:
    """Return the figures for all models together."""
    if not view.models:
        return Html("")
    n = len(view.models)
    done = sum(view.counts[status] for status in Status if status.ended)
    facts: list[tuple[str, object]] = [("Models finished", f"{done:,} of {n:,}" if done < n else f"{n:,}")]
    if view.ended:
        facts.append(("Took", took(view.took_s)))
    else:
        # Whole minutes, so that the figure does not change with every look.
        seconds = view.took_s
        facts.append(("Running for", duration(seconds) if seconds < 60 else duration_left(60 * (seconds // 60))))
        facts.append(("Time left", "not known yet" if view.left_s is None else f"about {duration_left(view.left_s)}"))
    if view.cost is not None:
        facts.append(("Cost" if view.ended else "Cost so far", dollars(view.cost)))
    return tag("div", rollup(view.counts), tiles(facts), class_="lm-figures-of")


def model_block(model: ModelProgress, place: Route | None = None) -> Html:
    """Return the progress of one model, under its name.

    Args:
        place: page that its name links to.
    """
    label = name(model.workflow.label)
    head = tag(
        "div",
        tag("span", link(place, label) if place else label, class_="lm-model-name"),
        chip(model.state, _DOTS.get(model.status, "")),
        _score(model),
        class_="lm-model-head",
    )
    log = None
    if model.log:
        # Its style reverses the scroll direction, so that the log opens at its end.
        end = tag("div", tag("pre", escape(model.log)), class_="lm-tail", tabindex="0", aria_label="End of the log")
        log = unfolding("End of the log", end)
    return tag("div", head, *_parts(model), log, class_="lm-model")


def own_block(model: ModelProgress) -> Html:
    """Return the progress of one model for its own page, which shows its name already."""
    state = tag("div", chip(model.state, _DOTS.get(model.status, "")), _score(model), class_="lm-model-head")
    return tag("div", state, *_parts(model), class_="lm-model lm-own")


def _parts(model: ModelProgress) -> list[Html | None]:
    """Return bar, figures, skipped metrics and error, as far as there are any."""
    parts: list[Html | None] = []
    if not model.status.ended:
        # Without a total the bar moves to and fro, since a step like that has no share that is done.
        moving = not model.total and model.status is Status.RUNNING
        bar = tag(
            "div",
            tag("div", style=f"width:{model.share:.1%}"),
            class_="lm-bar lm-wide lm-moving" if moving else "lm-bar lm-wide",
            role="progressbar",
            aria_valuenow=str(round(100 * model.share)) if model.total else None,
            aria_valuemin="0",
            aria_valuemax="100",
            aria_label=f"{model.workflow.label}: {model.state}",
        )
        parts.append(bar)
    facts = (
        f"{model.done:,} of {count(model.total, 'example')}" if model.total else "",
        speed(model.rate),
        "" if model.left_s is None else f"about {duration_left(model.left_s)} left",
        "" if model.took_s is None else f"took {took(model.took_s)}",
        "" if model.cost is None else dollars(model.cost) + ("" if model.status.ended else " so far"),
        f"{model.failed:,} without an answer" if model.failed else "",
        *model.notes,
    )
    if figures := " · ".join(fact for fact in facts if fact):
        parts.append(tag("div", figures, class_="lm-soft lm-figures"))
    if skipped := first_line(model.skipped, 500):
        parts.append(tag("div", skipped[0].upper() + skipped[1:], class_="lm-note"))
    if model.error:
        summary_line = first_line(model.error, 300)
        error = tag("div", summary_line, class_="lm-error")
        if summary_line != model.error.strip():
            error = tag("div", error, unfolding("Whole message", tag("pre", model.error)))
        parts.append(error)
    return parts


def static(view: ProgressView) -> Html:
    """Return all progress for a reader without a kernel."""
    return join([heading(view), summary(view), *(model_block(model) for model in view.models)])


def heading(view: ProgressView) -> Html:
    """Return the name of the experiment or the models."""
    return tag("div", view.title, class_="lm-title")


def speed(rate: float | None) -> str:
    """Return a rate as ``12 examples/s`` or ``4.2 s per example``, with two digits, so that it does not flicker."""
    if not rate:
        return ""
    if rate >= 1:
        value, unit = rate, "examples/s"
    elif rate >= 1 / 60:
        value, unit = 1 / rate, "s per example"
    else:
        value, unit = 1 / rate / 60, "min per example"
    return f"{float(f'{value:.2g}'):,g} {unit}"


def took(seconds: float) -> str:
    """Return a duration; ``under 1 s`` for a shorter one."""
    return "under 1 s" if seconds < 1 else duration(seconds)


def duration_left(seconds: float) -> str:
    """Return an estimated duration: ``25 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _score(model: ModelProgress) -> Html | None:
    score = model.interim_score
    if score is None:
        return None
    extent = f" so far, {count(score.n, 'example')}" if score.n and not model.status.ended else ""
    title = "95% interval that stays valid however often you look" if score.interval else None
    interval = tag("span", score.interval, class_="lm-soft") if score.interval else None
    return tag("span", f"{score.score} ", tag("b", score.value), " ", interval, extent, class_="lm-score", title=title)

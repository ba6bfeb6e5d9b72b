"""The result of a check: a gate, what changed per slice, the examples that got worse, and what it cost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display import render
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import fragment, page, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.tables import Cell, Table, escaped, to_html, to_markdown, to_text, wrapped
from lumigator_nb.display.text import count, one_line
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.services.comparison import gates
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.gates import Gate
from lumigator_nb.statistics import Outcome

EXIT_CODES: dict[Outcome, int] = {"passed": 0, "failed": 1, "undecided": 2}
_WIDTH, _CLIP = 100, 300
# What XML 1.0 does not allow, not even escaped.
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, repr=False)
class GateReport(Rendered):
    """A gate with what a reviewer wants to see.

    Attributes:
        name: of the check.
        gate: the gate.
        comparison: the comparison that it was decided on.
        info: the score of `slices` and `worst`.
        slices: one row per slice: `column`, `slice`, `n`, `candidate`, `baseline`, `difference`, `low`, `high`,
            `p_adjusted`, `changed` (whether the difference is shown, corrected for all slices). Without a baseline:
            the first four.
        worst: the examples on which the candidate falls behind the baseline most (without one, scores worst): `row`,
            `difference` or `score`, and the texts.
        n_asked, n_cached: number of answers that models were asked for now, and taken from the answer cache; answers of
            an earlier check of the same models count in neither.
        dollars: what the answers asked for now cost; NaN without a price.
        notes: on the dataset.
    """

    name: str
    gate: Gate
    comparison: Comparison
    info: ScoreInfo
    slices: pd.DataFrame
    worst: pd.DataFrame
    n_asked: int
    n_cached: int
    dollars: float
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The outcome of the gate."""
        return self.gate.outcome

    @property
    def passed(self) -> bool:
        """Whether all rules are shown to be kept."""
        return self.gate.passed

    @property
    def exit_code(self) -> int:
        """0 for passed, 1 for failed, 2 for undecided."""
        return EXIT_CODES[self.outcome]

    def junit(self) -> str:
        """Return the rules as JUnit XML, which CI servers read: a test case per rule; undecided ones are errors."""
        suite = _suite(self.name, len(self.gate.rules))
        for rule in self.gate.rules:
            case = _case(suite, self.name, gates.claim(self.gate, rule))
            decision = rule.decision
            found = f"found {rule.number(decision.value)} [{rule.number(decision.low)}, {rule.number(decision.high)}]"
            if rule.outcome == "failed":
                ElementTree.SubElement(case, "failure", type="failed", message=_xml_text(found))
            elif rule.outcome == "undecided":
                takes = "" if decision.further is None else f"; it takes about {decision.further:,} further examples"
                ElementTree.SubElement(case, "error", type="undecided", message=_xml_text(found + takes))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
        suite.set("errors", str(len(suite.findall("testcase/error"))))
        ElementTree.SubElement(suite, "system-out").text = _xml_text(str(self))
        return _document(suite)


def junit_of_error(name: str, error: Exception) -> str:
    """Return JUnit XML of a check that could not run."""
    suite = _suite(name, 1)
    suite.set("errors", "1")
    case = _case(suite, name, "the check can run")
    ElementTree.SubElement(case, "error", type=type(error).__name__, message=_xml_text(str(error)))
    return _document(suite)


def _suite(name: str, tests: int) -> ElementTree.Element:
    return ElementTree.Element("testsuite", name=_xml_text(name), tests=str(tests), failures="0", errors="0")


def _case(suite: ElementTree.Element, name: str, title: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_xml_text(f"lumigator.{name}"), name=_xml_text(title))


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("�", text)


def _document(suite: ElementTree.Element) -> str:
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def of(
    comparison: Comparison,
    gate: Gate,
    *,
    name: str,
    score: str | None = None,
    asked: Sequence[pd.DataFrame] = (),
    worst: int = 5,
    notes: Sequence[str] = (),
) -> GateReport:
    """Return the report of a check.

    Args:
        comparison: of candidate and baseline.
        gate: its gate.
        name: of the check.
        score: of the slices and examples; default the first that must not be worse, or the main score.
        asked: the predictions that were made now, per model.
        worst: number of examples to show.
        notes: on the dataset.
    """
    compared = [rule.name for rule in gate.rules if rule.kind == "not worse"]
    chosen = score or (compared[0] if compared else comparison.main_score)
    info = next(info for info in comparison.scores if info.name == chosen)
    answers = pd.concat(asked) if asked else pd.DataFrame({"cached": [], "cost": []})
    new = answers[answers["cached"] != True] if "cached" in answers else answers  # noqa: E712 - it may hold None
    costs = pd.to_numeric(new["cost"], errors="coerce") if "cost" in new else pd.Series(dtype=float)
    slices, drops = slice_changes(comparison, gate, info), largest_drops(comparison, gate, info, worst)
    return GateReport(
        name, gate, comparison, info, slices, drops,
        n_asked=len(new), n_cached=len(answers) - len(new),
        dollars=float(costs.sum(min_count=1)) if len(new) else 0.0, notes=tuple(notes),
    )  # fmt: skip


def slice_changes(comparison: Comparison, gate: Gate, info: ScoreInfo) -> pd.DataFrame:
    """Return how the candidate compares with the baseline in each slice; see :class:`GateReport`."""
    values = comparison.values(info.name)
    overall = comparison.slices(None, info.name).reset_index()
    table = overall[["column", "slice", "n", gate.candidate]].rename(columns={gate.candidate: "candidate"})
    if gate.baseline is None:
        return table
    table["baseline"] = overall[gate.baseline]
    differences = values[gate.candidate] - values[gate.baseline]
    rows = []
    labels = {column: comparison.slice_labels(column, info.name) for column in table["column"].unique()}
    for column, label in zip(table["column"], table["slice"], strict=True):
        inside = differences[(labels[column] == label) & differences.notna()].to_numpy()
        if len(inside) > 1:
            found = statistics.paired_difference(inside, np.zeros(len(inside)))
            rows.append((found.estimate, found.low, found.high, found.p_value))
        else:
            rows.append((float(inside.mean()) if len(inside) else math.nan, math.nan, math.nan, math.nan))
    table[["difference", "low", "high", "p_value"]] = rows
    table["p_adjusted"] = statistics.holm(table.pop("p_value").to_numpy())
    table["changed"] = table["p_adjusted"] <= 1 - gate.confidence
    return table


def largest_drops(comparison: Comparison, gate: Gate, info: ScoreInfo, n: int) -> pd.DataFrame:
    """Return the examples on which the candidate falls behind the baseline most; see :class:`GateReport`."""
    values = comparison.values(info.name)
    sign = -1.0 if info.higher_is_better is False else 1.0
    key = "score" if gate.baseline is None else "difference"
    compared = values[gate.candidate] - (0.0 if gate.baseline is None else values[gate.baseline])
    order = (sign * compared).dropna().sort_values(kind="stable").head(n)
    if gate.baseline is not None:
        order = order[order < 0]
    models = [label for label in (gate.candidate, gate.baseline) if label is not None]
    texts = comparison.examples()
    columns = [column for column in texts if column not in comparison.models or column in models]
    worst = texts.loc[order.index, columns]
    worst.insert(0, key, compared.loc[order.index])
    worst.insert(0, "row", order.index)
    return worst.reset_index(drop=True)


def _slices_table(report: GateReport) -> Table:
    show = Figures(report.info, [])
    has_baseline = report.gate.baseline is not None
    rows: list[list[str | Cell]] = []
    for row in report.slices.to_dict("records"):
        cells: list[str | Cell] = [f"{row['column']}: {row['slice']}", f"{row['n']:,}", show.number(row["candidate"])]
        if has_baseline:
            interval = show.interval(row["low"], row["high"])
            mark = ("▼ " if _is_drop(report.info, row["difference"]) else "▲ ") if row["changed"] else ""
            cells += [show.number(row["baseline"]), f"{mark}{show.signed(row['difference'])} {interval}".rstrip()]
        rows.append(cells)
    headers: list[str | Cell] = ["Slice", "n", Cell(report.gate.candidate)]
    if has_baseline:
        headers += [Cell(str(report.gate.baseline)), "Change"]
    note = "▼ ▲ shown at this confidence, corrected for all slices." if has_baseline else ""
    return Table(headers, rows, f"{report.info.name} per slice", note)


def _is_drop(info: ScoreInfo, difference: float) -> bool:
    return difference < 0 if info.higher_is_better is not False else difference > 0


def _worst_title(report: GateReport) -> str:
    what = "scores worst" if report.gate.baseline is None else f"falls behind {report.gate.baseline} most"
    return f"{count(len(report.worst), 'example')} on which {report.gate.candidate} {what} ({report.info.name})"


def _worst_rows(report: GateReport) -> list[tuple[str, list[tuple[str, str]]]]:
    """Per example: a heading, and pairs of label and text."""
    show, key = Figures(report.info, []), "score" if report.gate.baseline is None else "difference"
    rows = []
    for row in report.worst.to_dict("records"):
        number = show.signed(row[key]) if key == "difference" else show.number(row[key])
        texts = [
            (str(name), one_line(value, _CLIP) if isinstance(value, str) else "no answer")
            for name, value in row.items()
            if name not in ("row", key)
        ]
        rows.append((f"row {row['row']}: {number}", texts))
    return rows


def _paid(report: GateReport) -> str:
    if not report.n_asked + report.n_cached:
        return "No model was asked: all results were there already."
    asked = f"{count(report.n_asked, 'answer')} asked for"
    cost = "" if math.isnan(report.dollars) else f" ({dollars(report.dollars)})"
    return f"{asked}{cost}, {report.n_cached:,} from the answer cache."


def _facts(report: GateReport) -> list[str]:
    return [_paid(report), *report.notes]


@render.as_text.register
def _as_text(report: GateReport) -> str:
    """Return the report for a terminal."""
    parts = [report.name, str(report.gate), to_text(_slices_table(report), _WIDTH)]
    if len(report.worst):
        lines = [_worst_title(report)]
        for heading, texts in _worst_rows(report):
            lines += [f"  {heading}", *(f"    {name}: {text}" for name, text in texts)]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "\n".join(wrapped(fact, _WIDTH) for fact in _facts(report))])


@render.as_markdown.register
def _as_markdown(report: GateReport) -> str:
    """Return the report for a pull request, with slices and examples folded."""
    marks = {"passed": "✅", "failed": "❌", "undecided": "❔"}
    lines = [f"## {marks[report.outcome]} {escaped(report.name)}\n", render.as_markdown(report.gate), ""]
    slices = _slices_table(report)
    body = "\n".join(to_markdown(Table(slices.headers, slices.rows, note=slices.note)))
    lines.append(_folded(slices.title, body))
    if len(report.worst):
        texts = [
            "\n".join([f"**{escaped(heading)}**\n", *(f"- {escaped(name)}: {escaped(text)}" for name, text in pairs)])
            for heading, pairs in _worst_rows(report)
        ]
        lines.append(_folded(_worst_title(report), "\n\n".join(texts)))
    return "\n".join([*lines, *(f"- {escaped(fact)}" for fact in _facts(report))]) + "\n"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{tag('b', title)}</summary>\n\n{body}\n\n</details>\n"


@render.as_html.register
def _as_html(report: GateReport) -> str:
    """Return the report for a notebook."""
    return fragment(*_parts(report))


@render.as_page.register
def _as_page(report: GateReport) -> str:
    """Return the report as a page."""
    return page(report.name, *_parts(report))


def _parts(report: GateReport) -> list[object]:
    slices = _slices_table(report)
    worst = [
        [Cell(heading), *(Cell(text) for _, text in texts)]
        for heading, texts in _worst_rows(report)
    ]  # fmt: skip
    columns = [Cell(str(name)) for name in report.worst.columns if name not in ("row", "difference", "score")]
    return [
        tag("div", report.name, class_="lm-title"),
        *gates.body(report.gate),
        tag("div", slices.title, class_="lm-title"),
        to_html(slices),
        *([tag("div", _worst_title(report), class_="lm-title"),
           to_html(Table([Cell(""), *columns], worst, words=range(len(columns) + 1)))] if worst else []),
        *(tag("div", fact, class_="lm-note") for fact in _facts(report)),
    ]  # fmt: skip

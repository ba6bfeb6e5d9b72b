"""A judge's passport in a notebook and in a terminal."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from lumigator_nb.display.html import Html, fragment, table, tag
from lumigator_nb.display.text import MISSING

if TYPE_CHECKING:
    from lumigator_nb.services.comparison.judge_reports import Finding, Passport

_WIDTH, _INDENT = 100, 4


def as_text(passport: Passport) -> str:
    """Return a passport for a terminal."""
    lines = [_title(passport)]
    for finding in passport.findings:
        lines.append(f"  {finding.name}: {_value(finding)}  (ideal {finding.ideal:g}, n = {finding.n:,})")
        lines += textwrap.wrap(finding.meaning, _WIDTH - _INDENT, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def as_html(passport: Passport) -> str:
    """Return a passport for a notebook."""
    return fragment(body(passport))


def body(passport: Passport) -> Html:
    """Return a passport as a part of something larger."""
    rows = [
        [
            tag("span", each.name, tag("span", each.meaning, class_="lm-sub")),
            _value(each),
            f"{each.ideal:g}",
            f"{each.n:,}",
        ]
        for each in passport.findings
    ]
    found = table(["Measured", "Value [interval]", "Ideal", "n"], rows, numeric=(1, 2, 3))
    return tag("div", tag("div", _title(passport), class_="lm-title"), found)


def _title(passport: Passport) -> str:
    unread = f", {passport.unread:,} of {passport.asked:,} verdicts could not be had" if passport.unread else ""
    return f"Judge passport: {passport.judge}{unread}"


def _value(finding: Finding) -> str:
    if math.isnan(finding.value):
        return f"{MISSING} too little to tell"
    bounds = "" if math.isnan(finding.low) else f" [{number(finding.low)}, {number(finding.high)}]"
    return f"{number(finding.value)}{bounds}"


def number(value: float, sign: str = "") -> str:
    """Return two decimals with a true minus, and no minus before zero; `sign` "+" marks what is above zero."""
    shown = f"{abs(value):.2f}"
    if float(shown) == 0:
        return shown
    return f"{'−' if value < 0 else sign}{shown}"

"""Pages from the templates of this package, and what stands on the report of an evaluation.

A page is one HTML file that needs nothing else, no script, no network.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_CHARACTER = 6.4  # width of a letter of the chart font, roughly


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One class: `ap` and `ap50` in 0..1, and how many annotations it has."""

    name: str
    ap: float
    ap50: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision at recall 0, 0.01, ..., 1 for IoU 0.50 and 0.75."""

    title: str
    at50: Sequence[float]
    at75: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """`counts[i][j]`: annotations of class i that were found as class j; the last row and column are "nothing"."""

    names: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text; the first column is aligned to the left, the others to the right."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """An image with its ground truth, and with its predictions, as JPEG bytes."""

    caption: str
    truth: bytes
    prediction: bytes


@dataclass(frozen=True, kw_only=True)
class BarGroup:
    """A chart of classes."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page, as text and numbers.

    Attributes:
        title: heading of the page.
        facts: short lines below it.
        headline: label and value of the large figures.
        tables: in order.
        bars: charts of AP per class.
        curves: precision over recall; the first is the mean of all classes.
        confusion: None leaves the chapter out; `confused` is the list beside it.
        best, worst: images.
        notes: what a reader must know.
    """

    title: str
    facts: Sequence[str]
    headline: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    bars: Sequence[BarGroup]
    curves: Sequence[Curve]
    confusion: Confusion | None
    confused: Table | None
    best: Sequence[ImagePair]
    worst: Sequence[ImagePair]
    notes: Sequence[str]


def render_report(report: Report) -> str:
    """The page as HTML text."""
    return render("report.html.j2", report=report)


def render(template: str, **content: Any) -> str:
    """A template of this package with its content, of which everything is escaped."""
    return _environment().get_template(template).render(**content)


def chart(name: str, *content: Any) -> str:
    """A chart of the report alone: "bar_chart", "curve_chart" or "confusion_chart" of `charts.svg.j2`, as SVG text."""
    module = _environment().get_template("charts.svg.j2").module
    return str(getattr(module, name)(*content))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vlpart.visualize"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"embedded": _embedded, "fit": _fit, "percent": lambda share: f"{100 * share:.1f}"}
    environment.globals["character"] = _CHARACTER
    return environment


def _embedded(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _fit(text: str, width: float) -> str:
    """As much of a text as fits into `width` pixels of a chart."""
    limit = max(int(width / _CHARACTER), 2)
    return text if len(text) <= limit else text[: limit - 1] + "…"

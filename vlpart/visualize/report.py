"""The report page of an evaluation: one HTML file that needs nothing else, no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from vlpart.visualize.report_charts import Bar, Confusion, Curve, bar_chart, confusion_chart, curve_chart

STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text; the first column is aligned to the left, the others to the right."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """A picture with its ground truth, and with its predictions, as JPEG bytes."""

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
        best, worst: pictures.
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
    best: Sequence[PicturePair]
    worst: Sequence[PicturePair]
    notes: Sequence[str]


def render_report(report: Report) -> str:
    """The page as HTML text."""
    body = [
        f"<header><h1>{escape(report.title)}</h1><p>{' &middot; '.join(map(escape, report.facts))}</p></header>",
        _headline(report.headline),
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        *map(_table, report.tables),
        _curves(report.curves),
        _bars(report.bars),
        _confusion(report),
        _pictures("Worst pictures", report.worst),
        _pictures("Best pictures", report.best),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style>"
    )
    main = "\n".join(body)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{main}\n</main></body></html>\n'


def _headline(figures: Sequence[tuple[str, str]]) -> str:
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for label, value in figures)
    return f'<section class="tiles">{tiles}</section>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in table.headings)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    about = f"<p>{escape(table.about)}</p>" if table.about else ""
    inner = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<section><h2>{escape(table.title)}</h2>{about}{inner}</section>"


def _curves(curves: Sequence[Curve]) -> str:
    if not curves:
        return ""
    key = '<p class="key"><i class="k50"></i> IoU 0.50 <i class="k75"></i> IoU 0.75; precision over recall</p>'
    first, *others = curves
    small = "".join(curve_chart(curve) for curve in others)
    charts = f'<div class="curves">{curve_chart(first, 280)}{small}</div>'
    return f"<section><h2>Precision and recall</h2>{key}{charts}</section>"


def _bars(groups: Sequence[BarGroup]) -> str:
    if not groups:
        return ""
    key = (
        '<p class="key"><i class="kb"></i> AP over IoU 0.50:0.95 <i class="kb50"></i> AP50, in percent; '
        "right: number of annotations</p>"
    )
    charts = "".join(
        f'<h3>{escape(group.title)}</h3><div class="wide">{bar_chart(group.bars, group.title)}</div>'
        for group in groups
    )
    return f"<section><h2>Classes</h2>{key}{charts}</section>"


def _confusion(report: Report) -> str:
    if report.confusion is None:
        return ""
    about = (
        "<p>Rows are what is annotated, columns what it was found as (IoU 0.5 or more), in percent of the row. "
        "The last column was not found; the last row was found where nothing is annotated.</p>"
    )
    matrix = f'<div class="wide">{confusion_chart(report.confusion)}</div>'
    table = "" if report.confused is None else _table(report.confused).replace("h2>", "h3>")
    return f"<section><h2>Confusion between parts</h2>{about}{matrix}</section>{table}"


def _pictures(title: str, pairs: Sequence[PicturePair]) -> str:
    if not pairs:
        return ""
    figures = "".join(
        f'<figure><div><img alt="ground truth" src="{_embedded(pair.truth)}">'
        f'<img alt="prediction" src="{_embedded(pair.prediction)}"></div>'
        f"<figcaption>{escape(pair.caption)}</figcaption></figure>"
        for pair in pairs
    )
    about = '<p class="key">left: ground truth, right: prediction</p>'
    return f'<section><h2>{escape(title)}</h2>{about}<div class="pictures">{figures}</div></section>'


def _embedded(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")

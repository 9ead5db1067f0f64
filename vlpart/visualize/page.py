"""The report page of an evaluation and its charts: one HTML file that needs nothing else, no script, no network.
Colours are CSS classes of the page, so that charts follow its theme.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_ROW = 19
_LABEL = 200
_PLOT = 400
_CELL = 21
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


def bar_chart(bars: Sequence[Bar], title: str) -> str:
    """Horizontal bars, AP before a lighter AP50, with the values in percent."""
    height = len(bars) * _ROW + 26
    width = _LABEL + _PLOT + 150
    parts = [_open(width, height, title)]
    for tick in (0, 25, 50, 75, 100):
        x = _LABEL + _PLOT * tick / 100
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="18" x2="{x:.1f}" y2="{height - 6}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="12" text-anchor="middle">{tick}</text>')
    for i, bar in enumerate(bars):
        y = 20 + i * _ROW
        hint = f"{bar.name}: AP {100 * bar.ap:.1f}, AP50 {100 * bar.ap50:.1f}, {bar.count} annotations"
        name = escape(_shortened(bar.name, _LABEL - 12))
        parts.append(f"<g><title>{escape(hint)}</title>")
        parts.append(f'<text class="label" x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{name}</text>')
        parts.append(
            f'<rect class="bar50" x="{_LABEL}" y="{y + 1}" width="{_PLOT * bar.ap50:.1f}" height="14" rx="2"/>'
        )
        parts.append(f'<rect class="bar" x="{_LABEL}" y="{y + 4}" width="{_PLOT * bar.ap:.1f}" height="8" rx="2"/>')
        value = f"{100 * bar.ap:.1f} / {100 * bar.ap50:.1f}"
        parts.append(f'<text class="value" x="{_LABEL + _PLOT + 10}" y="{y + 12}">{value}</text>')
        parts.append(f'<text class="tick" x="{width - 4}" y="{y + 12}" text-anchor="end">{bar.count}</text></g>')
    return "".join([*parts, "</svg>"])


def curve_chart(curve: Curve, side: int = 200) -> str:
    """Precision over recall, two lines."""
    left, top = 32, 24
    plot = side - left - 8
    parts = [_open(side, side, f"Precision and recall: {curve.title}")]
    heading = escape(_shortened(curve.title, side - 8))
    parts.append(f'<text class="label" x="{left}" y="14">{heading}</text>')
    for tick in (0, 0.5, 1):
        across, down = left + plot * tick, top + plot * (1 - tick)
        parts.append(f'<line class="grid" x1="{left}" y1="{down:.1f}" x2="{left + plot}" y2="{down:.1f}"/>')
        parts.append(f'<line class="grid" x1="{across:.1f}" y1="{top}" x2="{across:.1f}" y2="{top + plot}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{down + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{across:.1f}" y="{top + plot + 13}" text-anchor="middle">{tick:g}</text>')
    for values, name in ((curve.at75, "line75"), (curve.at50, "line50")):
        step = plot / max(len(values) - 1, 1)
        points = " ".join(f"{left + i * step:.1f},{top + plot * (1 - value):.1f}" for i, value in enumerate(values))
        parts.append(f'<polyline class="{name}" points="{points}"/>')
    return "".join([*parts, "</svg>"])


def confusion_chart(confusion: Confusion) -> str:
    """A matrix, each row shaded by the share of its annotations; the last column is what was missed."""
    names = [*confusion.names, "nothing"]
    left = int(min(max(len(name) for name in names), 26) * _CHARACTER) + 14
    top = left
    width, height = left + _CELL * len(names) + 8, top + _CELL * len(names) + 8
    parts = [_open(width, height, "Confusion between parts")]
    for j, name in enumerate(names):
        x = left + j * _CELL + _CELL * 0.65
        text = escape(_shortened(name, 26 * _CHARACTER))
        parts.append(f'<text class="label" transform="translate({x:.1f},{top - 6}) rotate(-90)">{text}</text>')
    for i, (name, row) in enumerate(zip(names, confusion.counts, strict=True)):
        y = top + i * _CELL
        text = escape(_shortened(name, 26 * _CHARACTER))
        parts.append(f'<text class="label" x="{left - 6}" y="{y + 14}" text-anchor="end">{text}</text>')
        total = max(sum(row), 1)
        for j, count in enumerate(row):
            if not count:
                continue
            share = count / total
            hint = f"{name} found as {names[j]}: {count} ({100 * share:.0f}%)" if i < len(names) - 1 else ""
            hint = hint or f"{names[j]} found where nothing of it is annotated: {count}"
            place = f'x="{left + j * _CELL}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}"'
            kind = "right" if i == j else "wrong"
            cell = f'<rect class="{kind}" {place} fill-opacity="{max(share, 0.04):.2f}"/>'
            number = f"{100 * share:.0f}" if share >= 0.05 else ""
            tone = "strong" if share >= 0.55 else "weak"
            mark = f'<text class="cell {tone}" x="{left + (j + 0.48) * _CELL:.1f}" y="{y + 14}">{number}</text>'
            parts.append(f"<g><title>{escape(hint)}</title>{cell}{mark if number else ''}</g>")
    parts.append(
        f'<rect class="frame" x="{left - 0.5}" y="{top - 0.5}" width="{_CELL * len(names)}" '
        f'height="{_CELL * len(names)}"/>'
    )
    return "".join([*parts, "</svg>"])


def _open(width: float, height: float, title: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title, quote=True)}" {size}>'


def _shortened(text: str, width: float) -> str:
    limit = max(int(width / _CHARACTER), 2)
    return text if len(text) <= limit else text[: limit - 1] + "…"


STYLE = Path(__file__).with_name("report.css")


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
    body = [
        f"<header><h1>{escape(report.title)}</h1><p>{' &middot; '.join(map(escape, report.facts))}</p></header>",
        _headline(report.headline),
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        *map(_table, report.tables),
        _curves(report.curves),
        _bars(report.bars),
        _confusion(report),
        _images("Worst images", report.worst),
        _images("Best images", report.best),
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


def _images(title: str, pairs: Sequence[ImagePair]) -> str:
    if not pairs:
        return ""
    figures = "".join(
        f'<figure><div><img alt="ground truth" src="{_embedded(pair.truth)}">'
        f'<img alt="prediction" src="{_embedded(pair.prediction)}"></div>'
        f"<figcaption>{escape(pair.caption)}</figcaption></figure>"
        for pair in pairs
    )
    about = '<p class="key">left: ground truth, right: prediction</p>'
    return f'<section><h2>{escape(title)}</h2>{about}<div class="images">{figures}</div></section>'


def _embedded(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")

"""Pictures of a training run: its batches with their targets, and its figures over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vlpart.data.preprocess import PIXEL_MEAN, PIXEL_STD
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import Batch, Targets
from vlpart.visualize import labels as typeface
from vlpart.visualize.labels import shortened
from vlpart.visualize.palette import INK, RGB, WHITE, class_colour

CELL = 640
"""Longer side of an image of a batch."""
MOST = 16
"""Images of a batch that are drawn."""
_GAP = 12
_GREY: RGB = (140, 144, 152)
_LIGHT: RGB = (228, 230, 234)

Series = list[tuple[float, float]]


def draw_batch(batch: Batch, vocabulary: Vocabulary) -> Image.Image:
    """The images of a batch as the network gets them, with boxes, masks and names of their targets, as one sheet.

    Args:
        batch: on any device; at most 16 images are drawn.
        vocabulary: of its source.
    """
    cells = [
        _cell(pixels, size, targets, vocabulary, str(path))
        for pixels, size, targets, path in zip(
            batch.images.pixels[:MOST], batch.images.sizes_hw, batch.targets, _paths(batch), strict=False
        )
    ]
    columns = math.ceil(math.sqrt(len(cells)))
    width = max(cell.width for cell in cells)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, sum(heights) + _GAP * (len(rows) + 1)), WHITE)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for place, cell in enumerate(row):
            sheet.paste(cell, (_GAP + place * (width + _GAP), top))
        top += height + _GAP
    return sheet


def _paths(batch: Batch) -> Sequence[str]:
    return list(batch.paths) or [""] * len(batch.targets)


def _cell(pixels: Any, size: tuple[int, int], targets: Targets, vocabulary: Vocabulary, path: str) -> Image.Image:
    """One image with its targets, and a line below it."""
    height, width = int(size[0]), int(size[1])
    values = pixels[:, :height, :width].detach().cpu().float().numpy()
    raw = values.transpose(1, 2, 0) * np.array(PIXEL_STD) + np.array(PIXEL_MEAN)
    image: NDArray[np.uint8] = np.clip(np.rint(raw), 0, 255).astype(np.uint8)
    boxes = targets.boxes_xyxy.detach().cpu().numpy().reshape(-1, 4)
    result = Result(
        image_size=(height, width),
        boxes_xyxy=boxes,
        scores=np.ones(len(boxes)),
        class_ids=targets.labels.cpu().numpy().reshape(-1),
        masks=None if targets.masks is None or not len(boxes) else targets.masks.cpu().numpy(),
        vocabulary=vocabulary,
    )
    drawn = result.plot(image, scores=False, minimum_side=CELL)
    font = typeface.load(15)
    named = [vocabulary.names[int(label)] for label in targets.image_labels]
    text = f"{path.replace(chr(92), '/').rpartition('/')[2]}  {width}x{height}"
    text += f"  contains: {', '.join(named)}" if named else "" if len(boxes) else "  nothing is annotated"
    cell = Image.new("RGB", (drawn.width, drawn.height + 26), WHITE)
    cell.paste(drawn, (0, 0))
    shown = shortened(text, font, drawn.width - 8)
    ImageDraw.Draw(cell).text((4, drawn.height + 18), shown, font=font, fill=INK, anchor="ls")
    return cell


@dataclass(frozen=True)
class _Panel:
    """One chart: lines by name, each (step, value); `best` marks the highest point of the first."""

    title: str
    lines: Mapping[str, Series]
    best: bool = False
    percent: bool = False


def draw_curves(records: Iterable[Mapping[str, Any]], title: str) -> Image.Image:
    """Losses, learning rate and evaluations of a run over its steps.

    Args:
        records: of `log.jsonl`: those with the event "step" and "evaluation".
        title: over the panels.
    """
    steps = [r for r in records_of(records, "step") if math.isfinite(r.get("loss", math.nan))]
    scored = records_of(records, "evaluation")
    losses = sorted({name for record in steps for name in record.get("losses", {})})
    panels = [
        _Panel("loss", {"all": _smooth([(r["step"], r["loss"]) for r in steps])}),
        _Panel("losses one by one", {n.removeprefix("loss_"): _smooth(_values(steps, n)) for n in losses}),
        _Panel("learning rate", {"": [(r["step"], r["lr"]) for r in steps if "lr" in r]}),
    ]
    if scored:
        names = [n for n, v in scored[-1].items() if n not in ("step", "event") and isinstance(v, int | float)]
        chosen = sorted(names, key=lambda name: name != "score")[:6]
        figures = {n: [(r["step"], r[n]) for r in scored if math.isfinite(r.get(n, math.nan))] for n in chosen}
        panels.insert(0, _Panel("evaluation, percent", figures, best=True, percent=True))
    width, height, top = 760, 420, 60
    rows = -(-len(panels) // 2)
    sheet = Image.new("RGB", (2 * width + 20, rows * height + top + 10), WHITE)
    ImageDraw.Draw(sheet).text((30, 40), title, font=typeface.load(26), fill=INK, anchor="ls")
    for place, panel in enumerate(panels):
        sheet.paste(_chart(panel, width, height), (10 + place % 2 * width, top + place // 2 * height))
    return sheet


def records_of(records: Iterable[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    """Those of one event."""
    return [record for record in records if record.get("event") == event]


def _values(steps: Sequence[Mapping[str, Any]], name: str) -> Series:
    found = [(r["step"], r["losses"][name]) for r in steps if name in r.get("losses", {})]
    return [(step, value) for step, value in found if math.isfinite(value)]


def _smooth(series: Series) -> Series:
    """Means over a fiftieth of the run to either side, so that a line is seen and not its noise."""
    reach = max(1, len(series) // 50)
    if len(series) < 20:
        return series
    values = np.array([value for _, value in series])
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - reach, 0)
    last = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    means = (sums[last] - sums[first]) / (last - first)
    return [(step, float(mean)) for (step, _), mean in zip(series, means, strict=True)]


def _chart(panel: _Panel, width: int, height: int) -> Image.Image:
    """A panel, drawn twice as large and scaled down."""
    scale = 2
    image = Image.new("RGB", (width * scale, height * scale), WHITE)
    draw = ImageDraw.Draw(image)
    font, small = typeface.load(16 * scale), typeface.load(13 * scale)
    factor = 100.0 if panel.percent else 1.0
    lines = {n: [(x, y * factor) for x, y in points] for n, points in panel.lines.items() if points}
    draw.text((20 * scale, 24 * scale), panel.title, font=font, fill=INK, anchor="ls")
    if not lines:
        return image.reduce(scale)
    x0, y0, x1, y1 = (v * scale for v in (70, 44, width - 190, height - 44))
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    ticks_x, ticks_y = nice_ticks(min(0.0, *xs), max(*xs, 1.0)), nice_ticks(min(0.0, *ys), max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        """Where a point of the curve is in the picture."""
        across = (x - ticks_x[0]) / (ticks_x[-1] - ticks_x[0])
        up = (y - ticks_y[0]) / (ticks_y[-1] - ticks_y[0])
        return x0 + across * (x1 - x0), y1 - up * (y1 - y0)

    for tick in ticks_y:
        _, y = at(ticks_x[0], tick)
        draw.line((x0, y, x1, y), fill=_LIGHT, width=scale)
        draw.text((x0 - 8 * scale, y), f"{tick:g}", font=small, fill=_GREY, anchor="rm")
    for tick in ticks_x:
        x, _ = at(tick, ticks_y[0])
        draw.line((x, y1, x, y1 + 5 * scale), fill=_GREY, width=scale)
        draw.text((x, y1 + 9 * scale), f"{tick:g}", font=small, fill=_GREY, anchor="mt")
    for place, (name, points) in enumerate(lines.items()):
        _draw_line(draw, [at(*point) for point in points], class_colour(place), scale)
        y = y0 + (place + 0.5) * 22 * scale
        if name:
            draw.line((x1 + 14 * scale, y, x1 + 34 * scale, y), fill=class_colour(place), width=4 * scale)
            text = shortened(name, small, width * scale - x1 - 46 * scale)
            draw.text((x1 + 40 * scale, y), text, font=small, fill=INK, anchor="lm")
    if panel.best:
        _mark_best(draw, next(iter(lines.values())), at, small, scale)
    return image.reduce(scale)


def _draw_line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: RGB, scale: int) -> None:
    if len(points) > 1:
        draw.line(list(points), fill=colour, width=3 * scale, joint="curve")
    if len(points) <= 40:
        for x, y in points:
            draw.ellipse((x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale), fill=colour)


def _mark_best(draw: ImageDraw.ImageDraw, series: Series, at: Any, font: Any, scale: int) -> None:
    step, value = max(series, key=lambda point: point[1])
    x, y = at(step, value)
    draw.ellipse((x - 8 * scale, y - 8 * scale, x + 8 * scale, y + 8 * scale), outline=INK, width=2 * scale)
    draw.text((x, y - 12 * scale), f"{value:.1f} at {step:g}", font=font, fill=INK, anchor="mb")


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that enclose a range, at least two: 0, 20, 40, ..."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        span = abs(high) or 1.0
        low, high = min(low, high), min(low, high) + span
    exact = span / (most - 1)
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= exact * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]

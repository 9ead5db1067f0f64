"""Draw the losses of a training run: `python scripts/training_curves.py RUN/log.jsonl curves.svg`.

Reads the log that `vlpart train` writes (one JSON object per step) and draws every loss, averaged over windows of
steps, as an SVG image.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 420, 56, 36, 170, 44
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito: colour-blind-safe


def read_steps(path: Path) -> list[dict[str, object]]:
    """The steps of a log; where a run was resumed, the later one of two equal steps counts."""
    steps: dict[int, dict[str, object]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("event") == "step" and not row.get("skipped"):
            steps[int(row["step"])] = row
    return [steps[number] for number in sorted(steps)]


def windows(steps: list[dict[str, object]], size: int) -> dict[str, list[tuple[float, float]]]:
    """Mean of every loss in windows of `size` steps: name -> (step, mean)."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for start in range(0, len(steps) - size + 1, size):
        window = steps[start : start + size]
        sums: dict[str, list[float]] = defaultdict(list)
        for row in window:
            for name, value in {**row["losses"], "total": row["loss"]}.items():  # type: ignore[dict-item]
                sums[name].append(float(value))
        middle = float(str(window[len(window) // 2]["step"]))
        for name, values in sums.items():
            curves[name].append((middle, sum(values) / len(values)))
    return dict(curves)


def draw(curves: dict[str, list[tuple[float, float]]], title: str) -> str:
    """An SVG image of the curves, linear axes from zero."""
    last = max(step for points in curves.values() for step, _ in points)
    top = max(value for points in curves.values() for _, value in points) * 1.05
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(step: float, value: float) -> str:
        return f"{LEFT + step / last * plot_width:.1f},{TOP + (1 - value / top) * plot_height:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
    ]
    for i in range(6):
        x0, y0 = place(0, top * i / 5).split(",")
        parts.append(f'<line x1="{x0}" x2="{WIDTH - RIGHT}" y1="{y0}" y2="{y0}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y0}" text-anchor="end" dominant-baseline="middle">{top * i / 5:.2g}</text>'
        )
        x1, y1 = place(last * i / 5, 0).split(",")
        parts.append(f'<text x="{x1}" y="{float(y1) + 20}" text-anchor="middle">{last * i / 5:.0f}</text>')
    parts.append(f'<text x="{LEFT + plot_width / 2}" y="{HEIGHT - 6}" text-anchor="middle">step</text>')
    order = sorted(curves, key=lambda name: -curves[name][-1][1])
    for index, name in enumerate(order):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(place(*point) for point in curves[name])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = TOP + 14 + 20 * index
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y}">{name} {curves[name][-1][1]:.3f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Read, average, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("log", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--window", type=int, default=100, help="steps that are averaged")
    parser.add_argument("--title", default="training losses")
    arguments = parser.parse_args()
    steps = read_steps(arguments.log)
    if len(steps) < arguments.window:
        parser.error(f"{arguments.log} has {len(steps)} steps, less than one window of {arguments.window}")
    arguments.output.write_text(draw(windows(steps, arguments.window), arguments.title), encoding="utf-8")


if __name__ == "__main__":
    main()

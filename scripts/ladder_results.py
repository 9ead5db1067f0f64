"""The results of `ladder.py` as a table and as an image: AP of the arms that have been evaluated, in `runs/`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from html import escape
from pathlib import Path
from statistics import stdev, variance

from vlpart.evaluation.average_precision import Rule, score_detections
from vlpart.recipes.ladder import NOVEL_OBJECTS

ARMS = {
    "ladder_parts": "(a) base parts",
    "ladder_objects": "(b) + objects",
    "ladder_labels": "(c) + image labels",
    "ladder_parsed_published": "(d) + parsed parts, as published",
    "ladder_parsed": "(d) + parsed parts, ours",
    "ladder_oracle": "oracle",
}

#: Detections of an image that count, over all 266 names: the number that is usual for many names (LVIS, PACO).
DETECTIONS = 300

#: Groups of classes with so many annotations in val are scored, too: the AP of a class with one is chance.
MANY = 10

#: Titles of the two rules by which the arms are scored.
RULES: dict[Rule, str] = {"lvis": "annotated classes only", "coco": "all classes"}

#: Mask AP and AP50 in percent of each group of classes ("all", "base", ...), one pair per seed.
Groups = dict[str, list[tuple[float, float]]]
#: The groups of every arm, under both rules.
Results = dict[Rule, dict[str, Groups]]


def run_folder(arm: str, seed: int = 0, training: int = 1) -> Path:
    """Where an arm is trained, for the first time or once more from its own weights (round 2, 3, ...)."""
    name = arm if seed == 0 else f"{arm}_seed{seed}"
    return Path("runs") / (name if training == 1 else f"{name}_round{training}")


def results(root: Path, seeds: list[int], rounds: int = 1) -> Results:
    """Scores of the arms that have been evaluated after so many rounds."""
    truth = json.loads((root / "ade_parts" / "val.json").read_text(encoding="utf-8"))
    names = {c["id"]: c for c in truth["categories"]}
    annotated = Counter(a["category_id"] for a in truth["annotations"])
    parts = sorted(i for i in annotated if names[i]["part"])
    groups = {
        "all": parts,
        "base": [i for i in parts if names[i]["object"] not in NOVEL_OBJECTS],
        "novel": [i for i in parts if names[i]["object"] in NOVEL_OBJECTS],
    }
    for group in ("base", "novel"):
        groups[f"{group}, {MANY}+"] = [i for i in groups[group] if annotated[i] >= MANY]
    found: Results = {rule: {} for rule in RULES}
    for arm, title in {"ladder_base": "the common start", **ARMS}.items():
        for folder in [run_folder(arm, seed, rounds) for seed in seeds] if arm in ARMS else [run_folder(arm)]:
            path = folder / "evaluation" / "predictions.json"
            if not path.is_file():
                continue
            predictions = json.loads(path.read_text(encoding="utf-8"))
            for rule in RULES:
                scores = score_detections(
                    truth, predictions, rule=rule, max_detections=DETECTIONS, kinds=("masks",), groups=groups
                ).masks
                assert scores is not None
                rows = found[rule].setdefault(title, {group: [] for group in groups})
                for group in groups:
                    rows[group].append((scores.groups[group].ap * 100, scores.groups[group].ap50 * 100))
    return found


def table(found: Results) -> str:
    """AP / AP50 under both rules, several seeds as mean ± standard deviation; then how arms differ from (a)."""
    lines = []
    for rule, title in RULES.items():
        arms = found[rule]
        lines += _rows(title, {arm: _cells(groups, _spread) for arm, groups in arms.items()})
        several = {arm: groups for arm, groups in arms.items() if len(groups["all"]) > 1}
        first = several.pop(ARMS["ladder_parts"], None)
        if first and several:
            changes = {arm: _cells(groups, _difference, first) for arm, groups in several.items()}
            lines += _rows(f"{title}: change from (a), ± standard error", changes)
    return "\n".join(lines)


def _rows(title: str, cells: dict[str, dict[str, str]]) -> list[str]:
    """A table with an empty line after it; `cells` are those of each arm by group."""
    groups = next(iter(cells.values()), {})
    head = [f"| {title} | {' | '.join(groups)} |", "| --- " * (len(groups) + 1) + "|"]
    return [*head, *(f"| {arm} | {' | '.join(texts.values())} |" for arm, texts in cells.items()), ""]


def _cells(groups: Groups, text: Callable[..., str], *others: Groups) -> dict[str, str]:
    """`text` of the values of all seeds, of this arm and of others, for AP and AP50 of every group."""
    arms = (groups, *others)
    return {
        group: " / ".join(text(*([pair[k] for pair in arm[group]] for arm in arms)) for k in (0, 1)) for group in groups
    }


def _spread(values: list[float]) -> str:
    mean = f"{_mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):.1f}"


def _difference(values: list[float], first: list[float]) -> str:
    error = math.sqrt(sum(variance(each) / len(each) for each in (values, first)))
    return f"{round(_mean(values) - _mean(first), 1) + 0.0:+.1f} ± {error:.1f}"  # + 0.0: there is no minus zero


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def chart(found: Results) -> str:
    """An SVG image of AP50, novel and base parts side by side, a panel for each rule; lines span the seeds."""
    label, plot, bar, gap, top = 210, 230, 11, 12, 58
    arms = list(found["coco"])
    width, height = label + len(RULES) * (plot + 60), top + len(arms) * (2 * bar + gap) + 10
    colours = {"novel": "#D55E00", "base": "#9CC3DE"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/><g font-size="12">',
    ]
    for k, (group, colour) in enumerate(colours.items()):
        parts.append(f'<rect x="{12 + 80 * k}" y="12" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{28 + 80 * k}" y="22">{group}</text>')
    for panel, (rule, title) in enumerate(RULES.items()):
        left = label + panel * (plot + 60)
        largest = max(_mean([p[1] for p in groups[g]]) for groups in found[rule].values() for g in colours)
        parts.append(f'<text x="{left}" y="22" font-size="13">AP50, {title}</text>')
        parts.append(f'<line x1="{left}" x2="{left}" y1="{top - 8}" y2="{height - 8}" stroke="#999"/>')
        for row, arm in enumerate(arms):
            y = top + row * (2 * bar + gap)
            if panel == 0:
                parts.append(f'<text x="{label - 10}" y="{y + bar + 4}" text-anchor="end">{escape(arm)}</text>')
            for k, (group, colour) in enumerate(colours.items()):
                values = [pair[1] for pair in found[rule][arm][group]]
                value, ends = _mean(values), [plot * each / largest for each in values]
                length, down = plot * value / largest, y + k * bar
                parts.append(f'<rect x="{left}" y="{down}" width="{length:.1f}" height="{bar - 1}" fill="{colour}"/>')
                parts.append(
                    f'<line x1="{left + min(ends):.1f}" x2="{left + max(ends):.1f}" y1="{down + 5}" y2="{down + 5}" '
                    'stroke="#333"/>'
                )
                beside = left + max(ends) + 5
                parts.append(f'<text x="{beside:.1f}" y="{down + 9}" font-size="10">{value:.1f}</text>')
    return "\n".join([*parts, "</g></svg>", ""])

"""Run the ladder of docs/ladder.md from the data to the table, or go on where it stopped.

    python scripts/ladder.py ROOT [--seed 1] [--only parse,ladder_parsed]

ROOT holds `ade_parts` and `imagenet_samples`. Every step is one `vlpart` command, which is printed; steps whose result
is there are skipped, and interrupted ones go on. `--dry-run` prints the commands only, `--table` prints the table of
what is there. With `--seed` the arms are trained once more from the same start, into runs of their own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vlpart.evaluation.coco import Rule, score_detections
from vlpart.recipes.ladder import FIRST_PHASE, NOVEL_OBJECTS, PARSED, PARSED_AS_PUBLISHED, START

ARMS = {
    "ladder_parts": "(a) base parts",
    "ladder_objects": "(b) + objects",
    "ladder_labels": "(c) + image labels",
    "ladder_parsed_published": "(d) + parsed parts, as published",
    "ladder_parsed": "(d) + parsed parts, ours",
    "ladder_oracle": "oracle",
}

#: Base objects that may lend their parts.
SOURCES = {
    "bench": "chair, armchair, sofa",
    "bus": "car",
    "truck": "car",
    "van": "car",
    "desk": "table, coffee table, cabinet",
    "fan": "chandelier, lamp, light",
    "kitchen island": "cabinet, chest of drawers, table",
    "ottoman": "sofa, armchair, chair, coffee table",
    "oven": "microwave, dishwasher, cooking stove",
    "stool": "chair",
    "swivel chair": "chair, armchair",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, and the file that is there once it has run."""

    name: str
    result: Path
    command: list[str]


def steps(root: Path, seed: int, threads: int) -> list[Step]:
    """All steps in order; the paths of the recipes are relative to the working folder."""
    data, first, start = root / "ade_parts", Path(FIRST_PHASE), Path(START)
    files = ["--annotations", str(data / "train.json"), "--images", str(data / "images")]
    novel = ", ".join(sorted(NOVEL_OBJECTS))
    weights = ["--feature-weights", str(first)]
    find = ["--labels", str(data / "train.json"), "--images", str(data / "images"), "--only-labels", novel]
    find += ["--names", str(data / "train.json"), "--model", str(first), *weights]
    find += ["--from", "; ".join(f"{label}: {bases}" for label, bases in SOURCES.items())]
    found = [
        _train("ladder_start", first.parent, root, 0, threads),
        _train("ladder_base", start.parent, root, 0, threads),
    ]
    for bank, unit, sure, output in (
        (Path("runs/ladder_bank"), ["--objects"], ["--min-confidence", "0.4"], Path(PARSED)),
        (Path("runs/ladder_bank_pictures"), [], [], Path(PARSED_AS_PUBLISHED)),
    ):
        build = ["parse", "build", str(bank), *unit, *files, "--exclude-objects", novel, "--features", "embedded"]
        found.append(Step(name="parse", result=bank / "bank.json", command=[*build, *weights]))
        found.append(
            Step(
                name="parse", result=output, command=["parse", "find", str(bank), *find, *sure, "--output", str(output)]
            )
        )
    for arm in ("ladder_base", *ARMS):
        run = run_folder(arm, 0 if arm == "ladder_base" else seed)
        if arm in ARMS:
            found.append(_train(arm, run, root, seed, threads))
        evaluate = ["evaluate", str(run / "weights.safetensors"), "--on", "ade_parts", "--data", str(root), "--quick"]
        scores = run / "evaluation"
        found.append(Step(name=arm, result=scores / "scores.json", command=[*evaluate, "--output", str(scores)]))
    return found


def run_folder(arm: str, seed: int) -> Path:
    """Where an arm is trained."""
    return Path("runs") / (arm if seed == 0 else f"{arm}_seed{seed}")


def _train(recipe: str, run: Path, root: Path, seed: int, threads: int) -> Step:
    command = ["train", recipe, "--data", str(root), "--output", str(run), "--resume", "--seed", str(seed)]
    return Step(
        name=recipe, result=run / "weights.safetensors", command=[*command, "--threads", str(threads), "--workers", "1"]
    )


def table(root: Path, seeds: list[int]) -> str:
    """Mask AP / AP50 of the parts in percent, under both rules; several seeds as mean and half of the range."""
    truth = json.loads((root / "ade_parts" / "val.json").read_text(encoding="utf-8"))
    names = {c["id"]: c for c in truth["categories"]}
    annotated = {a["category_id"] for a in truth["annotations"]}
    parts = sorted(i for i in annotated if names[i]["part"])
    groups = {
        "all": parts,
        "base": [i for i in parts if names[i]["object"] not in NOVEL_OBJECTS],
        "novel": [i for i in parts if names[i]["object"] in NOVEL_OBJECTS],
    }
    lines = []
    rules: tuple[tuple[Rule, str], ...] = (("lvis", "annotated classes only"), ("coco", "all classes"))
    for rule, title in rules:
        lines += [f"| {title} | all | base | novel |", "| --- | --- | --- | --- |"]
        for arm, what in {"ladder_base": "the common start", **ARMS}.items():
            rows = []
            for seed in seeds:
                path = run_folder(arm, seed if arm in ARMS else 0) / "evaluation" / "predictions.json"
                if path.is_file():
                    found = json.loads(path.read_text(encoding="utf-8"))
                    scores = score_detections(truth, found, rule=rule, kinds=("masks",), groups=groups).masks
                    assert scores is not None
                    rows.append([(scores.groups[g].ap * 100, scores.groups[g].ap50 * 100) for g in groups])
            if rows:
                cells = [" / ".join(_spread([row[g][k] for row in rows]) for k in (0, 1)) for g in range(len(groups))]
                lines.append(f"| {what} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = f"{sum(values) / len(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {(max(values) - min(values)) / 2:.1f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, action="append", help="of the arms; may be given several times")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="steps by name, with commas: parse, ladder_start, ...")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--table", action="store_true", help="only the table")
    given = parser.parse_args()
    seeds = given.seed or [0]
    wanted = None if given.only is None else set(given.only.split(","))
    for step in [] if given.table else [s for seed in seeds for s in steps(given.root, seed, given.threads)]:
        if (wanted is not None and step.name not in wanted) or (step.result.is_file() and not given.dry_run):
            continue
        print("vlpart " + shlex.join(step.command), flush=True)
        if not given.dry_run:
            done = subprocess.run([sys.executable, "-m", "vlpart", *step.command], check=False)
            if done.returncode:
                sys.exit(done.returncode)
    if not given.dry_run:
        print(table(given.root, seeds))


if __name__ == "__main__":
    main()

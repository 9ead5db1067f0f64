"""Run the ladder of docs/ladder.md from the data to the table, or go on where it stopped.

    python scripts/ladder.py ROOT [--seed 1] [--only parse,ladder_parsed]

ROOT holds `ade_parts` and `imagenet_samples`. Every step is one `vlpart` command, which is printed; steps whose result
is there are skipped, and interrupted ones go on. `--dry-run` prints the commands only, `--table` prints the table of
what is there. With `--seed` the arms are trained once more from the same start, into runs of their own; with
`--rounds 2` every arm goes on from its own weights for as many steps again.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ladder_results import ARMS, DETECTIONS, chart, results, run_folder, table

from vlpart.recipes.ladder import FIRST_PHASE, NOVEL_OBJECTS, PARSED, PARSED_AS_PUBLISHED, START

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


def steps(root: Path, seed: int, threads: int, rounds: int) -> list[Step]:
    """All steps in order; the paths of the recipes are relative to the working folder."""
    data, first, start = root / "ade_parts", Path(FIRST_PHASE), Path(START)
    files = ["--annotations", str(data / "train.json"), "--images", str(data / "images")]
    novel = ", ".join(sorted(NOVEL_OBJECTS))
    weights = ["--feature-weights", str(first)]
    common = ["--labels", str(data / "train.json"), "--images", str(data / "images"), "--only-labels", novel]
    common += ["--names", str(data / "train.json"), "--model", str(first), *weights]
    common += ["--from", "; ".join(f"{label}: {bases}" for label, bases in SOURCES.items())]
    options = ["--data", str(root), "--threads", str(threads), "--workers", "1"]
    found = [_train("ladder_start", first.parent, options), _train("ladder_base", start.parent, options)]
    for name, bank, unit, find, sure, output in (
        ("parse", Path("runs/ladder_bank"), ["--objects"], "find-objects", ["--min-confidence", "0.4"], Path(PARSED)),
        ("parse_published", Path("runs/ladder_bank_images"), [], "find", [], Path(PARSED_AS_PUBLISHED)),
    ):
        build = ["parse", "build", str(bank), *unit, *files, "--exclude-objects", novel, "--features", "embedded"]
        found.append(Step(name=name, result=bank / "bank.json", command=[*build, *weights]))
        written = ["--output", str(output)]
        found.append(Step(name=name, result=output, command=["parse", find, str(bank), *common, *sure, *written]))
    found.append(_evaluate("ladder_base", start.parent, root))
    for training in range(1, rounds + 1):
        for arm in ARMS:
            run, more = run_folder(arm, seed, training), ["--seed", str(seed)]
            if training > 1:
                more += ["--init", str(run_folder(arm, seed, training - 1) / "weights.safetensors")]
            found += [_train(arm, run, [*options, *more]), _evaluate(arm, run, root)]
    return found


def _train(recipe: str, run: Path, options: list[str]) -> Step:
    return Step(
        name=recipe,
        result=run / "weights.safetensors",
        command=["train", recipe, "--output", str(run), "--resume", *options],
    )


def _evaluate(arm: str, run: Path, root: Path) -> Step:
    scores = run / "evaluation"
    command = ["evaluate", str(run / "weights.safetensors"), "--on", "ade_parts", "--data", str(root), "--quick"]
    command += ["--max-detections", str(DETECTIONS), "--output", str(scores)]
    return Step(name=arm, result=scores / "scores.json", command=command)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, action="append", help="of the arms; may be given several times")
    parser.add_argument("--rounds", type=int, default=1, help="trainings of every arm; the table is of the last")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="steps by name, with commas: ladder_start, parse, parse_published, ...")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--table", action="store_true", help="only the table")
    parser.add_argument("--chart", type=Path, help="write the table as an image, too: an .svg file")
    given = parser.parse_args()
    seeds = given.seed or [0]
    wanted = None if given.only is None else set(given.only.split(","))
    planned = [step for seed in seeds for step in steps(given.root, seed, given.threads, given.rounds)]
    for step in [] if given.table else planned:
        if (wanted is not None and step.name not in wanted) or (step.result.is_file() and not given.dry_run):
            continue
        print("vlpart " + shlex.join(step.command), flush=True)
        if not given.dry_run:
            done = subprocess.run([sys.executable, "-m", "vlpart", *step.command], check=False)
            if done.returncode:
                sys.exit(done.returncode)
    if not given.dry_run:
        found = results(given.root, seeds, given.rounds)
        print(table(found))
        if given.chart is not None and found["coco"]:
            given.chart.write_text(chart(found), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What users of other tools type, and what it is called here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vlpart.names import did_you_mean

#: Options of other tools, and the options here that may be meant; those that the command has are suggested.
OPTIONS: dict[str, tuple[str, ...]] = {
    "--conf": ("--threshold",),
    "--conf-thres": ("--threshold",),
    "--confidence": ("--threshold",),
    "--confidence-threshold": ("--threshold",),
    "--score": ("--threshold",),
    "--score-thr": ("--threshold",),
    "--score-threshold": ("--threshold",),
    "--box-threshold": ("--threshold",),
    "--iou-thres": ("--iou",),
    "--nms": ("--iou",),
    "--max-epochs": ("--epochs",),
    "--early-stopping": ("--patience",),
    "--freeze-layers": ("--freeze",),
    "--cfg": ("--set",),
    "--cfg-options": ("--set",),
    "--opts": ("--set",),
    "--steps": ("--iterations",),
    "--max-steps": ("--iterations",),
    "--max-iter": ("--iterations",),
    "--imgsz": ("--image-size", "--short-side", "--max-side"),
    "--img-size": ("--image-size", "--short-side", "--max-side"),
    "--size": ("--image-size", "--short-side", "--max-side"),
    "--max-det": ("--max-detections",),
    "--topk": ("--max-detections",),
    "--batch-size": ("--batch",),
    "--batch": ("--batch-size",),
    "--classes": ("--vocabulary",),
    "--names": ("--vocabulary",),
    "--prompt": ("--vocabulary",),
    "--text": ("--vocabulary",),
    "--text-prompt": ("--vocabulary",),
    "--custom-vocabulary": ("--vocabulary",),
    "--out": ("--output",),
    "--out-dir": ("--output",),
    "--output-dir": ("--output",),
    "--save-dir": ("--output",),
    "--work-dir": ("--output",),
    "--project": ("--output",),
    "--name": ("--output",),
    "--checkpoint": ("--weights", "--model"),
    "--ckpt": ("--weights", "--model"),
    "--pretrained": ("--init", "--weights"),
    "--gpu": ("--device",),
    "--gpus": ("--device",),
    "--cuda": ("--device",),
    "--half": ("--precision",),
    "--fp16": ("--precision",),
    "--amp": ("--precision",),
    "--dtype": ("--precision",),
    "--lr": ("--learning-rate",),
    "--workers": ("--processes",),
    "--dataset": ("--data", "--on"),
    "--data": ("--on",),
    "--line-thickness": ("--line-width",),
    "--hide-conf": ("--no-scores",),
    "--hide-labels": ("--no-labels",),
    "--show-boxes": ("--boxes",),
    "--retina-masks": ("--masks",),
    "--save-txt": ("--format",),
    "--save-crop": ("--format",),
    "--save-json": ("--format",),
    "--exist-ok": ("--skip-existing", "--overwrite"),
}

#: Commands of other tools, and what does the same here.
COMMANDS: dict[str, str] = {
    "val": "evaluate",
    "validate": "evaluate",
    "test": "evaluate",
    "eval": "evaluate",
    "detect": "predict",
    "segment": "predict",
    "infer": "predict",
    "inference": "predict",
    "run": "predict",
    "demo": "predict sample",
    "fit": "train",
    "finetune": "train finetune",
    "fine-tune": "train finetune",
    "checks": "doctor",
    "check": "data check",
    "info": "doctor",
    "env": "doctor",
    "convert": "data convert",
    "prepare": "data prepare",
    "download": "models download",
    "list": "models list",
}


def suggest_option(error: Any) -> None:
    """Put what may be meant into the message of an unknown option, in place."""
    known = [name for parameter in error.ctx.command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    meant = _those(OPTIONS.get(error.option_name, ()), known)
    hint = f"did you mean {' or '.join(meant)}?" if meant else did_you_mean(error.option_name, known, cutoff=0.6)
    if hint:
        error.possibilities = None
        error.message = f"{error.message.rstrip('.')}; {hint}"


def suggest_command(error: Any, typed: str, known: Iterable[str]) -> None:
    """Put what may be meant into the message of an unknown command, in place."""
    meant = COMMANDS.get(typed)
    if meant is not None and typed not in known:
        error.message = f"No such command '{typed}'; did you mean vlpart {meant}?"


def _those(names: Sequence[str], known: Sequence[str]) -> list[str]:
    return [name for name in names if name in known]

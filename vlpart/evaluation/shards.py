"""Predictions on disk as they are made, so that an interrupted evaluation goes on where it stopped.

A folder holds `run.json`, which says what was predicted with what, and shards of a fixed number of images each:
`00012.jsonl`, one line per image, `{"image_id": ..., "detections": [...], "proposals": [...]}`. A shard is written
whole or not at all. Shards do not depend on the number of processes, so a run may go on with more or fewer of them, and
the merged predictions are in the order of the images, whoever made them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart.data.readers.values import Id
from vlpart.errors import EvaluationError
from vlpart.evaluation.identity import file_id
from vlpart.files import MAX_JSON_BYTES, read_json, read_regular, why, write_file
from vlpart.runtime import World

IMAGES_PER_SHARD = 25
RUN_FILE = "run.json"

Line = dict[str, Any]
Predict = Callable[[Mapping[str, Any]], Line]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was predicted: COCO-style detections in the order of the images, and proposals by image id.

    Ids are those of the annotation file. `notes`: what a reader of the figures must know, one line each.
    """

    detections: list[dict[str, Any]]
    proposals: dict[Id, list[list[float]]]
    notes: tuple[str, ...] = ()


class ShardFolder:
    """The shards of one run.

    Args:
        folder: where they are; None keeps everything in memory.
        images: the images of the ground truth, in order.
        key: what the predictions depend on (model, weights, vocabulary, thresholds): plain values for JSON.

    Raises:
        EvaluationError: the folder holds the shards of another run.
    """

    def __init__(self, folder: Path | None, images: Sequence[Mapping[str, Any]], key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.blocks = [images[i : i + IMAGES_PER_SHARD] for i in range(0, len(images), IMAGES_PER_SHARD)]
        self.key = {**json.loads(json.dumps(key)), "images": len(images), "images_per_shard": IMAGES_PER_SHARD}
        self._memory: dict[int, list[Line]] = {}

    def open(self, group: World) -> None:
        """Make the folder, or check that it belongs to this run; on every disk that the processes have."""
        if group.rank == 0:
            self._claim()
        group.wait()
        self._claim()

    def _claim(self) -> None:
        if self.folder is None:
            return
        has_shards = self.folder.is_dir() and any(self.folder.glob("*.jsonl"))  # looked at first: others may be at work
        if not (self.folder / RUN_FILE).exists():
            if has_shards:
                raise EvaluationError(f"{self.folder} holds predictions without {RUN_FILE}: give another output folder")
            write_file(self.folder / RUN_FILE, (json.dumps(self.key, indent=1) + "\n").encode())
        found = _read_json(self.folder / RUN_FILE)
        different = sorted(k for k in {*found, *self.key} if found.get(k) != self.key.get(k))
        if different:
            raise EvaluationError(
                f"{self.folder} holds predictions with another {', '.join(different)}: "
                "give another output folder, or delete this one"
            )

    def read(self, number: int) -> list[Line] | None:
        """The lines of a finished shard; None if it is not there, or does not hold exactly its images."""
        if self.folder is None:
            return self._memory.get(number)
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            lines = _read_lines(path)
        except EvaluationError:
            return None
        image_ids = [file_id(image) for image in self.blocks[number]]
        return lines if [line.get("image_id") for line in lines] == image_ids else None

    def write(self, number: int, lines: list[Line]) -> None:
        """Store a finished shard.

        Raises:
            OutputError: the disk is full or the folder not writable.
        """
        if self.folder is None:
            self._memory[number] = lines
        else:
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
            write_file(self._path(number), text.encode())

    def predict(self, predict: Predict, group: World, progress: Callable[[int, int], object] | None = None) -> None:
        """Predict the images of the shards that are missing, of those every `world_size`-th.

        `progress` is called with (done, total) of this process's images.
        """
        own = range(group.rank, len(self.blocks), group.size)
        total = sum(len(self.blocks[number]) for number in own)
        done = 0
        for number in own:
            block = self.blocks[number]
            if self.read(number) is not None:
                done += len(block)
                if progress is not None:
                    progress(done, total)
                continue
            lines = []
            for image in block:
                lines.append(predict(image))
                done += 1
                if progress is not None:
                    progress(done, total)
            self.write(number, lines)

    def merge(self, group: World) -> Predictions | None:
        """Everything in the order of the images, on the first process; None on the others.

        Shards that the first process does not see (other machines, other memories) are sent to it.
        """
        own = {number: lines for number in range(len(self.blocks)) if (lines := self.read(number)) is not None}
        missing = group.from_main(sorted(set(range(len(self.blocks))) - set(own)))
        for sent in group.gather({number: own[number] for number in missing if number in own}) or ():
            for number, lines in sent.items():
                own[number] = lines
                if group.rank == 0:
                    self.write(number, lines)
        if group.rank != 0:
            return None
        if lost := [number for number in range(len(self.blocks)) if number not in own]:
            raise EvaluationError(f"{len(lost)} shards of predictions are missing, first {lost[0]:05d}: run it again")
        return _joined([line for number in sorted(own) for line in own[number]])

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number:05d}.jsonl"


def read_shards(folder: Path) -> list[dict[str, Any]]:
    """The detections of all shards of a folder, in order.

    Raises:
        EvaluationError: there are none, or one is damaged.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise EvaluationError(f"{folder} holds no predictions (*.jsonl)")
    return _joined([line for path in paths for line in _read_lines(path)]).detections


def _joined(lines: Sequence[Line]) -> Predictions:
    return Predictions(
        detections=[detection for line in lines for detection in line["detections"]],
        proposals={line["image_id"]: line["proposals"] for line in lines if "proposals" in line},
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"cannot read {path}: {why(error)}") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{path} does not describe a run: delete its folder")
    return content


def _read_lines(path: Path) -> list[Line]:
    return list(_iterate(path))


def _iterate(path: Path) -> Iterator[Line]:
    try:
        for text in read_regular(path, MAX_JSON_BYTES).splitlines():
            line = json.loads(text)
            if not isinstance(line, dict) or not isinstance(line.get("detections"), list):
                raise EvaluationError(f"{path} is damaged: a line is no prediction of an image")
            if "proposals" in line and not isinstance(line.get("image_id"), int):
                raise EvaluationError(f"{path} is damaged: proposals without the id of their image")
            yield line
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"cannot read {path}: {why(error)}") from error

"""Pascal Part pictures with exactly one VOC object: the reference bank of the annotation parser (SPEC.md section 3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vlpart.data.parallel import run_over
from vlpart.data.prepare.files import find, list_in, write_coco
from vlpart.data.prepare.pascal_part import VOC_PLACES
from vlpart.data.prepare.report import PrepareReport, Task
from vlpart.data.readers.coco import load_json
from vlpart.data.readers.voc import parse_voc
from vlpart.errors import DataError

NOVEL = frozenset({"bus", "dog"})
LAYOUT = "VOCdevkit/VOC2010/Annotations (VOCtrainval_03-May-2010.tar) beside train.json and train_base.json"


def prepare_pascal_part_one(task: Task) -> PrepareReport:
    """Write `train_one.json` and `train_base_one.json` from what `pascal_part` wrote.

    A picture is kept if its VOC XML has exactly one object, whatever it is; in the base file no bus and no dog. All
    part annotations of a kept picture are kept, with their ids.

    Raises:
        DataError: no VOC annotations, or pascal_part was not prepared.
        OutputError: the output cannot be written.
    """
    places = tuple(f"{place}/Annotations" for place in VOC_PLACES)
    xmls = find(task.root, places, "VOC2010/Annotations", LAYOUT)
    report = PrepareReport(dataset="pascal_part_one", pictures=xmls.parent / "JPEGImages")
    counts: dict[str, tuple[str, ...] | None] = {}
    for stem, novel in (("train", frozenset[str]()), ("train_base", NOVEL)):
        if novel or not task.base_only:
            _write_one(task, report, stem, novel, xmls, counts)
    return report


def _write_one(
    task: Task,
    report: PrepareReport,
    name: str,
    novel: frozenset[str],
    xmls: Path,
    objects_of: dict[str, tuple[str, ...] | None],
) -> None:
    folder = task.output if (task.output / f"{name}.json").is_file() else task.root
    source = folder / f"{name}.json"
    if not source.is_file():
        raise DataError(f"{source} is missing; run `vlpart data prepare pascal_part {task.root}` first")
    content = load_json(source)
    images = list_in(content, "images", source)
    stems = [str(image.get("file_name", "")).rsplit(".", 1)[0] for image in images]
    unread = [stem for stem in stems if stem not in objects_of]
    read = partial(object_names, xmls=xmls)
    label = f"pascal_part_one {name}"
    answers = run_over(read, unread, processes=task.processes, label=label, progress=task.progress, chunk=64)
    for stem, (names, problem) in zip(unread, answers, strict=True):
        objects_of[stem] = names
        if names is None:
            report.problem(stem, problem)
    if images and all(objects_of[stem] is None for stem in stems):
        raise DataError(f"not one VOC file of {source} can be read, first: {report.problems[0]}; expected: {LAYOUT}")
    kept = [image for image, stem in zip(images, stems, strict=True) if _single(objects_of[stem], novel)]
    ids = {image.get("id") for image in kept}
    annotations = [entry for entry in list_in(content, "annotations", source) if entry.get("image_id") in ids]
    write_coco(
        report,
        task.output / f"{name}_one.json",
        description=f"{content.get('info', {}).get('description', name)}; pictures with exactly one VOC object",
        images=kept,
        annotations=annotations,
        categories=list_in(content, "categories", source),
    )


def _single(names: tuple[str, ...] | None, novel: frozenset[str]) -> bool:
    return names is not None and len(names) == 1 and names[0] not in novel


def object_names(stem: str, *, xmls: Path) -> tuple[tuple[str, ...] | None, str]:
    """`(names of all objects, "")`, or `(None, why the file cannot be used)` (in a worker process)."""
    try:
        return tuple(item.name for item in parse_voc(xmls / f"{stem}.xml").objects), ""
    except DataError as error:
        return None, str(error)

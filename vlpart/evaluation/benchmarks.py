"""The benchmarks: where their files are below a data folder, and how each is scored (docs/method.md, 'Evaluation')."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlpart.errors import DataError
from vlpart.evaluation.scores import NAN, AveragePrecision, Evaluation, Rule
from vlpart.evaluation.truth import Truth, is_part
from vlpart.names import did_you_mean
from vlpart.text.vocabulary import Vocabulary

PartSplit = tuple[Collection[int], Collection[int]]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One `--on`.

    Attributes:
        name, title: for the command line, and for people.
        annotations: where the file may be, relative to the data folder; the first that exists is taken.
        images: where the folder of the images may be.
        vocabulary: list with the names that are asked for; None takes the categories of the file.
        rule, max_detections, kinds: arguments of `score_detections`.
        score_threshold: detections must score above it; None takes the model's own.
        short_side, max_side: size in pixels at which images are looked at, where the model was not made for smaller
            ones; None takes the model's own.
        headline: label and path of the figures of the published table: "masks.all.ap", "masks.per_class.dog:head.ap50".
        groups: name of a group to a list of the package with the names in it, or to the start of its names.
        prepare: argument of `vlpart data prepare` that makes the annotation file, or says what to download; "" = none.
    """

    name: str
    title: str
    annotations: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    vocabulary: str | None = None
    rule: Rule = "coco"
    max_detections: int = 100
    kinds: tuple[str, ...] = ("masks", "boxes")
    score_threshold: float | None = None
    short_side: int | None = None
    max_side: int | None = None
    headline: Mapping[str, str] = field(default_factory=lambda: {"AP": "masks.all.ap", "AP50": "masks.all.ap50"})
    groups: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""

    def locate(self, data: Path, *, need_images: bool = True) -> tuple[Path, Path | None]:
        """(annotation file, folder of the images; None where it is neither there nor needed).

        Raises:
            DataError: one of them is not there; the message says where it was looked for.
        """
        file = next((data / name for name in self.annotations if (data / name).is_file()), None)
        remedy = self.remedy(data / self.annotations[0])
        if file is None:
            raise DataError(f"{self.name}: no {' or '.join(self.annotations)} in {data}{remedy}")
        folder = next((data / name for name in self.images if (data / name).is_dir()), None)
        if folder is None and need_images:
            raise DataError(f"{self.name}: no folder {' or '.join(self.images)} of images in {data}{remedy}")
        return file, folder

    def remedy(self, annotations: Path) -> str:
        """The end of a message about files that are missing: the command that helps; "" if there is none.

        Args:
            annotations: where the annotation file should be.
        """
        if not self.prepare:
            return ""
        place = next((name for name in self.annotations if annotations.as_posix().endswith(name)), annotations.name)
        folder = annotations.parents[place.count("/") - 1] if "/" in place else annotations.parent
        return f"; `vlpart data prepare {self.prepare} {folder}` helps"

    def group_ids(self, truth: Truth) -> dict[str, list[int]]:
        """The groups as category ids of this ground truth; groups without a category are left out."""
        found: dict[str, list[int]] = {}
        for name, rule in self.groups.items():
            if rule in Vocabulary.available():
                wanted = {entry.casefold() for entry in Vocabulary.load(rule).names}
                ids = [c["id"] for c in truth["categories"] if c["name"].casefold() in wanted]
            else:
                ids = [c["id"] for c in truth["categories"] if c["name"].casefold().startswith(rule)]
            if ids:
                found[name] = ids
        return found

    def on_boxes(self) -> Benchmark:
        """The same on boxes only; figures of masks in the headline become those of boxes: "AP" -> "box AP"."""
        headline = {
            f"box {label}" if path.startswith("masks.") else label: path.replace("masks.", "boxes.", 1)
            for label, path in self.headline.items()
        }
        return replace(self, kinds=("boxes",), headline=headline)

    def headline_figures(self, evaluation: Evaluation) -> dict[str, float]:
        """The figures of the headline, in 0..1; NaN where the class or the kind was not scored."""
        return {label: figure(evaluation, path) for label, path in self.headline.items()}


def figure(evaluation: Evaluation, path: str) -> float:
    """A figure by its path, "masks.groups.base.ap50"; NaN if it was not scored."""
    kind, _, rest = path.partition(".")
    scores = getattr(evaluation, kind)
    if scores is None:
        return NAN
    where, measure = rest.rsplit(".", 1)
    for mapping in ("groups", "per_class"):
        if where.startswith(f"{mapping}."):
            precision = getattr(scores, mapping).get(where.removeprefix(f"{mapping}."), AveragePrecision())
            return float(getattr(precision, measure))
    return float(getattr(getattr(scores, where), measure))


_AP = {"AP": "all.ap", "AP50": "all.ap50"}
_BOXES = {label: f"boxes.{path}" for label, path in _AP.items()}
_PARTS = {"parts AP": "masks.parts.ap", "parts AP50": "masks.parts.ap50"}
# As the published evaluator of PACO does, its part figure weighs part names, not pairs of object and part.
_PACO = {
    "parts AP": "masks.parts_by_name.ap",
    "parts AP50": "masks.parts_by_name.ap50",
    "flat parts AP": "masks.parts.ap",
    "flat parts AP50": "masks.parts.ap50",
    "objects AP": "masks.objects.ap",
    "objects AP50": "masks.objects.ap50",
    "all AP": "masks.all.ap",
}
_DOG = {f"dog {part} AP50": f"masks.per_class.dog:{part}.ap50" for part in ("head", "torso", "leg", "paw", "tail")}
_QUADRUPED = {
    f"quadruped {part.lower()} AP": f"masks.per_class.Quadruped {part}.ap" for part in ("Head", "Body", "Foot", "Tail")
}
_MASKS = {label: f"masks.{path}" for label, path in _AP.items()}


# The published benchmark recipes: a checkpoint is evaluated with the settings of the benchmark, not with its own.
_PUBLISHED_SIZE: dict[str, Any] = {"short_side": 800, "max_side": 1333}
_PUBLISHED: dict[str, Any] = {"score_threshold": 0.05, **_PUBLISHED_SIZE}


def _groups_of(*names: str) -> dict[str, str]:
    return {f"{n} {m}": f"masks.groups.{n}.{m.lower()}" for n in names for m in ("AP", "AP50")}


BENCHMARKS: dict[str, Benchmark] = {
    each.name: each
    for each in (
        Benchmark(
            name="voc",
            title="Pascal VOC 2007 val",
            annotations=("VOC2007/voc_2007_val.json", "voc/voc_2007_val.json"),
            images=("VOC2007/JPEGImages", "voc/VOCdevkit/VOC2007/JPEGImages", "voc/VOC2007/JPEGImages"),
            vocabulary="voc",
            rule="voc",
            kinds=("boxes",),
            headline=_BOXES,
            prepare="voc",
            **_PUBLISHED,
        ),
        Benchmark(
            name="coco",
            title="COCO 2017 val",
            annotations=("coco/annotations/instances_val2017.json",),
            images=("coco/val2017",),
            vocabulary="coco",
            headline=_BOXES,
            prepare="coco",
            **_PUBLISHED,
        ),
        Benchmark(
            name="lvis",
            title="LVIS v1 minival",
            annotations=(
                "lvis/lvis_v1_minival_inserted_image_name.json",
                "lvis/annotations/lvis_v1_minival_inserted_image_name.json",
            ),
            images=("coco",),
            vocabulary="lvis_v1",
            rule="lvis",
            max_detections=300,
            score_threshold=0.0001,
            **_PUBLISHED_SIZE,
            headline={
                "AP": "masks.all.ap",
                **{f"AP{n[0]}": f"masks.groups.{n}.ap" for n in ("rare", "common", "frequent")},
            },
            prepare="lvis_minival",
        ),
        Benchmark(
            name="partimagenet",
            title="PartImageNet val",
            annotations=("partimagenet/val_format.json",),
            images=("partimagenet/val", "partimagenet/images/val", "partimagenet/images"),
            vocabulary="partimagenet",
            headline={**_MASKS, **_QUADRUPED},
            groups={"quadruped": "quadruped "},
            prepare="partimagenet",
            **_PUBLISHED,
        ),
        Benchmark(
            name="pascal_part",
            title="Pascal Part val",
            annotations=("pascal_part/val.json",),
            images=("pascal_part/VOCdevkit/VOC2010/JPEGImages", "pascal_part/VOC2010/JPEGImages"),
            vocabulary="pascal_part",
            headline={**_MASKS, **_groups_of("base", "novel"), **_DOG},
            groups={"base": "pascal_part_base", "novel": "pascal_part_novel", "dog": "dog:"},
            prepare="pascal_part",
            **_PUBLISHED,
        ),
        Benchmark(
            name="paco",
            title="PACO-LVIS val",
            annotations=("paco/annotations/paco_lvis_v1_val.json", "paco/paco_lvis_v1_val.json"),
            images=("coco",),
            vocabulary="paco",
            rule="lvis",
            max_detections=300,
            headline=_PACO,
            prepare="paco",
            score_threshold=0.001,
            **_PUBLISHED_SIZE,
        ),
        Benchmark(
            name="ade_parts",
            title="ADE20K parts val (annotated classes only)",
            annotations=("ade_parts/val.json",),
            images=("ade_parts/images",),
            rule="lvis",
            headline={**_PARTS, "objects AP50": "masks.objects.ap50"},
        ),
        *(
            Benchmark(
                name=name,
                title=title,
                annotations=(f"{name}/val.json",),
                images=(f"{name}/images",),
                headline=headline,
            )
            for name, title, headline in (
                ("car_parts", "Car Parts val", {**_PARTS, "objects AP50": "masks.objects.ap50"}),
                ("faces", "CelebAMask faces val", {**_PARTS, "objects AP50": "masks.objects.ap50"}),
                ("coco128", "COCO128 val", {**_MASKS, "box AP": "boxes.all.ap"}),
            )
        ),
    )
}


def get_benchmark(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        DataError: unknown; near names are listed.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    hint = did_you_mean(name, BENCHMARKS) or f"known: {', '.join(BENCHMARKS)}, a .json file, or a folder"
    raise DataError(f"no benchmark {name!r}; {hint}")


def custom(path: Path, truth: Truth) -> Benchmark:
    """The benchmark of a file that is none of the known ones: LVIS rule if it lists absent or unexhaustive classes.

    Masks are scored if there are any. The headline is that of masks unless fewer than half of the annotations have one,
    and says which it is where only some have.
    """
    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    federated = any(image.get(key) for image in truth["images"] for key in lists)
    scored = [a for a in truth["annotations"] if not a.get("iscrowd")] or truth["annotations"]
    masked = sum(bool(annotation.get("segmentation")) for annotation in scored)
    with_masks = masked > 0 or not scored
    kind = "masks" if with_masks and 2 * masked >= len(scored) else "boxes"
    group = "parts" if any(is_part(category) for category in truth["categories"]) else "all"
    prefix = "" if masked in (0, len(scored)) else {"masks": "mask ", "boxes": "box "}[kind]
    return Benchmark(
        name=path.stem,
        title=str(path),
        rule="lvis" if federated else "coco",
        max_detections=300 if federated else 100,
        kinds=("masks", "boxes") if with_masks else ("boxes",),
        headline={f"{prefix}AP": f"{kind}.{group}.ap", f"{prefix}AP50": f"{kind}.{group}.ap50"},
    )


def part_split(truth: Truth, groups: Mapping[str, Sequence[int]]) -> PartSplit | None:
    """Base and novel parts as category ids: the groups of these names, or what an OV-PARTS file says of its objects."""
    if "base" in groups and "novel" in groups:
        return groups["base"], groups["novel"]
    named = (truth.get("info") or {}).get("ov_parts_zero_shot")
    if not isinstance(named, Mapping):
        return None

    def parts_of(key: str) -> list[int]:
        """Ids of the parts of the objects that are listed under a key."""
        objects = {str(name).casefold() for name in named.get(key, ())}
        return [c["id"] for c in truth["categories"] if is_part(c) and _owner(c) in objects]

    return parts_of("base_objects"), parts_of("novel_objects")


def _owner(category: Mapping[str, Any]) -> str:
    return str(category.get("object") or str(category["name"]).partition(":")[0]).casefold()

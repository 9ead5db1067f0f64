"""Where the data sets of the published recipes lie below the data root: the one table of it.

The layout is the one that users of the original have (`datasets/`), so that their folder can be given as it is:

    coco/{train2017,val2017,annotations}   lvis/   paco/annotations   VOC2007/{JPEGImages,Annotations,ImageSets}
    pascal_part/{*.json,VOCdevkit/VOC2010/JPEGImages}   partimagenet/{train,val,*.json}   imagenet/{train,*.json}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vlpart.errors import TrainingError
from vlpart.training.recipe import EvaluationSet
from vlpart.types import AnnotationKind


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set on disk.

    Attributes:
        annotations, images: below the data root.
        prepare: argument of `vlpart data prepare` that makes the annotations, or says where they come from; of parsed
            parts, that of their images.
        vocabulary: name of its list of categories.
        kind: what its annotations are.
        reader: annotation format, see `vlpart.data.readers.get_reader`.
        federated: not labelled exhaustively: federated loss in training, and classes drawn by their frequency.
        benchmark: how a val split is scored, see `vlpart.evaluation.benchmarks`.
    """

    annotations: str
    images: str
    vocabulary: str
    prepare: str
    kind: AnnotationKind = AnnotationKind.BOXES
    reader: str = "coco"
    federated: bool = False
    benchmark: str | None = None

    def prepare_command(self, root: Path) -> str:
        """The command that makes its files (of parsed parts, those of its images), or says what to download."""
        return f"vlpart data prepare {self.prepare} {root / self.annotations.partition('/')[0]}"


_VOC2010 = "pascal_part/VOCdevkit/VOC2010/JPEGImages"
_IMAGENET = "imagenet/train"


def _labels(annotations: str, images: str, vocabulary: str, prepare: str) -> DataSet:
    """ImageNet images with a class label each."""
    return DataSet(
        annotations=annotations,
        images=images,
        vocabulary=vocabulary,
        prepare=prepare,
        kind=AnnotationKind.IMAGE_LABELS,
    )


def _parsed(annotations: str, images: str, vocabulary: str, prepare: str) -> DataSet:
    """ImageNet images with part boxes from the annotation parser."""
    return replace(_labels(annotations, images, vocabulary, prepare), kind=AnnotationKind.PARSED_PARTS)


DATASETS = {
    "coco_2017_train": DataSet(
        annotations="coco/annotations/instances_train2017.json",
        images="coco/train2017",
        vocabulary="coco",
        prepare="coco",
    ),
    "coco_2017_val": DataSet(
        annotations="coco/annotations/instances_val2017.json",
        images="coco/val2017",
        vocabulary="coco",
        prepare="coco",
        benchmark="coco",
    ),
    # LVIS and PACO take their images from COCO; their file names say train2017/ or val2017/.
    "lvis_v1_train": DataSet(
        annotations="lvis/lvis_v1_train.json",
        images="coco",
        vocabulary="lvis_v1",
        prepare="lvis",
        reader="lvis",
        federated=True,
    ),
    "lvis_v1_minival": DataSet(
        annotations="lvis/lvis_v1_minival_inserted_image_name.json",
        images="coco",
        vocabulary="lvis_v1",
        prepare="lvis_minival",
        reader="lvis",
        federated=True,
        benchmark="lvis",
    ),
    "paco_lvis_v1_train": DataSet(
        annotations="paco/annotations/paco_lvis_v1_train.json",
        images="coco",
        vocabulary="paco",
        prepare="paco",
        reader="paco",
        federated=True,
    ),
    "paco_lvis_v1_val": DataSet(
        annotations="paco/annotations/paco_lvis_v1_val.json",
        images="coco",
        vocabulary="paco",
        prepare="paco",
        reader="paco",
        federated=True,
        benchmark="paco",
    ),
    # Training reads the list of a split and VOC2007/Annotations/*.xml; `vlpart data prepare voc` writes the JSON.
    "voc_2007_train": DataSet(
        annotations="VOC2007/ImageSets/Main/train.txt",
        images="VOC2007/JPEGImages",
        vocabulary="voc",
        prepare="voc",
        reader="voc",
    ),
    "voc_2007_val": DataSet(
        annotations="VOC2007/voc_2007_val.json",
        images="VOC2007/JPEGImages",
        vocabulary="voc",
        prepare="voc",
        benchmark="voc",
    ),
    "pascal_part_train": DataSet(
        annotations="pascal_part/train.json", images=_VOC2010, vocabulary="pascal_part", prepare="pascal_part"
    ),
    "pascal_part_val": DataSet(
        annotations="pascal_part/val.json",
        images=_VOC2010,
        vocabulary="pascal_part",
        prepare="pascal_part",
        benchmark="pascal_part",
    ),
    "pascal_part_base_train": DataSet(
        annotations="pascal_part/train_base.json",
        images=_VOC2010,
        vocabulary="pascal_part_base",
        prepare="pascal_part",
    ),
    "partimagenet_train": DataSet(
        annotations="partimagenet/train_format.json",
        images="partimagenet/train",
        vocabulary="partimagenet",
        prepare="partimagenet",
    ),
    "partimagenet_val": DataSet(
        annotations="partimagenet/val_format.json",
        images="partimagenet/val",
        vocabulary="partimagenet",
        prepare="partimagenet",
        benchmark="partimagenet",
    ),
    "partimagenet_supercat": _labels(
        "partimagenet/partimagenet_supercat_image_info.json",
        "partimagenet/train",
        "partimagenet_supercategories",
        "in_s11",
    ),
    "imagenet_voc": _labels("imagenet/imagenet_voc_image_info.json", _IMAGENET, "voc", "in_s20"),
    "imagenet_golden": _labels("imagenet/imagenet_golden_image_info.json", _IMAGENET, "golden", "golden"),
    "partimagenet_parsed": _parsed(
        "partimagenet/partimagenet_parsed.json", "partimagenet/train", "partimagenet", "in_s11"
    ),
    "imagenet_voc_parsed": _parsed("imagenet/imagenet_voc_image_parsed.json", _IMAGENET, "pascal_part", "in_s20"),
    **{
        f"imagenet_golden_{name}_parsed{suffix}": _parsed(
            f"imagenet/imagenet_golden_{name}_parsed{suffix}.json", _IMAGENET, vocabulary, "golden"
        )
        for name, vocabulary in (("pascal", "pascal_part"), ("partimagenet", "partimagenet"), ("paco", "paco"))
        for suffix in ("", "_swinbase")
    },
    "imagenet_golden_addition_parsed": _parsed(
        "imagenet/imagenet_golden_addition_parsed.json", _IMAGENET, "addition_part", "golden"
    ),
}


def get_dataset(name: str) -> DataSet:
    """The data set of that published name.

    Raises:
        TrainingError: there is none.
    """
    if name not in DATASETS:
        raise TrainingError(f"unknown data set {name!r}: use one of {', '.join(DATASETS)}")
    return DATASETS[name]


def evaluation_set(root: Path, name: str) -> EvaluationSet:
    """A data set as something to score on."""
    dataset = get_dataset(name)
    return EvaluationSet(
        name=name,
        annotations=root / dataset.annotations,
        images=root / dataset.images,
        benchmark=dataset.benchmark,
    )

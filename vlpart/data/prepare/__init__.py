"""From the official downloads to the annotation files that training and evaluation read (docs/method.md, 'Data
preparation').

Every data set has one function: `Task` in, `PrepareReport` out. Nothing of the download is changed, and the files have
the names of the published recipes. What is broken or missing is left out *and* listed in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.errors import DataError
from vlpart.files import local_path

if TYPE_CHECKING:
    from vlpart.data.prepare.common import Preparation, PrepareReport
    from vlpart.jobs import Progress

__all__ = ["DATASETS", "DatasetInfo", "prepare"]


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """One data set that can be prepared: what it gives, what ROOT has to hold, and the function that does it.

    `addresses` = where its authors offer the download; `has_base` = there are files of the 77 base classes; `is_slow` =
    the output is probed before the work begins.
    """

    about: str
    layout: str
    module: str
    function: str
    addresses: tuple[str, ...] = ()
    has_base: bool = False
    is_slow: bool = True

    def load(self) -> Preparation:
        """The function, imported now."""
        function: Preparation = getattr(import_module(f"vlpart.data.prepare.{self.module}"), self.function)
        return function


_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_COCO = (
    "http://images.cocodataset.org/zips/train2017.zip",
    "http://images.cocodataset.org/zips/val2017.zip",
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
)
_LVIS = (
    "https://dl.fbaipublicfiles.com/LVIS/lvis_v1_train.json.zip",
    "https://dl.fbaipublicfiles.com/LVIS/lvis_v1_val.json.zip",
)
_PASCAL_PART = ("https://roozbehm.info/pascal-parts/trainval.tar.gz", f"{_VOC}/voc2010/VOCtrainval_03-May-2010.tar")
_PARTIMAGENET = ("https://github.com/TACJu/PartImageNet",)
_IMAGENET = ("https://image-net.org/download.php",)

DATASETS: dict[str, DatasetInfo] = {
    "pascal_part": DatasetInfo(
        "Pascal Part, 93 part classes: train, val, and the 77 base classes",
        "Annotations_Part/*.mat and VOCdevkit/VOC2010",
        "pascal_part",
        "prepare_pascal_part",
        _PASCAL_PART,
        has_base=True,
    ),
    "pascal_part_one": DatasetInfo(
        "Pascal Part images with exactly one object, for the annotation parser",
        "train.json and train_base.json of pascal_part, and VOCdevkit/VOC2010/Annotations",
        "pascal_part",
        "prepare_pascal_part_one",
        _PASCAL_PART,
        has_base=True,
    ),
    "partimagenet": DatasetInfo(
        "PartImageNet, 40 parts of 11 super-categories",
        "train.json, val.json and train/, val/ (or annotations/ and images/)",
        "partimagenet",
        "prepare_partimagenet",
        _PARTIMAGENET,
    ),
    "in_s11": DatasetInfo(
        "IN-S11: PartImageNet train images with their super-category as image label",
        "the same folder as partimagenet",
        "partimagenet",
        "prepare_in_s11",
        _PARTIMAGENET,
    ),
    "in_s20": DatasetInfo(
        "IN-S20: ImageNet-1k images with one of the 20 Pascal VOC objects as image label",
        "train/nXXXXXXXX/*.JPEG of ImageNet-1k",
        "imagenet",
        "prepare_in_s20",
        _IMAGENET,
    ),
    "golden": DatasetInfo(
        "the golden set: up to 500 ImageNet-1k images per class with one of 117 image labels",
        "train/nXXXXXXXX/*.JPEG of ImageNet-1k",
        "imagenet",
        "prepare_golden",
        _IMAGENET,
    ),
    "voc": DatasetInfo(
        "Pascal VOC, boxes of 20 objects, every year and split that is there",
        "VOCdevkit/VOC2007 (Annotations, ImageSets/Main, JPEGImages)",
        "voc",
        "prepare_voc",
        (f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",),
    ),
    "coco": DatasetInfo(
        "COCO 2017: checks the distributed files, which are used as they are",
        "annotations/instances_{train,val}2017.json, train2017/ and val2017/",
        "lvis",
        "prepare_coco",
        _COCO,
        is_slow=False,
    ),
    "lvis": DatasetInfo(
        "LVIS v1 train: checks the distributed file, which is used as it is",
        "lvis_v1_train.json, and COCO's train2017/ and val2017/ in or beside it",
        "lvis",
        "prepare_lvis",
        (_LVIS[0], *_COCO[:2]),
        is_slow=False,
    ),
    "lvis_minival": DatasetInfo(
        "LVIS v1 minival: the images of LVIS v1 val that are in COCO val2017",
        "lvis_v1_minival_inserted_image_name.json or lvis_v1_val.json, and COCO's val2017/ beside or in it",
        "lvis",
        "prepare_lvis_minival",
        (_LVIS[1], _COCO[1]),
        is_slow=False,
    ),
    "paco": DatasetInfo(
        "PACO-LVIS: checks the distributed files, which are used as they are",
        "annotations/paco_lvis_v1_{train,val,test}.json, and COCO's train2017/ and val2017/ in or beside it",
        "lvis",
        "prepare_paco",
        ("https://dl.fbaipublicfiles.com/paco/annotations/paco_lvis_v1.zip", *_COCO[:2]),
        is_slow=False,
    ),
}


def prepare(
    dataset: str,
    root: Path | str,
    output: Path | str | None = None,
    *,
    base_only: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make the annotation files of a data set.

    Running it again gives the same files, byte for byte.

    Args:
        dataset: one of `DATASETS`.
        root: folder of the data set as downloaded and unpacked.
        output: folder for the annotation files; default: `root`.
        base_only: only the files of the 77 base classes (pascal_part, pascal_part_one).
        processes: how many to use; more than one needs `if __name__ == "__main__":` in a script.
        progress: called with (what is being done, done, total).

    Raises:
        DataError: unknown data set, or the folder does not hold what is expected (single broken or missing files are
            in `PrepareReport.problems` instead).
        OutputError: the output cannot be written or the disk is full; no half-written file is left.
    """
    from vlpart.data.prepare.common import MissingDownloadError, Task, require_folder, write_problems
    from vlpart.files import write_file

    info = DATASETS.get(dataset)
    if info is None:
        raise DataError(f"unknown data set {dataset!r}; known: {', '.join(DATASETS)}")
    if base_only and not info.has_base:
        raise DataError(f"{dataset} has no base classes; leave --base out")
    folder = local_path(root)
    target = folder if output is None else local_path(output)
    try:
        require_folder(folder)
        if info.is_slow:
            write_file(target / ".vlpart-probe", b"").unlink()  # better to fail now than after the work
        task = Task(root=folder, output=target, base_only=base_only, processes=processes, progress=progress)
        report = info.load()(task)
    except MissingDownloadError as error:
        raise MissingDownloadError(f"{error}; it is offered at {', '.join(info.addresses)}") from None
    write_problems(report, target)
    return report

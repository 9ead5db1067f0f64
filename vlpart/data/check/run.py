"""Is a data set fit to train on? What can be wrong with COCO-style files and their images, in one report."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpart.checks import typed, whole
from vlpart.data.check.annotations import check_annotations
from vlpart.data.check.findings import Finding, Findings
from vlpart.data.check.images import check_images, find_images
from vlpart.data.check.leaks import check_categories, check_leaks
from vlpart.data.check.split import Split, build_split, split_name
from vlpart.data.convert import convert
from vlpart.data.folder import conversion, foreign_kind, json_files
from vlpart.data.readers.coco import load_json
from vlpart.errors import DataError
from vlpart.files import is_file, is_folder, local_path
from vlpart.jobs import Progress


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How often a class occurs in one file: annotations, and images with it (image labels included)."""

    name: str
    annotations: int
    images: int


@dataclass(kw_only=True)
class CheckReport:
    """Outcome of `check`.

    Attributes:
        splits: the files that could be read.
        findings: errors first.
        skipped: JSON files of a folder that are no annotation files.
        converted: data sets of other tools, one line each: what they are, and what was found in them.
    """

    splits: list[Split] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop training or spoil it."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that training puts up with."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    def is_fit(self, strict: bool = False) -> bool:
        """No errors; with `strict` no warnings either."""
        return not (self.findings if strict else self.errors)

    def histogram(self, split: Split) -> list[ClassCount]:
        """Every class of a file, the most frequent first."""
        counts = [
            ClassCount(split.category_name(i), split.histogram[i], split.images_with[i]) for i in split.categories
        ]
        return sorted(counts, key=lambda count: (-count.annotations, -count.images, count.name))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "files": [
                {
                    "path": str(split.path),
                    "image_root": None if split.image_root is None else str(split.image_root),
                    "images": len(split.images),
                    "annotations": split.total_annotations,
                    "classes": [
                        {"name": count.name, "annotations": count.annotations, "images": count.images}
                        for count in self.histogram(split)
                    ],
                }
                for split in self.splits
            ],
            "skipped": [str(path) for path in self.skipped],
            "converted": self.converted,
            "findings": [finding.to_dict() for finding in self.findings],
            "errors": sum(finding.count for finding in self.errors),
            "warnings": sum(finding.count for finding in self.warnings),
        }


@typed()
def check(
    paths: Sequence[Path | str] | Path | str,
    images: Path | str | None = None,
    *,
    decode: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> CheckReport:
    """Check annotation files, their images, and the files against each other.

    Args:
        paths: COCO-style JSON files, or folders with some, see `vlpart.data.folder.json_files`. Data sets of other
            tools (see `vlpart.data.readers.detect`) are converted into a temporary folder and checked there.
        images: folder that the file names are relative to; default: `images/` and other usual places, whichever holds
            the images.
        decode: decode every image completely, which finds those that are cut off. Without it only headers are read.
        processes: how many read images; more than one needs `if __name__ == "__main__":` in a script.
        progress: called with (what is being done, done, total).

    Raises:
        DataError: a path that does not exist, or a folder without annotation files. Broken annotation files are
            findings.
    """
    processes = whole("processes", processes, 1, 10_000)
    sources = [paths] if isinstance(paths, str | Path) else list(paths)
    folder = None if images is None else local_path(images)
    if folder is not None and not is_folder(folder):
        raise DataError(f"{images} is not a folder; give the folder of the images with --images")
    report = CheckReport()
    findings = Findings()
    files: dict[str, dict[int, Path]] = {}
    for root, path, is_named in _annotation_files(_as_coco(sources, report, findings)):
        split = _read(path, None if is_named else root, report, findings)
        if split is None:
            continue
        find_images(split, root, folder)
        check_annotations(split, findings, progress)
        files[split.name] = check_images(split, findings, decode=decode, processes=processes, progress=progress)
        report.splits.append(split)
    if not report.splits and not findings.listed():
        helped = conversion(Path(sources[0])) or "name the annotation file"
        raise DataError(f"{sources[0]}: none of its JSON files has images and categories; {helped}")
    check_categories(report.splits, findings)
    check_leaks(report.splits, files, findings, processes=processes, progress=progress)
    report.findings = findings.listed()
    return report


def _as_coco(paths: Sequence[Path | str], report: CheckReport, findings: Findings) -> list[Path | str]:
    """The paths, with temporary COCO folders in the place of data sets of other tools."""
    as_coco: list[Path | str] = []
    for path in paths:
        place = local_path(path)
        kind = foreign_kind(place) if is_file(place) or is_folder(place) else None
        if kind is None:
            as_coco.append(path)
            continue
        folder = Path(tempfile.mkdtemp(prefix="vlpart-check-"))
        weakref.finalize(report, shutil.rmtree, folder, ignore_errors=True)  # its images are there as long as it is
        done = convert(place, folder / place.stem, "coco")
        report.converted.append(f"{path}: a data set of the kind {kind}, {done.images} images, {done.regions} regions")
        for reason, count in done.unread.items():
            findings.add("not-read", place.name, reason, count)
        if done.hint:
            report.converted.append(f"hint: {done.hint}")
        as_coco.append(done.output)
    return as_coco


def _annotation_files(paths: Sequence[Path | str]) -> list[tuple[Path, Path, bool]]:
    """`(root, file, whether the user named this very file)`; every file once."""
    files: dict[Path, tuple[Path, Path, bool]] = {}
    for path in map(local_path, paths):
        if is_file(path):
            files[path.resolve()] = (path.parent, path, True)
        elif is_folder(path):
            for file in json_files(path, fix="put the annotation file there, or name the file"):
                files.setdefault(file.resolve(), (path, file, False))
        else:
            raise DataError(f"{path} does not exist; give a folder or an annotation file")
    if not files:
        raise DataError("nothing to check; give a folder or annotation files")
    names = Counter(split_name(file) for _, file, _ in files.values())
    clash = next((name for name, count in names.items() if count > 1), None)
    if clash is not None:
        raise DataError(f"two files are called {clash}; check them one at a time, or rename one")
    return list(files.values())


def _read(path: Path, root: Path | None, report: CheckReport, findings: Findings) -> Split | None:
    """Read and index a file, found in `root` or named by the user (None); None if it cannot be."""
    try:
        content = load_json(path)
        missing = [key for key in ("images", "categories") if not isinstance(content.get(key), list)]
        if missing:
            if root is not None:
                report.skipped.append(path)
                return None
            raise DataError(f"it has no list {missing[0]!r}, so it is no COCO-style file")
    except DataError as error:
        if root is not None and "outermost value" in str(error):
            report.skipped.append(path)
        else:
            findings.add("broken-file", split_name(path), error)
        return None
    return build_split(path, content, findings, root)

"""What a check can find, how bad it is, and how findings are counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]

EXAMPLES = 5
"""Examples kept of every finding."""

#: Slug -> (severity, what it means and what to do). An error stops training or spoils it; a warning is put up with
#: (the annotation is left out or clipped) or may be meant. Those of `REFUSED` stop training and evaluation alike.
KINDS: dict[str, tuple[Severity, str]] = {
    "broken-file": ("error", "the annotation file cannot be read"),
    "broken-entry": ("error", "entries lack an id, a name or a size, or are no JSON objects"),
    "duplicate-image-id": ("error", "image ids occur twice; number the images anew"),
    "duplicate-category-id": ("error", "category ids occur twice; number the categories anew"),
    "unknown-category": ("error", "category ids that the file does not define"),
    "annotation-without-image": ("error", "annotations of images that the file does not list"),
    "not-finite": ("error", "boxes, areas or masks hold NaN or infinity"),
    "malformed-flag": ("error", "iscrowd or difficult is neither 0 nor 1"),
    "no-box-no-mask": ("error", "annotations have neither a box nor a mask"),
    "malformed-box": ("error", "boxes are not four numbers [x, y, width, height]"),
    "box-outside": ("error", "boxes reach out of their image by more than one pixel"),
    "malformed-mask": ("error", "segmentations are neither polygons nor a valid RLE"),
    "mask-size": ("error", "RLE masks have another size than their image"),
    "all-crowd": (
        "error",
        "all annotations are crowd regions, which are not learned or scored; set iscrowd to 0 if they are objects",
    ),
    "missing-image": ("error", "images are not where they should be"),
    "unreadable-image": ("error", "images are damaged, cut off or of an unknown format"),
    "image-size": ("error", "images have another size than the file says"),
    "leak-file": ("error", "the same image file is in two splits"),
    "leak-source": ("error", "crops or variants of the same source image are in two splits"),
    "leak-content": ("error", "images in two splits are equal byte for byte"),
    "categories-differ": ("error", "two files have the same categories with other ids; use one list for all splits"),
    "empty-box": ("warning", "boxes have no width or no height; training leaves them out"),
    "empty-mask": ("warning", "masks have no pixel in their image; training and evaluation leave them out"),
    "some-without-mask": (
        "warning",
        "annotations have no mask while others have one; masks are trained and scored without them",
    ),
    "normalised-boxes": ("warning", "all boxes lie within 0..1: boxes are in pixels, [x, y, width, height]"),
    "degenerate-mask": ("warning", "masks have fewer than four pixels"),
    "box-mask-differ": ("warning", "boxes do not fit their masks"),
    "duplicate-annotation": ("warning", "annotations with the same class and box in the same image"),
    "duplicate-file-name": ("warning", "images are listed twice in one file"),
    "duplicate-category-name": ("warning", "categories share a name and become one class"),
    "control-character-in-name": ("warning", "category names hold line breaks or tabs, which count as spaces"),
    "long-name": ("warning", "category names are longer than what a text encoder reads (77 tokens)"),
    "duplicate-annotation-id": (
        "warning",
        "annotation ids occur twice, of which other tools count only one; number the annotations anew",
    ),
    "annotation-id-zero": ("warning", "an annotation has the id 0, which COCO's own scoring takes for 'no match'"),
    "image-without-annotations": (
        "warning",
        "images without annotations; training leaves them out without --negatives",
    ),
    "class-without-annotations": ("warning", "categories that nothing is annotated with in any of the files"),
    "category-ids-clash": (
        "warning",
        "ids mean other categories in another file; fine if they are different data sets",
    ),
    "orientation-unclear": (
        "warning",
        "an EXIF entry turns or mirrors images and their size does not show it; annotations count as drawn upright",
    ),
    "not-read": ("warning", "something of another tool's data set has no meaning here and was left out"),
    "images-not-found": ("warning", "no folder with the images was found, so they were not checked: use --images"),
}

REFUSED = (
    *("broken-file", "broken-entry", "duplicate-image-id", "duplicate-category-id", "unknown-category"),
    *("annotation-without-image", "not-finite", "malformed-flag", "malformed-box", "malformed-mask", "mask-size"),
    "no-box-no-mask",
)
"""What training and evaluation refuse with an error of its own: the kinds that readers report."""


@dataclass(kw_only=True)
class Finding:
    """Something found: what (a key of `KINDS`), in which file, how often, and the first few places."""

    kind: str
    file: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def severity(self) -> Severity:
        """ "error" or "warning"."""
        return KINDS[self.kind][0]

    @property
    def meaning(self) -> str:
        """What it means."""
        return KINDS[self.kind][1]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "file": self.file,
            "count": self.count,
            "meaning": self.meaning,
            "examples": self.examples,
        }

    def __str__(self) -> str:
        shown = "; ".join(self.examples)
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.severity}: {self.file}: {self.count} x {self.meaning} ({self.kind}): {shown}{more}"


def _line(text: str) -> str:
    """One line that any terminal can show: control characters and halves of surrogate pairs escaped, 200 characters."""
    shown = " ".join(text.split())[:200]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


class Findings:
    """Collects findings by kind and file, in the order of `KINDS`."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def add(self, kind: str, file: str, example: object, count: int = 1) -> None:
        """Count one, or several that have one example."""
        finding = self._found.setdefault((kind, file), Finding(kind=kind, file=file))
        finding.count += count
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(_line(str(example)))

    def listed(self) -> list[Finding]:
        """All of them, errors first."""
        order = list(KINDS)
        return sorted(self._found.values(), key=lambda finding: (order.index(finding.kind), finding.file))

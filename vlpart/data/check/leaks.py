"""Checks across files: images that are in two splits, and categories that mean different things."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from vlpart.data.check.findings import Findings
from vlpart.data.check.images import sizes_on_disk
from vlpart.data.check.split import Split
from vlpart.data.validation_split import made_from
from vlpart.files import open_regular
from vlpart.jobs import Progress, run_over


def check_categories(splits: Sequence[Split], findings: Findings) -> None:
    """Report ids that two files use for different names, and categories that nothing is annotated with."""
    names = [
        {category.file_id: split.category_name(i).casefold() for i, category in split.categories.items()}
        for split in splits
    ]
    for (one, own), (other, others) in combinations(zip(splits, names, strict=True), 2):
        kind = "categories-differ" if set(own.values()) == set(others.values()) else "category-ids-clash"
        for i in (i for i in own if i in others):
            if own[i] != others[i]:
                findings.add(kind, f"{one.name}, {other.name}", f"{i} is {own[i]!r} and {others[i]!r}")
    used = {split.category_name(i).casefold() for split in splits for i in split.images_with}
    files = ", ".join(split.name for split in splits)
    names = [own for split, own in zip(splits, names, strict=True) if not split.is_predicted]
    for name in dict.fromkeys(name for own in names for name in own.values() if name not in used):
        findings.add("class-without-annotations", files, name)


def check_leaks(
    splits: Sequence[Split],
    files: Mapping[str, Mapping[int, Path]],
    findings: Findings,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> None:
    """Report images that occur in splits of different kinds (train and val; train and train_one are one kind).

    Args:
        splits: what to compare.
        files: split name -> image id -> image file, for the images that are there.
    """
    for one, other in combinations(splits, 2):
        if one.kind is None or other.kind is None or one.kind == other.kind:
            continue
        pair = f"{one.name}, {other.name}"
        same = _same_files(one, other)
        for name in same:
            findings.add("leak-file", pair, name)
        for source in sorted(source_images(one) & source_images(other)):
            findings.add("leak-source", pair, source)
        left = {i: path for i, path in files.get(one.name, {}).items() if one.images[i].file_name not in same}
        right = {i: path for i, path in files.get(other.name, {}).items() if other.images[i].file_name not in same}
        for a, b in _equal_content(list(left.values()), list(right.values()), pair, processes, progress):
            findings.add("leak-content", pair, f"{a} = {b}")


def _same_files(one: Split, other: Split) -> list[str]:
    """File names in both; none where the images of the two lie in different folders."""
    if one.image_root is not None and other.image_root is not None and one.image_root != other.image_root:
        return []
    names = {image.file_name for image in one.images.values()}
    return sorted(names & {image.file_name for image in other.images.values()})


def source_images(split: Split) -> set[str]:
    """Names of the images that those of a split are crops or variants of."""
    names = (made_from(image.source_image, image.file_name) for image in split.images.values())
    return {name for name in names if name is not None}


def _equal_content(
    left: list[Path], right: list[Path], label: str, processes: int, progress: Progress | None
) -> list[tuple[Path, Path]]:
    """Pairs of equal files. Only files of a size that occurs on both sides are read."""
    sizes_left, sizes_right = sizes_on_disk(left), sizes_on_disk(right)
    common = (set(sizes_left) & set(sizes_right)) - {-1}
    candidates = [path for path, size in zip(left, sizes_left, strict=True) if size in common]
    others = [path for path, size in zip(right, sizes_right, strict=True) if size in common]
    if not candidates:
        return []
    paths = candidates + others
    label = f"contents of {label}"
    digests = list(run_over(digest, paths, processes=processes, label=label, progress=progress, chunk=64))
    by_digest: dict[str, Path] = {}
    for path, value in zip(candidates, digests, strict=False):
        if value is not None:
            by_digest.setdefault(value, path)
    pairs = zip(others, digests[len(candidates) :], strict=True)
    return [(by_digest[value], path) for path, value in pairs if value is not None and value in by_digest]


def digest(path: Path) -> str | None:
    """SHA-256 of a file, or None if it cannot be read (in a worker process)."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None

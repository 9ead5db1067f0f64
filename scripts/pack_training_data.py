"""Training data in parts of a fixed size, to carry it to another machine piece by piece; and out of the parts again.

    python scripts/pack_training_data.py pack ROOT parts/ --limit 60       # parts/part_00.tar, part_01.tar, ...
    python scripts/pack_training_data.py unpack parts/ ROOT                # there; parts may come one at a time

ROOT holds one folder per data set (`NAME/train.json`, `NAME/val.json`, `NAME/images/`) and files such as first weights.
Links are followed. Of the images only those that `train.json` or `val.json` name are packed, and none twice; images
come last, so the first part holds everything else. A part that was unpacked before is skipped.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

SPLITS = ("train.json", "val.json")


def wanted(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, name in the archive) of everything to carry."""
    images: list[tuple[Path, str]] = []
    for item in sorted(root.iterdir()):
        if item.is_file():
            yield item.resolve(), item.name
            continue
        named: set[str] = set()
        for split in SPLITS:
            file = item / split
            if file.is_file():
                yield file.resolve(), f"{item.name}/{split}"
                named |= {image["file_name"] for image in json.loads(file.read_text())["images"]}
        images += [((item / "images" / name).resolve(), f"{item.name}/images/{name}") for name in sorted(named)]
    yield from images


def pack(root: Path, output: Path, limit: int) -> list[Path]:
    """Fill parts of at most `limit` bytes; a file larger than that gets a part of its own.

    Returns:
        The parts, in order.
    """
    output.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    archive: tarfile.TarFile | None = None
    size = 0
    for file, name in wanted(root):
        need = 1024 + file.stat().st_size  # a header, and the last block
        if archive is None or size + need > limit - 20_480:
            if archive is not None:
                archive.close()
            parts.append(output / f"part_{len(parts):02d}.tar")
            archive, size = tarfile.open(parts[-1], "w"), 0  # noqa: SIM115 - closed when it is full
        archive.add(file, name)
        size += need
    if archive is not None:
        archive.close()
    return parts


def unpack(parts: Path, root: Path) -> list[str]:
    """Unpack every part that is there and was not unpacked before; returns the names of those."""
    root.mkdir(parents=True, exist_ok=True)
    done = root / ".parts"
    before = set(done.read_text().split()) if done.is_file() else set()
    new = [part for part in sorted(parts.glob("part_*.tar")) if part.name not in before]
    for part in new:
        with tarfile.open(part) as archive:
            archive.extractall(root, filter="data")
        done.write_text("\n".join([*before, part.name]))
        before.add(part.name)
    return [part.name for part in new]


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, default=60, help="MiB of a part")
    options = parser.parse_args()
    if options.action == "unpack":
        print("unpacked", *unpack(options.source, options.target))
        return
    for part in pack(options.source, options.target, options.limit * 2**20):
        print(f"{part} {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()

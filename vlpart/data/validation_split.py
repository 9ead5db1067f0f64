"""Which images of a data set without a val split are held out of training, for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

#: Between the name of an image and the rest of the names of its variants, in the files of Roboflow.
_VARIANT = ".rf."


def original_image(source_image: object, file_name: str) -> str:
    """The image that an image is made from: what it is a crop or a variant of, else itself.

    Args:
        source_image: field of an annotation file; a name, or anything else that tells images apart; None or "" = no.
        file_name: of the image; Roboflow calls variants `car_jpg.rf.0123.jpg`.
    """
    return made_from(source_image, file_name) or file_name


def made_from(source_image: object, file_name: str) -> str | None:
    """As `original_image`; None for an image that is an original, as far as the file says."""
    stated = source_image is not None and source_image != ""
    original, variant, _ = (str(source_image) if stated else file_name).partition(_VARIANT)
    return original if stated or variant else None


def held_out(names: Mapping[int, str], fraction: float) -> frozenset[int]:
    """Ids of the images that are held out: always the same ones for the same names.

    Images of one name go together. In the order of the hashes of the names, every group of images is taken that
    still fits into the fraction; if none fits, the smallest; and never all of them.

    Args:
        names: from image id to the name of the image that it is made from, see `original_image`.
        fraction: part of the images, 0..1; 0 holds nothing out.
    """
    groups: dict[str, list[int]] = {}
    for image_id, name in names.items():
        groups.setdefault(name, []).append(image_id)
    if fraction <= 0 or len(groups) < 2:
        return frozenset()
    order = sorted(groups, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    room = int(fraction * len(names) + 0.5)
    taken = []
    for name in order:
        if len(groups[name]) <= room:
            taken.append(name)
            room -= len(groups[name])
    if not taken:
        taken = [min(order, key=lambda name: len(groups[name]))]
    elif len(taken) == len(order):
        taken.pop()
    return frozenset(image_id for name in taken for image_id in groups[name])

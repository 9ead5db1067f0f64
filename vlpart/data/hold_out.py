"""Which pictures of a data set without a val split are held out of training, for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def held_out(names: Mapping[int, str], fraction: float) -> frozenset[int]:
    """Ids of the pictures that are held out: always the same ones for the same names.

    Pictures of one name go together: crops of one source picture, and the variants that Roboflow makes of a picture
    (`car_jpg.rf.0123.jpg`). Of the names in the order of their hashes, as many are taken as come nearest to the
    fraction, at least one, and never all.

    Args:
        names: from image id to the name of the picture that it is made from.
        fraction: part of the pictures, 0..1; 0 holds nothing out.
    """
    groups: dict[str, list[int]] = {}
    for image_id, name in names.items():
        groups.setdefault(name.split(".rf.")[0], []).append(image_id)
    if fraction <= 0 or len(groups) < 2:
        return frozenset()
    order = sorted(groups, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    wanted, held = fraction * len(names), list(groups[order[0]])
    for name in order[1:-1]:
        if len(held) + len(groups[name]) / 2 > wanted:
            break
        held += groups[name]
    return frozenset(held)

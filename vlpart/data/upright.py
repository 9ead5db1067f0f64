"""Images with an EXIF orientation, in the frame that they were annotated in.

Cameras store what they see and note how to turn it. Some tools annotate the upright image, some the stored one; the
width and height of the annotation file tell which, unless turning does not change them: then it is the upright one, as
everybody sees it. The check, training and evaluation ask here, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import DataError, ImageError

EXIF_ORIENTATION = 0x0112

#: Images whose headers are looked at, at most, for what only a warning needs.
LOOKED_AT = 5000


def read_annotated(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: upright, unless only the image as stored has the size that the annotations say.

    Args:
        path: file.
        size: (height, width) that the annotations say; None where they have no place in the image.

    Raises:
        DataError: missing or broken file, or another size than the annotations say.
    """
    from vlpart.data.images import image_header, read_image_file

    try:
        array = read_image_file(path)
        if size is not None and array.shape[:2] != size:
            with image_header(path) as image:
                if (image.height, image.width) == size:
                    array = np.array(image.convert("RGB"))
    except (ImageError, OSError) as error:
        raise DataError(f"cannot decode {path}: {error}; replace the file or take it out of the annotations") from None
    if size is not None:
        check_size(path, (array.shape[0], array.shape[1]), size)
    return array


def is_annotated_as_stored(path: Path, size: tuple[int, int]) -> bool:
    """Whether an image has an EXIF orientation and only its stored frame has the size that the annotations say.

    False for what cannot be read: whoever reads it says so.
    """
    from vlpart.data.images import image_header

    try:
        with image_header(path, max_pixels=None) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            return turned and (image.height, image.width) == size and image.height != image.width
    except Exception:  # noqa: BLE001 - decoders raise anything on a damaged header
        return False


def is_unclear(orientation: int, stored: tuple[int, int]) -> bool:
    """Whether an EXIF orientation changes an image and not its size, so that nothing tells how it was annotated.

    Args:
        orientation: of the EXIF entry, 1 = none.
        stored: width and height (either order) in the file.
    """
    return orientation in (2, 3, 4) or (orientation in (5, 6, 7, 8) and stored[0] == stored[1])


def unclear_note(paths: Sequence[Path]) -> str | None:
    """One line that says how many images count as annotated upright without anything that shows it; None if none does.

    Of more than 5,000 images evenly spaced ones are looked at. What cannot be read is passed over: whoever reads it
    says so.
    """
    from vlpart.data.images import image_header

    unclear: list[Path] = []
    step = max(1, -(-len(paths) // LOOKED_AT))
    for path in paths[::step]:
        try:
            with image_header(path, max_pixels=None) as image:
                if is_unclear(image.getexif().get(EXIF_ORIENTATION, 1), image.size):
                    unclear.append(path)
        except Exception:  # noqa: BLE001 - decoders raise anything on a damaged header
            continue
    if not unclear:
        return None
    among = f" of {len(paths[::step])} looked at" if step > 1 else ""
    return (
        f"{len(unclear)} images{among} have an EXIF entry that turns or mirrors them and not their size (first: "
        f"{unclear[0].name}): annotations count as drawn upright, as viewers show them"
    )


def check_size(path: Path, actual: tuple[int, int], stated: tuple[int, int]) -> None:
    """Refuse an image of another size than its annotations say.

    Raises:
        DataError: it has another size.
    """
    if actual != stated:
        raise DataError(
            f"{path} is {actual[1]}x{actual[0]} pixels, its annotations say {stated[1]}x{stated[0]}; "
            "correct width and height in the annotation file"
        )

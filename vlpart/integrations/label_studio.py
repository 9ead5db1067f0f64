"""Label Studio: what its machine learning backend answers, and the labelling interface of a vocabulary.

`vlpart serve` has the routes below `/label-studio` (`vlpart.serve.labelling`).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError

from vlpart.checks import one_of, typed
from vlpart.data.convert.write import labelstudio_config, labelstudio_result
from vlpart.data.images import MAX_FILE_BYTES
from vlpart.errors import DataError, ImageError
from vlpart.files import read_regular, why
from vlpart.integrations.annotate import picture_of
from vlpart.masks.stack import MaskStack
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vlpart.results.result import Result

_LABELS = ("PolygonLabels", "BrushLabels", "RectangleLabels")


def labelling_config(vocabulary: Vocabulary | str) -> str:
    """The labelling interface (XML) for a vocabulary: its names as polygons, rectangles and brush masks.

    Examples:
        >>> 'Label value="car:wheel"' in labelling_config("car: wheel")
        True
    """
    return labelstudio_config(Vocabulary.of(vocabulary).names).decode()


@typed()
def names_of_config(config: str) -> list[str]:
    """The labels of a labelling interface, in its order, each once.

    Raises:
        DataError: it is no XML, or has no labels for regions of an image.
    """
    root = _parsed(config)
    names = [label.get("value") for tag in _LABELS for labels in root.iter(tag) for label in labels.iter("Label")]
    found = list(dict.fromkeys(name for name in names if name))
    if not found:
        raise DataError(f"the labelling interface has none of {', '.join(_LABELS)}: there is nothing to look for")
    return found


def _parsed(config: str) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(config)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise DataError(f"the labelling interface is no XML: {error}") from error


@typed()
def controls_of_config(config: str) -> dict[str, tuple[str, str]]:
    """Of a labelling interface, by kind ("polygon", "brush", "rectangle"): (from_name, to_name).

    Raises:
        DataError: it is no XML.
    """
    root, found = _parsed(config), dict[str, tuple[str, str]]()
    for tag in _LABELS:
        for labels in root.iter(tag):
            kind = tag.removesuffix("Labels").casefold()
            found.setdefault(kind, (labels.get("name") or kind, labels.get("toName") or "image"))
    return found


@typed()
def prediction_of(
    result: Result, model_version: str, controls: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, Any]:
    """A result as a prediction: polygons where they are faithful, else brush masks; boxes without masks.

    Args:
        result: of one image.
        model_version: what to call the model.
        controls: which controls the labelling interface has, see `controls_of_config`; what it has no control for is
            left out, but for polygons, which become boxes. None = those of `labelling_config`.
    """
    picture = picture_of(result, "image", None)
    size = (picture.height, picture.width)
    stack = MaskStack.from_rles([picture.rle(region) for region in picture.regions], size)
    shapes = []
    for i, region in enumerate(picture.regions):
        shape = labelstudio_result(picture, region, stack, i)
        kind = shape["type"].removesuffix("labels")
        if controls is not None:
            if kind not in controls and "rectangle" in controls:
                region.mask = None
                shape, kind = labelstudio_result(picture, region, stack, i), "rectangle"
            if kind not in controls:
                continue
            shape["from_name"], shape["to_name"] = controls[kind]
        shapes.append(shape)
    score = min((shape["score"] for shape in shapes), default=0.0)
    return {"result": shapes, "score": score, "model_version": model_version}


@typed()
def image_of_task(task: Mapping[str, Any], root: Path | None, most: int = MAX_FILE_BYTES) -> bytes:
    """The image file of a task: `data:` addresses, local files and uploads; nothing is fetched from anywhere.

    Args:
        task: of Label Studio; the first value of its data that is an address of an image counts.
        root: folder that local files (`/data/local-files/?d=images/a.jpg`) and uploads (`/data/upload/1/a.jpg`) are in.
        most: bytes that a file may have.

    Raises:
        ImageError: there is no such image, it is elsewhere, too large, or a pipe or device.
    """
    one_of("task", task, Mapping)
    data = task.get("data")
    address = next((v for v in data.values() if isinstance(v, str) and v), None) if isinstance(data, dict) else None
    if address is None:
        raise ImageError("a task has no image in its data")
    if address.startswith("data:"):
        return bytes_of_data_address(address)
    if root is None:
        raise ImageError(f"the image {address[:100]!r} is not in the request: start vlpart serve with --images FOLDER")
    place = _place_of(address, root)
    if place is None:
        raise ImageError(f"the image {address[:100]!r} is not below the folder of --images")
    try:
        return read_regular(place, most)
    except OSError as error:
        raise ImageError(f"cannot read {address[:100]!r} below the folder of --images: {why(error)}") from error


def _place_of(address: str, root: Path) -> Path | None:
    """The file below a folder that an address of a task names; None for what is elsewhere, or no address.

    Nobody leaves the folder by "..". Links in it are followed: the images of a project of `vlpart annotate` are links,
    and whoever asks can make none.
    """
    try:
        parts = urlsplit(address)
        name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].removeprefix("/data/").lstrip("/")
        base = root.resolve()
        place = Path(os.path.normpath(base / name))
        place.stat()
    except FileNotFoundError:
        pass  # reading it says so
    except (OSError, RuntimeError, ValueError):  # links in circles, no name of a file, no address
        return None
    is_local = not (parts.scheme or parts.netloc) or parts.path.startswith("/data/")
    return place if is_local and place.is_relative_to(base) else None


@typed()
def bytes_of_data_address(address: str) -> bytes:
    """The content of "data:image/png;base64,...".

    Raises:
        ImageError: it is not of that form.
    """
    one_of("address", address, str)
    head, comma, body = address.partition(",")
    try:
        if comma and head.startswith("data:") and head.endswith(";base64"):
            return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise ImageError("an image must be sent as data:image/...;base64,...")

"""Parts of objects that something else has found: each object is looked at alone, and its parts are grouped under it.

An object is cut out of the image with a margin, and looked at like an image of its own: small objects are enlarged.
What is found there counts if it lies in the given region, and belongs to the given object whatever else is near.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlpart.checks import one_of, typed
from vlpart.data.images import ReadImage
from vlpart.data.resize import resize_shorter_side
from vlpart.errors import DataError, VocabularyError
from vlpart.masks.crop import MaskCrop
from vlpart.masks.stack import MaskStack
from vlpart.names import plain
from vlpart.results.result import Result
from vlpart.text.vocabulary import Entry, Vocabulary

#: Of the larger side of an object's box, added around it on every side.
MARGIN = 0.1
#: Share of a part's mask (of its box, without masks) that must lie in the given region.
INSIDE = 0.5
#: IoU with the given box from which on a detection of the object's own name lends its mask.
OWN_MASK = 0.5
#: What objects are called where the vocabulary has parts without objects.
ANY_OBJECT = "object"
_AT_ONCE = 8  # objects whose pixels are held at once


@dataclass(frozen=True, kw_only=True)
class GivenObjects:
    """K objects of one image.

    Attributes:
        boxes_xyxy: (K, 4) float32, pixels of the image.
        names: K names, or None where there is only one object that they can be.
        masks: K masks, or None.
        scores: (K,) float32 in 0..1.
    """

    boxes_xyxy: NDArray[np.float32]
    names: Sequence[str] | None
    masks: MaskStack | None
    scores: NDArray[np.float32]

    @classmethod
    @typed("names")
    def of(
        cls,
        image_size: tuple[int, int],
        boxes: ArrayLike | None = None,
        masks: Any = None,
        names: Sequence[str] | str | None = None,
        scores: ArrayLike | None = None,
    ) -> GivenObjects:
        """What a user gives, checked.

        Args:
            image_size: (height, width).
            boxes: (K, 4) x0, y0, x1, y1 in pixels; they may reach over the border a little.
            masks: (K, H, W) of bool, a `MaskStack`, or K COCO RLEs; boxes are then not needed.
            names: one of each, or one for all.
            scores: one of each; 1 without.

        Raises:
            DataError: neither boxes nor masks, other numbers of them, or a region that is not in the image.
        """
        boxes_xyxy, stack = regions_of(image_size, boxes, masks)
        count = len(boxes_xyxy)
        called = [names] * count if isinstance(names, str) else names
        for name in called or ():
            one_of("the name of an object", name, str)
        sure = np.ones(count, dtype=np.float32) if scores is None else _numbers("scores must be numbers", scores)
        if (called is not None and len(called) != count) or sure.shape != (count,):
            raise DataError(f"there are {count} given objects: give as many names and scores, or none")
        if not ((sure >= 0) & (sure <= 1)).all():
            raise DataError("scores of given objects must be in 0..1")
        return cls(boxes_xyxy=boxes_xyxy, names=called, masks=stack, scores=sure)


def regions_of(
    image_size: tuple[int, int], boxes: ArrayLike | None, masks: Any
) -> tuple[NDArray[np.float32], MaskStack | None]:
    """(K, 4) float32 boxes within the image, and masks where there are any.

    Raises:
        DataError: neither boxes nor masks, other numbers of them, or a region that is not in the image.
    """
    height, width = image_size
    stack = None if masks is None else _stack(masks, image_size)
    if boxes is not None:
        boxes_xyxy = _numbers("boxes must be (K, 4) numbers x0, y0, x1, y1 in pixels", boxes)
        if boxes_xyxy.shape == (4,) or not boxes_xyxy.size:
            boxes_xyxy = boxes_xyxy.reshape(-1, 4)
    elif stack is not None:
        boxes_xyxy = np.array([_box(stack.crop(i)) for i in range(len(stack))], dtype=np.float32).reshape(-1, 4)
    else:
        raise DataError("no region is given: pass boxes or masks")
    if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[1] != 4 or not np.isfinite(boxes_xyxy).all():
        raise DataError(f"boxes must be (K, 4) numbers x0, y0, x1, y1 in pixels, not {boxes_xyxy.shape}")
    if stack is not None and len(stack) != len(boxes_xyxy):
        raise DataError(f"there are {len(boxes_xyxy)} boxes and {len(stack)} masks: give one of each per object")
    clipped = np.concatenate([boxes_xyxy[:, :2].clip(0), np.minimum(boxes_xyxy[:, 2:], (width, height))], axis=1)
    for i, (x0, y0, x1, y1) in enumerate(clipped.tolist()):
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise DataError(
                f"region {i} is empty or not in the image of {width}x{height} pixels (boxes are x0, y0, x1, y1): "
                f"{[round(float(side), 1) for side in boxes_xyxy[i]]}"
            )
    return clipped.astype(np.float32), stack


def _numbers(wanted: str, values: ArrayLike) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # becomes infinity, which is refused afterwards
            return np.array(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f"{wanted}: {str(error)[:200]}") from error


def _stack(masks: Any, image_size: tuple[int, int]) -> MaskStack:
    if isinstance(masks, MaskStack):
        stack = masks
    else:
        try:
            if len(masks) and isinstance(masks[0], dict):
                stack = MaskStack.from_rles(masks, image_size)
            else:
                array = np.asarray(masks, dtype=bool)
                stack = MaskStack.from_bitmaps(array[None] if array.ndim == 2 else array, image_size)
        except (TypeError, ValueError, LookupError, OverflowError, RuntimeError) as error:
            raise DataError(f"masks must be (K, height, width) of bool, or COCO RLEs: {error}") from error
    if stack.image_size != image_size:
        raise DataError(f"the masks are for an image of {stack.image_size} (height, width), the image is {image_size}")
    return stack


def _box(crop: MaskCrop) -> tuple[int, int, int, int]:
    return crop.x0, crop.y0, crop.x1, crop.y1


# ---- which names


def vocabulary_for(vocabulary: Vocabulary, names: Sequence[str] | None) -> tuple[Vocabulary, list[int]]:
    """The vocabulary with an entry for every given object, and the indices of those entries.

    Args:
        vocabulary: the parts to look for. Where no entry is a part, all are taken as parts of every object.
        names: of the objects; None = all are the one object that the vocabulary has parts of, else "object".

    Raises:
        VocabularyError: no names, and the vocabulary has parts of several objects; or an object without parts in it.
    """
    if not part_entries(vocabulary):
        called = list(dict.fromkeys(names or [ANY_OBJECT]))
        entries = [
            changed(
                e, name=f"{o}:{e.name}", id=i * len(vocabulary) + k + 1, object=o, part=e.name, text=e.text or e.name
            )
            for i, o in enumerate(called)
            for k, e in enumerate(vocabulary.entries)
        ]
        rows = None if vocabulary.embeddings is None else np.tile(vocabulary.embeddings, (len(called), 1))
        vocabulary = Vocabulary(tuple(entries), rows, title=vocabulary.title)
    owned = {plain(vocabulary.object_name(i)): vocabulary.object_name(i) for i in part_entries(vocabulary)}
    if names is None:
        if len(owned) > 1:
            raise VocabularyError(
                f"the vocabulary has parts of {', '.join(sorted(owned.values()))}: say which the objects are (names=)"
            )
        names = [next(iter(owned.values()))]
    for name in names:
        if plain(name) not in owned:
            raise VocabularyError(
                f"the vocabulary has no parts of '{name}'; it has parts of {', '.join(sorted(owned.values()))}"
            )
    entries = list(vocabulary.entries)
    wholes = {plain(e.name): i for i, e in enumerate(entries) if e.part is None}
    embeddings = vocabulary.embeddings
    for key in dict.fromkeys(plain(name) for name in names):
        if key not in wholes:
            if embeddings is not None:
                raise VocabularyError(
                    f"a vocabulary with its own embeddings needs an entry '{owned[key]}' for the object itself"
                )
            wholes[key] = len(entries)
            entries.append(Entry(name=owned[key], id=max(e.id for e in entries) + 1))
    if len(entries) > len(vocabulary):
        vocabulary = Vocabulary(tuple(entries), title=vocabulary.title, about=vocabulary.about)
    return vocabulary, [wholes[plain(name)] for name in names]


def part_entries(vocabulary: Vocabulary) -> list[int]:
    """Indices of the entries that are parts."""
    return [i for i in range(len(vocabulary)) if vocabulary.is_part(i)]


# ---- looking


@dataclass
class _Found:
    """Detections as they are collected, in pixels of the image; `owner` counts the given objects."""

    boxes: list[NDArray[np.float32]]
    scores: list[float]
    class_ids: list[int]
    owners: list[int]
    rles: list[dict[str, Any]]


def find_parts(
    image: ReadImage,
    objects: GivenObjects,
    vocabulary: Vocabulary,
    look: Callable[[list[ReadImage], Vocabulary], list[Result]],
    sides: tuple[int, int],
    max_detections: int,
    tidy: Callable[[Result], Result] = lambda parts: parts,
) -> Result:
    """The given objects with the parts that were found in them.

    Args:
        image: the whole.
        objects: in it.
        vocabulary: the parts to look for.
        look: what is found of a vocabulary in images.
        sides: to which the pixels around each object are resized, shorter and longest side.
        max_detections: of an object, itself included.
        tidy: leaves out what is not wanted of the parts that were found in the window of one object.
    """
    vocabulary, owners = vocabulary_for(vocabulary, objects.names)
    if objects.names is None:
        owners = owners * len(objects.boxes_xyxy)
    collected = _Found([], [], [], [], [])
    with_masks = True
    for start in range(0, len(owners), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(owners)))
        windows = {i: _window(objects.boxes_xyxy[i], image.pixels.shape[:2]) for i in some}
        for owner in dict.fromkeys(owners[i] for i in some):
            alike = [i for i in some if owners[i] == owner]
            asked = [owner, *vocabulary.parts_of(owner)]
            results = look([_piece(image, windows[i], sides) for i in alike], vocabulary.subset(asked))
            for i, result in zip(alike, results, strict=True):
                with_masks &= result.masks is not None
                own, parts = result[result.class_ids == 0], tidy(result[result.class_ids != 0])[: max_detections - 1]
                region = _region(objects, i, own, windows[i])
                _collect(collected, objects, i, asked, region, parts, windows[i], image.pixels.shape[:2])
    return _result(collected, vocabulary, image, with_masks)


def _window(box: NDArray[np.float32], size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    margin = MARGIN * float(max(box[2] - box[0], box[3] - box[1]))
    x0, y0 = (int(max(0, np.floor(side - margin))) for side in box[:2])
    x1, y1 = (int(min(limit, np.ceil(side + margin))) for side, limit in zip(box[2:], size_hw[1::-1], strict=True))
    return x0, y0, x1, y1


def _piece(image: ReadImage, window: tuple[int, int, int, int], sides: tuple[int, int]) -> ReadImage:
    x0, y0, x1, y1 = window
    pixels = np.ascontiguousarray(image.pixels[y0:y1, x0:x1])
    return ReadImage(pixels=pixels, resized=resize_shorter_side(pixels, *sides))


def _collect(
    collected: _Found,
    objects: GivenObjects,
    i: int,
    asked: Sequence[int],
    region: MaskCrop,
    parts: Result,
    window: tuple[int, int, int, int],
    size_hw: tuple[int, int],
) -> None:
    """Add object `i` and those of the parts in its window that lie in its region."""
    box, place = objects.boxes_xyxy[i], len(collected.boxes)
    collected.boxes.append(box)
    collected.scores.append(float(objects.scores[i]))
    collected.class_ids.append(asked[0])
    collected.owners.append(-1)
    collected.rles.append(region.rle(size_hw))
    boxes = parts.boxes_xyxy + np.array(window[:2] * 2, dtype=np.float32)
    for k in range(len(parts)):
        crop = MaskCrop(0, 0, np.zeros((0, 0), dtype=bool))
        if parts.masks is not None:
            crop = parts.masks.crop(k).moved(*window[:2])
        precise = objects.masks is not None and crop.bitmap.size
        if (crop.shared(region) / max(crop.area(), 1) if precise else _box_share(boxes[k], box)) < INSIDE:
            continue
        collected.boxes.append(boxes[k])
        collected.scores.append(float(parts.scores[k]))
        collected.class_ids.append(asked[int(parts.class_ids[k])])
        collected.owners.append(place)
        collected.rles.append(crop.rle(size_hw))


def _region(objects: GivenObjects, i: int, own: Result, window: tuple[int, int, int, int]) -> MaskCrop:
    """The mask of a given object: its own, else that of the detection which is it, within its box; else its box."""
    if objects.masks is not None:
        return objects.masks.crop(i)
    box = objects.boxes_xyxy[i]
    whole = MaskCrop.of_box(box)
    boxes = own.boxes_xyxy + np.array(window[:2] * 2, dtype=np.float32)
    alike = [(_iou(boxes[k], box), k) for k in range(len(own))]
    if own.masks is None or not alike or max(alike)[0] < OWN_MASK:
        return whole
    inside = own.masks.crop(max(alike)[1]).moved(*window[:2]).within(whole.x0, whole.y0, whole.x1, whole.y1)
    return inside if inside.bitmap.any() else whole


def _box_share(part: NDArray[np.float32], box: NDArray[np.float32]) -> float:
    sides = np.minimum(part[2:], box[2:]) - np.maximum(part[:2], box[:2])
    area = float(np.prod(part[2:] - part[:2]))
    return float(np.prod(sides.clip(0))) / area if area > 0 else 0.0


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    shared = float(np.prod((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / union if union > 0 else 0.0


def _result(collected: _Found, vocabulary: Vocabulary, image: ReadImage, with_masks: bool) -> Result:
    size = (image.pixels.shape[0], image.pixels.shape[1])
    return Result(
        image_size=size,
        boxes_xyxy=np.array(collected.boxes, dtype=np.float32).reshape(-1, 4),
        scores=np.array(collected.scores, dtype=np.float32),
        class_ids=np.array(collected.class_ids, dtype=np.int64),
        masks=MaskStack.from_rles(collected.rles, size) if with_masks else None,
        owners=np.array(collected.owners, dtype=np.int64),
        vocabulary=vocabulary,
        image=image.pixels,
        path=image.path,
    )

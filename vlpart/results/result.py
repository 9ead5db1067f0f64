"""What a prediction gives back: boxes, masks, names and scores of one image, parts grouped under objects."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlpart.checks import in_range, one_of, position, typed, whole
from vlpart.errors import OutputError, VocabularyError
from vlpart.files import IMAGE_FORMATS, encode_image, is_there, write_file
from vlpart.masks.stack import MaskStack, checked_size, resolve_indices
from vlpart.names import did_you_mean
from vlpart.results import formats
from vlpart.results import select as selection
from vlpart.results.grouping import assign_parts, not_nested, replaced_by
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision
    from PIL import Image


_TURNED = 256  # columns that become rows at a time, in the cache


@dataclass(frozen=True)
class ObjectGroup:
    """An object and the parts that belong to it.

    Attributes:
        index: which detection of the result the object is.
        name: its name.
        score: its score, 0..1.
        parts: indices of the detections that are its parts, best score first.
    """

    index: int
    name: str
    score: float
    parts: list[int]


class Result:
    """The N detections of one image, best score first.

    `len(result)`, `result[i]`, `result[2:5]`, `result[result.scores > 0.5]` and iteration work and give `Result`s.

    Given out of order, detections are sorted; `masks` may be given as an (N, H, W) bool array.

    Examples:
        >>> result = Result(
        ...     image_size=(100, 200),
        ...     boxes_xyxy=[[20, 20, 120, 80], [30, 60, 50, 80], [90, 60, 110, 80]],
        ...     scores=[0.9, 0.8, 0.4],
        ...     class_ids=[0, 1, 1],
        ...     vocabulary=Vocabulary.parse("car: wheel"),
        ... )
        >>> result.summary()
        '200x100: 1 car (2 wheel)'
        >>> result[result.scores > 0.5].names
        ['car', 'car:wheel']
        >>> [(group.name, group.parts) for group in result.objects]
        [('car', [1, 2])]
        >>> len(result.filter(parts="wheel", score=0.5))
        1

    Attributes:
        image_size: (height, width) of the image in pixels.
        boxes_xyxy: (N, 4) float32, pixels of the original image.
        scores: (N,) float32 in 0..1, descending.
        class_ids: (N,) int64 indices into `vocabulary`.
        masks: an array-like (N, H, W) of bool, compact until asked for (`vlpart.masks.stack.MaskStack`), or None.
        vocabulary: what was looked for.
        image: (H, W, 3) uint8 RGB, or None.
        path: where the image came from, or None.

    `owners`, where it is known: (N,) for a part the index of its object as given, else -1; it then stays so, and a part
    whose object is filtered out belongs to none. None finds out by masks and boxes.

    Raises:
        ValueError: lengths or sizes that do not fit together, values that are not finite, scores outside 0..1,
            boxes with x1 < x0 or y1 < y0, class ids outside the vocabulary.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        boxes_xyxy: ArrayLike,
        scores: ArrayLike,
        class_ids: ArrayLike,
        vocabulary: Vocabulary,
        masks: MaskStack | ArrayLike | None = None,
        image: NDArray[np.uint8] | None = None,
        path: str | os.PathLike[str] | None = None,
        owners: ArrayLike | None = None,
    ) -> None:
        self.image_size = checked_size(image_size)
        one_of("vocabulary", vocabulary, Vocabulary)
        with np.errstate(over="ignore"):  # becomes infinity, which is refused below
            self.boxes_xyxy: NDArray[np.float32] = _numbers("boxes_xyxy", boxes_xyxy)
            self.scores: NDArray[np.float32] = _numbers("scores", scores)
        self.class_ids: NDArray[np.int64] = _whole_numbers("class_ids", class_ids)
        if not self.boxes_xyxy.size:
            self.boxes_xyxy = self.boxes_xyxy.reshape(-1, 4)
        self.vocabulary = vocabulary
        self.masks = masks if masks is None or isinstance(masks, MaskStack) else _stack(masks, self.image_size)
        self.image = image
        self.path = None if path is None else os.fspath(path)
        self.given_owners = None if owners is None else _whole_numbers("owners", owners)
        self._validate()
        if np.any(np.diff(self.scores) > 0):
            order = np.argsort(-self.scores, kind="stable")
            self.boxes_xyxy, self.scores, self.class_ids = (
                self.boxes_xyxy[order],
                self.scores[order],
                self.class_ids[order],
            )
            self.masks = None if self.masks is None else self.masks[order]
            self.given_owners = None if self.given_owners is None else _renumbered(self.given_owners, order)

    def _validate(self) -> None:
        if self.boxes_xyxy.shape[1:] != (4,) or self.scores.ndim != 1 or self.class_ids.ndim != 1:
            shapes = (self.boxes_xyxy.shape, self.scores.shape, self.class_ids.shape)
            raise ValueError(f"a result needs boxes (N, 4), scores (N,) and class_ids (N,), got {shapes}")
        counts = {"boxes_xyxy": len(self.boxes_xyxy), "scores": len(self.scores), "class_ids": len(self.class_ids)}
        if self.masks is not None:
            counts["masks"] = len(self.masks)
            if self.masks.image_size != self.image_size:
                raise ValueError(
                    f"masks are for an image of {self.masks.image_size}, the result is for {self.image_size}"
                )
        if len(set(counts.values())) > 1:
            raise ValueError(f"a result needs one of each per detection, got {counts}")
        if min(self.image_size) < 1:
            raise ValueError(f"image_size is (height, width), both at least 1, got {self.image_size}")
        if self.image is not None:
            one_of("image", self.image, np.ndarray)
            if self.image.shape != (*self.image_size, 3) or self.image.dtype != np.uint8:
                got = f"has the shape {self.image.shape} and holds {self.image.dtype}"
                raise ValueError(f"image {got}, expected {(*self.image_size, 3)} and uint8")
        if not np.isfinite(self.boxes_xyxy).all():
            raise ValueError("boxes_xyxy hold NaN or infinity")
        if (self.boxes_xyxy[:, 2:] < self.boxes_xyxy[:, :2]).any():
            raise ValueError("boxes_xyxy must be x0, y0, x1, y1 with x1 >= x0 and y1 >= y0")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores must be in 0..1")
        if len(self) and (self.class_ids.min() < 0 or self.class_ids.max() >= len(self.vocabulary)):
            raise ValueError(f"class_ids must be in 0..{len(self.vocabulary) - 1}, the indices of the vocabulary")
        if self.given_owners is not None:
            self._validate_owners(self.given_owners)

    def _validate_owners(self, owners: NDArray[np.int64]) -> None:
        if owners.shape != (len(self),) or not np.all((owners >= -1) & (owners < len(self))):
            raise ValueError(f"owners must be {len(self)} indices of detections, or -1")
        parts, owned = self._mask_of(self.vocabulary.is_part), owners >= 0
        if np.any(owned & ~parts) or np.any(parts[owners[owned]]):
            raise ValueError("owners are objects, and only parts have one")

    # ---- asking it

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Result]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Result:
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            key = [range(len(self))[_place(key)]]
        if isinstance(key, tuple):
            raise TypeError("index a result with a whole number, a slice, a list of whole numbers or a list of N bools")
        return self._take(resolve_indices(key, len(self)))

    def _take(self, indices: NDArray[np.int64]) -> Result:
        return Result(
            image_size=self.image_size,
            boxes_xyxy=self.boxes_xyxy[indices],
            scores=self.scores[indices],
            class_ids=self.class_ids[indices],
            masks=None if self.masks is None else self.masks[indices],
            vocabulary=self.vocabulary,
            image=self.image,
            path=self.path,
            owners=None if self.given_owners is None else _renumbered(self.given_owners, indices),
        )

    def __repr__(self) -> str:
        return f"Result({self.summary()})"

    @property
    def names(self) -> list[str]:
        """N names, parts as "object:part"."""
        return [self.vocabulary.names[i] for i in self.class_ids.tolist()]

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """(N,) int64: for a part the index of the object it belongs to (see `vlpart.results.grouping`), else -1."""
        if self.given_owners is not None:
            return self.given_owners
        return assign_parts(self.boxes_xyxy, self.scores, self.class_ids, self.masks, self.vocabulary)

    @cached_property
    def objects(self) -> list[ObjectGroup]:
        """Every detected object, best score first, with the parts that belong to it."""
        names = self.names
        parts: dict[int, list[int]] = {i: [] for i in range(len(self)) if not self.is_part(i)}
        for i, owner in enumerate(self.owners.tolist()):
            if owner >= 0:
                parts[owner].append(i)
        return [ObjectGroup(i, names[i], float(self.scores[i]), owned) for i, owned in parts.items()]

    @property
    def loose_parts(self) -> list[int]:
        """Indices of the parts that belong to no detected object."""
        return [i for i in range(len(self)) if self.is_part(i) and self.owners[i] < 0]

    def is_part(self, i: int) -> bool:
        """Whether detection `i` is a part."""
        return self.vocabulary.is_part(int(self.class_ids[_place(i)]))

    def filter(
        self,
        *,
        score: float | None = None,
        names: str | Iterable[str] | None = None,
        objects: str | Iterable[str] | None = None,
        parts: bool | str | Iterable[str] | None = None,
    ) -> Result:
        """The detections that meet every condition given.

        Args:
            score: at least this score, 0..1.
            names: one of these full names ("car", "car:wheel").
            objects: one of these objects, or a part of one.
            parts: True = parts only, False = whole objects only; or one of these parts of any object ("wheel").

        Raises:
            VocabularyError: a name, an object or a part that the vocabulary does not have.
            ValueError: a score that is no number in 0..1.
        """
        for name, value in (("names", names), ("objects", objects), ("parts", parts)):
            if isinstance(value, bytes):
                raise TypeError(f"{name} must be texts, not bytes")
        keep = np.ones(len(self), dtype=bool)
        if score is not None:
            keep &= self.scores >= in_range("score", score, 0, 1)
        if names is not None:
            chosen = {self.vocabulary.names[self.vocabulary.index(name)] for name in _several(names)}
            keep &= self._mask_of(lambda c: self.vocabulary.names[c] in chosen)
        if objects is not None:
            keep &= self._mask_of(self._one_of("object", self.vocabulary.object_name, objects))
        if isinstance(parts, bool):
            keep &= self._mask_of(lambda c: self.vocabulary.is_part(c) == parts)
        elif parts is not None:
            keep &= self._mask_of(self._one_of("part", self.vocabulary.part_name, parts))
        return self[keep]

    def _one_of(
        self, kind: str, name_of: Callable[[int], str | None], chosen: str | Iterable[str]
    ) -> Callable[[int], bool]:
        """Whether `name_of` a class is one of those wanted, all of which some entry of the vocabulary must have."""
        known = {name.casefold(): name for name in map(name_of, range(len(self.vocabulary))) if name is not None}
        folded = {str(name).casefold(): name for name in _several(chosen)}
        for key, name in folded.items():
            if key not in known:
                hint = did_you_mean(str(name), known.values(), cutoff=0.6)
                missing = f"The vocabulary {self.vocabulary.title!r} has no {kind} '{name}'"
                raise VocabularyError(f"{missing}; {hint}" if hint else f"{missing}.")
        return lambda c: (name_of(c) or "").casefold() in folded

    def select(self, phrase: str, *, with_parts: bool = False) -> Result:
        """The detections that a phrase means, "left rear wheel of the second car"; see `vlpart.results.select`.

        Examples:
            >>> result = Result(
            ...     image_size=(100, 200),
            ...     boxes_xyxy=[[20, 20, 120, 80], [30, 60, 50, 80], [90, 60, 110, 80]],
            ...     scores=[0.9, 0.8, 0.7],
            ...     class_ids=[0, 1, 1],
            ...     vocabulary=Vocabulary.parse("car: wheel"),
            ... )
            >>> result.select("right wheel of the car").boxes_xyxy.tolist()
            [[90.0, 60.0, 110.0, 80.0]]

        Args:
            phrase: names of the vocabulary with words of place, size, order and number. Left and right are those of the
                image; things are counted from left to right unless the phrase says otherwise.
            with_parts: objects bring their parts.

        Raises:
            SelectionError: the phrase is not understood, or there is no such thing; says what there is.
        """
        one_of("with_parts", with_parts, bool)
        chosen = selection.resolve(selection.parse(phrase, self.vocabulary), self)
        if with_parts:
            chosen = sorted({*chosen, *(i for i, owner in enumerate(self.owners.tolist()) if owner in chosen)})
        return self[chosen]

    def without_nested(self, share: float = 0.8) -> Result:
        """Without detections that lie inside a better one of the same class: the arm that is also called a person.

        Args:
            share: of the mask (of the box, where there are no masks) that is inside, from which on a detection goes;
                above 1 keeps everything.

        Raises:
            ValueError: no number of at least 0.
        """
        return self[not_nested(self, in_range("share", share, 0, math.inf))]

    def without_overlapping(self, iou: float = 0.7) -> Result:
        """Without detections that lie on a better one of whatever name: one region, one name. For pictures.

        Of an object and its own part the object stays, else the better score. A detection around nearly all of a better
        one of its own name goes too.

        Args:
            iou: intersection over union of the masks (of the boxes, where there are no masks) from which on one goes;
                1 keeps everything.

        Raises:
            ValueError: no number in 0..1.
        """
        return self[self.replaced_by(iou) < 0]

    def replaced_by(self, iou: float = 0.7) -> NDArray[np.int64]:
        """(N,) int64: why `without_overlapping` leaves out a detection; -1 for those that it keeps.

        Its own index: a better detection was there. The index of an object: that object has a lower score and takes the
        place of its own part; above that score the part is kept.

        Raises:
            ValueError: no number in 0..1.
        """
        return replaced_by(self, in_range("iou", iou, 0, 1))

    def _mask_of(self, condition: Callable[[int], bool]) -> NDArray[np.bool_]:
        return np.array([condition(c) for c in self.class_ids.tolist()], dtype=bool)

    def summary(self, name: str | None = None) -> str:
        """One line: "photo.jpg 1200x800: 2 car (4 wheel, 1 door); without their object: 1 dog:head".

        The size is width x height.

        Args:
            name: of the image; default: the name of the file at `path`.
        """
        one_of("name", name, str, type(None))
        parts_of: dict[str, Counter[str]] = {}
        wholes: Counter[str] = Counter()
        for group in self.objects:
            wholes[group.name] += 1
            kinds = (self.vocabulary.part_name(int(self.class_ids[i])) or "" for i in group.parts)
            parts_of.setdefault(group.name, Counter()).update(kinds)
        listed = [
            f"{n} {name}" + (f" ({_counted(parts_of[name])})" if parts_of[name] else "") for name, n in wholes.items()
        ]
        text = ", ".join(listed)
        loose = Counter(self.names[i] for i in self.loose_parts)
        if loose:
            text += ("; " if text else "") + "without their object: " + _counted(loose)
        shown = Path(self.path).name if name is None and self.path else name
        where = f"{shown} " if shown else ""
        return f"{where}{self.image_size[1]}x{self.image_size[0]}: {text or 'nothing found'}"

    # ---- images and files

    def plot(self, image: Any = None, **options: Any) -> Image.Image:
        """The annotated image; `options` are those of `vlpart.visualize.draw.draw_result`.

        Args:
            image: what to draw on (anything `read_image` takes); default: the result's own, or the file at `path`.

        Raises:
            OutputError: there is no image, or it has another size than the result.
        """
        from vlpart.visualize.draw import draw_result

        return draw_result(self._image(image), self, **options)

    def show(self, image: Any = None, **options: Any) -> None:
        """Show the annotated image: in a notebook below the cell, else in the image viewer of the system.

        `image` and `options` as in `plot`.

        Raises:
            OutputError: see `plot`.
        """
        drawn = self.plot(image, **options)
        notebook = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if notebook is None:
            drawn.show()
        else:
            sys.modules["IPython"].display.display(drawn)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of a result: the annotated image, where it has one."""
        if self.image is None:
            return None
        return encode_image(self.plot(), "PNG", "picture")

    def crop(self, i: int, image: Any = None, margin: float = 0.1) -> Image.Image:
        """The image around detection `i`, in RGB; see `vlpart.visualize.draw.crop_of`. `image` as in `plot`."""
        from vlpart.visualize.draw import crop_of

        return crop_of(self._image(image), self, range(len(self))[_place(i)], margin)

    def cutout(self, i: int, image: Any = None) -> Image.Image:
        """Detection `i` alone, in RGBA, transparent around it; see `vlpart.visualize.draw.cutout_of`."""
        from vlpart.visualize.draw import cutout_of

        return cutout_of(self._image(image), self, range(len(self))[_place(i)])

    def _image(self, image: Any) -> NDArray[np.uint8]:
        from vlpart.data.images import read_image

        if image is None:
            image = self.image if self.image is not None else self.path
        if image is None:
            raise OutputError("this result carries no image to draw on: pass one, result.plot(image)")
        pixels = read_image(image, max_pixels=None)
        if pixels.shape[:2] != self.image_size:
            raise OutputError(
                f"the image is {pixels.shape[:2]} (height, width), but the result is for {self.image_size}"
            )
        return pixels

    def save(self, path: str | os.PathLike[str], image: Any = None, **options: Any) -> Path:
        """Write the annotated image (.png, .jpg, .webp) or all the data (.json), whole or not at all; gives the path.

        Folders are made as needed. `image` and `options` as in `plot`.

        Raises:
            OutputError: another suffix, the file the image came from, a folder that cannot be written, a full disk.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix != ".json" and suffix not in IMAGE_FORMATS:
            known = ", ".join([*IMAGE_FORMATS, ".json"])
            raise OutputError(f"cannot save a result as {target.name!r}: the suffix must be one of {known}")
        if self.path is not None and is_there(target) and is_there(self.path) and target.samefile(self.path):
            raise OutputError(f"{target} is the input image: save the result under another name")
        if suffix == ".json":
            data = (self.to_json(indent=1) + "\n").encode(errors="backslashreplace")  # a path may be no Unicode
        else:
            data = encode_image(self.plot(image, **options), IMAGE_FORMATS[suffix], target.name)
        return write_file(target, data)

    def label_map(self, kind: Literal["class", "instance"] = "class") -> NDArray[np.uint16]:
        """(H, W) uint16: 0 where nothing is, else class id + 1 (kind "class") or detection index + 1 ("instance").

        Class ids count from 0 in the order of the vocabulary, detections in the order of the result. Parts cover
        objects, and a higher score covers a lower one.

        Raises:
            OutputError: there are no masks, or more values than uint16 holds.
            ValueError: another kind.
        """
        if kind not in ("class", "instance"):
            raise ValueError(f"the kind of a label map is 'class' or 'instance', not {kind!r:.80}")
        if self.masks is None:
            raise OutputError("a label map needs masks, and this result has boxes only")
        values = (self.class_ids if kind == "class" else np.arange(len(self))) + 1
        if len(values) and values.max() > np.iinfo(np.uint16).max:
            raise OutputError("a label map holds 65535 different values at most")
        columns = np.zeros(self.image_size[::-1], dtype=np.uint16)  # as masks are made: column by column
        pixels, runs, numbers = columns.reshape(-1), self.masks.all_runs(), values.astype(np.uint16)
        for i in sorted(range(len(self)), key=lambda i: (self.is_part(i), -i)):
            number = numbers[i : i + 1]  # as an array it need not be converted for every run
            for start, stop in runs[i].tolist():
                pixels[start:stop] = number
        labels = np.empty(self.image_size, dtype=np.uint16)
        for x in range(0, len(columns), _TURNED):
            labels[:, x : x + _TURNED] = columns[x : x + _TURNED].T
        return labels

    # ---- other forms

    @typed()
    def to_coco(self, image_id: int | str = 1) -> list[dict[str, Any]]:
        """COCO entries: image_id, category_id (the id in the vocabulary), bbox xywh, score, segmentation (RLE)."""
        one_of("image_id", image_id, int, np.integer, str)
        return formats.to_coco(self, image_id)

    def to_labelme(self, image_path: str | None = None) -> dict[str, Any]:
        """What LabelMe reads: a polygon for every piece of a mask, a rectangle for a detection without one.

        The `group_id` of a shape is the place of its detection in the result, counted from 1; a part names its object
        in the description. A mask that polygons would change in more than 2 % of its pixels (holes, thin lines) is a
        shape of the type "mask", which LabelMe knows from version 5.4 on.

        Args:
            image_path: where the image is, seen from the folder of the LabelMe file; default: beside it.
        """
        one_of("image_path", image_path, str, type(None))
        return formats.to_labelme(self, image_path)

    def to_yolo(self) -> str:
        """YOLO labels: a line of "class x y x y ..." per detection, or "class x y width height" without masks.

        Classes are `class_ids`, coordinates are shares of the width and height. A mask of several pieces, or with
        holes, is one polygon with bridges of no width; there are no scores. An empty text means nothing was found.
        """
        return formats.to_yolo(self)

    def to_supervision(self) -> supervision.Detections:
        """`supervision.Detections` with an (N, H, W) bool mask array and `data` of (N,) columns.

        `data["class_name"]`, `data["id"]` (a number that no detection of another image has), and `data["owner"]`: of a
        part, the id of its object, else -1. Both stay right when detections are merged or filtered.

        Raises:
            OutputError: supervision is not installed.
        """
        return formats.to_supervision(self)

    def to_fiftyone(self) -> fiftyone.Detections:
        """`fiftyone.Detections`: label, confidence, relative box, and the mask of the box.

        With the attributes `object` and `part` (its words), and `owner`: of a part, the `id` of its object in the same
        list, else None. The box is that of the mask, where there is one.

        Raises:
            OutputError: FiftyOne is not installed.
        """
        return formats.to_fiftyone(self)

    def to_dataframe(self) -> pandas.DataFrame:
        """A pandas table, a row per detection: path, name, object, part, score, owner (the row of the object that it is
        a part of, else -1), x0, y0, x1, y1 and area, in pixels.

        Raises:
            OutputError: pandas is not installed.
        """
        return formats.to_dataframe(self)

    def to_geojson(self, transform: formats.Affine | None = None) -> dict[str, Any]:
        """A GeoJSON FeatureCollection: the outline of every mask with its holes (of every box, where there are none),
        name, score, and the `id` of the object that a part belongs to. QuPath reads it as it is.

        Args:
            transform: (a, b, c, d, e, f) from pixels to coordinates of a map, x = a * column + b * row + c and
                y = d * column + e * row + f, as rasterio's `dataset.transform` has them first; None keeps pixels, y
                downwards.
        """
        return formats.to_geojson(self, transform)

    @typed()
    def to_dict(self, *, full_vocabulary: bool = False) -> dict[str, Any]:
        """Plain data for JSON, everything but the image; `from_dict` reads it back.

        A detection has `name`, `category_id` (the `id` of an entry of the vocabulary, as in COCO files), `score`,
        `box_xyxy`, `object_index` (the place of the detection that it is a part of, from 0, or None) and `mask`. Where
        the objects were given, `grouping` is "given".

        Args:
            full_vocabulary: True writes all that was looked for, not only what was found. (Where nothing was found, all
                is written anyway: a vocabulary cannot be empty.)
        """
        data = formats.to_dict(self, full_vocabulary)
        return data if self.given_owners is None else {**data, "grouping": "given"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], image: NDArray[np.uint8] | None = None) -> Result:
        """The inverse of `to_dict`.

        Raises:
            DataError: not such a dictionary, or its contents do not fit together.
        """
        fields = formats.result_fields(data)
        try:
            return cls(**fields, image=image)
        except formats.DAMAGED as error:
            raise formats.damaged(error) from error

    @classmethod
    @typed("path")
    def load(cls, path: str | os.PathLike[str], image: NDArray[np.uint8] | None = None) -> Result:
        """Read what `save` wrote as .json, the NAME_parts.json of `vlpart predict` for one.

        Args:
            path: the file.
            image: (H, W, 3) uint8 RGB, which the file does not hold; without it, `plot` reads the file that the
                image came from.

        Raises:
            DataError: the file cannot be read, or is no saved result.
        """
        return cls.from_dict(formats.read_json(path), image)

    def to_json(self, *, indent: int | None = None, full_vocabulary: bool = False) -> str:
        """`to_dict` as JSON text."""
        if indent is not None:
            whole("indent", indent, 0, 100)
        data = self.to_dict(full_vocabulary=full_vocabulary)
        return json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)


def _stack(bitmaps: ArrayLike, image_size: tuple[int, int]) -> MaskStack:
    return MaskStack.from_bitmaps(np.asarray(bitmaps), image_size)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float32]:
    try:
        return np.array(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers: {str(error)[:200]}") from error


def _place(i: Any) -> int:
    """An index of a detection; `IndexError` for one that no list can have."""
    if abs(number := position("the index of a detection", i)) > sys.maxsize:
        raise IndexError(f"there is no detection {str(number)[:80]}")
    return number


def _whole_numbers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.array(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, got {array.dtype}")
    return array.astype(np.int64)


def _renumbered(owners: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Owners of the detections that are kept, in their new order; of an owner that is not kept, -1."""
    place = np.full(len(owners) + 1, -1, dtype=np.int64)
    place[kept[::-1]] = np.arange(len(kept))[::-1]
    return place[owners[kept]]


def _several(names: str | Iterable[str]) -> Sequence[str]:
    return list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())

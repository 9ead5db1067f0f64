"""What clients may send and what they get, for checking and for the OpenAPI text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vlpart.errors import VlpartError
from vlpart.inference.output import FORMATS, check_formats

MaskForm = Literal["rle", "polygons", "rings", "png"]
DownloadFormat = Annotated[str, Field(json_schema_extra={"enum": list(FORMATS)})]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Options(_Checked):
    """What to look for in an image, and what of it to send back."""

    model: Annotated[
        str | None, Field(max_length=1000, description="One of `/v1/models`; default: the first of them.")
    ] = None
    vocabulary: Annotated[
        str | list[str] | None,
        Field(
            description="Text as in `car: wheel, door; person`, the name of a list, or a list of names; default: "
            "that of the model. Files of the server are never read."
        ),
    ] = None
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="Lowest score; default: 0.42 for one name, more for many, as `vlpart predict`."),
    ] = None
    iou: Annotated[
        float, Field(ge=0, le=1, description="Drop what overlaps a better detection by so much; 1: nothing.")
    ] = 0.7
    keep_nested: Annotated[bool, Field(description="Keep detections inside a better one of the same name.")] = False
    keep_replaced: Annotated[
        bool,
        Field(
            description="Also send what a detection of a lower score takes the place of, with `replaced_below`: for "
            "clients that raise the threshold themselves."
        ),
    ] = False
    max_detections: Annotated[int | None, Field(ge=1, description="Most detections.")] = None
    short_side: Annotated[
        int | None, Field(ge=32, description="Shorter side of the network input, pixels; default: the model's.")
    ] = None
    masks: Annotated[
        list[MaskForm],
        Field(
            max_length=4,
            description="Forms of the masks: COCO `rle`; `polygons` (holes filled); `rings` (even-odd, with holes); "
            "`png` (base64, of the box). Empty: none.",
        ),
    ] = ["rle"]

    @field_validator("masks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """In forms, several in one field."""
        if isinstance(value, str):
            return [form.strip() for form in value.split(",") if form.strip()]
        return value


class PredictRequest(Options):
    """One image as base64, and what to look for in it."""

    image: Annotated[str, Field(description="The bytes of an image file, as base64.")]


class BatchRequest(Options):
    """Several images as base64, and what to look for in all of them."""

    images: Annotated[list[str], Field(min_length=1, description="The bytes of image files, as base64.")]


class ExportOptions(_Checked):
    """Results, perhaps corrected, and the files that are wanted of them."""

    formats: Annotated[list[DownloadFormat], Field(min_length=1, description="As of `vlpart predict --format`.")]
    results: Annotated[
        list[dict[str, Any]],
        Field(min_length=1, description="A saved result (`format: vlpart.result`) for each image, in order."),
    ]

    @field_validator("formats", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("formats")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        try:
            return list(check_formats(value))
        except VlpartError as error:
            raise ValueError(str(error)) from error


class VocabularyText(_Checked):
    """A vocabulary to read."""

    vocabulary: Annotated[str | list[str], Field(description="As in a prediction.")]
    model: Annotated[str | None, Field(max_length=1000, description="As in a prediction.")] = None


# ---- answers


class Rle(BaseModel):
    """A mask in COCO's compressed run lengths."""

    size: Annotated[list[int], Field(min_length=2, max_length=2, description="Height and width.")]
    counts: str


class Png(BaseModel):
    """A mask as an image of its box."""

    x: Annotated[int, Field(description="Left edge in the image, pixels.")]
    y: Annotated[int, Field(description="Upper edge in the image, pixels.")]
    data: Annotated[str, Field(description="A grey PNG, 0 and 255, as base64; empty for an empty mask.")]


class Detection(BaseModel):
    """One object or part."""

    name: str
    category_id: int
    score: float
    box_xyxy: Annotated[list[float], Field(min_length=4, max_length=4)]
    object_index: Annotated[int | None, Field(description="Place of the object it is a part of, in this list.")]
    mask: Rle | None = None
    polygons: Annotated[list[list[float]] | None, Field(description="x, y, x, y, ... of each.")] = None
    rings: Annotated[list[list[float]] | None, Field(description="x, y, x, y, ... of each.")] = None
    png: Png | None = None
    replaced_below: Annotated[
        float | None,
        Field(description="With `keep_replaced`: below this threshold another detection takes its place."),
    ] = None
    owners: Annotated[
        list[int] | None,
        Field(description="With `keep_replaced`: places of its objects, of which the first that is shown counts."),
    ] = None


class Group(BaseModel):
    """An object and its parts."""

    index: int
    name: str
    score: float
    parts: Annotated[list[int], Field(description="Places of its parts in `detections`, best score first.")]


class Prediction(BaseModel):
    """What was found in one image; also a saved result that `vlpart.Result.from_dict` reads."""

    format: Literal["vlpart.result"]
    version: int
    path: None
    image_size: Annotated[list[int], Field(min_length=2, max_length=2, description="Height and width, upright.")]
    vocabulary: dict[str, Any]
    detections: list[Detection]
    objects: list[Group]
    loose_parts: Annotated[list[int], Field(description="Parts without their object.")]
    summary: str
    model: str
    threshold: float
    default_threshold: Annotated[float, Field(description="What it would be for so many names.")]


class Failure(BaseModel):
    """Why there is no answer."""

    detail: str


class BatchAnswer(BaseModel):
    """One answer for each image, in order."""

    results: list[Prediction | Failure]


class ModelInfo(BaseModel):
    """A model that may be asked for."""

    name: str
    loaded: bool
    default: bool
    vocabulary: Annotated[str | None, Field(description="Its own list; null before it is loaded, or of a run.")]
    masks: Annotated[bool | None, Field(description="Whether it finds masks.")]


class Entry(BaseModel):
    """One name of a vocabulary."""

    id: int
    name: str
    object: str | None
    part: str | None


class VocabularyAnswer(BaseModel):
    """How a vocabulary is understood."""

    name: str
    about: str
    threshold: Annotated[float, Field(description="What `threshold` is unless a request says otherwise.")]
    entries: list[Entry]
    unknown: Annotated[
        list[str],
        Field(description="Words that the text encoder of the model does not know, so that nothing is found by them."),
    ] = []


class VocabularyInfo(BaseModel):
    """A list of the package."""

    name: str
    about: str
    entries: int


class Names(BaseModel):
    """Every object of the lists of the package, and the parts it has in them."""

    objects: dict[str, list[str]]


class Version(BaseModel):
    """Of the server, and of what it computes with."""

    vlpart: str
    torch: str
    device: str


class Health(BaseModel):
    """That the server answers, and how busy it is."""

    status: Literal["ok"]
    waiting: int
    queue: int

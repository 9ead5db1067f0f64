"""CVAT: automatic annotation with `cvat-cli`, which runs on your machine and sends labels to the server.

    cvat-cli task auto-annotate 7 --function-module vlpart.integrations.cvat \\
        -p model=str:tiny -p "vocabulary=str:car: wheel, door" --allow-unmatched-labels

Needs `pip install "vlpart[cvat]"`. The interface is that of auto-annotation functions of the CVAT SDK: `spec` names the
labels, `detect` gives shapes. Labels are matched with those of the task by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vlpart.checks import in_range, typed
from vlpart.errors import VlpartError
from vlpart.inference.batch import readable_threshold
from vlpart.masks.polygons import FAITHFUL, deviation
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import PIL.Image

    from vlpart.inference.base import BasePredictor
    from vlpart.results.result import Result

_FEWEST_CORNERS = 3  # of a polygon in CVAT


@typed()
def create(
    model: str = "tiny",
    vocabulary: str | None = None,
    threshold: float | None = None,
    device: str | None = None,
    iou: float = 0.7,
) -> PartsFunction:
    """The function that `cvat-cli` calls; its parameters are those of `-p`.

    Args:
        model: as of `vlpart predict --model`.
        vocabulary: what to look for; None takes the model's own.
        threshold: lowest score, unless the call says one; None = that of the command line.
        device: "cpu", "cuda"; None chooses.
        iou: of two shapes that overlap by so much the better one stays.
    """
    from vlpart.inference.predictor import load

    return PartsFunction(load(model, device=device), vocabulary, threshold, iou)


class PartsFunction:
    """An auto-annotation function of objects and parts.

    Attributes:
        spec: `cvat_sdk.auto_annotation.DetectionFunctionSpec`, with a label for every name of the vocabulary.

    Raises:
        VlpartError: the CVAT SDK is not installed, or the vocabulary does not fit the model.
    """

    def __init__(
        self,
        predictor: BasePredictor,
        vocabulary: Vocabulary | str | None = None,
        threshold: float | None = None,
        iou: float = 0.7,
    ) -> None:
        try:
            import cvat_sdk.auto_annotation as cvat
        except ImportError as error:
            raise VlpartError(f'{error.name} is not installed: pip install "vlpart[cvat]"') from error
        if not callable(getattr(predictor, "predict", None)):
            raise TypeError(f"predictor must be what vlpart.load gives, got a {type(predictor).__name__}")
        self._predictor, self._iou = predictor, in_range("iou", iou, 0, 1)
        self.vocabulary = predictor.vocabulary if vocabulary is None else Vocabulary.of(vocabulary)
        lowest = readable_threshold(len(self.vocabulary)) if threshold is None else threshold
        self._threshold = in_range("threshold", lowest, 0, 1)
        self.spec = cvat.DetectionFunctionSpec(
            labels=[cvat.label_spec(name, i, type="any") for i, name in enumerate(self.vocabulary.names)]
        )

    def detect(self, context: Any, image: PIL.Image.Image) -> list[Any]:
        """Shapes of one image: polygons where they are faithful, else masks; boxes of models without a mask head.

        Args:
            context: of the CVAT SDK: `conf_threshold`, and `conv_mask_to_poly`, which asks for polygons only.
            image: of the task.
        """
        threshold = self._threshold if context.conf_threshold is None else context.conf_threshold
        result = self._predictor.predict(image, self.vocabulary, score_threshold=max(0.0, threshold - 1e-6))
        result = result.without_nested().without_overlapping(self._iou)
        return [shape for i in range(len(result)) for shape in _shapes(result, i, bool(context.conv_mask_to_poly))]


def _shapes(result: Result, i: int, polygons_only: bool) -> list[Any]:
    """The shapes of a detection; the pieces of one that is in several share a group."""
    import cvat_sdk.auto_annotation as cvat
    from cvat_sdk.masks import encode_mask

    label, more = int(result.class_ids[i]), {"score": round(float(result.scores[i]), 4)}
    crop = None if result.masks is None else result.masks.crop(i)
    if result.masks is None or crop is None or not crop.bitmap.size:
        return [cvat.rectangle(label, [float(side) for side in result.boxes_xyxy[i]], **more)]
    for outline in (result.masks.polygons(i), result.masks.rings(i)):
        if len(outline) == 1 and deviation(crop.bitmap, crop.x0, crop.y0, [outline[0].round(2)]) <= FAITHFUL:
            return [cvat.polygon(label, outline[0].round(2).reshape(-1).tolist(), **more)]
    pieces = [piece for piece in result.masks.polygons(i) if len(piece) >= _FEWEST_CORNERS]
    if pieces and polygons_only:
        if len(pieces) > 1:
            more["group"] = i + 1
        return [cvat.polygon(label, piece.round(2).reshape(-1).tolist(), **more) for piece in pieces]
    if polygons_only:
        return [cvat.rectangle(label, [float(side) for side in result.boxes_xyxy[i]], **more)]
    return [cvat.mask(label, encode_mask(np.asarray(result.masks[i]), [crop.x0, crop.y0, crop.x1, crop.y1]), **more)]

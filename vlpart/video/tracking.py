"""Who is who from frame to frame: ByteTrack on the objects, parts with their object, masks smoothed if asked for.

ByteTrack (Zhang et al., ECCV 2022) joins detections by overlap and motion, the sure ones first and then, to the tracks
that are left, the doubtful ones. The implementation is that of `trackers` (Roboflow, Apache-2.0; extra `video`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import VideoError
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result

#: Share of the threshold down to which a doubtful detection keeps an object going that was sure before.
DOUBTFUL = 0.5
_PATIENCE = 1.0  # seconds without a detection after which an object is forgotten


class Tracker:
    """Gives the objects of one video numbers that stay.

    Args:
        rate: frames per second that it will see.
        threshold: score from which on a detection is sure; below, it only keeps a known object going.
    """

    def __init__(self, rate: float, threshold: float) -> None:
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise VideoError('tracking needs the package trackers: pip install "vlpart[video]"') from error
        self._threshold = threshold
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(30 * _PATIENCE),
            frame_rate=max(rate, 1.0),
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=1,
        )
        self._numbers: dict[int, int] = {}

    def update(self, result: Result) -> tuple[Result, NDArray[np.int64]]:
        """The detections that count, and the number of each, from 1; 0 for parts without an object and for objects that
        are seen for the first time: the second sighting shows that the first was no mistake.

        A part has the number of the object that it belongs to. What is under the threshold and continues nothing goes.
        """
        numbers = np.zeros(len(result), dtype=np.int64)
        wholes = np.array([i for i in range(len(result)) if not result.is_part(i)], dtype=np.int64)
        numbers[wholes] = self._associate(result, wholes)
        keep = np.flatnonzero((result.scores >= self._threshold) | (numbers > 0))
        kept, numbers = result[keep], numbers[keep]
        owned = kept.owners >= 0
        numbers[owned] = numbers[kept.owners[owned]]
        return kept, numbers

    def _associate(self, result: Result, wholes: NDArray[np.int64]) -> NDArray[np.int64]:
        from supervision import Detections

        # Boxes of different names are moved apart: a dog is never continued as a cat.
        apart = result.class_ids[wholes, None] * np.float32(4 * max(result.image_size))
        detections = Detections(
            xyxy=(result.boxes_xyxy[wholes] + apart).reshape(-1, 4),
            confidence=result.scores[wholes],
            class_id=result.class_ids[wholes],
            data={"place": np.arange(len(wholes))},
        )
        found = self._tracker.update(detections)
        numbers = np.zeros(len(wholes), dtype=np.int64)
        if len(found):
            for place, track in zip(found.data["place"], found.tracker_id, strict=True):
                if track >= 0:
                    numbers[place] = self._numbers.setdefault(int(track), len(self._numbers) + 1)
        return numbers


@dataclass
class Smoother:
    """Boxes and masks of tracked detections, averaged over time with falling weights.

    The masks are averaged in the frames of their boxes, so a moving object does not smear.

    Attributes:
        weight: of what was before, 0 (no smoothing) to below 1.
    """

    weight: float
    _before: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict
    )

    def smooth(self, result: Result, numbers: NDArray[np.int64]) -> Result:
        """The result with smoothed boxes and masks where a detection with the same number and name was seen before."""
        maps = None if result.masks is None else result.masks.maps
        if maps is None or not len(result):
            self._before = {}
            return result
        grids, over = maps[0].copy(), maps[1].copy()
        boxes = result.boxes_xyxy.copy()
        now = {}
        for i, (number, class_id) in enumerate(zip(numbers.tolist(), result.class_ids.tolist(), strict=True)):
            key = (number, class_id)
            if not number or key in now:  # the second eye of a face: nobody knows which one it was
                continue
            if key in self._before:
                for current, earlier in zip((boxes, over, grids), self._before[key], strict=True):
                    current[i] = self.weight * earlier + (1 - self.weight) * current[i]
            now[key] = (boxes[i], over[i], grids[i])
        self._before = now
        return Result(
            image_size=result.image_size,
            boxes_xyxy=boxes,
            scores=result.scores,
            class_ids=result.class_ids,
            masks=MaskStack(grids, over, result.image_size),
            vocabulary=result.vocabulary,
            image=result.image,
            path=result.path,
        )

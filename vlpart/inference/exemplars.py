"""More like this: a region of a photo as a name of the vocabulary.

The classifier compares a region's feature with the vector of each name. An exemplar's vector comes from its feature
less the mean of the other regions of its photo (what it has in common with everything says nothing), with the
directions in which regions vary anyway counting less: divided by their covariance, which for the embedded model comes
with the package. That is the direction of linear discriminant analysis (Hariharan et al., ECCV 2012). It is mixed with
the text of its name if it has one, and shifted along that mean until the other regions of the photo are refused as a
name would refuse them. So scores mean about what they mean for names, and exemplars and names may stand in one
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from vlpart.checks import one_of
from vlpart.data.images import image_header
from vlpart.errors import DataError, ImageError
from vlpart.models import boxes
from vlpart.models.detector import Detector
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import ImageBatch

#: What an exemplar without a name is called.
UNNAMED = "like this"
#: IoU with the exemplar below which a proposal of its photo is another thing.
OTHER = 0.3
#: The logit that so large a share of the other regions must stay below.
QUIET, SHARE = -2.0, 0.97
#: The logit that the exemplar itself should have.
OWN = 1.5
_SHIFTS = torch.arange(-10, 21) / 10.0  # multiples of the mean of the others that are tried, the least first
_FEWEST = 16  # other regions, of which a quantile says something
STATISTICS = Path(__file__).parent.parent / "assets" / "vectors" / "regions.safetensors"
"""Covariances of the features of regions by architecture, see `scripts/region_statistics.py`."""
_ROUND = 0.03  # share of the covariance that is that of a ball: directions that hardly vary must not decide alone


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """A region of a photo that shows what to look for.

    Attributes:
        image: whatever `Predictor.predict` takes.
        box_xyxy: x0, y0, x1, y1 in pixels of the photo; or
        mask: (H, W) of bool, of which the box counts.
        name: what it is, mixed in as text; "car:wheel" is a part. None = known by its looks only.
    """

    image: Any
    box_xyxy: Sequence[float] | None = None
    mask: Any = None
    name: str | None = None


def parse_exemplar(text: str) -> Exemplar:
    """Read "reference.jpg@x0,y0,x1,y1" or "reference.jpg@mask.png", with "wheel=" before it for a name.

    Examples:
        >>> parse_exemplar("car:wheel=photo.jpg@10,20,60,70").box_xyxy
        (10.0, 20.0, 60.0, 70.0)

    Raises:
        DataError: neither, or a mask that cannot be read.
    """
    one_of("text", text, str)
    head, at, region = text.rpartition("@")
    name, equals, image = head.partition("=")
    if not equals or "/" in name or "\\" in name:
        name, image = "", head
    if not at or not image or not region:
        raise DataError(f"an exemplar is PHOTO@x0,y0,x1,y1 or PHOTO@MASK.png, with NAME= before it, not {text!r}")
    numbers = region.split(",")
    if len(numbers) == 4:
        try:
            return Exemplar(image=image, box_xyxy=tuple(float(number) for number in numbers), name=name or None)
        except ValueError:
            pass
    return Exemplar(image=image, mask=_read_mask(Path(region), text), name=name or None)


def _read_mask(path: Path, text: str) -> NDArray[np.bool_]:
    try:
        with image_header(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except (ImageError, OSError, ValueError) as error:
        raise DataError(f"{text!r}: {path} is neither x0,y0,x1,y1 nor a mask that can be read ({error})") from error
    if not mask.any():
        raise DataError(f"{text!r}: the mask {path} is empty")
    return mask


def packed(covariance: Tensor) -> Tensor:
    """(D, D) symmetric as (D * (D + 1) / 2,) float16; features have length 1, so that D times it is about 1."""
    rows, columns = torch.tril_indices(*covariance.shape)
    return (covariance * len(covariance))[rows, columns].half()


def unpacked(numbers: Tensor) -> Tensor:
    """(D, D) float32, the inverse of `packed`."""
    size = int((2 * len(numbers)) ** 0.5)
    whole = torch.zeros(size, size)
    rows, columns = torch.tril_indices(size, size)
    whole[rows, columns] = whole[columns, rows] = numbers.float() / size
    return whole


@lru_cache(maxsize=4)
def region_covariance(architecture: str) -> Tensor | None:
    """(D, D) float32 covariance of regions within a photo, a little of a ball in it; None where none is known.

    It is that of the weights that come with the package. Runs that began with them are near enough.
    """
    with safe_open(STATISTICS, "pt") as file:
        if architecture not in file.keys():  # noqa: SIM118 (it is no mapping)
            return None
        known = unpacked(file.get_tensor(architecture))
    return (1 - _ROUND) * known + _ROUND * known.trace() / len(known) * torch.eye(len(known))


@torch.inference_mode()
def exemplar_vectors(
    detector: Detector,
    images: ImageBatch,
    regions_xyxy: Tensor,
    text: Tensor,
    mix: Sequence[float],
    covariance: Tensor | None = None,
) -> Tensor:
    """Vectors of regions of one image, in the space of the text.

    Args:
        detector: the network.
        images: one image.
        regions_xyxy: (E, 4) in pixels of the network input.
        text: (E, D) embeddings of their names; whatever where nothing of it is mixed in.
        mix: E shares of the text, 0..1.
        covariance: (D, D), see `region_covariance`; None counts all directions alike.

    Returns:
        (E, D) float32, rows of length 1.
    """
    pyramid = detector.pyramid(images.pixels)
    proposals = detector.propose(pyramid, images.sizes_hw)[0].boxes_xyxy.float()
    features = detector.roi_heads.embed(pyramid, [torch.cat((regions_xyxy, proposals))])
    own, others = features[: len(regions_xyxy)], features[len(regions_xyxy) :]
    apart = boxes.iou(regions_xyxy, proposals) < OTHER
    classifier: Any = detector.roi_heads.stages[-1].classifier
    bias = 0.0 if classifier.bias is None else float(classifier.bias)
    names = F.normalize(text.float(), dim=1)
    return torch.stack(
        [
            _vector(feature, others[far], name, share, classifier.scale, bias, covariance)
            for feature, far, name, share in zip(own, apart, names, mix, strict=True)
        ]
    )


def _vector(
    feature: Tensor,
    others: Tensor,
    name: Tensor,
    share: float,
    scale: float,
    bias: float,
    covariance: Tensor | None = None,
) -> Tensor:
    """The vector of one exemplar: see the head of this file."""
    if len(others) < _FEWEST:
        return F.normalize(share * name + (1 - share) * feature, dim=0)
    mean = others.mean(dim=0)
    apart = feature - mean
    if covariance is not None:
        apart = torch.linalg.solve(covariance.to(apart), apart)
    looks = F.normalize(apart, dim=0)
    start = F.normalize(share * name + (1 - share) * looks, dim=0)
    shifts = _SHIFTS.to(start)
    shifted = F.normalize(start - shifts[:, None] * F.normalize(mean, dim=0), dim=1)
    quiet = torch.quantile(scale * others @ shifted.T + bias, SHARE, dim=0)
    allowed = quiet <= QUIET
    if covariance is not None:  # scores are sound as they are: shifted only so far that the exemplar finds itself
        itself = (scale * shifted @ feature + bias >= OWN) & (shifts <= 0)
        allowed[: int(itself.nonzero().max()) if itself.any() else 0] = False
    return shifted[int(allowed.nonzero()[0]) if allowed.any() else int(quiet.argmin())]


def merge(vocabulary: Vocabulary | None, names: Sequence[str]) -> tuple[Vocabulary, list[int]]:
    """A vocabulary with the names of exemplars in it, and their indices."""
    known = () if vocabulary is None else vocabulary.entries
    missing = [n for n in dict.fromkeys(names) if vocabulary is None or n not in vocabulary]
    first = max((entry.id for entry in known), default=0) + 1
    new = Vocabulary.from_names(missing).entries if missing else ()
    entries = (*known, *(replace(entry, id=first + i) for i, entry in enumerate(new)))
    whole = Vocabulary(entries, title="like this" if vocabulary is None else vocabulary.title)
    return whole, [whole.index(name) for name in names]

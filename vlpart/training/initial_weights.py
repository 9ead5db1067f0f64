"""The weights a run starts from: a backbone trained on ImageNet, a model of the zoo, or a file of either; and what a
recipe has to know of them: architecture, text encoder, and the names they came with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from vlpart.errors import DownloadError, TrainingError, WeightsError
from vlpart.files import cache_folder
from vlpart.jobs import Progress
from vlpart.models.config import get_architecture
from vlpart.text.prompts import Prompt
from vlpart.zoo.download import download_file, sha256_of
from vlpart.zoo.published_names import is_published
from vlpart.zoo.resolve import resolve
from vlpart.zoo.weights import as_float32, load_state_dict

if TYPE_CHECKING:
    from vlpart.models.detector import Detector
    from vlpart.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class InitialModel:
    """A detector to go on from.

    Attributes:
        architecture, text_encoder, prompt, mask_on: what the run needs, too.
        vocabulary: list or file of the names that it was made to find.
        score_threshold, detections_per_image: of its evaluation.
    """

    architecture: str
    text_encoder: str
    prompt: Prompt
    mask_on: bool
    vocabulary: str
    score_threshold: float
    detections_per_image: int


def initial_model(init: str) -> InitialModel:
    """The model of the zoo, the weight file, or the run folder that `init` names. Nothing is downloaded.

    A weight file is taken for what `vlpart.zoo.resolve.ResolvedModel.entry_of` says.

    Raises:
        TrainingError: "imagenet" or "none", which are no detectors.
        ModelNotFoundError: nothing of that name.
        WeightsError: the file or the run cannot be read.
    """
    if init in ("imagenet", "none"):
        raise TrainingError(
            f"fine-tuning goes on from a detector, not from {init!r}: give --init tiny, a model of the zoo, a weight "
            "file or a run folder (a recipe file trains from scratch: `vlpart recipes export tiny`)"
        )
    model = resolve(init)
    entry, _ = model.describe()
    known = None if model.run is None else model.run.known_vocabulary
    return InitialModel(
        architecture=entry.architecture,
        text_encoder=entry.text_encoder,
        prompt=entry.prompt,
        mask_on=entry.mask_on,
        vocabulary=str(known or entry.vocabulary),
        score_threshold=entry.score_threshold,
        detections_per_image=entry.detections_per_image,
    )


def check_other_init(recipe: Recipe, init: str) -> None:
    """Look whether a recipe with a teacher can go on from other first weights than those it was made for.

    Raises:
        TrainingError: `init` has another architecture or text encoder, or came with other names than the recipe holds.
        ModelNotFoundError, WeightsError: see `initial_model`.
    """
    if recipe.teacher_vocabulary is None or init == recipe.init:
        return
    other = initial_model(init)
    again = f"export it again with --init {init}"
    own, theirs = (
        f"{each.architecture} with the text encoder {each.text_encoder} and the prompt {each.prompt}"
        for each in (recipe, other)
    )
    if own != theirs:
        raise TrainingError(f"this recipe was made for {own}, {init} is {theirs}: {again}")
    if recipe.teacher_loss_weight > 0 and recipe.teacher_vocabulary != other.vocabulary:
        raise TrainingError(
            f"this recipe holds the names of {recipe.teacher_vocabulary}, {init} came with those of "
            f"{other.vocabulary}: {again}, set init and teacher_vocabulary in it, or hold nothing with --teacher 0"
        )


@dataclass(frozen=True, kw_only=True)
class BackboneFile:
    """Published ImageNet weights of a backbone: address, and the first digits of the SHA-256 where the authors tell."""

    url: str
    sha256_begins: str = ""

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return cache_folder() / "backbones" / self.url.rsplit("/", 1)[-1]


BACKBONES = {
    # timm's `resnet50.a1_in1k`, the file that timm 0.5.4 used; its name ends with the beginning of its SHA-256.
    "resnet50": BackboneFile(
        url="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-rsb-weights/"
        "resnet50_a1_0-14fe96d1.pth",
        sha256_begins="14fe96d1",
    ),
    "swin_base": BackboneFile(
        url="https://github.com/PeizeSun/VLPart/releases/download/v0.1/swin_base_patch4_window7_224_22k.pkl"
    ),
}


def local_file(init: str, architecture: str) -> Path | None:
    """The weight file that `init` means, if it is on this machine (or comes with a package); None = to be downloaded.

    Raises:
        ModelNotFoundError, WeightsError: neither a file, the folder of a run, nor a model of the zoo.
    """
    if init == "imagenet":
        backbone = get_architecture(architecture).backbone
        if backbone not in BACKBONES:
            from vlpart.models.backbones.efficientnet_lite import imagenet_weights_file

            return imagenet_weights_file()
        path = BACKBONES[backbone].path
        return path if path.is_file() else None
    return resolve(init).here


def fetch(init: str, architecture: str, progress: Progress | None = None) -> Path:
    """The weight file that `init` means, downloaded if need be.

    Raises:
        WeightsError: it cannot be had; the message says where to put the file by hand.
    """
    if init != "imagenet":
        try:
            return resolve(init).fetch(progress)
        except DownloadError as error:
            raise WeightsError(str(error).replace("--weights", "--init")) from error
    name = get_architecture(architecture).backbone
    if name not in BACKBONES:
        from vlpart.models.backbones.efficientnet_lite import imagenet_weights_file

        return imagenet_weights_file()
    file = BACKBONES[name]
    try:
        path = download_file(file.url, file.path, progress=progress)
    except DownloadError as error:
        raise WeightsError(
            f"no ImageNet weights of {name}: {str(error).rstrip('.')}. Without network: fetch {file.url} elsewhere, "
            f"save it as {file.path}, or pass it with --init FILE"
        ) from error
    if not sha256_of(path).startswith(file.sha256_begins):
        raise WeightsError(f"{path} is not the published file (its SHA-256 differs): delete it and start again")
    return path


def initialise(detector: Detector, init: str, architecture: str, progress: Progress | None = None) -> None:
    """Give the detector its first weights: "none", "imagenet", a model of the zoo, a run folder, or a file.

    A file holds a whole detector (ours or published) or a backbone alone (timm's ResNet-50, the published Swin-B).

    Raises:
        ModelNotFoundError: there is nothing of that name.
        WeightsError: the weights cannot be had, or do not fit.
    """
    if init == "none":
        return
    path = fetch(init, architecture, progress)
    if init == "imagenet" and get_architecture(architecture).backbone not in BACKBONES:
        from vlpart.models.backbones.efficientnet_lite import EfficientNetLite0, load_imagenet_weights

        assert isinstance(detector.backbone, EfficientNetLite0)
        load_imagenet_weights(detector.backbone)
        return
    state = load_state_dict(path) if init == "imagenet" else resolve(init).read()
    if is_published(state) or any(name.startswith("roi_heads.") for name in state):
        from vlpart.models.load import detector_of

        found = detector_of(state, path, architecture).detector
        if detector.mask_on and not found.mask_on:
            raise WeightsError(f"{path} has no mask head to go on from: set mask_on=False in the recipe")
        if not detector.mask_on:
            found.roi_heads.mask_head = None
        detector.load_state_dict(found.state_dict())
    else:
        fill_backbone(detector.backbone, state, path)


def fill_backbone(backbone: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy ImageNet weights into a ResNet-50 or Swin-B.

    Classifier, counters and constants of the file are left out. The norms of Swin's four outputs are not in it: they
    belong to detection and keep their initial values.

    Raises:
        WeightsError: a tensor is missing, unknown, or of another shape.
    """
    own = backbone.state_dict()
    theirs = {name: value for key, value in state.items() if (name := backbone_name(key)) is not None}
    missing = [name for name in own if name not in theirs and not name.startswith("norms.")]
    unknown = [name for name in theirs if name not in own]
    wrong = [name for name in theirs if name in own and theirs[name].shape != own[name].shape]
    for problem, names in (("lacks", missing), ("has the unknown tensor", unknown), ("has another shape of", wrong)):
        if names:
            kind = type(backbone).__name__
            raise WeightsError(
                f"{path} does not fit the backbone {kind}: it {problem} {names[0]!r} ({len(names)} such)"
            )
    backbone.load_state_dict({**own, **as_float32(theirs, path)})


_LEFT_OUT = re.compile(r"(head|fc|norm)\.(weight|bias)|.*\.(num_batches_tracked|relative_position_index|attn_mask)")
_PREFIX = re.compile(r"^(module\.|backbone\.bottom_up\.|backbone\.)")


def backbone_name(published: str) -> str | None:
    """Our name of a tensor of a classification network; None for what detection has no use for."""
    name = _PREFIX.sub("", published)
    if _LEFT_OUT.fullmatch(name):
        return None
    return re.sub(r"^layers\.(\d)\.downsample\.", r"downsamples.\1.", name)

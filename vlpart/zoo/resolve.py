"""What a user means by a model, found out here alone: a name of the catalogue, a weight file, or a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.errors import ModelNotFoundError, WeightsError
from vlpart.files import cache_folder, is_file, is_folder, local_path
from vlpart.jobs import Progress
from vlpart.names import did_you_mean
from vlpart.zoo.catalogue import EDITIONS, TEXT_ENCODERS, ModelEntry, get_model, list_models, model_like
from vlpart.zoo.download import download_model
from vlpart.zoo.published_names import convert, is_published
from vlpart.zoo.run_folder import WEIGHTS, RunFolder, open_run
from vlpart.zoo.weights import load_state_dict

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "tiny"
WEIGHT_FILES = (".pth", ".pt", ".safetensors")

_BACKBONE_MARKS = {  # a tensor that only this architecture has, of those that come after it
    "r50_mask_rcnn": "backbone.layer1.0.conv1.weight",
    "swin_b_cascade": "backbone.layers.0.blocks.0.attn.qkv.weight",
    "tiny2": "backbone.trunk.stem.weight",
    "tiny": "backbone.stages.0.0.depthwise.weight",
}


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model that was asked for; its weights are not read yet, and perhaps not here.

    Attributes:
        entry: what is known about it; None of a weight file that must be read first, see `entry_of`.
        file: the weight file that was named, or that the run has; None = that of the catalogue.
        run: the run, if it is one whose own weights are meant.
    """

    entry: ModelEntry | None = None
    file: Path | None = None
    run: RunFolder | None = None

    @property
    def architecture(self) -> str | None:
        """What the weights must be of; None where any will do."""
        return None if self.entry is None else self.entry.architecture

    @property
    def mask_on(self) -> bool:
        """Whether the weights must have a mask head."""
        return self.entry is not None and self.entry.mask_on

    @property
    def here(self) -> Path | None:
        """The weight file, if it is on this machine.

        Raises:
            WeightsError: the file of an embedded model is missing.
        """
        if self.file is not None:
            return self.file
        assert self.entry is not None
        if self.entry.embedded:
            return download_model(self.entry.name)
        path = cache_folder() / "models" / self.entry.file_name
        return path if path.is_file() else None

    def fetch(self, progress: Progress | None = None) -> Path:
        """The weight file, downloaded if need be.

        Raises:
            DownloadError: it cannot be fetched; the message says what to do.
        """
        if self.file is not None:
            return self.file
        assert self.entry is not None
        return download_model(self.entry.name, progress=progress)

    def read(self, progress: Progress | None = None) -> dict[str, Tensor]:
        """The weights by name, downloaded if need be; of a run in progress as `RunFolder.state` has them.

        Raises:
            DownloadError: see `fetch`.
            WeightsError: a file is missing or damaged.
        """
        return load_state_dict(self.fetch(progress)) if self.run is None else self.run.state()

    def expected(self, state: Mapping[str, Tensor]) -> str | None:
        """Which architecture weights must be of: that of the entry, but a file of one's own for the embedded model may
        be of any of its editions. None where any will do.
        """
        if self.entry is None or not self.entry.embedded or self.file is None or is_published(state):
            return self.architecture
        architecture = architecture_of(state, self.file)
        return architecture if architecture in EDITIONS else self.architecture

    def describe(self) -> tuple[ModelEntry, str]:
        """`entry_of`, by reading the weight file where nothing else says what it is.

        Raises:
            WeightsError: the file is damaged, or of no architecture of ours.
        """
        if self.entry is not None:
            return self.entry, ""
        state, path = self.read(), self.fetch()
        architecture = architecture_of(convert(state).state if is_published(state) else state, path)
        return self.entry_of(architecture, mask_on=any(".mask_head." in name for name in state))

    def entry_of(self, architecture: str, *, mask_on: bool = True) -> tuple[ModelEntry, str]:
        """What is known about the model, now that its weights turned out to be of `architecture`, with a mask head or
        without.

        A weight file with the name of a model of the catalogue (`r50_coco.pth`, `r50_coco.safetensors`) is that model;
        the exported weights of a run, in its folder, are that run. Any other gets the vocabulary of the first model of
        its architecture.

        Returns:
            The entry, and a note about what had to be assumed ("" if nothing).

        Raises:
            WeightsError: the file has the name of a model with a mask head, and has none.
        """
        if self.entry is not None:
            return _edition(self.entry, architecture), ""
        assert self.file is not None
        for entry in list_models():
            known = EDITIONS if entry.embedded else (entry.architecture,)
            if architecture in known and self.file.stem in (entry.name, Path(entry.file_name).stem):
                if entry.mask_on and not mask_on:
                    raise WeightsError(
                        f"{self.file} has no mask head, which {entry.name} has: it is damaged, or of another model"
                    )
                return _edition(entry, architecture), ""
        if self.file.name == WEIGHTS:
            with suppress(WeightsError):  # the folder of no run, or of a damaged one: the weights may be good
                run = open_run(self.file.parent).entry
                if run.architecture == architecture:
                    return run, ""
        like = model_like(architecture)
        note = (
            f"{self.file} does not say which names it was made for, so the list '{like.vocabulary}' is looked for: "
            "choose another with --vocabulary (argument vocabulary), or name its model with --model (argument name) "
            "beside --weights (argument weights)"
        )
        return replace(like, name=self.file.stem, mask_on=mask_on, published=()), note


def _edition(entry: ModelEntry, architecture: str) -> ModelEntry:
    """A model as it is with weights of `architecture`: those of the embedded one may be of any of its editions."""
    if architecture == entry.architecture:
        return entry
    return replace(entry, architecture=architecture, text_encoder=TEXT_ENCODERS[architecture])


def resolve(model: str | Path | None = None, weights: str | Path | None = None) -> ResolvedModel:
    """Find out what is meant; nothing large is read, nothing downloaded.

    Args:
        model: a name of the catalogue, a weight file, or the folder of a training run. None = `tiny`, or with `weights`
            the model that the file holds.
        weights: a weight file instead of the model's own.

    Raises:
        ModelNotFoundError: none of them; near names are listed.
        WeightsError: no such weight file, or a folder that is no run.
    """
    file = None if weights is None else _existing(Path(weights))
    if model is None and file is not None:
        return ResolvedModel(file=file)
    name = DEFAULT if model is None else str(model)
    path = local_path(name)
    if path.suffix in WEIGHT_FILES and not is_folder(path):
        if file is not None:
            raise ModelNotFoundError(
                f"{path} and {file} are two weight files: give a model name with the second, or one"
            )
        return ResolvedModel(file=_existing(path))
    try:
        entry = get_model(name)
    except ModelNotFoundError:
        return _named(path, name, file)
    return ResolvedModel(entry=entry, file=file)


def _named(path: Path, name: str, file: Path | None) -> ResolvedModel:
    """`resolve` of what is no name of the catalogue: the folder of a run, or a weight file of any name."""
    if is_folder(path):
        run = open_run(path)
        return ResolvedModel(entry=run.entry, file=file or run.weights, run=run if file is None else None)
    if is_file(path) and file is None:
        return ResolvedModel(file=path)
    if len(path.parts) > 1:
        raise ModelNotFoundError(
            f"there is no folder or weight file '{name}', and no model of that name{_beside(path, '; {}')}"
        )
    folders = [each.name for each in Path().iterdir() if (each / "recipe.json").is_file()]
    known = [*(entry.name for entry in list_models()), *folders]
    raise ModelNotFoundError(f"No model '{name}'; {did_you_mean(name, known) or '`vlpart models list` shows them.'}")


def _existing(path: Path) -> Path:
    path = local_path(path)
    if not is_file(path):
        hint = _beside(path, "{} ") or "give the path of a .pth, .safetensors or .pkl file."
        raise WeightsError(f"There is no weight file '{path}'; {hint.strip()}")
    return path


def _beside(path: Path, form: str) -> str:
    """Which files and folders beside a path that is not there may be meant; "" if none."""
    try:
        hint = did_you_mean(path.name, [each.name for each in path.parent.iterdir()])
    except OSError:
        return ""
    return form.format(hint) if hint else ""


def architecture_of(state: Mapping[str, Tensor], path: Path) -> str:
    """Which architecture a state dict in our names belongs to; `path` is where it is from, for the message.

    Raises:
        WeightsError: none of ours.
    """
    for name, mark in _BACKBONE_MARKS.items():
        if mark in state:
            return name
    raise WeightsError(
        f"{path} is no checkpoint of this package or of the published zoo (first tensor: {next(iter(state), 'none')!r})"
    )

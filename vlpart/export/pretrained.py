"""`from_pretrained` and `save_pretrained`: models that are passed on as a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from vlpart.checks import typed
from vlpart.errors import DownloadError, ModelNotFoundError, WeightsError
from vlpart.export.facts import FACTS, Facts
from vlpart.export.write import export
from vlpart.files import is_folder, local_path, write_file
from vlpart.inference.base import Defaults
from vlpart.inference.predictor import Predictor, load
from vlpart.models.config import get_architecture
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.weights import safetensors_metadata

WEIGHTS = "model.safetensors"
CARD = "README.md"


@typed("revision")
def from_pretrained(
    name: str | Path,
    device: str | torch.device | None = None,
    precision: str = "auto",
    *,
    revision: str | None = None,
) -> Predictor:
    """A model from a folder that `save_pretrained` wrote, or from a repository of the Hugging Face hub with such files.

    Args:
        name: the folder, or "owner/name" (needs `huggingface_hub`; HF_ENDPOINT sets a mirror).
        device, precision: see `vlpart.load`.
        revision: of the repository.

    Raises:
        ModelNotFoundError: neither a folder nor the name of a repository.
        DownloadError: it cannot be fetched, or has no `model.safetensors`.
        WeightsError: the weights are damaged, or do not say what they are.
    """
    path = fetch_pretrained(name, revision) / WEIGHTS
    facts = Facts.from_json(safetensors_metadata(path).get(FACTS, ""), path)
    predictor = load(path, device=device, precision=precision)
    for what, said, found in (
        ("architecture", facts.architecture, predictor.architecture),
        ("mask head", facts.mask_on, predictor.mask_on),
        ("length of text vectors", facts.text_dim, get_architecture(predictor.architecture).text_dim),
    ):
        if said != found:
            raise WeightsError(f"{path} is damaged: it says that its {what} is {said}, and has {found}")
    predictor.name = facts.name
    predictor.become(
        Vocabulary.from_dict(facts.vocabulary),
        facts.text_encoder,
        facts.prompt,  # type: ignore[arg-type]
        Defaults(
            short_side=facts.short_side,
            max_side=facts.max_side,
            score_threshold=facts.score_threshold,
            max_detections=facts.max_detections,
        ),
    )
    return predictor


@typed("predictor", "licence")
def save_pretrained(predictor: Predictor, folder: str | Path, *, licence: str = "other") -> Path:
    """Write a model as a folder for `from_pretrained`: `model.safetensors` and a card to be completed.

    Args:
        predictor: any model.
        folder: made if needed.
        licence: the identifier that the hub knows, for the head of the card.

    Returns:
        The folder.

    Raises:
        OutputError: it cannot be written.
    """
    target = local_path(folder)
    export(predictor, target / WEIGHTS, "safetensors")
    names = ", ".join(predictor.vocabulary.names[:20]) + (" ..." if len(predictor.vocabulary) > 20 else "")
    card = f"""---
library_name: vlpart
license: {licence}
pipeline_tag: image-segmentation
tags: [part-segmentation, open-vocabulary]
---

# {predictor.name}

Architecture `{predictor.architecture}`, {len(predictor.vocabulary)} names unless others are asked for: {names}

```python
import vlpart

predictor = vlpart.from_pretrained("owner/{predictor.name}")
predictor("photo.jpg").save("photo_parts.jpg")
```

Say here what it was trained on, what it is good and bad at, and under which terms its data and weights may be used.
"""
    write_file(target / CARD, card.encode(errors="backslashreplace"))
    return target


@typed("name", "revision")
def fetch_pretrained(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: a local one as it is, else the files of a repository of the hub, from its cache.

    The hub's own settings hold: HF_ENDPOINT for a mirror, HF_HOME for the cache, HF_TOKEN, HF_HUB_OFFLINE.

    Raises:
        ModelNotFoundError: no such folder, and no name of a repository ("owner/name").
        DownloadError: it cannot be fetched, or has no `model.safetensors`.
    """
    folder = local_path(name)
    if not is_folder(folder):
        parts = str(name).split("/")
        if len(parts) != 2 or not all(part and not part.startswith(".") for part in parts):
            raise ModelNotFoundError(f"there is no folder {name}, and a repository is called owner/name")
        folder = _from_hub(str(name), revision)
    if not (folder / WEIGHTS).is_file():
        raise DownloadError(f"{name} has no {WEIGHTS}: vlpart.save_pretrained writes such a folder")
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DownloadError("huggingface_hub is not installed: pip install huggingface_hub") from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[WEIGHTS, CARD]))
    except (OSError, ValueError) as error:  # its errors are subclasses of these
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = " ".join(lines[1:] or lines)  # an answer of the hub begins with a line that only has its number
        raise DownloadError(f"cannot fetch {name} from the hub: {reason:.400}") from error
    except RuntimeError as error:
        raise DownloadError(f"cannot fetch {name} from the hub: {error}") from error

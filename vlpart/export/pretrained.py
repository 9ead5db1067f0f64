"""`from_pretrained` and `save_pretrained`: models that are passed on as a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vlpart.errors import WeightsError
from vlpart.export.facts import FACTS, Facts
from vlpart.export.write import export
from vlpart.files import local_path, write_file
from vlpart.inference.base import Defaults
from vlpart.inference.predictor import Predictor, load
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.pretrained import CARD, WEIGHTS, fetch_pretrained


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
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(FACTS, "")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    facts = Facts.from_json(said, path)
    predictor = load(path, device=device, precision=precision)
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
    write_file(target / CARD, card.encode())
    return target

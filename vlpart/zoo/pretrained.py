"""Models as folders: weights that know their vocabulary, and a card; from a disk or from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from vlpart.errors import DownloadError, ModelNotFoundError
from vlpart.files import is_folder, local_path

WEIGHTS = "model.safetensors"
CARD = "README.md"


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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DownloadError(f"cannot fetch {name} from the hub: {reason}") from error
    except RuntimeError as error:
        raise DownloadError(f"cannot fetch {name} from the hub: {error}") from error

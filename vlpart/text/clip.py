"""The CLIP RN50 text tower through open_clip: width 512, 8 heads, 12 layers, context 77, 1024 numbers per phrase."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.errors import DownloadError, TextEncoderError, WeightsError
from vlpart.files import cache_folder, local_path
from vlpart.text.prompts import check_phrases

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vlpart.jobs import Progress

ARCHITECTURE = "RN50-quickgelu"
"""open_clip's name; the OpenAI weights were trained with QuickGELU (plain "RN50" gives other vectors)."""
WEIGHTS_VARIABLE = "VLPART_CLIP_WEIGHTS"
HUB_FILE = "open_clip_model.safetensors"
HUB_URL = f"https://huggingface.co/timm/resnet50_clip.openai/resolve/main/{HUB_FILE}"
OPENAI_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
OPENAI_FILE = "RN50.pt"
OPENAI_URL = f"https://openaipublic.azureedge.net/clip/models/{OPENAI_SHA256}/{OPENAI_FILE}"
CHUNK = 64


class ClipTextEncoder:
    """Phrases to 1024 numbers. The tower is loaded (and downloaded) when first needed; only the text half stays in
    memory.

    Args:
        weights: a file with the OpenAI RN50 weights: open_clip's safetensors, or OpenAI's own RN50.pt. None = the
            environment variable VLPART_CLIP_WEIGHTS, else the cache folder, else a download.

    Raises (when first used):
        TextEncoderError: open_clip is not installed, or the weights cannot be had; the message says what to put where.
    """

    name = "clip_rn50"
    dim = 1024

    def __init__(self, weights: str | Path | None = None) -> None:
        chosen = weights or os.environ.get(WEIGHTS_VARIABLE)
        self._weights = local_path(chosen) if chosen else None
        self._tower: Any = None
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Names the weights: the published ones, or size and time of a file that was chosen."""
        if self._weights is None:
            return f"{self.name} openai"
        try:
            state = self._weights.stat()
        except OSError as error:
            raise _missing(f"'{self._weights}' cannot be read ({error.strerror})") from error
        return f"{self.name} {self._weights.resolve()} {state.st_size} {state.st_mtime_ns}"

    def lacking(self) -> str:
        """What it would need and is not here, in words; "" if it is ready. Nothing is loaded or downloaded."""
        from importlib.util import find_spec

        if find_spec("open_clip") is None:
            return "the CLIP text encoder: pip install 'vlpart[clip]'"
        if self._weights is None and not any((cache_folder() / "clip" / n).is_file() for n in (HUB_FILE, OPENAI_FILE)):
            return "the weights of the CLIP text encoder, which are downloaded when they are first used"
        return ""

    def tokenize(self, phrases: Sequence[str]) -> Tensor:
        """Token ids as the tower reads them, (N, 77) int64; longer phrases are cut, the last token is an end mark.

        Raises:
            TextEncoderError: a phrase is empty or not a string, or open_clip is not installed.
        """
        texts = check_phrases(phrases)
        if self._tokenizer is None:
            self._tokenizer = _open_clip().get_tokenizer(ARCHITECTURE)
        return self._tokenizer(texts)

    def encode(self, phrases: Sequence[str]) -> np.ndarray:
        """Embed phrases as they are (prompts are put around names by `encode_vocabulary`).

        Phrases are sorted by length and cut to the longest of their chunk: attention is causal, so that nothing after
        the end mark matters, and a short prompt costs a tenth of the full context. The same list always gives the same
        numbers.

        Returns:
            (N, 1024) float32, rows of length 1.

        Raises:
            TextEncoderError: see `tokenize` and the class.
        """
        import numpy as np
        import torch

        tokens = self.tokenize(phrases) if len(phrases) else torch.zeros((0, 77), dtype=torch.int64)
        out = np.zeros((len(tokens), self.dim), np.float32)
        if not len(tokens):
            return out
        tower = self._load()
        lengths = tokens.argmax(1) + 1  # the end mark has the largest id
        order = torch.argsort(lengths, stable=True)
        with torch.inference_mode():
            for chunk in order.split(CHUNK):
                vectors = text_features(tower, tokens[chunk, : int(lengths[chunk].max())])
                out[chunk.numpy()] = torch.nn.functional.normalize(vectors).numpy()
        return out

    def _load(self) -> Any:
        with self._lock:
            if self._tower is None:
                state = read_text_weights(self._weights or find_text_weights())
                self._tower = build_tower(state)
            return self._tower


def text_features(tower: Any, tokens: Tensor) -> Tensor:
    """The vector at the end mark, before normalisation, (N, 1024); `tokens` (N, L) may be shorter than the context."""
    length = tokens.shape[1]
    states = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    states = tower.ln_final(tower.transformer(states, attn_mask=tower.attn_mask[:length, :length]))
    ends = tokens.argmax(dim=1)
    return states[range(len(tokens)), ends] @ tower.text_projection


def build_tower(state: Mapping[str, Tensor]) -> Any:
    """open_clip's text tower with these weights (names without prefix), float32, on the CPU.

    Raises:
        TextEncoderError: the weights are not those of an RN50 text tower.
    """
    import torch

    from vlpart.zoo.weights import as_float32

    open_clip = _open_clip()
    from open_clip.transformer import QuickGELU, TextTransformer

    config = open_clip.get_model_config(ARCHITECTURE)
    with torch.device("meta"):
        tower = TextTransformer(**config["text_cfg"], output_dim=config["embed_dim"], act_layer=QuickGELU)
    mask = torch.full((tower.context_length, tower.context_length), float("-inf")).triu_(1)
    tower.register_buffer("attn_mask", mask, persistent=False)
    try:
        tower.load_state_dict(as_float32(state, "the file"), assign=True)
    except WeightsError as error:
        raise _missing(str(error)) from error
    except RuntimeError as error:
        raise _missing("the file does not hold the text tower of CLIP RN50") from error
    return tower.eval().requires_grad_(False)


def read_text_weights(path: Path) -> dict[str, Tensor]:
    """The text half of a CLIP weight file. TorchScript is opened only if it is OpenAI's own file, by its hash.

    Raises:
        TextEncoderError: the file is missing, damaged, or of another kind.
    """
    from vlpart.zoo.download import sha256_of
    from vlpart.zoo.weights import load_state_dict

    try:
        if path.is_file() and path.suffix == ".pt" and sha256_of(path) == OPENAI_SHA256:
            state = _read_program(path)
        else:
            state = load_state_dict(path)
    except (WeightsError, OSError, RuntimeError, AttributeError) as error:
        raise _missing(str(error).splitlines()[0]) from error
    other = {"logit_scale", "input_resolution", "context_length", "vocab_size"}
    return {name: value for name, value in state.items() if not name.startswith("visual.") and name not in other}


def _read_program(path: Path) -> dict[str, Tensor]:
    """The state dict of a TorchScript archive (newer torch versions warn that the format is going away)."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(torch.jit.load(path, map_location="cpu").state_dict())


def find_text_weights(progress: Progress | None = None) -> Path:
    """The file that VLPART_CLIP_WEIGHTS names, one in the cache folder, or a download: OpenAI's own (its hash is
    known), else open_clip's copy.

    Raises:
        TextEncoderError: it cannot be downloaded; the message says what to put where.
    """
    from vlpart.zoo.download import download_file

    chosen = os.environ.get(WEIGHTS_VARIABLE)
    if chosen:
        return local_path(chosen)
    folder = cache_folder() / "clip"
    for name in (HUB_FILE, OPENAI_FILE):
        if (folder / name).is_file():
            return folder / name
    try:
        return download_file(OPENAI_URL, folder / OPENAI_FILE, sha256=OPENAI_SHA256, progress=progress)
    except DownloadError as first:
        try:
            return download_file(HUB_URL, folder / HUB_FILE, progress=progress)
        except DownloadError:
            raise _missing(f"the download failed ({str(first).rstrip('.')})") from first


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise TextEncoderError(
            "The CLIP text encoder needs open_clip: pip install 'vlpart[clip]' (the model 'tiny' works without it)."
        ) from error
    return open_clip


def _missing(reason: str) -> TextEncoderError:
    """What is wrong, and what to do without a network."""
    return TextEncoderError(
        f"CLIP text weights: {reason.rstrip('.')}. Fetch {OPENAI_URL} or {HUB_URL} where there is a "
        f"network and put the file into {cache_folder() / 'clip'}, or set {WEIGHTS_VARIABLE} to its path; a vocabulary "
        "with embeddings, or the model 'tiny', needs neither."
    )

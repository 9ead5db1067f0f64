"""Checkpoints that survive a kill at any moment: temporary file, fsync, rename; the last two and the best are kept.

A checkpoint is one file of tensors and plain values, read with `weights_only=True`:
`{"format", "step", "recipe", "model", "optimizer", "scaler", "ranks", "ema", "metrics"}`. `model` is the whole state
dict, frozen parameters too: a few MB that make the file usable without the initial weights. `ranks` holds, for every
training process, the state of its loader and of its random generators: `{"loader", "rng"}`.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlpart.errors import TrainingError, WeightsError
from vlpart.files import is_there
from vlpart.zoo.weights import interpolated, read_torch_file

FORMAT = "vlpart-checkpoint-2"
_BEFORE_SEVERAL_PROCESSES = "vlpart-checkpoint-1"
KEEP = 2
_NAME = re.compile(r"step_(\d{8})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` is written."""
    return folder / f"step_{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints in `folder`, oldest first (temporary files of a killed run do not count)."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and renamed, on failure removed.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; what was at `path` before is intact.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise TrainingError(
            f"cannot write {path}: {reason}; earlier checkpoints are intact, free some space and resume"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename durable where the system allows to sync a folder (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """`torch.save` through `atomic_write`.

    Raises:
        TrainingError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(dict(content), file)
                file.flush()
        except RuntimeError as error:  # torch's zip writer hides the OSError of the file below it
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            raise (
                cause if isinstance(cause, OSError) else OSError(f"writing failed, is the disk full? ({error})")
            ) from error


def save_checkpoint(folder: Path, step: int, content: Mapping[str, Any]) -> Path:
    """Write the checkpoint of `step`, then remove all but the last `KEEP` (and temporary files of killed runs)."""
    path = checkpoint_path(folder, step)
    save_tensors(path, {"format": FORMAT, "step": step, **content})
    for old in list_checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    for leftover in folder.glob(".step_*.part"):
        leftover.unlink(missing_ok=True)
    return path


def mark_best(checkpoint: Path) -> Path:
    """Make `best.pt` the given checkpoint: a hard link where possible, else a copy."""
    best = checkpoint.with_name("best.pt")
    with atomic_write(best) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(checkpoint, temporary)
        except OSError:
            temporary.write_bytes(checkpoint.read_bytes())
    return best


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, tensors and plain values only.

    Raises:
        TrainingError: the file is missing, damaged, or no checkpoint of this package.
    """
    try:
        content = read_torch_file(path)
    except WeightsError as error:
        if not is_there(path):
            raise TrainingError(f"no checkpoint at {path}") from error
        reason = str(error).rstrip(".")
        raise TrainingError(f"cannot read checkpoint {path}: {reason}; remove it to use the one before") from error
    if isinstance(content, dict) and content.get("format") == _BEFORE_SEVERAL_PROCESSES:
        content |= {"format": FORMAT, "ranks": [{"loader": content.pop("loader"), "rng": content.pop("rng")}]}
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a training checkpoint of this package")
    problem = _malformed(content)
    if problem:
        raise TrainingError(f"cannot read checkpoint {path}: {problem}; remove it to use the one before")
    return content


def _malformed(content: Mapping[str, Any]) -> str:
    """What is wrong with the parts of a checkpoint; empty if nothing is."""
    kinds = {"step": int, "recipe": dict, "model": Mapping, "optimizer": dict, "ranks": list, "metrics": dict}
    for key, kind in kinds.items():
        if key in content and (not isinstance(content[key], kind) or isinstance(content[key], bool)):
            return f"{key!r} is malformed"
    weights, ranks = content.get("model", {}), content.get("ranks", [])
    if not all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()):
        return "'model' holds something else than tensors"
    if not all(isinstance(rank, dict) and {"loader", "rng"} <= rank.keys() for rank in ranks):
        return "'ranks' is malformed"
    average = content.get("ema")
    if average is not None and not (isinstance(average, dict) and isinstance(average.get("shadow"), Mapping)):
        return "'ema' is malformed"
    return ""


def latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint of a run folder, or None if there is none yet.

    Raises:
        TrainingError: it is damaged, or a part of it is missing.
    """
    paths = list_checkpoints(folder)
    if not paths:
        return None
    content = load_checkpoint(paths[-1])
    lacking = [key for key in ("recipe", "model", "optimizer", "ranks", "ema", "metrics") if key not in content]
    if lacking:
        raise TrainingError(f"checkpoint {paths[-1]} lacks {lacking[0]!r}; remove it to use the one before")
    return content


def rng_state(*generators: torch.Generator) -> dict[str, Any]:
    """State of every random generator a step may use: torch's, numpy's, Python's, and the given ones."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],  # of this process's own GPU
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "generators": [generator.get_state() for generator in generators],
    }


def set_rng_state(state: Mapping[str, Any], *generators: torch.Generator) -> None:
    """Restore what `rng_state` gave for as many generators."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)


def weights_of(content: Mapping[str, Any], *, use_ema: bool) -> dict[str, Tensor]:
    """The model weights of a checkpoint; the moving average replaces the trained ones if `use_ema` and there is one."""
    weights: dict[str, Tensor] = dict(content["model"])
    if use_ema and content.get("ema") is not None:
        for name, weight in content["ema"]["shadow"].items():
            if name in weights and isinstance(weight, Tensor):
                weights[name] = weight.to(weights[name].dtype)
    return weights


def export_weights(
    checkpoint: Path,
    output: Path,
    dtype: torch.dtype = torch.float16,
    use_ema: bool = True,
    initial: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the weights of a training checkpoint as safetensors for inference.

    Matrices and convolutions are stored as `dtype`. Vectors (norms, biases, running statistics) stay float32: they are
    small, and running variances can leave the range of half precision.

    Args:
        checkpoint: a `.pt` file of a run.
        output: the `.safetensors` file; written atomically, its folder is created.
        dtype: torch.float16, torch.bfloat16 or torch.float32.
        use_ema: take the moving average where the run kept one.
        initial: the first weights of the run, of which the recipe may want a share (`Recipe.initial_share`).

    Returns:
        `output`. Metadata: recipe, architecture, text_encoder, step, seed, ema, and the whole recipe as JSON.

    Raises:
        TrainingError: the checkpoint cannot be read, holds non-finite values, or the file cannot be written.
    """
    content = load_checkpoint(checkpoint)
    recipe = content.get("recipe", {})
    lacking = [key for key in ("recipe", "model", "step") if key not in content]
    lacking += [key for key in ("architecture", "text_encoder", "seed", "name") if key not in recipe]
    if lacking:
        raise TrainingError(f"{checkpoint} lacks {lacking[0]!r}: export another checkpoint")
    weights = weights_of(content, use_ema=use_ema)
    if share := recipe.get("initial_share"):
        if initial is None:
            raise TrainingError(f"{checkpoint} takes {share:g} of the first weights of its run: give them")
        weights = interpolated(weights, initial, share)
    tensors = {}
    for name, weight in weights.items():
        narrow = weight.to(dtype) if weight.is_floating_point() and weight.ndim >= 2 else weight
        if not bool(torch.isfinite(narrow).all()):
            raise TrainingError(
                f"{checkpoint} holds non-finite values in {name} as {dtype}: export an earlier checkpoint"
            )
        tensors[name] = narrow.contiguous().clone()
    metadata = {key: str(recipe[key]) for key in ("architecture", "text_encoder", "seed")}
    metadata |= {
        "recipe": str(recipe["name"]),
        "step": str(content["step"]),
        "ema": str(use_ema and content.get("ema") is not None).lower(),
        "recipe_json": json.dumps(_without_folders(recipe), sort_keys=True),
    }
    return save_weights(output, tensors, metadata)


def _without_folders(value: Any) -> Any:
    """A recipe whose absolute paths keep two parts: weights travel, and need not tell where their data lay."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        return "/".join(PurePath(value).parts[-2:])
    return value


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file atomically, readable for everybody the umask lets read.

    Raises:
        TrainingError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            plain = {name: weight.detach().cpu().contiguous() for name, weight in tensors.items()}
            save_file(plain, temporary, metadata=dict(metadata or {}))
            temporary.chmod(mode)
        except SafetensorError as error:
            raise OSError(f"writing failed, is the disk full? ({error})") from error
    return path

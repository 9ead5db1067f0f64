"""`vlpart doctor`: what a bug report needs, and a check that the installation works."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vlpart import __version__
from vlpart.cli.console import megabytes, say
from vlpart.errors import VlpartError, WeightsError

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "pycocotools",
    "hotcoco",
    "contourpy",
    "safetensors",
    "model2vec",
    "tokenizers",
    "filelock",
    "jinja2",
    "platformdirs",
    "defusedxml",
    "typer",
    "rich",
)
EXTRAS = {
    "open_clip_torch": "clip",
    "scipy": "train",
    "tensorboard": "train",
    "timm": "parse",
    "supervision": "supervision",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python-multipart": "serve",
    "prometheus-client": "serve",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "export",
    "av": "video",
    "trackers": "video",
    "ray": "ray",
    "pyarrow": "ray",
}
VARIABLES = (
    *("VLPART_", "OMP_", "GOMP_", "MKL_", "TORCH_"),
    *("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "THP_MEM_ALLOC_ENABLE"),
)


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a bug report.")] = False) -> None:
    """Check the installation.

    Shows versions, devices and folders, and predicts one sample. The exit code is 1 if a check fails.
    """
    report = examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        for section in ("system", "packages", "compute", "cache", "variables"):
            say(f"{section}")
            for name, value in report[section].items():
                say(f"  {name:<18} {value}")
        say("checks")
        for name, check in report["checks"].items():
            say(f"  {'ok    ' if check['ok'] else 'FAILED'}  {name:<26} {check['detail']}")
    if not all(check["ok"] for check in report["checks"].values()):
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Everything `vlpart doctor` shows, as plain data."""
    checks: dict[str, Callable[[], str]] = {
        "torchvision operators": _check_operators,
        "embedded weights": _check_weights,
        "embedded text encoder": _check_text,
        "cache folder is writable": _check_cache,
        "prediction": _check_prediction,
    }
    return {
        "system": _system(),
        "packages": _packages(),
        "compute": _compute(),
        "cache": _cache(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
        "checks": {name: _run(check) for name, check in checks.items()},
    }


def _run(check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"ok": True, "detail": check()}
    except VlpartError as error:
        return {"ok": False, "detail": str(error)}
    except Exception as error:  # noqa: BLE001 (whatever is broken is what a doctor is for)
        return {"ok": False, "detail": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _system() -> dict[str, Any]:
    return {
        "vlpart": f"{__version__} in {Path(__file__).resolve().parents[1]}",
        "python": f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}",
        "platform": platform.platform(),
    }


def _packages() -> dict[str, Any]:
    from importlib import metadata

    versions = {}
    for name in (*PACKAGES, *EXTRAS):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            hint = f' (optional: pip install "vlpart[{EXTRAS[name]}]")' if name in EXTRAS else ""
            versions[name] = f"not installed{hint}"
    return versions


def _compute() -> dict[str, Any]:
    import torch

    from vlpart.runtime import bf16_instructions

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processors": os.cpu_count(),
        "threads": f"{torch.get_num_threads()} in an operator, {torch.get_num_interop_threads()} between operators",
        "processor kind": _processor(torch),
        "bf16 in hardware": ", ".join(bf16_instructions()) or "no",
        "cuda": ", ".join(gpus) if gpus else f"no device (torch built for CUDA {torch.version.cuda or 'none'})",
        "mps": "yes" if torch.backends.mps.is_available() else "no",
    }


def _processor(torch: Any) -> str:
    # torch.cpu.get_capabilities is newer than the oldest torch that is supported
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    name = known.get("cpu_name") or platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _cache() -> dict[str, Any]:
    from vlpart.files import cache_folder

    folder = cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {
        "folder": str(folder),
        "size": f"{megabytes(sum(path.stat().st_size for path in files))}, {len(files)} files",
    }


def _check_operators() -> str:
    import torch
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 1, 10, 10], [20.0, 20, 30, 30]])
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        raise VlpartError(f"torchvision's NMS kept {kept}, not [0, 2]: reinstall torch and torchvision together")
    return "torch and torchvision fit together"


def _check_weights() -> str:
    from vlpart.zoo.catalogue import get_model
    from vlpart.zoo.download import download_model, sha256_of

    entry = get_model("tiny")
    path = download_model("tiny")
    digest = sha256_of(path)
    if entry.sha256 is not None and digest != entry.sha256:
        raise WeightsError(f"{path} is not the file that was published: reinstall the package")
    return f"{path.name}, {megabytes(path.stat().st_size)}, sha256 {digest[:12]}"


def _check_text() -> str:
    from vlpart.text.encoders import get_text_encoder

    encoder = get_text_encoder("phrase")
    vectors = encoder.encode(["car wheel", "wheel of a car", "dog head"])
    near, far = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    if not near > far:
        raise VlpartError('the text table is damaged ("wheel of a car" is not near "car wheel"): reinstall the package')
    return f"{encoder.dim} numbers per phrase"


def _check_cache() -> str:
    from vlpart.files import cache_folder, write_file

    write_file(cache_folder() / "probe", b"probe").unlink()
    return str(cache_folder())


def _check_prediction() -> str:
    from vlpart.inference.predictor import load

    images = sorted((Path(__file__).resolve().parents[1] / "assets" / "samples").glob("*.jpg"))
    if not images:
        raise VlpartError("the sample image is missing: reinstall the package")
    predictor = load("tiny")
    predictor.predict(images[0])  # the first call also warms up
    started = time.perf_counter()
    result = predictor.predict(images[0])
    seconds = time.perf_counter() - started
    if not len(result):
        raise VlpartError(f"nothing was found in {images[0]}: reinstall the package")
    return f"{len(result)} instances in {images[0].name}, {seconds:.2f} s"

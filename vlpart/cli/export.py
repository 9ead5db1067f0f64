"""`vlpart export`: a model for onnxruntime, OpenVINO, or TorchScript."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from vlpart.cli.console import Bars, existing_folder, megabytes, say
from vlpart.cli.options import complete_models, complete_vocabularies

#: Images of --calibrate that are looked at; a second of a core each.
MOST_IMAGES = 200


class ExportFormat(StrEnum):
    """Choices of --format."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCHSCRIPT = "torchscript"
    SAFETENSORS = "safetensors"


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("export")(export)


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="Model name (`vlpart models list`), weight file, or run folder.", autocompletion=complete_models
        ),
    ] = "tiny",
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="Of the file.")] = ExportFormat.ONNX,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. Default: the name of the model, in this folder.")
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            "--vocabulary",
            "-v",
            help="What the file looks for: 'car: wheel, door', a list, or a file. Default: the model's own.",
            autocompletion=complete_vocabularies,
        ),
    ] = None,
    text_input: Annotated[
        bool,
        typer.Option("--text-input", help="Text vectors are an input: any vocabulary can be asked for later."),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="8-bit integers: smaller, less sure of objects; tiny as onnx, for onnxruntime.",
        ),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --int8: some images like those to come (20 do). Default: views of the photo in the package.",
            callback=existing_folder,
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Local weight file instead of the download.")] = None,
) -> None:
    """Write a model as a file that other engines run, also without torch.

    vlpart predict photo.jpg --model tiny.onnx uses it. Needs pip install "vlpart[export]", but for torchscript and
    safetensors.
    """
    from vlpart.data.image_files import list_images
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.resolve import resolve

    if calibrate is not None and not int8:
        raise typer.BadParameter("it goes with --int8", param_hint="--calibrate")
    images = None if calibrate is None else list_images(calibrate)
    resolved = resolve(model, weights)
    names = None if vocabulary is None else Vocabulary.of(vocabulary)
    with Bars(in_bytes=True, transient=True) as progress:
        resolved.fetch(progress)
    from vlpart.export.write import FORMATS
    from vlpart.export.write import export as write
    from vlpart.inference.predictor import load

    predictor = load(resolved, device="cpu", precision="float32")
    target = output or Path(f"{predictor.name}{FORMATS[format.value]}")
    path = write(
        predictor,
        target,
        format.value,
        vocabulary=names,
        text_input=text_input,
        int8=int8,
        calibrate=images if images is None else islice(images, MOST_IMAGES),
    )
    size = sum(each.stat().st_size for each in (path, path.with_suffix(".bin")) if each.is_file())
    say(f"{path} ({megabytes(size)}): vlpart predict photo.jpg --model {path}")

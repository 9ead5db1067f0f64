"""What the parse commands share: their options, and what they say and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vlpart.cli.console import Bars, names_in, note, say, skipped
from vlpart.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions
    from vlpart.annotation_parser.labelled_images import LabelledImage
    from vlpart.annotation_parser.object_parser import ObjectParser, VotingOptions
    from vlpart.annotation_parser.output import ParsedPart
    from vlpart.annotation_parser.references import Reference
    from vlpart.annotation_parser.run import ParserRun
    from vlpart.text.vocabulary import Vocabulary

Parser = TypeVar("Parser")

DATA, COMPUTE, DETECTOR = "Data", "Computation", "Detector"
Recipe = Annotated[
    str | None, typer.Option(help="Published run, or its yaml; sets what is not given here.", rich_help_panel=DATA)
]
Root = Annotated[
    Path | None,
    typer.Option("--data", envvar="VLPART_DATA", help="Data root of the published layout.", rich_help_panel=DATA),
]
OnlyLabels = Annotated[str | None, typer.Option(help="Take these labels.", rich_help_panel=DATA)]
ImageToShow = Annotated[str, typer.Argument(metavar="IMAGE", help="Image file or http(s) address.")]
Label = Annotated[str, typer.Option(help="What it shows: bench.")]
Drawing = Annotated[Path, typer.Option("--output", "-o", help="Image to write.", dir_okay=False)]
PanelHeight = Annotated[int, typer.Option(min=100, max=4000, help="Height of a panel, pixels.")]


@dataclass(frozen=True, kw_only=True)
class Computation:
    """Where features are computed, and of which weights."""

    feature_weights: Annotated[
        Path | None, typer.Option(help="Local weight file of the features.", dir_okay=False, rich_help_panel=COMPUTE)
    ] = None
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.", rich_help_panel=COMPUTE)] = None
    precision: Annotated[str, typer.Option(help="float32 or bf16.", rich_help_panel=COMPUTE)] = "float32"


@dataclass(frozen=True, kw_only=True)
class Run:
    """How many images are gone through."""

    batch: Annotated[int, typer.Option(min=1, help="Images read at a time.", rich_help_panel=COMPUTE)] = 1
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there.")] = False
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The size at which images are compared."""

    short_side: Annotated[
        int | None, typer.Option(min=8, help="Shorter side of compared images, pixels.", rich_help_panel=COMPUTE)
    ] = None
    max_side: Annotated[
        int | None, typer.Option(min=8, help="Limit of their longer side, pixels.", rich_help_panel=COMPUTE)
    ] = None


@dataclass(frozen=True, kw_only=True)
class Matching(Sides):
    """How the parts of an image are carried over as published."""

    boxes: Annotated[
        str,
        typer.Option(
            help="proposals (of the detector, as published) or masks (around them).", rich_help_panel=DETECTOR
        ),
    ] = "proposals"
    min_iou: Annotated[
        float, typer.Option(min=0, max=1, help="Overlap a proposal needs.", rich_help_panel=DETECTOR)
    ] = 0.3
    foreground: Annotated[
        float | None, typer.Option(min=0, max=1, help="Saliency the object needs.", rich_help_panel=COMPUTE)
    ] = None

    def options(self, sources: dict[str, tuple[str, ...]], **more: Any) -> ParserOptions:
        """For the parser; `sources` are the references of labels, `more` are further fields."""
        from vlpart.annotation_parser.image_parser import ParserOptions

        if self.boxes not in ("proposals", "masks"):
            raise typer.BadParameter(f"{self.boxes!r} is neither 'proposals' nor 'masks'", param_hint="--boxes")
        return ParserOptions(
            short_side=self.short_side,
            max_side=self.max_side,
            foreground=self.foreground,
            min_iou=self.min_iou,
            use_proposals=self.boxes == "proposals",
            sources=sources,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Voting:
    """How references vote on the parts of an annotated object."""

    detector_share: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the detector beside the votes.", rich_help_panel=DETECTOR)
    ] = 0.5
    references: Annotated[int, typer.Option(min=1, help="So many vote on a part.", rich_help_panel=COMPUTE)] = 8
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Mean score that a part needs.")] = 0.2
    long_side: Annotated[
        int | None,
        typer.Option(
            min=8, help="Longer side of a cut-out object, pixels. Default: the bank's.", rich_help_panel=COMPUTE
        ),
    ] = None

    def options(self, sources: dict[str, tuple[str, ...]]) -> VotingOptions:
        """For the parser; `sources` are the references of labels."""
        from vlpart.annotation_parser.object_parser import VotingOptions

        return VotingOptions(sources=sources, **vars(self))


@dataclass(frozen=True, kw_only=True)
class Parsing(Computation):
    """What is asked of a parser: which references it takes, which names it writes, which detector helps."""

    names: Annotated[
        str | None, typer.Option("--names", help="Vocabulary of the names to write; others are dropped.")
    ] = None
    per_label: Annotated[
        str | None,
        typer.Option("--from", help="References per label: 'bench: chair, sofa; bus: car'.", rich_help_panel=DATA),
    ] = None
    base_images: Annotated[
        Path | None, typer.Option(help="Where the images of the bank are now.", file_okay=False, rich_help_panel=DATA)
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Detector: model name or weight file. Default: tiny.", rich_help_panel=DETECTOR
        ),
    ] = None
    weights: Annotated[
        Path | None, typer.Option(help="Local weight file of the model.", dir_okay=False, rich_help_panel=DETECTOR)
    ] = None

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The references of labels that --from names."""
        return references_per_label(self.per_label)

    def open(
        self, open_parser: Callable[..., Parser], bank: ReferenceBank | None, options: Any, **other: Any
    ) -> Parser:
        """The parser, by `open_image_parser` or `open_object_parser`; `other` are arguments that are known better."""
        given = {
            "names": part_names(self.names),
            "model": self.model or "tiny",
            "weights": self.weights,
            **{each.name: getattr(self, each.name) for each in fields(Computation)},
        }
        parser = open_parser(bank, options, **{**given, **other})
        say_features(bank)
        return parser


def below(root: Path | None, place: str | None, option: str) -> Path:
    """A path of a recipe below the data root."""
    if place is None:
        raise typer.BadParameter(f"give {option}, or a published run with --recipe and --data", param_hint=option)
    if root is None:
        raise typer.BadParameter(f"give {option}, or the data root of the recipe with --data", param_hint=option)
    return root / place


def references_per_label(text: str | None) -> dict[str, tuple[str, ...]]:
    """The references of labels: "bench: chair, sofa; bus: car"."""
    bases_of: dict[str, tuple[str, ...]] = {}
    for piece in (text or "").split(";"):
        label, colon, names = piece.partition(":")
        if not piece.strip():
            continue
        if not colon or not label.strip() or not names_in(names):
            raise DataError(f"--from needs 'label: object, object; label: object', not {piece.strip()!r}")
        bases_of[label.strip()] = tuple(names_in(names))
    return bases_of


def part_names(text: str | None) -> Vocabulary | None:
    """The names to write, of which some must be parts; None takes every part as it comes."""
    from vlpart.text.vocabulary import Vocabulary

    if text is None:
        return None
    vocabulary = Vocabulary.of(text)
    if not any(entry.part for entry in vocabulary.entries):
        raise typer.BadParameter(f"{text!r} names no parts; 'bench: leg, seat' does", param_hint="--names")
    return vocabulary


def parse_all(
    output: Path,
    labelled: list[LabelledImage],
    images: Path,
    parser: ImageParser | ObjectParser,
    vocabulary: Vocabulary | None,
    run: Run,
) -> None:
    """Run a parser over images, with a bar unless it is hidden, and tell how it went."""
    from vlpart.annotation_parser.run import find_parts

    with Bars(hidden=run.no_progress, transient=True) as progress:
        done = find_parts(
            output,
            labelled,
            images,
            parser,
            vocabulary=vocabulary,
            batch=run.batch,
            overwrite=run.overwrite,
            progress=progress,
            on_failure=skipped,
        )
    tell(done, f"{done.parts} parts in {done.items - done.skipped} images")


def say_features(bank: ReferenceBank | None) -> None:
    """Say so if the features are those of the embedded model."""
    from vlpart.annotation_parser.features.base import EMBEDDED

    if bank is not None and bank.features == EMBEDDED:
        note("this bank has the features of the embedded model, which are weaker than DINO's")


def check_drawing(output: Path) -> None:
    """Refuse what no image can be written to, before anything is loaded."""
    from vlpart.files import IMAGE_FORMATS

    if output.suffix.lower() not in IMAGE_FORMATS:
        raise typer.BadParameter(f"{output} must end in {', '.join(IMAGE_FORMATS)}", param_hint="--output")


def write_drawing(output: Path, drawn: Image) -> None:
    """Write an image in the format of its name."""
    from vlpart.files import IMAGE_FORMATS, encode_image, write_file

    write_file(output, encode_image(drawn, IMAGE_FORMATS[output.suffix.lower()], output.name))


def tell_transfer(output: Path, reference: Reference, similarity: float, parts: Iterable[ParsedPart]) -> None:
    """A line for every part that was found, and where the drawing is."""
    for part in parts:
        box = " ".join(f"{value:.0f}" for value in part.box_xyxy)
        say(f"{part.name}\t{box}\t{part.score:.2f}\tfrom {part.found_as}", lines=True)
    say(f"reference {reference.file_name}, similarity {similarity:.3f} -> {output}", err=True)


def tell(run: ParserRun, what: str) -> None:
    """The last line; the exit code is 1 if images were left out."""
    if run.written is None:
        say("this process is done; the last one to finish writes the result", err=True)
        return
    left_out = f", {run.skipped} skipped" if run.skipped else ""
    say(f"{what}{left_out} -> {run.written}")
    if run.skipped:
        raise typer.Exit(1)

"""The published parser runs (docs/method.md, 'Annotation parser'): two reference banks, and what is found with them.

Paths are below the data root, laid out as `vlpart.recipes.datasets` says. Every setting can be overridden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.data.source import missing_data
from vlpart.errors import DataError
from vlpart.names import config_name, did_you_mean

if TYPE_CHECKING:
    from vlpart.annotation_parser.bank import ReferenceBank

_VOC2010 = "pascal_part/VOCdevkit/VOC2010/JPEGImages"
_IMAGENET = "imagenet/train"


@dataclass(frozen=True, kw_only=True)
class BankRecipe:
    """A reference bank.

    Attributes:
        name: of the recipe, and of the bank's folder.
        annotations, images: base images with one object each; `vlpart data prepare` makes them as `prepare`.
        vocabulary: their categories.
        features: the extractor; short_side, max_side: the size in pixels at which it sees the images.
    """

    name: str
    annotations: str
    images: str
    vocabulary: str
    prepare: str = "pascal_part_one"
    features: str = "dino_vits8"
    short_side: int
    max_side: int


@dataclass(frozen=True, kw_only=True)
class FindRecipe:
    """Parsing a labelled data set.

    Attributes:
        name: of the recipe.
        bank: the bank recipe that it searches.
        labels, images: images with image-level labels; `vlpart data prepare` makes them as `prepare`.
        output: the file to write, and `names` the vocabulary of its part names.
        model: the detector, and `vocabulary` the part names that it looks for on base objects.
        base_objects: labels that the detector parses by itself; None = all labels.
        short_side, max_side: size in pixels at which images are compared.
    """

    name: str
    bank: str
    labels: str
    images: str
    output: str
    names: str
    model: str
    vocabulary: str
    base_objects: tuple[str, ...] | None
    prepare: str = "golden"
    short_side: int = 224
    max_side: int = 672

    @property
    def searches(self) -> bool:
        """Whether it looks into its bank: whether some of its labels are novel objects."""
        return self.base_objects is not None


BANKS = {
    bank.name: bank
    for bank in (
        BankRecipe(
            name="pascal_part",
            annotations="pascal_part/train_one.json",
            images=_VOC2010,
            vocabulary="pascal_part",
            short_side=224,
            max_side=672,
        ),
        BankRecipe(
            name="pascal_part_base",
            annotations="pascal_part/train_base_one.json",
            images=_VOC2010,
            vocabulary="pascal_part_base",
            short_side=336,
            max_side=996,
        ),
    )
}

_VOC_BASE = (  # the 20 objects of Pascal VOC but bus and dog
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "car", "cat", "chair", "cow", "dining table", "horse"),
    *("motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor"),
)
_JOINT = "lvis_paco_pascalpart_partimagenet"


def _golden(kind: str, names: str, model: str, suffix: str, base_objects: tuple[str, ...] | None = None) -> FindRecipe:
    """A part of the golden set: its images of one vocabulary."""
    return FindRecipe(
        name=f"golden_{kind}{suffix}",
        bank="pascal_part",
        labels=f"imagenet/imagenet_{kind}_image_info.json",
        images=_IMAGENET,
        output=f"imagenet/imagenet_golden_{kind}_parsed{suffix}.json",
        names=names,
        model=model,
        vocabulary="pascal_part" if base_objects == () else names,
        base_objects=base_objects,
    )


FINDS = {
    find.name: find
    for find in (
        FindRecipe(
            name="in_s11",
            bank="pascal_part",
            labels="partimagenet/partimagenet_supercat_image_info.json",
            images="partimagenet/train",
            output="partimagenet/partimagenet_parsed.json",
            names="partimagenet",
            model="r50_pascalpart",
            vocabulary="pascal_part",
            base_objects=("Bird", "Car", "Bicycle", "Aeroplane", "Bottle"),
            prepare="in_s11",
        ),
        FindRecipe(
            name="in_s20",
            bank="pascal_part_base",
            labels="imagenet/imagenet_voc_image_info.json",
            images=_IMAGENET,
            output="imagenet/imagenet_voc_image_parsed.json",
            names="pascal_part",
            model="r50_pascalpartbase",
            vocabulary="pascal_part_base",
            base_objects=_VOC_BASE,
            prepare="in_s20",
            short_side=336,
            max_side=996,
        ),
        *(
            _golden(kind, names, f"{prefix}_{_JOINT}", suffix)
            for kind, names in (("pascal", "pascal_part"), ("partimagenet", "partimagenet"), ("paco", "paco"))
            for prefix, suffix in (("r50", ""), ("swinbase_cascade", "_swinbase"))
        ),
        # The published runs have one file of the additional animals, whichever detector is trained on it; none of these
        # animals is a base object.
        _golden("addition", "addition_part", f"r50_{_JOINT}", "", base_objects=()),
    )
}

ALIASES = {  # the names of the published configurations
    "build_pascalpart": "pascal_part",
    "build_pascalpartbase": "pascal_part_base",
    "find_ins11_mixer": "in_s11",
    "find_ins20_mixer": "in_s20",
    "find_ins_mixer": "golden_pascal",
    "find_ins_mixer_swinbase": "golden_pascal_swinbase",
}


#: Published configurations that name another file than the training recipes read: by that name a run writes that file.
CONFIGURED_OUTPUTS = {"find_ins_mixer_swinbase": FINDS["golden_pascal"].output}

#: Detector of the golden runs -> how their names end.
GOLDEN = {"r50": "", "swin": "_swinbase"}


def get_bank_recipe(name: str) -> BankRecipe:
    """A published reference bank, by our name, or name or path of the published configuration.

    Raises:
        DataError: no recipe of that name.
    """
    name = ALIASES.get(config_name(name), config_name(name))
    if name not in BANKS:
        raise DataError(_unknown(name, list(BANKS)))
    return BANKS[name]


def get_find_recipe(name: str) -> FindRecipe:
    """A published run of the parser, by our name, or name or path of the published configuration.

    Raises:
        DataError: no recipe of that name.
    """
    given = config_name(name)
    name = ALIASES.get(given, given)
    if name not in FINDS:
        raise DataError(_unknown(name, list(FINDS)))
    return replace(FINDS[name], output=CONFIGURED_OUTPUTS.get(given, FINDS[name].output))


def golden_runs(architecture: str) -> tuple[FindRecipe, ...]:
    """The runs that parse the golden set with one of the two detectors, and the one of the additional animals.

    Args:
        architecture: "r50" or "swin".

    Raises:
        DataError: neither.
    """
    if architecture not in GOLDEN:
        raise DataError(f"--architecture {architecture!r}: use one of {', '.join(GOLDEN)}")
    suffix = GOLDEN[architecture]
    return (*(FINDS[f"golden_{kind}{suffix}"] for kind in ("pascal", "partimagenet", "paco")), FINDS["golden_addition"])


def not_here(recipes: Iterable[BankRecipe | FindRecipe], root: Path) -> dict[Path, str]:
    """What these runs read below the data root and is not there, each with the command that helps."""
    found: dict[Path, str] = {}
    for recipe in recipes:
        read = recipe.annotations if isinstance(recipe, BankRecipe) else recipe.labels
        for place in (read, recipe.images):
            if not (root / place).exists():
                found[root / place] = f"vlpart data prepare {recipe.prepare} {root / read.partition('/')[0]}"
    return found


def check_data(recipes: Iterable[BankRecipe | FindRecipe], root: Path) -> None:
    """Refuse runs whose data is not there.

    Raises:
        DataError: something is missing; all of it is named, each with the command that helps.
    """
    if missing := not_here(recipes, root):
        raise missing_data(missing)


def check_bank(recipe: FindRecipe, bank: ReferenceBank) -> None:
    """Refuse a bank of the published features that is not the one of a run: it would compare at another size.

    Raises:
        DataError: the bank was built for another run.
    """
    needed, header = BANKS[recipe.bank], bank.header
    built = (header["features"], header["short_side"], header["max_side"])
    if bank.of_objects or (built[0] == needed.features and built[1:] != (recipe.short_side, recipe.max_side)):
        raise DataError(
            f"the recipe {recipe.name} searches the bank {needed.name}, and {bank.folder} is another one: vlpart parse "
            f"build BANK --recipe {needed.name}"
        )


def _unknown(name: str, known: list[str]) -> str:
    return f"no parser recipe {name!r}: {did_you_mean(name, known) or 'use one of ' + ', '.join(known)}"

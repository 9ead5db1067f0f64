"""Print the tables of docs/reproduce.md: every published configuration, what it trains on, hours and figures.

python scripts/reproduce_tables.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlpart.data.prepare import DATASETS as PREPARED
from vlpart.recipes import get_recipe, list_recipes
from vlpart.recipes.datasets import DATASETS
from vlpart.recipes.parsed import PARSED, parsed_with
from vlpart.recipes.parser import ALIASES, BANKS, FINDS
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind
from vlpart.zoo.catalogue import ModelEntry, list_models

FAMILIES = {
    "One data set": ("voc", "coco", "lvis", "paco", "partimagenet", "pascal_part"),
    "Objects and parts together": ("joint", "joint_in"),
    "Parts of PartImageNet without its masks": ("partimagenet_ablation",),
    "Parts of bus and dog without their masks": ("pascal_part_ablation",),
}


def main() -> None:
    """Print all of them."""
    print("\n".join(lines()))


def lines() -> Iterator[str]:
    """The lines of all tables, with their headings."""
    models = {entry.recipe: entry for entry in list_models() if not entry.embedded}
    recipes = {name: get_recipe(name, Path("datasets")) for name in list_recipes()}
    for title, families in FAMILIES.items():
        yield from ("", f"### {title}", "")
        yield "| configuration | trains on | starts from | 8 V100 | figures |"
        yield "| --- | --- | --- | --- | --- |"
        for family in families:
            for name, recipe in recipes.items():
                if recipe.family == family:
                    yield _row(recipe, models.get(name))
    yield from ("", "### Parser runs", "")
    yield "| configuration | here | reads | with | gives |"
    yield "| --- | --- | --- | --- | --- |"
    aliases = {ours: published for published, ours in ALIASES.items()}
    for bank in BANKS.values():
        configuration, reads = _yaml("annotation_parser", aliases[bank.name]), f"`{bank.annotations}`"
        yield _cells(configuration, f"`{bank.name}`", reads, f"DINO ViT-S/8, {bank.short_side} pixels", "a bank")
    for find in FINDS.values():
        configuration = _yaml("annotation_parser", aliases[find.name]) if find.name in aliases else ""
        yield _cells(configuration, f"`{find.name}`", f"`{find.labels}`", f"`{find.model}`", f"`{find.output}`")
    yield from ("", "### Data", "")
    yield "| command | offered at |"
    yield "| --- | --- |"
    for name, info in PREPARED.items():
        places = {found.annotations.partition("/")[0] for found in DATASETS.values() if found.prepare == name}
        place = min(places, default="pascal_part")  # what the parser alone reads
        yield _cells(f"`vlpart data prepare {name} datasets/{place}`", " ".join(f"<{a}>" for a in info.addresses))
    for each in PARSED.values():
        yield _cells(f"`vlpart data download parsed {each.name}`", f"<{each.url}>")


def _row(recipe: Recipe, entry: ModelEntry | None) -> str:
    init = "ImageNet" if recipe.init == "imagenet" else f"`{recipe.init}`"
    hours = "" if entry is None else entry.training_time.removesuffix(" on 8 V100")
    figures = "no checkpoint" if entry is None else _figures(entry)
    return _cells(_yaml(recipe.family, recipe.name), ", ".join(_sources(recipe)), init, hours, figures)


def _sources(recipe: Recipe) -> Iterator[str]:
    """Data sets in words, parsed files by their download."""
    named = []
    for source in recipe.sources:
        parsed = source.kind is AnnotationKind.PARSED_PARTS
        named.append(parsed_with(source.name) if parsed else source.name.removesuffix("_train"))
    yield from dict.fromkeys(named)


def _figures(entry: ModelEntry) -> str:
    """All figures of all tables."""
    found = {}
    for result in entry.published:
        for metric, value in result.metrics.items():
            name = metric.partition(" AP")[0].replace("All(40)", "PartImageNet").replace("All(93)", "Pascal Part")
            found[name] = " / ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _yaml(family: str, name: str) -> str:
    return f"`configs/{family}/{name}.yaml`"


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

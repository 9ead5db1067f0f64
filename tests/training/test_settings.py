"""Fields of a recipe by name: read by their type, misspelt names answered, nothing guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import boxes_source, small_recipe, write_dataset

from vlpart.errors import TrainingError
from vlpart.training.assemble import freeze
from vlpart.training.plan import steps_of_epochs
from vlpart.training.settings import frozen_modules, setting_names, with_image_size, with_settings
from vlpart.types import AnnotationKind


@pytest.fixture
def recipe(tmp_path):
    return small_recipe(tmp_path, sources=(boxes_source(tmp_path), boxes_source(tmp_path, name="more.1", batch_size=4)))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate=2e-4", 2e-4),
        ("iterations=1e3", 1000),
        ("clip_norm=none", None),
        ("clip_norm=3", 3.0),
        ("mask_on=no", False),
        ("schedule=multi_step", "multi_step"),
        ("steps=100,200", (100, 200)),
        ("steps=", ()),
        ("image_size=352,576", (352, 576)),
        ("frozen=backbone.,fpn.", ("backbone.", "fpn.")),
        ("channels_last=true", True),
        ("patience=4", 4),
        ("seed = 7", 7),
    ],
)
def test_a_text_becomes_a_value_of_the_field(recipe, setting, value):
    found = getattr(with_settings(recipe, [setting]), setting.partition("=")[0].strip())
    assert (found, type(found)) == (value, type(value))


def test_fields_of_losses_and_sources(recipe):
    changed = with_settings(
        recipe,
        [
            "losses.roi_regions=32",
            "losses.stage_ious=0.5, 0.7",
            "sources.flip=0",
            "sources.more.1.ratio=3",
            "sources.kind=box",
            "sources.only_objects=car, dog",
            "sources.annotations=other.json",
            "evaluate_on.max_images=9",
        ],
    )
    assert (changed.losses.roi_regions, changed.losses.stage_ious) == (32, (0.5, 0.7))
    assert [source.flip for source in changed.sources] == [0.0, 0.0]
    assert [source.ratio for source in changed.sources] == [1.0, 3.0]
    assert {source.kind for source in changed.sources} == {AnnotationKind.BOXES}
    assert changed.sources[0].only_objects == frozenset({"car", "dog"})
    assert (str(changed.sources[0].annotations), changed.evaluate_on[0].max_images) == ("other.json", 9)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("learning_rat=1", "did you mean learning_rate"),
        ("roi_regions=1", "did you mean losses.roi_regions"),
        ("losses.roi_region=1", "did you mean losses.roi_regions"),
        ("flip=0", "did you mean sources.flip"),
        ("sources.more.2.flip=0", "no 'more.2' among its sources: did you mean more.1?"),
        ("losses=1", "name one of its fields, for example losses.roi_regions=128"),
        ("learning_rate", "FIELD=VALUE"),
        ("=3", "FIELD=VALUE"),
        ("learning_rate=fast", "it takes a number"),
        ("learning_rate=nan", "it takes a number"),
        ("iterations=2.5", "it takes a whole number"),
        ("iterations=none", "it takes a whole number"),
        ("mask_on=maybe", "it takes true or false"),
        ("schedule=cosin", "it takes multi_step or cosine"),
        ("image_size=352", "2 values with commas"),
        ("steps=1,x", "values with commas (a whole number each)"),
        ("sources.kind=masks", "it takes box or part or image or ppart"),
        ("iterations=0", "needs iterations >= 1"),
        ("losses.roi_regions=0", "must be >= 1"),
        ("sources.flip=2", "flip, mosaic and min_visible lie between 0 and 1"),
    ],
)
def test_what_is_no_setting_is_refused_with_the_remedy(recipe, setting, said):
    with pytest.raises(TrainingError) as caught:
        with_settings(recipe, [setting])
    assert said in str(caught.value)


def test_every_field_has_a_type_that_texts_are_read_by(recipe):
    """A field of a new type would refuse everything; this finds it."""
    single = {"sources": recipe.sources[0], "evaluate_on": recipe.evaluate_on[0], "losses": recipe.losses}
    count = 0
    for name in setting_names():
        head, _, field = name.rpartition(".")
        value = getattr(single[head] if head else recipe, field)
        if isinstance(value, tuple | list | frozenset):
            text = ",".join(map(str, value))
        else:
            text = str(getattr(value, "value", value))
        if field == "name":
            continue
        assert with_settings(recipe, [f"{name}={text}"]) is not None
        count += 1
    assert count > 60


def test_image_size_keeps_proportions(recipe):
    changed = with_image_size(recipe, 48)
    assert changed.sources[0].short_sides == (32, 48)
    assert (changed.sources[0].max_side, changed.image_size) == (64, (48, 64))
    assert replace(changed, image_size=None, sources=recipe.sources) == recipe


def test_epochs_count_the_images_that_train(tmp_path):
    write_dataset(tmp_path, images=6)
    recipe = small_recipe(tmp_path)
    assert steps_of_epochs(recipe, 3) == 9
    assert steps_of_epochs(recipe.changed(accumulate=2), 3, world_size=3) == 2  # 18 images, 12 a step
    held = recipe.changed(sources=(replace(recipe.sources[0], validation_split=0.34),))
    assert steps_of_epochs(held, 2) == 4
    with pytest.raises(TrainingError, match="single source"):
        steps_of_epochs(small_recipe(tmp_path, sources=(recipe.sources[0], replace(recipe.sources[0], name="b"))), 1)
    with pytest.raises(TrainingError, match="above 0"):
        steps_of_epochs(recipe, 0)


def test_freeze_takes_whole_modules(tmp_path):
    from vlpart.models.build import build_detector

    detector = build_detector("tiny", mask_on=True)
    freeze(detector, frozen_modules("backbone, roi_heads.mask_head"))
    still = {name.split(".")[0] for name, p in detector.named_parameters() if p.requires_grad}
    assert still == {"fpn", "rpn", "roi_heads"}
    for name in ("back", "backbon"):
        with pytest.raises(TrainingError, match="did you mean backbone"):
            freeze(detector, frozen_modules(name))

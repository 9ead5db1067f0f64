"""Every benchmark: where its files are, its groups, and a headline that can be measured."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.evaluation.made_up import annotation, image, region
from vlpart.errors import DataError
from vlpart.evaluation.average_precision import over_classes
from vlpart.evaluation.benchmarks import BENCHMARKS, custom, figure, get_benchmark, part_split
from vlpart.evaluation.dataset import open_dataset
from vlpart.evaluation.run import Options, score_predictions, settings_of
from vlpart.evaluation.scores import Evaluation
from vlpart.recipes.datasets import DATASETS
from vlpart.text.vocabulary import Vocabulary


def truth_of(name):
    """One annotation of every class of a benchmark, in one image each."""
    vocabulary = Vocabulary.load(BENCHMARKS[name].vocabulary)
    categories = [
        {"id": e.id, "name": e.name, "frequency": e.frequency or "f"}
        | ({"object": e.object, "part": e.part} if ":" not in e.name else {})
        for e in vocabulary.entries
    ]
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    images = [image(k + 1, (20, 20), **lists) for k in range(len(categories))]
    annotations = [annotation(k + 1, (2, 2, 9, 9), k + 1, c["id"], (20, 20)) for k, c in enumerate(categories)]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("name", [name for name, each in BENCHMARKS.items() if each.vocabulary])
def test_perfect_detections_give_a_perfect_headline(name, tmp_path):
    benchmark, truth = BENCHMARKS[name], truth_of(name)
    place = tmp_path / benchmark.annotations[-1]
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(truth))
    with pytest.raises(DataError, match="of images"):
        benchmark.locate(tmp_path)
    (tmp_path / benchmark.images[0]).mkdir(parents=True, exist_ok=True)
    file, folder = benchmark.locate(tmp_path)
    dataset = open_dataset(file, folder, benchmark)
    detections = [
        region((2, 2, 9, 9), a["image_id"], a["category_id"], (20, 20), score=0.9) for a in truth["annotations"]
    ]
    evaluation = score_predictions(dataset, detections)
    figures = benchmark.headline_figures(evaluation)
    assert {label: round(value, 9) for label, value in figures.items()} == dict.fromkeys(figures, 1.0)
    assert evaluation.rule == benchmark.rule
    half = score_predictions(dataset, detections[: len(detections) // 2])
    assert 0 < next(iter(benchmark.headline_figures(half).values())) < 1


def test_groups_are_those_of_the_published_tables():
    groups = BENCHMARKS["pascal_part"].group_ids(truth_of("pascal_part"))
    assert {name: len(ids) for name, ids in groups.items()} == {"base": 77, "novel": 16, "dog": 10}
    assert len(BENCHMARKS["partimagenet"].group_ids(truth_of("partimagenet"))["quadruped"]) == 4
    paco = truth_of("paco")
    assert sum(":" in c["name"] for c in paco["categories"]) == 456


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no VOC2007/voc_2007_val\.json or .* in .*vlpart data prepare voc"):
        BENCHMARKS["voc"].locate(tmp_path)
    with pytest.raises(DataError, match="did you mean pascal_part"):
        get_benchmark("pascal-part")
    with pytest.raises(DataError, match="known: voc"):
        get_benchmark("xyz")


def test_a_file_of_ones_own(tmp_path):
    truth = truth_of("pascal_part")
    plain = custom(tmp_path / "mine.json", truth)
    assert (plain.rule, plain.kinds, plain.headline["AP"]) == ("coco", ("masks", "boxes"), "masks.parts.ap")
    truth["images"][0]["neg_category_ids"] = [3]
    assert (custom(tmp_path, truth).rule, custom(tmp_path, truth).max_detections) == ("lvis", 300)
    boxes = {
        **truth,
        "annotations": [{k: v for k, v in a.items() if k != "segmentation"} for a in truth["annotations"]],
    }
    assert custom(tmp_path, boxes).kinds == ("boxes",)


def test_base_and_novel_of_an_ov_parts_file():
    categories = [
        {"id": 1, "name": "car", "object": "car", "part": None},
        {"id": 2, "name": "car:wheel", "object": "car", "part": "wheel"},
        {"id": 3, "name": "bed:leg", "object": "bed", "part": "leg"},
    ]
    truth = {
        "categories": categories,
        "info": {"ov_parts_zero_shot": {"base_objects": ["car"], "novel_objects": ["bed"]}},
    }
    assert part_split(truth, {}) == ([2], [3])
    assert part_split({"categories": categories}, {}) is None
    assert part_split(truth, {"base": [1], "novel": [2]}) == ([1], [2])


def test_figures_of_what_was_not_scored():
    truth = truth_of("voc")
    dataset = BENCHMARKS["voc"]
    from vlpart.evaluation.average_precision import score_detections

    evaluation = score_detections(truth, [], rule="voc", kinds=("boxes",))
    assert math.isnan(figure(evaluation, "masks.all.ap"))
    assert math.isnan(figure(evaluation, "boxes.per_class.unicorn.ap"))
    assert dataset.headline_figures(evaluation) == {"AP": 0.0, "AP50": 0.0}


def test_benchmarks_lie_where_the_recipes_have_them() -> None:
    for name, dataset in (("voc", "voc_2007_val"), ("coco", "coco_2017_val"), ("pascal_part", "pascal_part_val")):
        assert DATASETS[dataset].annotations in BENCHMARKS[name].annotations
        assert DATASETS[dataset].images in BENCHMARKS[name].images


def test_the_published_benchmarks_say_how_a_model_is_asked():
    thresholds = {name: BENCHMARKS[name].score_threshold for name in BENCHMARKS}
    assert {name: value for name, value in thresholds.items() if value is not None} == {
        **dict.fromkeys(("voc", "coco", "partimagenet", "pascal_part"), 0.05),
        "lvis": 0.0001,
        "paco": 0.001,
    }
    for name in ("voc", "coco", "partimagenet", "pascal_part", "lvis", "paco"):
        each = BENCHMARKS[name]
        assert (each.short_side, each.max_side) == (800, 1333)
        assert each.max_detections == (300 if name in ("lvis", "paco") else 100)


def test_options_come_before_the_benchmark_and_small_models_keep_their_size():
    asked = settings_of(SimpleNamespace(architecture="r50_mask_rcnn"), BENCHMARKS["paco"], Options())
    assert vars(asked) == {"score_threshold": 0.001, "max_detections": 300, "short_side": 800, "max_side": 1333}
    given = Options(score_threshold=0.2, short_side=400)
    asked = settings_of(SimpleNamespace(architecture="swin_b_cascade"), BENCHMARKS["paco"], given)
    assert vars(asked) == {"score_threshold": 0.2, "max_detections": 300, "short_side": 400, "max_side": None}
    asked = settings_of(SimpleNamespace(architecture="tiny"), BENCHMARKS["paco"], Options())
    assert vars(asked) == {"score_threshold": 0.001, "max_detections": 300, "short_side": None, "max_side": None}


def test_the_part_figure_of_paco_has_two_levels():
    """Three wheels and one tail: the mean of the names, not of the four classes; what has no truth is left out."""
    names = ("car:wheel", "bus:wheel", "bike:wheel", "dog:tail", "car:door", "car")
    truth = {"categories": [{"id": i, "name": name} for i, name in enumerate(names)]}
    ap = np.array([0.2, 0.4, np.nan, 0.9, np.nan, 0.5])
    scores = over_classes(truth, {"ap": ap, "ap50": ap / 2}, np.zeros((2, 101, 6)), {})
    assert scores.parts.ap == pytest.approx((0.2 + 0.4 + 0.9) / 3)
    assert scores.parts_by_name.ap == pytest.approx((0.3 + 0.9) / 2)
    assert scores.parts_by_name.ap50 == pytest.approx((0.15 + 0.45) / 2)
    assert (scores.parts.classes, scores.parts_by_name.classes, scores.objects.ap) == (3, 2, 0.5)
    evaluation = Evaluation(
        masks=scores, boxes=None, rule="lvis", images=1, annotations=1, detections=1, max_detections=300
    )
    figures = BENCHMARKS["paco"].headline_figures(evaluation)
    assert (figures["parts AP"], figures["flat parts AP"]) == (scores.parts_by_name.ap, scores.parts.ap)
    assert figures["objects AP"] == 0.5

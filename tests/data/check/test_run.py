"""Every kind of fault in a data set is found, counted and placed; sound sets have no findings."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.conftest import MakeDataset, gradient, rectangle
from vlpart.data.check.findings import EXAMPLES, KINDS
from vlpart.data.check.run import CheckReport, check
from vlpart.data.indexing import load_source
from vlpart.data.source import Source
from vlpart.errors import DataError

Edit = Callable[[dict[str, Any]], Any]
SIZE = (40, 60)


def annotation(**changes: Any) -> dict[str, Any]:
    return {"category_id": 3, "bbox": [4, 5, 20, 15], "segmentation": rectangle(4, 5, 24, 20), **changes}


@pytest.fixture
def folder(make_dataset: MakeDataset) -> Path:
    """A sound set: train.json and val.json over one folder of images, every class in both."""
    images = [{"size": SIZE, "annotations": [annotation(category_id=c) for c in (3, 5, 7, 8)]} for _ in range(3)]
    made = make_dataset(images, name="set")
    train: Path = made["annotations"]
    content = json.loads(train.read_text())
    val = json.loads(train.read_text())
    for image in val["images"]:
        image["file_name"] = f"val{image['id']}.png"
        Image.fromarray(gradient(*SIZE, 50 + image["id"])).save(made["images"] / image["file_name"])
    train.write_text(json.dumps(content))
    train.with_name("val.json").write_text(json.dumps(val))
    return train.parent


def edit(folder: Path, change: Edit, name: str = "train.json") -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def kinds(report: CheckReport) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for finding in report.findings:
        counts[finding.kind] += finding.count
    return dict(counts)


def test_a_sound_set_has_no_findings(folder: Path) -> None:
    report = check(folder, decode=True)
    assert report.findings == []
    assert report.is_fit(strict=True)
    assert [(split.name, split.kind, split.image_root) for split in report.splits] == [
        ("train.json", "train", folder / "images"),
        ("val.json", "val", folder / "images"),
    ]
    counts = report.histogram(report.splits[0])
    assert [(c.name, c.annotations, c.images) for c in counts][:2] == [("car", 3, 3), ("car:left mirror", 3, 3)]


def first(content: dict[str, Any], **changes: Any) -> None:
    content["annotations"][0].update(changes)


def rle(size: list[int], counts: Any) -> dict[str, Any]:
    return {"size": size, "counts": counts}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda c: first(c, bbox=[50, 5, 20, 15], segmentation=[]), "box-outside"),
        (lambda c: first(c, bbox=[-3, 5, 20, 15], segmentation=[]), "box-outside"),
        (lambda c: first(c, bbox=[4, 100, 20, 15], segmentation=[]), "box-outside"),
        (lambda c: first(c, bbox=[4, 5, 20, 0], segmentation=[]), "empty-box"),
        (lambda c: first(c, bbox=[4, 5, -20, 10], segmentation=[]), "empty-box"),
        (lambda c: first(c, bbox=[4, 5, 20]), "malformed-box"),
        (lambda c: first(c, bbox="x"), "malformed-box"),
        (lambda c: first(c, bbox=[4, 5, 20, True]), "malformed-box"),
        (lambda c: first(c, bbox=[4, float("nan"), 20, 15]), "not-finite"),
        (lambda c: first(c, area=float("inf")), "not-finite"),
        (lambda c: first(c, segmentation=[[1, 2, 3, 4, float("nan"), 6]]), "not-finite"),
        (lambda c: first(c, bbox=[4, 5, 20, 10**400]), "not-finite"),
        (lambda c: first(c, segmentation=[[1, 2, 3, 4, 10**400, 6]]), "not-finite"),
        (lambda c: first(c, bbox=None, segmentation=None), "no-box-no-mask"),
        (lambda c: first(c, bbox=[30, 5, 20, 15]), "box-mask-differ"),
        (lambda c: first(c, segmentation=[[4, 5, 24]]), "malformed-mask"),
        (lambda c: first(c, segmentation="counts"), "malformed-mask"),
        (lambda c: first(c, segmentation=rle([40, 60], "not rle")), "malformed-mask"),
        (lambda c: first(c, segmentation=rle([40, 60], [7])), "malformed-mask"),
        (lambda c: first(c, segmentation=rle([60, 40], [1200, 1200])), "mask-size"),
        (lambda c: first(c, segmentation=rle([40, 60], [2400])), "empty-mask"),
        (lambda c: first(c, segmentation=[[4, 5, 24, 20]]), "empty-mask"),
        (lambda c: first(c, segmentation=rectangle(100, 100, 120, 120), bbox=None), "empty-mask"),
        (lambda c: first(c, segmentation=rectangle(4, 5, 5, 6), bbox=[4, 5, 1, 1]), "degenerate-mask"),
        (lambda c: first(c, segmentation=rle([40, 60], [165, 3, 2232]), bbox=[4, 5, 1, 3]), "degenerate-mask"),
        (lambda c: first(c, id=0), "annotation-id-zero"),
        (lambda c: first(c, id=2), "duplicate-annotation-id"),
        (lambda c: first(c, id=None), "broken-entry"),
        (lambda c: c["annotations"].append("x"), "broken-entry"),
        (lambda c: first(c, category_id=99), "unknown-category"),
        (lambda c: first(c, category_id=None), "unknown-category"),
        (lambda c: c["images"][0].update(pos_category_ids=[3, 99]), "unknown-category"),
        (lambda c: first(c, image_id=99), "annotation-without-image"),
        (lambda c: first(c, image_id=[1]), "annotation-without-image"),
        (lambda c: c["annotations"].append({**c["annotations"][0], "id": 99}), "duplicate-annotation"),
        (lambda c: c["images"].append(dict(c["images"][0], file_name="0002.png")), "duplicate-image-id"),
        (lambda c: c["images"].append({"id": 77, "width": 1, "height": 1}), "broken-entry"),
        (lambda c: c["images"].append({"id": 77, "file_name": "0001.png", "width": 60}), "broken-entry"),
        (lambda c: c["images"].append({"file_name": "0001.png"}), "broken-entry"),
        (lambda c: c["images"].append({"id": 7, "file_name": "a", "width": 10**400, "height": 1}), "broken-entry"),
        (lambda c: c["images"][0].update(pos_category_ids=5), "broken-entry"),
        (lambda c: c["images"].append(dict(c["images"][0], id=9, pos_category_ids=[])), "duplicate-file-name"),
        (lambda c: c["categories"].append({"id": 3, "name": "tree"}), "duplicate-category-id"),
        (lambda c: c["categories"].append({"id": 30, "name": "Car"}), "duplicate-category-name"),
        (lambda c: c["categories"].append({"id": 30}), "broken-entry"),
        (lambda c: c["categories"].append({"id": 30, "name": "tree"}), "class-without-annotations"),
    ],
)
def test_faults_of_a_file(folder: Path, change: Edit, kind: str) -> None:
    edit(folder, change)
    report = check(folder)
    found = [finding for finding in report.findings if finding.kind == kind]
    assert [(finding.count, finding.file.split(",")[0]) for finding in found] == [(1, "train.json")]
    assert found[0].examples
    assert report.is_fit() == (KINDS[kind][0] == "warning" and not report.errors)
    assert not report.is_fit(strict=True)


def test_a_box_may_reach_out_by_a_pixel_and_be_counted_without_the_last(folder: Path) -> None:
    edit(folder, lambda c: first(c, bbox=[40, 5, 20.9, 15], segmentation=rectangle(40, 5, 60, 20)))
    edit(folder, lambda c: c["annotations"][1].update(bbox=[4, 5, 19, 14]))
    assert check(folder).findings == []


def test_crowd_masks_are_not_judged(folder: Path) -> None:
    edit(folder, lambda c: first(c, iscrowd=1, segmentation=rle([40, 60], [2400])))
    assert check(folder).findings == []


def test_an_image_without_annotations(folder: Path) -> None:
    edit(folder, lambda c: c["annotations"].clear())
    assert kinds(check(folder)) == {"image-without-annotations": 3}


def test_image_labels_count_as_annotations_and_images_may_repeat(folder: Path) -> None:
    def relabel(content: dict[str, Any]) -> None:
        content["annotations"].clear()
        for image in content["images"]:
            image.update(pos_category_ids=[3], file_name="0001.png")

    edit(folder, relabel)
    (folder / "val.json").unlink()
    report = check(folder)
    assert kinds(report) == {"class-without-annotations": 3}
    assert report.histogram(report.splits[0])[0].images == 3


def test_missing_images(folder: Path) -> None:
    (folder / "images" / "0002.png").rename(folder / "images" / "0002.PNG")
    (folder / "images" / "0003.png").unlink()
    report = check(folder)
    assert kinds(report) == {"missing-image": 2}
    assert "(there is 0002.PNG)" in report.findings[0].examples[0]


def test_no_folder_of_images(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "images")
    report = check(folder)
    assert kinds(report) == {"images-not-found": 2}
    assert report.is_fit()
    with pytest.raises(DataError, match="is not a folder"):
        check(folder, tmp_path / "nowhere")


def test_images_given_by_hand(folder: Path, tmp_path: Path) -> None:
    (folder / "images").rename(tmp_path / "elsewhere")
    assert check(folder, tmp_path / "elsewhere").findings == []
    assert kinds(check(folder, folder)) == {"missing-image": 6}


def test_unreadable_images_and_other_sizes(folder: Path) -> None:
    (folder / "images" / "0001.png").write_bytes(b"no image")
    Image.fromarray(gradient(60, 40)).save(folder / "images" / "0002.png")
    assert kinds(check(folder)) == {"unreadable-image": 1, "image-size": 1}


def test_a_turned_image_fits_both_ways(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (("0001", (60, 40)), ("0002", (40, 60))):
        Image.fromarray(gradient(*size)).save(folder / "images" / f"{name}.jpg", exif=exif)
    edit(folder, lambda c: [image.update(file_name=f"000{image['id']}.jpg") for image in c["images"][:2]])
    assert check(folder).findings == []


def test_a_cut_off_image_is_found_by_decoding(folder: Path) -> None:
    path = folder / "images" / "cut.jpg"
    Image.effect_noise((60, 40), 90).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    edit(folder, lambda c: c["images"][0].update(file_name="cut.jpg"))
    assert check(folder).findings == []
    assert kinds(check(folder, decode=True)) == {"unreadable-image": 1}


def test_the_same_file_in_two_splits(folder: Path) -> None:
    edit(folder, lambda c: c["images"][0].update(file_name="0002.png"), "val.json")
    report = check(folder)
    assert [(f.kind, f.file, f.examples) for f in report.findings] == [
        ("leak-file", "train.json, val.json", ["0002.png"])
    ]


def test_the_same_content_in_two_splits(folder: Path) -> None:
    shutil.copy(folder / "images" / "0003.png", folder / "images" / "val2.png")
    report = check(folder)
    assert kinds(report) == {"leak-content": 1}
    assert "0003.png = " in report.findings[0].examples[0]


def test_crops_of_one_image_in_two_splits(folder: Path) -> None:
    for name in ("train.json", "val.json"):
        edit(folder, lambda c: c["images"][0].update(source_image="big.jpg"), name)
    assert kinds(check(folder)) == {"leak-source": 1}


def test_files_of_one_kind_and_unions_do_not_leak(folder: Path) -> None:
    for name in ("train_one.json", "trainval.json"):
        shutil.copy(folder / "train.json", folder / name)
    assert check(folder).findings == []


def test_the_same_name_in_two_folders_is_no_leak(folder: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        target = tmp_path / "two" / split
        target.mkdir(parents=True)
        shutil.copy(folder / "train.json", tmp_path / "two" / f"{split}.json")
        for number in (1, 2, 3):
            Image.fromarray(gradient(*SIZE, number * (100 if split == "val" else 1))).save(target / f"000{number}.png")
    report = check(tmp_path / "two")
    assert report.findings == []
    assert [split.image_root for split in report.splits] == [tmp_path / "two" / "train", tmp_path / "two" / "val"]


def test_category_ids_of_two_files(folder: Path) -> None:
    def swap(content: dict[str, Any]) -> None:
        one, other = content["categories"][0], content["categories"][3]
        one["name"], other["name"] = other["name"], one["name"]

    edit(folder, swap, "val.json")
    assert kinds(check(folder)) == {"categories-differ": 2}
    edit(folder, lambda c: c["categories"][1].update(name="car:roof"), "val.json")
    report = check(folder)
    assert kinds(report) == {"category-ids-clash": 3}
    assert report.is_fit()


def test_annotations_that_are_no_list(folder: Path) -> None:
    edit(folder, lambda c: c.update(annotations={"1": {}}))
    assert kinds(check(folder)) == {"broken-entry": 1, "image-without-annotations": 3}


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_broken_json(folder: Path, text: str) -> None:
    (folder / "val.json").write_text(text)
    report = check(folder)
    assert kinds(report) == {"broken-file": 1}
    assert len(report.splits) == 1


def test_other_json_files_of_a_folder_are_skipped_but_not_those_named(folder: Path) -> None:
    for name, content in (("recipe.json", {"a": 1}), ("names.json", [1, 2])):
        (folder / name).write_text(json.dumps(content))
    report = check(folder)
    assert report.findings == []
    assert [path.name for path in report.skipped] == ["names.json", "recipe.json"]
    assert kinds(check(folder / "recipe.json")) == {"broken-file": 1}
    assert kinds(check(folder / "names.json")) == {"broken-file": 1}


def test_wrong_paths(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no JSON files"):
        check(folder / "images")
    with pytest.raises(DataError, match="nothing to check"):
        check([])
    (folder / "annotations").mkdir()
    shutil.copy(folder / "train.json", folder / "annotations" / "train.json")
    with pytest.raises(DataError, match=r"two files are called train.json"):
        check(folder)


def test_many_of_a_kind_are_counted_and_few_shown(folder: Path) -> None:
    edit(folder, lambda c: [a.update(bbox=[50, 5, 50, 15], segmentation=[]) for a in c["annotations"]])
    (finding,) = [finding for finding in check(folder).findings if finding.kind == "box-outside"]
    assert (finding.count, len(finding.examples)) == (12, EXAMPLES)
    assert str(finding).endswith(", ...")


def test_plain_data(folder: Path) -> None:
    edit(folder, lambda c: first(c, category_id=99))
    data = json.loads(json.dumps(check(folder).to_dict()))
    assert (data["errors"], data["warnings"]) == (1, 0)
    assert data["findings"][0]["kind"] == "unknown-category"
    assert data["files"][0]["classes"][0] == {"name": "car:left mirror", "annotations": 3, "images": 3}


def test_progress_is_reported(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    check(folder, progress=lambda *step: seen.append(step))
    assert ("annotations of train.json", 3, 3) in seen
    assert ("images of val.json", 3, 3) in seen


def test_what_is_sound_can_be_trained_on(folder: Path) -> None:
    """The check and the loader agree on a sound file and on one that the loader refuses."""
    source = Source(name="s", annotations=folder / "train.json", images=folder / "images")
    assert len(load_source(source)) == 3
    edit(folder, lambda c: first(c, segmentation=rle([60, 40], [1200, 1200])))
    with pytest.raises(DataError, match="malformed segmentations"):
        load_source(source)
    assert not check(folder).is_fit()


@pytest.mark.parametrize("name", ["car_parts", "faces", "coco128"])
def test_the_shared_sets_are_sound(shared: Path, name: str) -> None:
    report = check(shared / "data" / name)
    assert report.errors == []
    assert len(report.splits) == 2

"""Jobs in this process: tables, failures, going on, and the same files however often and in whatever order."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

pytest.importorskip("pyarrow", reason='pyarrow is missing: pip install "vlpart[ray]"')
import pyarrow
from pyarrow import parquet

from tests.bulk.conftest import hashes
from tests.bulk.test_sources import shard
from tests.fakes import VOCABULARY, FakePredictor, fake_result
from vlpart.bulk.job import _PLAN
from vlpart.bulk.places import Place
from vlpart.bulk.run import Summary, _pool, bulk
from vlpart.bulk.tables import MOST_IN_BLOCK, read_results
from vlpart.bulk.worker import MOST_STARTS, BlockWorker, Done
from vlpart.errors import DataError, OutputError, VlpartError


def job(source: str | Path, dest: str | Path, **options: Any) -> Summary:
    usual = {"vocabulary": VOCABULARY, "iou": None, "keep_nested": True, "block_size": 3, "in_process": True}
    return bulk(source, dest, **{**usual, **options})


def table(dest: Path, name: str) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.concat(pandas.read_parquet(path) for path in sorted((dest / name).iterdir())).reset_index(drop=True)


def test_every_image_is_in_one_table(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    summary = job(photos, tmp_path / "out", batch_size=2)
    assert (summary.blocks, summary.finished, summary.images, summary.failed, summary.detections) == (3, 3, 7, 1, 14)
    images, detections, failed = (table(tmp_path / "out", name) for name in ("images", "detections", "failed"))
    names = [f"{photos.as_posix()}/{name}" for name in ("0.png", "1.png", "2.png", "3.png", "4.png")]
    assert images.path.tolist() == [*names, f"{photos.as_posix()}/more/5.png", f"{photos.as_posix()}/more/6.png"]
    assert images.height.tolist() == [20, 21, 22, 23, 24, 25, 26]
    assert set(images.width) == {30}
    assert set(images.detections) == {2}
    first, second, third = (block * MOST_IN_BLOCK for block in range(3))
    assert images.image_id.tolist() == [first, first + 1, first + 2, second, second + 2, third, third + 1]
    assert failed.image_id.tolist() == [second + 1]
    assert failed.path.tolist() == [f"{photos.as_posix()}/3b.jpg"]
    assert "3b.jpg is not an image" in failed.reason[0]
    assert detections.groupby("image_id").size().tolist() == [2] * 7
    assert {each["vocabulary"] for each in predictor.calls} == {VOCABULARY}


def test_a_detection_is_a_row_that_says_which_object_it_is_a_part_of(
    predictor: FakePredictor, photos: Path, tmp_path: Path
) -> None:
    job(photos, tmp_path / "out")
    car, wheel = table(tmp_path / "out", "detections").iloc[:2].to_dict("records")
    expected = fake_result(np.zeros((20, 30, 3), np.uint8))
    assert (car["name"], car["object"], car["owner"]) == ("car", "car", -1)
    assert isinstance(car["part"], float | None)  # what pandas has for nothing
    assert (wheel["name"], wheel["object"], wheel["part"], wheel["owner"]) == ("car:wheel", "car", "wheel", 0)
    assert [car["detection"], wheel["detection"]] == [0, 1]
    assert [wheel[side] for side in ("x0", "y0", "x1", "y1")] == [4, 4, 9, 8]
    assert [car["score"], wheel["score"]] == pytest.approx([0.9, 0.5])
    assert [car["category_id"], wheel["category_id"]] == [1, 2]
    for i, row in enumerate((car, wheel)):
        mask = coco_mask.decode({"size": [row["height"], row["width"]], "counts": row["mask"]})
        assert np.array_equal(mask, expected.masks[i])
        assert row["area"] == mask.sum()


def test_duckdb_reads_the_tables_as_they_are(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    job(photos, tmp_path / "out")
    out = (tmp_path / "out").as_posix()
    wheels = duckdb.sql(
        f"""
        SELECT part.path, object.name, part.score FROM '{out}/detections/*.parquet' part
        JOIN '{out}/detections/*.parquet' object
          ON part.image_id = object.image_id AND part.owner = object.detection
        WHERE part.part = 'wheel' ORDER BY part.image_id
        """
    ).fetchall()
    assert [(Path(path).name, name) for path, name, _ in wheels] == [(f"{i}.png", "car") for i in range(7)]
    assert duckdb.sql(f"SELECT count(*) FROM '{out}/failed/*.parquet'").fetchall() == [(1,)]
    assert duckdb.sql(f"SELECT sum(detections) FROM '{out}/images/*.parquet'").fetchall() == [(14,)]


def test_results_are_read_back(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out")
    results = list(read_results(str(tmp_path / "out")))
    assert [Path(str(result.path)).name for result in results] == [f"{i}.png" for i in range(7)]
    for i, result in enumerate(results):
        expected = fake_result(np.zeros((20 + i, 30, 3), np.uint8), result.path)
        assert result.to_dict() == {**expected.to_dict(), "grouping": "given"}
    with pytest.raises(DataError, match="holds nothing that vlpart bulk wrote"):
        next(read_results(str(photos)))


def test_what_is_doubtful_is_left_out_as_in_predict(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out", iou=0.0, score_threshold=0.25, max_detections=9)
    assert set(table(tmp_path / "out", "detections").name) == {"car"}
    assert all((call["score_threshold"], call["max_detections"]) == (0.25, 9) for call in predictor.calls)


def test_images_without_detections_are_in_the_table_of_images(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "detect", lambda images, **_: [fake_result(i.pixels)[[]] for i in images])
    summary = job(photos, tmp_path / "out")
    assert (summary.images, summary.detections) == (7, 0)
    assert len(table(tmp_path / "out", "detections")) == 0
    assert [len(result) for result in read_results(str(tmp_path / "out"))] == [0] * 7


def test_shards_are_blocks_of_their_own(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    contents = {f"{i}.png": (photos / f"{i}.png").read_bytes() for i in range(5)}
    (photos / "a.tar").write_bytes(shard({**contents, "0.json": b"{}", "broken.png": b"no"}))
    (photos / "b.tar").write_bytes(shard(contents)[:1000])
    summary = job(photos, tmp_path / "out")
    assert (summary.blocks, summary.images, summary.failed) == (5, 13, 3)
    paths = table(tmp_path / "out", "images").path.tolist()
    folder = photos.as_posix()
    expected = [*(f"{folder}/a.tar#{name}" for name in contents), f"{folder}/b.tar#0.png"]
    assert [path for path in paths if "#" in path] == expected
    reasons = dict(zip(*(table(tmp_path / "out", "failed")[name] for name in ("path", "reason")), strict=True))
    assert "damaged" in reasons[f"{photos.as_posix()}/b.tar"]
    assert f"{photos.as_posix()}/a.tar#broken.png" in reasons


def test_an_interrupted_job_goes_on_with_what_is_missing(
    predictor: FakePredictor, photos: Path, tmp_path: Path
) -> None:
    job(photos, tmp_path / "whole")

    def stop(done: Done) -> None:
        if done.block == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(photos, tmp_path / "out", on_block=stop)
    (photos / "another.png").write_bytes(b"came later, and is in no block")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    assert len(kept) == 2
    (tmp_path / "out" / "detections" / "00000002.parquet").write_bytes(b"half a file")  # lost before the block was done
    steps: list[tuple[str, int, int | None]] = []
    blocks: list[int] = []
    summary = job(
        photos, tmp_path / "out", on_block=lambda done: blocks.append(done.block), progress=lambda *s: steps.append(s)
    )
    assert blocks == [2]
    assert (summary.existing, summary.finished, summary.images) == (2, 3, 2)
    assert steps == [("blocks", 2, 3), ("blocks", 3, 3)]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    own = sorted(path.name for path in (tmp_path / "out" / "_vlpart").iterdir())
    assert own == [".lock", "plan", "plan.json", "settings.json"]
    before = len(predictor.calls)
    assert job(photos, tmp_path / "out").existing == 3
    assert len(predictor.calls) == before


def test_a_listing_that_was_interrupted_is_made_again(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlpart.bulk.job._IN_A_FILE", 2)
    job(photos, tmp_path / "whole")

    def stop(label: str, done: int, total: int | None) -> None:
        if label == "listing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(photos, tmp_path / "out", progress=stop)
    assert job(photos, tmp_path / "out").finished == 3
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocabulary": "car: door"}, "vocabulary"),
        ({"score_threshold": 0.9}, "score threshold 0.43, not 0.9"),
        ({"block_size": 4}, "block size 3, not 4"),
        ({"short_side": 99}, "short side None, not 99"),
        ({"iou": 0.5}, "iou None, not 0.5"),
    ],
)
def test_other_settings_need_another_folder(
    predictor: FakePredictor, photos: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    job(photos, tmp_path / "out")
    before = hashes(tmp_path / "out")
    with pytest.raises(OutputError) as refused:
        job(photos, tmp_path / "out", **options)
    assert said in str(refused.value)
    assert "name another folder" in str(refused.value)
    assert hashes(tmp_path / "out") == before


def test_another_model_or_source_needs_another_folder(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out")
    with pytest.raises(OutputError, match="source"):
        job(photos / "more", tmp_path / "out")
    (tmp_path / "weights.bin").write_bytes(b"other weights")
    with pytest.raises(OutputError, match="model sha256"):
        job(photos, tmp_path / "out")
    (tmp_path / "own" / "images").mkdir(parents=True)
    with pytest.raises(OutputError, match="has a folder images that is not of this command"):
        job(photos, tmp_path / "own")


def test_a_source_without_images_leaves_nothing(predictor: FakePredictor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, said in (("empty", "no images and no shards"), ("nothing", "there is no")):
        with pytest.raises(DataError, match=said):
            job(tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_block_of_which_nothing_can_be_read_ends_the_run(predictor: FakePredictor, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"gone/{i}.jpg\n" for i in range(25)))
    with pytest.raises(VlpartError, match=r"none of the 25 images of block 0 .* because: .*24\.jpg"):
        job(tmp_path / "list.txt", tmp_path / "out", block_size=100)
    assert not (tmp_path / "out" / "images").exists()
    assert list((tmp_path / "out" / "_vlpart" / "tmp").iterdir()) == []
    assert job(tmp_path / "list.txt", tmp_path / "out", block_size=100, keep_going=True).failed == 25


def test_failed_images_are_tried_again_when_asked(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out")
    shutil.copy(photos / "0.png", photos / "3b.jpg")
    assert job(photos, tmp_path / "out").finished == 3
    assert len(table(tmp_path / "out", "failed")) == 1
    summary = job(photos, tmp_path / "out", retry_failed=True)
    assert (summary.existing, summary.images, summary.failed) == (2, 3, 0)
    assert len(table(tmp_path / "out", "failed")) == 0
    assert len(table(tmp_path / "out", "images")) == 8


def test_a_block_that_ends_its_process_again_and_again_is_named(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As if the process were gone."""

    def die(images: object, **options: object) -> None:
        raise Killed

    monkeypatch.setattr("vlpart.bulk.job.forget_starts", lambda dest: None)  # all in one run
    monkeypatch.setattr(predictor, "detect", die)
    for _ in range(MOST_STARTS):
        with pytest.raises(Killed):
            job(photos, tmp_path / "out")
    with pytest.raises(VlpartError, match=f"block 0 of .* ended {MOST_STARTS} processes, for want of memory perhaps"):
        job(photos, tmp_path / "out")


def test_a_file_system_that_fails_for_a_while_is_asked_again(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlpart.bulk import worker

    job(photos, tmp_path / "whole")
    read, faults = worker.items_of, [OSError("connection reset"), OSError("connection reset")]

    def flaky(*arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return read(*arguments)

    monkeypatch.setattr(worker, "items_of", flaky)
    assert job(photos, tmp_path / "out").finished == 3
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    faults += [OSError("connection reset")] * 3
    with pytest.raises(VlpartError, match="cannot do block 0 of .*: connection reset"):
        job(photos, tmp_path / "other")


def test_images_of_an_object_store_are_read_through_it(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    from vlpart.bulk.places import open_place

    base = open_place("memory://photos")
    for path in sorted(photos.rglob("*.*")):
        (base / path.relative_to(photos).as_posix()).write(path.read_bytes(), base / ".tmp")
    summary = job("memory://photos", "memory://found", batch_size=3, readers=3)
    assert (summary.images, summary.failed) == (7, 1)
    paths = [result.path for result in read_results("memory://found")]
    names = [*(f"{i}.png" for i in range(5)), "more/5.png", "more/6.png"]
    assert paths == [f"memory://photos/{name}" for name in names]
    (tmp_path / "list.txt").write_text("memory://photos/0.png\nmemory://photos/gone.png\nodd://x/y.png\n")
    summary = job(tmp_path / "list.txt", tmp_path / "out")
    assert (summary.images, summary.failed) == (1, 2)
    reasons = table(tmp_path / "out", "failed").reason.tolist()
    assert reasons[0].startswith("cannot read memory://photos/gone.png: ")
    assert "Protocol not known: odd" in reasons[1]


def test_few_images_are_in_memory_at_a_time(predictor: FakePredictor, tmp_path: Path) -> None:
    photo = Path(tmp_path / "photo.png")
    from PIL import Image

    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(photo)
    (tmp_path / "list.txt").write_text("photo.png\n" * 60)
    assert job(tmp_path / "list.txt", tmp_path / "out", block_size=100, batch_size=4).images == 60
    assert predictor.most_alive <= 8


@pytest.mark.parametrize(
    ("machines", "threads", "workers", "device", "expected"),
    [
        ([{"CPU": 8.0}, {"CPU": 3.0}], 2, None, None, (5, 0)),
        ([{"CPU": 8.0}], 1, 3, None, (3, 0)),
        ([{"CPU": 16.0, "GPU": 2.0}], 1, None, None, (2, 1)),
        ([{"CPU": 16.0, "GPU": 2.0}], 1, 8, "cuda", (8, 0.25)),
        ([{"CPU": 16.0, "GPU": 2.0}], 1, 5, None, (5, pytest.approx(1 / 3))),  # two cards have room for six thirds
        ([{"CPU": 16.0, "GPU": 2.0}], 4, None, "cpu", (4, 0)),
        ([{"CPU": 1.0}, {}], 2, None, None, "choose fewer --threads"),
        ([{"CPU": 8.0}], 1, None, "cuda", "leave out --device"),
    ],
)
def test_processes_and_their_share_of_a_gpu_follow_from_the_cluster(
    machines: list[dict[str, float]], threads: int, workers: int | None, device: str | None, expected: Any
) -> None:
    nodes = [{"Alive": True, "Resources": each} for each in machines]
    ray = SimpleNamespace(nodes=lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}])
    request: Any = SimpleNamespace(threads=threads, device=device)
    if isinstance(expected, str):
        with pytest.raises(VlpartError, match=expected):
            _pool(ray, request, workers)
    else:
        assert _pool(ray, request, workers) == expected


def test_a_machine_with_another_weight_file_does_nothing(photos: Path, tmp_path: Path, tiny_weights: Path) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(tiny_weights, other)
    request: Any = SimpleNamespace(
        source=str(photos), dest=str(tmp_path / "out"), model=str(other), weights=None, sha256="0" * 64
    )
    done = BlockWorker(request)({"block": np.array([3])})
    assert done["block"].tolist() == [3]
    assert "other.safetensors is not the same file on all machines" in done["problem"][0]


@pytest.mark.parametrize("name", ["block_size", "batch_size", "threads", "readers", "workers"])
def test_numbers_are_looked_at_first(predictor: FakePredictor, photos: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        job(photos, tmp_path / "out", **{name: 0})
    assert not (tmp_path / "out").exists()


# ---- damaged and hostile states of a job


def damaged(folder: Path, photos: Path) -> str:
    """What is said about a job whose files were spoiled; it must be one line."""
    with pytest.raises(VlpartError) as refused:
        job(photos, folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


ANYTHING = (
    *(b"", b"[]", b"5", b"{}", b"\xff", b"[" * 200_000, b'{"blocks": 1e400}', b'{"blocks": true}'),
    *(b'{"blocks": 9999999999, "images": 7, "shards": 0}', b'{"blocks": -1, "images": 7, "shards": 0}'),
    *(b'{"blocks": 0, "images": 7, "shards": 0}', b'{"blocks": 3, "images": "7", "shards": 0}'),
)


def test_state_files_of_anything(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out")
    (tmp_path / "out" / "images" / "00000001.parquet").unlink()
    for name in ("plan.json", "settings.json"):
        state = tmp_path / "out" / "_vlpart" / name
        good = state.read_bytes()
        for content in ANYTHING:
            state.write_bytes(content)
            assert damaged(tmp_path / "out", photos), content
            if name == "settings.json":
                with pytest.raises(VlpartError):
                    list(read_results(str(tmp_path / "out")))
        state.write_bytes(good)
    (tmp_path / "out" / "_vlpart" / "settings.json").write_bytes(b"null")
    assert "is not of this command" in damaged(tmp_path / "out", photos)
    (tmp_path / "out" / "_vlpart" / "settings.json").write_bytes(good)
    (tmp_path / "out" / "_vlpart" / "plan.json").write_bytes(b"null")  # as if it was never listed
    assert job(photos, tmp_path / "out").finished == 3


def test_state_files_that_are_too_large(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(photos, tmp_path / "out")
    monkeypatch.setattr("vlpart.bulk.places._MAX_JSON", 10)
    assert "more than the 10 bytes" in damaged(tmp_path / "out", photos)


def test_plans_of_anything(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(photos, tmp_path / "out")
    plan = tmp_path / "out" / "_vlpart" / "plan" / "00000000.parquet"
    good = plan.read_bytes()
    (tmp_path / "out" / "images" / "00000000.parquet").unlink()
    empty = pyarrow.table({"path": pyarrow.array([None], pyarrow.binary()), "shard": [False]}, schema=_PLAN)
    for content in (empty, empty.slice(0, 0), pyarrow.table({"a": [1]})):
        parquet.write_table(content, plan)
        damaged(tmp_path / "out", photos)
    plan.write_bytes(good[:-20])
    damaged(tmp_path / "out", photos)
    plan.write_bytes(good)
    monkeypatch.setattr("vlpart.bulk.job.MOST_IN_BLOCK", 2)
    assert "is damaged" in damaged(tmp_path / "out", photos)


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
def test_pipes_are_no_states(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out")
    (tmp_path / "out" / "images" / "00000000.parquet").unlink()
    for name in ("failed/00000001", "_vlpart/plan/00000000", "_vlpart/plan", "_vlpart/settings"):
        path = tmp_path / "out" / (f"{name}.json" if name.endswith(("plan", "settings")) else f"{name}.parquet")
        good = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert "pipe" in damaged(tmp_path / "out", photos)
        path.unlink()
        path.write_bytes(good)


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
def test_pipes_are_no_shards_and_no_lists(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "a.tar")
    summary = job(photos, tmp_path / "out")
    assert (summary.images, summary.failed) == (7, 2)
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(DataError, match="there is no|pipe"):
        job(tmp_path / "list.txt", tmp_path / "other")


def test_results_that_do_not_fit_together(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    job(photos, tmp_path / "out")
    images = tmp_path / "out" / "images" / "00000000.parquet"
    good = parquet.read_table(images)
    for column, value in (("detections", 10**6), ("detections", -1), ("detections", None), ("height", None)):
        place = good.schema.get_field_index(column)
        values = pyarrow.array([value] * len(good), good.schema.field(column).type)
        parquet.write_table(good.set_column(place, good.schema.field(column), values), images)
        with pytest.raises(DataError, match=r"00000000\.parquet"):
            list(read_results(str(tmp_path / "out")))
    parquet.write_table(pyarrow.table({"a": [1]}), images)
    with pytest.raises(DataError, match="its columns are not those of images"):
        list(read_results(str(tmp_path / "out")))


def test_one_run_at_a_time(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    def again(done: Done) -> None:
        with pytest.raises(OutputError, match="another run works in"):
            job(photos, tmp_path / "out")

    assert job(photos, tmp_path / "out", on_block=again).finished == 3
    assert job(photos, tmp_path / "out").existing == 3


def test_a_file_is_no_folder_for_results(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("mine")
    with pytest.raises(OutputError, match="FILE is a file: name a folder for the results"):
        job(photos, tmp_path / "FILE")
    assert (tmp_path / "FILE").read_text() == "mine"


def test_a_run_that_does_not_begin_leaves_nothing(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        job(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_failed_before_is_told(predictor: FakePredictor, photos: Path, tmp_path: Path) -> None:
    assert job(photos, tmp_path / "out").failed == 1
    summary = job(photos, tmp_path / "out")
    assert (summary.images, summary.failed, summary.failed_before) == (0, 0, 1)
    summary = job(photos, tmp_path / "out", retry_failed=True)
    assert (summary.failed, summary.failed_before) == (1, 0)


def test_a_folder_that_cannot_be_listed_fails_alone(
    predictor: FakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Place.names

    def names(self: Place) -> list[tuple[str, bool]]:
        if self.path.endswith("/more"):
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Place, "names", names)
    summary = job(photos, tmp_path / "out")
    assert (summary.images, summary.failed) == (5, 2)
    assert f"{photos.as_posix()}/more" in table(tmp_path / "out", "failed").path.tolist()

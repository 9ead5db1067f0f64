"""Downloads of the published parsed parts, from a server on this machine."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.conftest import run as run
from tests.web_server import Script, Server
from tests.web_server import server as server
from vlpart.errors import DataError, DownloadError, OutputError
from vlpart.recipes import get_recipe, list_recipes, parsed
from vlpart.recipes.datasets import DATASETS
from vlpart.recipes.parsed import PARSED, annotations_command, download_parsed, get_parsed
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind


def content(dataset: str, parts: int = 3) -> dict[str, Any]:
    """Parsed annotations of one image, as the parser writes them."""
    entries = Vocabulary.load(DATASETS[dataset].vocabulary).entries
    return {
        "images": [{"id": 7, "file_name": "n01/a.JPEG", "width": 60, "height": 40}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": entries[i].id, "bbox": [1, 2, 10 + i, 10]} for i in range(parts)
        ],
        "categories": [{"id": entry.id, "name": entry.name} for entry in entries],
    }


def archive(members: dict[str, object]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, value in members.items():
            packed.writestr(name, value if isinstance(value, bytes) else json.dumps(value))
    return buffer.getvalue()


def file_of(dataset: str) -> str:
    return Path(DATASETS[dataset].annotations).name


def golden(name: str, **replaced: object) -> dict[str, object]:
    """Members of a whole archive."""
    return {file_of(dataset): content(dataset) for dataset in PARSED[name].datasets} | replaced


def files_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_every_parsed_source_is_offered_and_every_offer_is_read() -> None:
    offered = [dataset for each in PARSED.values() for dataset in each.datasets]
    of_kind = [name for name, found in DATASETS.items() if found.kind is AnnotationKind.PARSED_PARTS]
    assert sorted(offered) == sorted(of_kind)
    assert {annotations_command(name, Path("d")).split()[-3] for name in of_kind} == set(PARSED)


def test_addresses_are_the_published_ones(shared: Path) -> None:
    rows = json.loads((shared / "facts" / "published_results.json").read_text())
    facts = {row["name"]: row["checkpoint"] for row in rows if row.get("kind") == "parsed annotations"}
    assert {name: each.url for name, each in PARSED.items()} == facts


def test_a_file_gets_its_place(server: Server, tmp_path: Path) -> None:
    data = json.dumps(content("partimagenet_parsed")).encode()
    server.script = Script(data=data)
    (arrived,) = download_parsed("partimagenet_parsed.json", tmp_path, url=server.url)
    assert arrived.path == tmp_path / "partimagenet" / "partimagenet_parsed.json"
    assert (arrived.images, arrived.parts) == (1, 3)
    assert arrived.path.read_bytes() == data
    assert files_below(tmp_path) == ["partimagenet/partimagenet_parsed.json"]
    with pytest.raises(OutputError, match="is there already: keep it, or replace it with --overwrite"):
        download_parsed("partimagenet_parsed", tmp_path, url=server.url)
    assert len(download_parsed("partimagenet_parsed", tmp_path, url=server.url, overwrite=True)) == 1
    assert len(server.script.asked) == 1  # the second time from the cache


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    data = json.dumps(content("imagenet_voc_parsed")).encode()
    server.script = Script(data=data, cuts=[500, 0, 0, 0, 0])
    with pytest.raises(DownloadError, match="500 bytes are kept"):
        download_parsed("imagenet_voc_image_parsed", tmp_path, url=server.url)
    assert files_below(tmp_path) == []
    server.script = Script(data=data)
    (arrived,) = download_parsed("imagenet_voc_image_parsed", tmp_path, url=server.url)
    assert arrived.path.read_bytes() == data
    assert server.script.asked == ["bytes=500-"]


@pytest.mark.parametrize("folder", ["", "golden_image_parsed/", "../../outside/", "/etc/", "a\\..\\..\\"])
def test_archives_are_unpacked_into_their_place_only(server: Server, tmp_path: Path, folder: str) -> None:
    members = {f"{folder}{name}": value for name, value in golden("golden_image_parsed").items()}
    members |= {"../evil.txt": b"x", "../evil.json": b"x", "__MACOSX/._x.json": b"x", "empty/": b""}
    server.script = Script(data=archive(members))
    root = tmp_path / "deep" / "datasets"
    arrived = download_parsed("golden_image_parsed", root, url=server.url)
    assert [each.path.name for each in arrived] == list(golden("golden_image_parsed"))
    assert files_below(tmp_path) == sorted(f"deep/datasets/imagenet/{each.path.name}" for each in arrived)


def test_names_without_the_detector_and_the_additional_animals(server: Server, tmp_path: Path) -> None:
    members = {name.replace("_swinbase", ""): v for name, v in golden("golden_image_parsed_swinbase").items()}
    members[file_of("imagenet_golden_addition_parsed")] = content("imagenet_golden_addition_parsed")
    server.script = Script(data=archive(members))
    arrived = download_parsed("golden_image_parsed_swinbase", tmp_path, url=server.url)
    assert [each.path.name for each in arrived] == [
        *(f"imagenet_golden_{kind}_parsed_swinbase.json" for kind in ("pascal", "partimagenet", "paco")),
        "imagenet_golden_addition_parsed.json",
    ]
    own = arrived[-1].path
    own.write_text("mine")
    for each in arrived[:-1]:
        each.path.unlink()
    assert len(download_parsed("golden_image_parsed_swinbase", tmp_path, url=server.url)) == 3
    assert own.read_text() == "mine"


def damaged(data: bytes) -> bytes:
    """The archive with a byte of its first member changed."""
    middle = data.index(b"PK\x01\x02") // 4
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("partimagenet_parsed", b"{", "partimagenet_parsed.json"),
        ("partimagenet_parsed", json.dumps(content("partimagenet_parsed", parts=0)).encode(), "it lists no part"),
        ("partimagenet_parsed", json.dumps(content("imagenet_golden_paco_parsed")).encode(), "none of the list"),
        ("golden_image_parsed", b"PK not a zip", "damaged zip archive"),
        ("golden_image_parsed", archive({"readme.json": {}}), "has no imagenet_golden_pascal_parsed.json; it holds"),
        ("golden_image_parsed", damaged(archive(golden("golden_image_parsed"))), "damaged zip archive"),
        (
            "golden_image_parsed",
            archive(golden("golden_image_parsed") | {f"b/{file_of('imagenet_golden_paco_parsed')}": {}}),
            "holds two files",
        ),
    ],
)
def test_what_is_wrong_gets_no_place(server: Server, tmp_path: Path, name: str, data: bytes, message: str) -> None:
    server.script = Script(data=data)
    with pytest.raises(DataError, match=message) as caught:
        download_parsed(name, tmp_path, url=server.url)
    assert "delete it to fetch it again" in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert files_below(tmp_path) == []


def test_what_unpacks_to_too_much_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed, "MAX_JSON_BYTES", 100_000)
    first = file_of("imagenet_golden_pascal_parsed")
    server.script = Script(data=archive(golden("golden_image_parsed") | {first: b" " * 50_000_000}))
    with pytest.raises(DataError, match="holds a file of more than 100,000 bytes"):
        download_parsed("golden_image_parsed", tmp_path, url=server.url)
    assert files_below(tmp_path) == []


def test_unknown_names() -> None:
    with pytest.raises(DataError, match="did you mean golden_image_parsed"):
        get_parsed("golden_image_parsd")


def test_the_command(run: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = Script(data=json.dumps(content("partimagenet_parsed")).encode())
    monkeypatch.setitem(
        PARSED,
        "partimagenet_parsed",
        parsed.ParsedFile(name="partimagenet_parsed", url=server.url, datasets=("partimagenet_parsed",)),
    )
    done = run("data", "download", "parsed", "partimagenet_parsed", "--data", tmp_path)
    path = tmp_path / "partimagenet" / "partimagenet_parsed.json"
    assert (done.code, done.out) == (0, f"{path}: 1 images, 3 parts\n")
    again = run("data", "download", "parsed", "partimagenet_parsed", "--data", tmp_path)
    assert (again.code, "--overwrite" in again.err) == (1, True)
    wrong = run("data", "download", "parsed", "partimagenet_parsed", "imagenet", "--data", tmp_path, "--overwrite")
    assert (wrong.code, "no parsed annotations 'imagenet'" in wrong.err) == (1, True)
    listed = run("data", "download", "parsed")
    assert len(listed.out.splitlines()) == 5


@pytest.mark.parametrize("name", [name for name in list_recipes() if name.endswith("parsed")])
def test_recipes_name_the_download(name: str) -> None:
    for source in get_recipe(name, Path("d")).sources:
        if source.kind is AnnotationKind.PARSED_PARTS:
            assert source.annotations_from.startswith("vlpart data download parsed ")
            assert source.images_from.startswith("vlpart data prepare ")

"""Models as folders."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlpart
from tests.conftest import REPOSITORY
from tests.export.hub import Repository, serving
from tests.export.small_graph import FACTS_OF_IT
from vlpart.errors import DownloadError, ModelNotFoundError, WeightsError
from vlpart.inference.predictor import load


def test_a_model_goes_through_a_folder(tiny_weights: Path, photo_array: np.ndarray, tmp_path: Path) -> None:
    predictor = load("tiny", device="cpu")
    predictor.vocabulary = vlpart.Vocabulary.parse("car: wheel")
    folder = vlpart.save_pretrained(predictor, tmp_path / "mine")
    assert "library_name: vlpart" in (folder / "README.md").read_text(encoding="utf-8")
    again = vlpart.from_pretrained(folder, device="cpu")
    assert (again.name, again.vocabulary.names, again.defaults) == ("tiny", ("car", "car:wheel"), predictor.defaults)
    first, second = (each(photo_array, score_threshold=0.01, short_side=96) for each in (predictor, again))
    assert first.names == second.names
    np.testing.assert_allclose(first.boxes_xyxy, second.boxes_xyxy, atol=1e-2)


#: A user's program: every argument is a repository and a revision; then the server ends, and the last is asked again.
PROGRAM = """
import sys, vlpart
from vlpart.export.pretrained import fetch_pretrained

def ask(name, revision):
    try:
        print(fetch_pretrained(name, revision or None).name, flush=True)
    except vlpart.VlpartError as error:
        print(type(error).__name__, error, flush=True)

pairs = [each.split("@") for each in sys.argv[1:]]
for name, revision in pairs:
    ask(name, revision)
print("ready", flush=True)
sys.stdin.readline()
ask(*pairs[-1])
predictor = vlpart.from_pretrained(pairs[-1][0], device="cpu")
print(predictor.name, *predictor.vocabulary.names, flush=True)
"""


@pytest.mark.timeout(900)  # several starts of torch
def test_a_repository_of_a_hub(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    predictor = load("tiny", device="cpu")
    predictor.vocabulary = vlpart.Vocabulary.parse("car: wheel")
    folder = vlpart.save_pretrained(predictor, tmp_path / "mine")
    repository = Repository("me/mine")
    first = repository.publish(folder, "v1")
    (folder / "README.md").write_text("another card", encoding="utf-8")
    (folder / "notes.bin").write_bytes(b"not asked for")
    second = repository.publish(folder, "main")
    repository.cuts = [3_000_000]  # the line drops once, and the download goes on
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    asked = ["me/mine@v1", f"me/mine@{first}", "me/mine@v9", "me/other@", "me/mine@"]
    with serving(repository) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=REPOSITORY,
        ) as program:
            assert program.stdin and program.stdout
            lines = [program.stdout.readline().rstrip() for _ in range(6)]
            hub.shutdown()
            hub.server_close()
            program.stdin.close()
            after = program.stdout.read().splitlines()
    assert lines[:2] == [first, first]
    assert lines[2].startswith("DownloadError cannot fetch me/mine from the hub: Revision Not Found"), lines[2]
    assert lines[3].startswith("DownloadError cannot fetch me/other from the hub: Repository Not Found"), lines[3]
    assert lines[4:] == [second, "ready"]
    assert after == [second, "tiny car car:wheel"]  # without the server, from the cache
    taken = [each.rpartition("/")[2] for each in repository.asked if each.startswith("GET /me/mine/resolve")]
    assert sorted(taken) == ["README.md", "README.md", "model.safetensors", "model.safetensors"]


def test_what_is_no_model(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match="owner/name"):
        vlpart.from_pretrained("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DownloadError, match=r"no model\.safetensors"):
        vlpart.from_pretrained("empty")
    (tmp_path / "empty" / "model.safetensors").write_bytes(tiny_weights.read_bytes())
    with pytest.raises(WeightsError, match="was not exported by vlpart"):
        vlpart.from_pretrained("empty")


# ---- folders of strangers


def folder_of(head: bytes, body: bytes, tmp_path: Path) -> Path:
    """A folder whose safetensors file has such a table of contents."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)
    return tmp_path / "theirs"


@pytest.mark.parametrize(
    "change",
    [
        {"text_encoder": "nosuch"},
        {"prompt": "nosuch"},
        {"name": "\ud800"},
        {"name": ""},
        {"name": "a" * 5000},
        {"short_side": 0},
        {"max_detections": 10**9},
        {"vocabulary": {"entries": []}},
    ],
)
def test_what_a_file_says_of_itself_is_checked_before_it_is_read(change: dict[str, Any], tmp_path: Path) -> None:
    said = {"__metadata__": {"vlpart": json.dumps(FACTS_OF_IT | change)}}
    with pytest.raises(WeightsError, match="was not exported by vlpart"):
        vlpart.from_pretrained(folder_of(json.dumps(said).encode(), b"", tmp_path))


def test_what_a_file_says_of_itself_fits_its_weights(tiny_weights: Path, tmp_path: Path) -> None:
    data = tiny_weights.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + length])
    facts = FACTS_OF_IT | {"architecture": "r50", "text_dim": 1024, "mask_on": True}
    head["__metadata__"] = {"vlpart": json.dumps(facts)}
    with pytest.raises(WeightsError, match="says that its architecture is r50, and has tiny"):
        vlpart.from_pretrained(folder_of(json.dumps(head).encode(), data[8 + length :], tmp_path))


def test_a_table_of_contents_without_end(tmp_path: Path) -> None:
    tensor = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    head = b"{" + b"".join(tensor % number for number in range(350_000)) + b'"__metadata__":{}}'
    with pytest.raises(WeightsError, match="its header claims"):
        vlpart.from_pretrained(folder_of(head, b"", tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
def test_a_pipe_in_the_place_of_weights(tmp_path: Path) -> None:
    folder = folder_of(b"{}", b"", tmp_path)
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(DownloadError, match=r"no model\.safetensors"):
        vlpart.from_pretrained(folder)


def test_a_weight_file_whose_name_is_no_text(tiny_weights: Path, tmp_path: Path) -> None:
    predictor = load("tiny", device="cpu")
    predictor.name = "bad\udcff"
    folder = vlpart.save_pretrained(predictor, tmp_path / "mine")
    assert vlpart.from_pretrained(folder, device="cpu").name == "bad\\udcff"

"""`cvat-cli` with our function against a server that speaks CVAT's routes: what arrives there is what was found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlpart
from tests.integrations.cvat_server import PASSWORD, TASK, USER, Server, running
from vlpart.masks.rasterise import rasterise_polygons

sdk = pytest.importorskip("cvat_sdk.version", reason='needs the extra "cvat"')
pytest.importorskip("cvat_cli", reason="needs cvat-cli")

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
WORDS = "person: hair, mouth"


def auto_annotate(server: Server, folder: Path, *options: str, password: str = PASSWORD) -> Any:
    """Run `cvat-cli task auto-annotate` as a person would."""
    port = server.address.rpartition(":")[2]
    command = [
        *(sys.executable, "-m", "cvat_cli", "--server-host", "http://127.0.0.1", "--server-port", port),
        *("--auth", f"{USER}:{password}", "task", "auto-annotate", str(TASK)),
        *("--function-module", "vlpart.integrations.cvat", "-p", "model=str:tiny", "-p", f"vocabulary=str:{WORDS}"),
        *options,
    ]
    own = {name: str(folder) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    paths = {"PYTHONPATH": str(Path(vlpart.__file__).parents[1])}
    return subprocess.run(command, env=os.environ | own | paths, capture_output=True, text=True, timeout=600)


@pytest.fixture
def images() -> list[tuple[str, bytes]]:
    return [(f"{i}.jpg", SAMPLE.read_bytes()) for i in range(3)]


def masks_of(shapes: list[dict[str, Any]], size: tuple[int, int]) -> list[Any]:
    """Uploaded shapes as bitmaps, read as CVAT reads them."""
    from cvat_sdk.masks import decode_mask

    height, width = size
    bitmaps = []
    for shape in shapes:
        if shape["type"] == "mask":
            bitmaps.append(decode_mask(shape["points"], image_width=width, image_height=height))
        else:
            assert shape["type"] == "polygon"
            points = np.reshape(shape["points"], (-1, 2))
            x0, y0, inside = rasterise_polygons([points], height, width)
            bitmaps.append(np.zeros(size, dtype=bool))
            bitmaps[-1][y0 : y0 + inside.shape[0], x0 : x0 + inside.shape[1]] = inside
    return bitmaps


def test_what_cvat_is_sent_is_what_was_found(images: Any, tmp_path: Path, tiny_weights: Path) -> None:
    labels = {"person:mouth": "any", "other": "any", "person": "any"}  # in another order, and without hair
    with running(Server(images, labels, sdk.VERSION, deleted=[1])) as server:
        done = auto_annotate(server, tmp_path, "--allow-unmatched-labels")
        assert done.returncode == 0, done.stderr
        ((action, body),) = server.uploads
    assert action == "create" and body["tags"] == []
    shapes = body["shapes"]
    assert {shape["frame"] for shape in shapes} == {0, 2}  # the deleted one is left out
    result = vlpart.load("tiny")(SAMPLE, vocabulary=WORDS, score_threshold=0.45)
    result = result.without_nested().without_overlapping()
    kept = [i for i, name in enumerate(result.names) if name in labels]
    for frame in (0, 2):
        sent = [shape for shape in shapes if shape["frame"] == frame]
        assert [shape["label_id"] for shape in sent] == [server.label_id(result.names[i]) for i in kept]
        assert {shape["source"] for shape in sent} == {"auto"} and not any(shape.get("occluded") for shape in sent)
        assert result.masks is not None
        for i, mask in zip(kept, masks_of(sent, result.image_size), strict=True):
            expected = result.masks[i]
            assert np.logical_and(mask, expected).sum() / np.logical_or(mask, expected).sum() > 0.95


def test_polygons_only_higher_thresholds_and_in_the_place_of_what_was_there(images: Any, tmp_path: Path) -> None:
    result = vlpart.load("tiny")(SAMPLE, vocabulary=WORDS, score_threshold=0.3)
    person, hair = (result.scores[result.names.index(name)] for name in ("person", "person:hair"))
    between = str(round(float(person + hair) / 2, 3))  # the person is over it, the hair is not
    with running(Server(images[:1], {"person": "polygon", "person:hair": "polygon"}, sdk.VERSION)) as server:
        options = ("--allow-unmatched-labels", "--conv-mask-to-poly", "--conf-threshold", between, "--clear-existing")
        done = auto_annotate(server, tmp_path, *options)
        assert done.returncode == 0, done.stderr
        ((action, body),) = server.uploads
    assert action == "replace" and {shape["type"] for shape in body["shapes"]} <= {"polygon"}
    assert {shape["label_id"] for shape in body["shapes"]} == {server.label_id("person")}


def test_labels_that_the_task_has_not_and_a_wrong_password_are_told(images: Any, tmp_path: Path) -> None:
    with running(Server(images[:1], {"person": "any"}, sdk.VERSION)) as server:
        done = auto_annotate(server, tmp_path)
        assert done.returncode != 0 and "person:hair" in done.stderr and not server.uploads
        assert auto_annotate(server, tmp_path, password="no").returncode != 0

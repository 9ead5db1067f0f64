"""Records of an unfinished job that are not what the job writes: one typed line that says what to delete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlpart.annotation_parser.output import is_parsed, write_coco
from vlpart.errors import OutputError
from vlpart.jobs import Job

PART = {"name": "dog:head", "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "score": 0.5, "object": 0}
IMAGE = {"id": 1, "file_name": "a.jpg", "height": 20, "width": 30, "image_labels": ["dog"]}
OWNER = {"name": "dog", "bbox": [1, 2, 8, 8], "area": 64, "iscrowd": 0}
RECORD: dict[str, Any] = {"image": IMAGE, "parts": [PART], "objects": [OWNER]}


def go_on(folder: Path, record: Any) -> Any:
    """Write the result of a job of one item, whose record (JSON data, or its text) is in its folder already."""
    work = folder / "work"
    work.mkdir()
    (work / "settings.json").write_text('{"items": 1}')
    text = record if isinstance(record, bytes) else json.dumps(record).encode()
    (work / "items-0-x.jsonl").write_bytes(b'{"item": 0, "record": %s}\n' % text)
    output = folder / "out.json"
    job = Job(folder=work, settings={}, total=1)
    job.run(lambda items: (), lambda records: write_coco(output, records, None, {}) and None, check=is_parsed)
    return json.loads(output.read_text())


def test_a_good_record_is_taken_up(tmp_path: Path) -> None:
    found = go_on(tmp_path, RECORD)
    assert [each["bbox"] for each in found["annotations"]] == [OWNER["bbox"], PART["bbox"]]
    assert found["annotations"][1]["object_annotation_id"] == 1


@pytest.mark.parametrize(
    "record",
    [
        *(
            {},
            {"image": 5},
            {"image": IMAGE},
            {"parts": []},
            {"image": IMAGE, "parts": 5},
            {"image": IMAGE, "parts": [5]},
        ),
        *(
            {**RECORD, "image": {key: value for key, value in IMAGE.items() if key != left}}
            for left in IMAGE
            if left != "id"
        ),
        *({**RECORD, "parts": [{**PART, "name": value}]} for value in (None, 5, [])),
        *({**RECORD, "parts": [{**PART, "bbox": value}]} for value in (None, [1, 2, 3], ["1"] * 4, [float("nan")] * 4)),
        *({**RECORD, "parts": [{**PART, "object": value}]} for value in ([], {}, "x")),
        *({**RECORD, "objects": value} for value in (5, [5], [{}], {"a": 1}, None)),
        *({**RECORD, "image": {**IMAGE, "image_labels": value}} for value in (5, [5], "dog")),
    ],
)
def test_damaged_records_are_one_typed_error(record: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is damaged \(item 0\): delete"):
        go_on(tmp_path, record)
    assert not (tmp_path / "out.json").exists()

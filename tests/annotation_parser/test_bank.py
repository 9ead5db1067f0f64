from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vlpart.annotation_parser.bank import ReferenceBank, pack_token, unpack_token, write_bank
from vlpart.annotation_parser.references import Reference
from vlpart.errors import DataError

HEADER = {"features": "colours", "fingerprint": "x", "short_side": 48, "max_side": 144, "images": "/images"}


def made_up(folder: Path, count: int = 40) -> tuple[ReferenceBank, np.ndarray]:
    tokens = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    objects = ["cat", "dog", "ape"]
    references = [
        Reference(image_id=i, file_name=f"ä {i}.jpg", height=3, width=4, object=objects[i % 3]) for i in range(count)
    ]
    assert write_bank(folder, zip(references, tokens, strict=True), HEADER) == count
    return ReferenceBank(folder), tokens


def test_written_and_read(tmp_path: Path) -> None:
    bank, tokens = made_up(tmp_path / "bank")
    assert (len(bank), bank.objects, bank.images) == (40, ["ape", "cat", "dog"], Path("/images"))
    assert bank.reference(17).file_name == "ä 17.jpg"
    np.testing.assert_allclose(bank.tokens, tokens / np.linalg.norm(tokens, axis=1, keepdims=True), atol=1e-6)
    assert ReferenceBank(tmp_path / "bank", tmp_path).images == tmp_path


def test_search_is_exact_and_by_cosine(tmp_path: Path) -> None:
    bank, tokens = made_up(tmp_path / "bank")
    queries = np.random.default_rng(1).normal(size=(5, 8))
    cosines = queries @ tokens.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(tokens, axis=1)
    found = bank.search(torch.from_numpy(queries) * 7, k=3)
    assert found.indices.tolist() == np.argsort(-cosines, axis=1)[:, :3].tolist()
    np.testing.assert_allclose(found.similarities, -np.sort(-cosines, axis=1)[:, :3], atol=1e-5)
    assert bank.search(torch.from_numpy(tokens[11:12])).indices.tolist() == [[11]]


def test_search_among_some_objects(tmp_path: Path) -> None:
    bank, tokens = made_up(tmp_path / "bank")
    for objects in (["Cat"], ["dog", "ape"]):
        found = bank.search(torch.from_numpy(tokens), k=2, objects=objects)
        names = {bank.reference(i).object for i in found.indices.flatten().tolist()}
        assert names == {name.lower() for name in objects}
        mine = [i for i in range(40) if bank.reference(i).object in names]
        assert found.indices[mine, 0].tolist() == mine
    with pytest.raises(DataError, match="has no horse; it has ape, cat, dog"):
        bank.search(torch.zeros(1, 8), objects=["horse"])


def test_more_neighbours_than_images(tmp_path: Path) -> None:
    bank, tokens = made_up(tmp_path / "bank", count=2)
    assert bank.search(torch.from_numpy(tokens), k=9).indices.tolist() == [[0, 1], [1, 0]]


def test_what_is_no_bank(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no reference bank \(bank.json is missing\): vlpart parse build"):
        ReferenceBank(tmp_path)
    made_up(tmp_path / "bank")
    tokens = tmp_path / "bank" / "tokens.f32"
    tokens.write_bytes(tokens.read_bytes()[:100])
    with pytest.raises(DataError, match="is damaged"):
        ReferenceBank(tmp_path / "bank")
    header = tmp_path / "bank" / "bank.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": 99, "count": 3}))
    with pytest.raises(DataError, match="of another version"):
        ReferenceBank(tmp_path / "bank")


def test_a_bank_of_nothing_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the base images"):
        write_bank(tmp_path / "bank", [], HEADER)
    assert not (tmp_path / "bank" / "bank.json").exists()


def test_tokens_survive_text() -> None:
    token = torch.randn(384)
    assert np.array_equal(unpack_token(pack_token(token)), token.numpy())


def test_a_bank_stays_while_its_successor_is_not_whole(tmp_path: Path) -> None:
    made_up(tmp_path / "bank")

    def fails() -> Iterator[tuple[Reference, np.ndarray]]:
        yield Reference(image_id=1, file_name="a.jpg", height=3, width=4, object="cat"), np.ones(8, dtype=np.float32)
        raise DataError("no such image")

    for entries in (iter(()), fails()):
        with pytest.raises(DataError):
            write_bank(tmp_path / "bank", entries, HEADER)
        assert [ReferenceBank(tmp_path / "bank").reference(i).image_id for i in (0, 39)] == [0, 39]
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


@pytest.mark.parametrize("name", ["features", "fingerprint", "short_side", "max_side", "images", "objects"])
def test_a_header_without_an_entry_is_damaged(tmp_path: Path, name: str) -> None:
    made_up(tmp_path / "bank")
    header = tmp_path / "bank" / "bank.json"
    document = json.loads(header.read_text())
    for wrong in (document | {name: -1}, {key: value for key, value in document.items() if key != name}):
        header.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=f"is damaged .*{name}"):
            ReferenceBank(tmp_path / "bank")


def test_damaged_records_are_found(tmp_path: Path) -> None:
    made_up(tmp_path / "bank")
    records = tmp_path / "bank" / "references.jsonl"
    whole = records.read_bytes()
    for broken in (whole[:-40], whole[40:], whole + b"x"):
        records.write_bytes(broken)
        with pytest.raises(DataError, match=r"is damaged \(references.jsonl"):
            ReferenceBank(tmp_path / "bank")
    records.write_bytes(b"?" * len(whole))
    with pytest.raises(DataError, match="is damaged .*reference 3"):
        ReferenceBank(tmp_path / "bank").reference(3)
    records.unlink()
    with pytest.raises(DataError, match=r"references.jsonl is missing"):
        ReferenceBank(tmp_path / "bank")


def test_tokens_that_are_not_finite(tmp_path: Path) -> None:
    bank, tokens = made_up(tmp_path / "bank")
    with pytest.raises(DataError, match="not finite"):
        bank.search(torch.full((1, 8), torch.nan))
    tokens[:] = np.nan
    (tmp_path / "bank" / "tokens.f32").write_bytes(tokens.astype("<f4").tobytes())
    with pytest.raises(DataError, match="not finite"):
        ReferenceBank(tmp_path / "bank")

from __future__ import annotations

import pytest
import torch

from vlpart.annotation_parser import correspondence
from vlpart.annotation_parser.correspondence import mutual, nearest, normalised


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("queries", "keys"), [(1, 5), (50, 40), (64, 64), (7, 200)])
def test_tiles_change_nothing(queries: int, keys: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(queries * keys)
    a = normalised(torch.randn(queries, 6, generator=generator))
    b = normalised(torch.randn(keys, 6, generator=generator))
    values, indices = (a @ b.T).topk(k, dim=1)
    monkeypatch.setattr(correspondence, "QUERY_TILE", 16)
    monkeypatch.setattr(correspondence, "KEY_TILE", 32)
    found = nearest(a, b, k)
    assert torch.equal(found.indices, indices)
    torch.testing.assert_close(found.similarities, values)


def test_of_equal_keys_the_first_wins_across_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correspondence, "KEY_TILE", 2)
    keys = normalised(torch.tensor([[0.0, 1], [1, 0], [1, 0], [1, 0]]))
    assert nearest(keys[1:2], keys).indices.tolist() == [[1]]


def test_no_tile_is_larger_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    best = correspondence._best
    monkeypatch.setattr(correspondence, "_best", lambda x, k: sizes.append(tuple(x.shape)) or best(x, k))
    nearest(torch.randn(3000, 2), torch.randn(20000, 2))
    assert max(rows for rows, _ in sizes) <= correspondence.QUERY_TILE
    assert max(columns for _, columns in sizes) <= correspondence.KEY_TILE


def test_zero_vectors_and_nothing_to_look_for() -> None:
    zero = normalised(torch.zeros(1, 3))
    assert nearest(zero, normalised(torch.eye(3))).similarities.tolist() == [[0]]
    assert nearest(torch.zeros(0, 3), torch.eye(3)).indices.shape == (0, 1)
    with pytest.raises(ValueError, match="no 1 neighbours"):
        nearest(torch.zeros(1, 3), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="neighbours"):
        nearest(torch.zeros(1, 3), torch.zeros(2, 4))


def test_mutual_neighbours() -> None:
    assert mutual(torch.tensor([0, 0, 2]), torch.tensor([1, 2, 2])).tolist() == [False, True, True]

from __future__ import annotations

import numpy as np
import torch

from vlpart.annotation_parser.correspondence import any_overlap, best_proposals, tight_box, transfer_parts


def test_any_overlap_keeps_every_value_that_is_not_zero() -> None:
    bitmap = np.zeros((8, 8), dtype=bool)
    bitmap[3, 3] = True
    # Cell (i, j) of a 4x4 grid looks half way between pixels 2i, 2i + 1: pixel 3 is seen by cell 1 only.
    assert np.argwhere(any_overlap(bitmap, (4, 4)).numpy()).tolist() == [[1, 1]]
    assert any_overlap(bitmap[:4, :4], (8, 8)).sum() == 9  # one pixel reaches 1.5 cells to either side, up to the edge


def test_tight_box_counts_half_a_pixel_around_the_centres() -> None:
    mask = np.zeros((6, 9), dtype=bool)
    mask[2:5, 3:8] = True
    assert tight_box(mask) == (2.5, 1.5, 7.5, 4.5)


def test_parts_follow_their_patches() -> None:
    left, right, nothing = (np.zeros((4, 8), dtype=bool) for _ in range(3))
    left[:, :4], right[:, 4:] = True, True
    # The target's patches look like those of the reference in reverse order, but for the last one.
    nearest_patch = torch.tensor([7, 6, 5, 4, 3, 2, 1, 1])
    foreground = torch.tensor([True, True, True, True, True, True, True, False])
    found = transfer_parts([left, right, nothing], (2, 4), nearest_patch, foreground, (2, 4), (2, 4))
    assert found.sources.tolist() == [0, 1]
    assert found.masks[0].tolist() == [[False, False, True, True], [False, False, True, False]]
    assert found.masks[1].tolist() == [[True, True, False, False], [True, True, False, False]]
    assert found.boxes_xyxy.tolist() == [[1.5, -0.5, 3.5, 1.5], [-0.5, -0.5, 1.5, 1.5]]


def test_only_the_largest_region_stays() -> None:
    part = np.ones((1, 1), dtype=bool)
    foreground = torch.tensor([1, 1, 0, 1], dtype=torch.bool)
    found = transfer_parts([part], (1, 1), torch.zeros(4, dtype=torch.int64), foreground, (1, 4), (1, 4))
    assert found.masks.tolist() == [[[True, True, False, False]]]


def test_no_parts_give_empty_arrays() -> None:
    nothing = torch.zeros(4, dtype=torch.bool)
    whole = np.ones((2, 2), dtype=bool)
    found = transfer_parts([whole], (2, 2), torch.arange(4), nothing, (2, 2), (20, 30))
    assert (found.masks.shape, found.boxes_xyxy.shape, found.sources.shape) == ((0, 20, 30), (0, 4), (0,))


def test_best_proposal_by_overlap() -> None:
    parts = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 4, 4]])
    proposals = torch.tensor([[0.0, 0, 9, 10], [0, 0, 10, 10], [50, 50, 53, 60], [100, 100, 101, 101]])
    kept, proposal, overlap = best_proposals(parts, proposals, 0.3)
    assert (kept.tolist(), proposal.tolist(), overlap.tolist()) == ([0], [1], [1.0])  # an overlap of 0.3 is not enough
    assert [len(x) for x in best_proposals(parts, proposals[:0], 0.3)] == [0, 0, 0]
    assert [len(x) for x in best_proposals(parts[:0], proposals, 0.3)] == [0, 0, 0]

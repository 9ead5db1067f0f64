"""Labels never cover each other, stay on the image and keep to what they name."""

from __future__ import annotations

import numpy as np
import pytest

from vlpart.masks.crop import MaskCrop
from vlpart.visualize.paint import outline_of
from vlpart.visualize.placement import Ink, Wish, _crossings, place_labels


def block(x0: int, y0: int, width: int, height: int) -> MaskCrop:
    return MaskCrop(x0, y0, np.ones((height, width), dtype=bool))


def ink_of(size: tuple[int, int], *crops: MaskCrop) -> Ink:
    ink = Ink(size, 4)
    for crop in crops:
        ink.add(crop, 1.0)
    return ink


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 12, 45])
def test_no_two_labels_overlap(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    size = (640, 480)
    crops = [
        block(*(int(v) for v in rng.integers(0, 400, 2)), *(int(v) for v in rng.integers(3, 80, 2)))
        for _ in range(count)
    ]
    wishes = [Wish((60 + 5 * (k % 5), 16), outline_of(crop), k % 4 == 0) for k, crop in enumerate(crops)]
    places = place_labels(wishes, size, ink_of(size, *crops), gap=2)
    assert sum(place is not None for place in places) >= 0.9 * count
    drawn = [(p.x, p.y, p.x + w.size[0], p.y + w.size[1]) for p, w in zip(places, wishes, strict=True) if p is not None]
    for k, (x0, y0, x1, y1) in enumerate(drawn):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 640
        assert y1 <= 480
        for u0, v0, u1, v1 in drawn[:k]:
            assert x0 >= u1 + 2 or x1 <= u0 - 2 or y0 >= v1 + 2 or y1 <= v0 - 2


def test_large_parts_hold_their_label_and_objects_wear_it_on_top() -> None:
    crop = block(100, 150, 200, 120)
    part, whole = (Wish((60, 16), outline_of(crop), on_top) for on_top in (False, True))
    (inside,) = place_labels([part], (640, 480), ink_of((640, 480), crop), 2)
    assert inside is not None
    assert inside.leader is None
    assert inside.x >= 100
    assert inside.x + 60 <= 300
    (above,) = place_labels([whole], (640, 480), ink_of((640, 480), crop), 2)
    assert above is not None
    assert above.leader is None
    assert above.y + 16 == pytest.approx(150, abs=4)


def test_small_parts_stay_in_view_and_get_a_leader() -> None:
    """The middle one of 49 small parts: its label goes out of the swarm."""
    swarm = [block(240 + 20 * column, 170 + 12 * row, 10, 8) for row in range(7) for column in range(7)]
    wish = Wish((60, 16), outline_of(swarm[24]), False)
    (place,) = place_labels([wish], (640, 480), ink_of((640, 480), *swarm), 2)
    assert place is not None
    assert place.leader is not None
    assert place.x + 60 <= 240 or place.x >= 370 or place.y + 16 <= 170 or place.y >= 250
    (x, y), end = place.leader
    assert place.x <= x <= place.x + 60
    assert place.y <= y <= place.y + 16
    assert end == wish.outline.anchor
    (alone,) = place_labels([wish], (640, 480), ink_of((640, 480), swarm[24]), 2)
    assert alone is not None
    assert np.hypot(alone.x + 30 - 305, alone.y + 8 - 210) < 70


def test_no_room_is_none() -> None:
    crop = block(0, 0, 60, 20)
    wishes = [Wish((60, 16), outline_of(crop), True)] * 2
    first, second = place_labels(wishes, (62, 20), ink_of((62, 20), crop), 2)
    assert first is not None
    assert second is None
    assert place_labels([], (62, 20), ink_of((62, 20)), 2) == []


def test_ink_weighs_every_mask_the_same() -> None:
    ink = ink_of((400, 300), block(0, 0, 200, 300), block(300, 100, 9, 5), block(350, 250, 1, 1))
    areas = np.array(
        [[0.0, 0, 200, 300], [290, 90, 320, 115], [340, 240, 360, 260], [0, 0, 400, 300], [210, 0, 280, 300]]
    )
    assert ink.under(areas) == pytest.approx([1, 1, 1, 3, 0], abs=0.03)
    assert ink.under(np.array([[0.0, 0, 100, 300]])) == pytest.approx([0.5], abs=0.03)


def test_crossing_leaders() -> None:
    ends = np.array([[10.0, 10], [0, 10], [4, 4]])
    crossed = _crossings(np.zeros((3, 2)), ends, np.array([[0.0, 10]]), np.array([[10.0, 0]]))
    assert crossed[:, 0].tolist() == [True, False, False]


@pytest.mark.parametrize("on_top", [True, False])
def test_what_is_outlined_wears_its_label_on_its_contour(on_top: bool) -> None:
    crop = block(100, 100, 300, 250)
    wish = Wish((60, 16), outline_of(crop), on_top, on_rim=True)
    (place,) = place_labels([wish], (640, 480), ink_of((640, 480), block(120, 120, 260, 210)), 2)
    assert place is not None
    assert place.leader is None
    corners = [(place.x, place.y), (place.x + 60, place.y + 16)]
    assert any(not (108 <= x <= 392 and 108 <= y <= 342) for x, y in corners)
    assert place.x + 60 >= 98 and place.x <= 402 and place.y + 16 >= 98 and place.y <= 352


@pytest.mark.parametrize("seed", range(3))
def test_every_label_touches_its_mask_or_points_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crops = [
        block(*(int(v) for v in rng.integers(0, 380, 2)), *(int(v) for v in rng.integers(4, 90, 2))) for _ in range(25)
    ]
    wishes = [Wish((60, 16), outline_of(crop), k % 4 == 0, k % 3 == 0) for k, crop in enumerate(crops)]
    for wish, place in zip(wishes, place_labels(wishes, (640, 480), ink_of((640, 480), *crops), 2), strict=True):
        if place is None:
            continue
        x0, y0, x1, y1 = wish.outline.bounds
        if place.leader is None:
            assert place.x <= x1 + 3 and place.x + 60 >= x0 - 3 and place.y <= y1 + 3 and place.y + 16 >= y0 - 3
        else:
            x, y = place.leader[1]
            assert x0 <= x <= x1 and y0 <= y <= y1

"""The whole drawing: what is painted where, at any size, with any number of detections."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlpart.errors import OutputError
from vlpart.masks.crop import MaskCrop
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary
from vlpart.visualize import labels as typeface
from vlpart.visualize.draw import draw_result
from vlpart.visualize.labels import Row, draw_label, draw_leader, label_size, shortened, with_legend
from vlpart.visualize.paint import Brush, Layer, Stroke, enlarged
from vlpart.visualize.palette import OBJECT_COLOURS, lighter, to_oklch
from vlpart.visualize.scene import build_scene

VOCABULARY = Vocabulary.parse("car: wheel, door; person: head")
GREY = 128


def scene_of(
    size: tuple[int, int], *found: tuple[int, tuple[float, float, float, float]], masks: bool = True
) -> Result:
    """(class id, box as shares of the image) per detection; masks are ellipses in their boxes."""
    height, width = size
    boxes = np.array([box for _, box in found], dtype=np.float32).reshape(-1, 4) * [width, height, width, height]
    y, x = np.mgrid[:28, :28]
    ellipse = np.clip(13.5 - np.hypot(x - 13.5, y - 13.5), 0, 1)  # ends inside its box
    return Result(
        image_size=size,
        boxes_xyxy=boxes,
        scores=np.linspace(0.95, 0.3, len(found)),
        class_ids=[class_id for class_id, _ in found],
        masks=MaskStack(np.repeat(ellipse[None], len(found), axis=0), boxes, size) if masks else None,
        vocabulary=VOCABULARY,
        image=np.full((*size, 3), GREY, dtype=np.uint8),
    )


CAR = (0, (0.1, 0.2, 0.7, 0.9))
WHEELS = ((1, (0.15, 0.6, 0.3, 0.85)), (1, (0.5, 0.6, 0.65, 0.85)))
DOOR = (2, (0.3, 0.35, 0.5, 0.6))
SECOND_CAR = (0, (0.72, 0.1, 0.98, 0.4))


@pytest.fixture
def cars() -> Result:
    return scene_of((600, 900), CAR, *WHEELS, DOOR, SECOND_CAR)


def draw(result: Result, **options: Any) -> np.ndarray:
    assert result.image is not None
    return np.asarray(draw_result(result.image, result, **options))


def test_paints_masks_and_nothing_else(cars: Result) -> None:
    drawn = draw(cars, labels=False, line_width=2)
    assert drawn.shape == (600, 900, 3)
    changed = (drawn != GREY).any(axis=2)
    union = np.asarray(cars.masks).any(axis=0)
    assert changed[union].mean() > 0.995
    near = np.zeros_like(union)  # the contour around what holds others is three pixels wide with its casing
    for dy, dx in itertools.product(range(-4, 5), repeat=2):
        near |= np.roll(union, (dy, dx), axis=(0, 1))
    assert not changed[~near].any()
    assert cars.image is not None
    assert (cars.image == GREY).all()


def test_fill_and_contour_are_in_the_objects_colour() -> None:
    alone = scene_of((400, 400), (0, (0.2, 0.2, 0.8, 0.8)))
    drawn = draw(alone, labels=False, minimum_side=0).astype(int)
    colour = np.array(OBJECT_COLOURS[0])
    middle = (drawn[200, 200] - GREY) / (colour - GREY)
    assert np.ptp(middle) < 0.03  # a blend of grey and the colour
    assert 0.2 < middle.mean() < 0.5
    column = np.abs(drawn[80:100, 200] - lighter(OBJECT_COLOURS[0])).max(axis=1)
    assert column.min() < 12


def test_what_holds_others_is_outlined_and_what_is_innermost_is_filled(cars: Result) -> None:
    drawn = draw(cars, labels=False).astype(int)
    items = {item.index: item for item in build_scene(cars, (900, 600))}
    assert [items[i].holds for i in range(5)] == [True, False, False, False, False]
    assert [items[i].depth for i in range(5)] == [0, 1, 1, 1, 0]

    def opacity(i: int, x: float, y: float) -> float:
        shift = np.array(items[i].colour) - GREY
        return float(((drawn[round(y * 600), round(x * 900)] - GREY) / shift).mean())

    assert opacity(0, 0.6, 0.45) < 0.2  # the car where no part covers it
    assert opacity(1, 0.225, 0.725) > 0.4  # its wheel
    assert opacity(4, 0.85, 0.25) > 0.3  # a car without parts


def test_parts_of_an_object_have_clearly_different_hues(cars: Result) -> None:
    items = {item.index: item for item in build_scene(cars, (900, 600))}
    car, wheel, other_wheel, door, second = (items[i] for i in range(5))
    assert car.colour != second.colour
    assert wheel.colour == other_wheel.colour != door.colour
    assert wheel.family == car.family != second.family
    hues = [to_oklch(item.colour)[2] for item in (car, wheel, door)]
    assert max(np.cos(a - b) for a, b in itertools.combinations(hues, 2)) < np.cos(np.radians(25))
    assert [wheel.name, car.name] == ["wheel", "car"]
    loose = build_scene(scene_of((100, 100), WHEELS[0]), (100, 100))
    assert loose[0].name == "car:wheel"


def test_parts_of_several_objects_keep_to_the_hue_of_their_own() -> None:
    wheels = [(1, (x, 0.6, x + 0.1, 0.85)) for x in (0.1, 0.3, 0.6, 0.8)]
    two = scene_of((600, 900), (0, (0.05, 0.2, 0.45, 0.9)), (0, (0.55, 0.2, 0.95, 0.9)), *wheels)
    items = {item.index: item for item in build_scene(two, (900, 600))}
    for car, wheel, other in ((0, 2, 4), (1, 4, 2)):
        here, mine, yours = (to_oklch(items[i].colour)[2] for i in (car, wheel, other))
        assert np.cos(here - mine) > np.cos(here - yours)


def test_colours_by_class_instance_and_part() -> None:
    wheels = [(1, (x, 0.6, x + 0.1, 0.85)) for x in (0.1, 0.3, 0.6)]
    found = scene_of((600, 900), (0, (0.05, 0.2, 0.45, 0.9)), (0, (0.55, 0.2, 0.95, 0.9)), *wheels)

    def colours(scheme: Any) -> list[tuple[int, int, int]]:
        items = {item.index: item.colour for item in build_scene(found, (900, 600), colours=scheme)}
        return [items[i] for i in range(5)]

    assert len(set(colours("instance"))) == 5
    for scheme in ("class", "part"):
        cars, wheels_of_any = colours(scheme)[:2], colours(scheme)[2:]
        assert len(set(cars)) == len(set(wheels_of_any)) == 1
        assert cars[0] != wheels_of_any[0]
    assert colours("class")[2] == OBJECT_COLOURS[1]  # the place in the vocabulary, whatever else is in the image
    with pytest.raises(ValueError, match="colours must be one of object, instance, class, part"):
        draw(found, colours="rainbow")


def test_a_part_inside_another_part_is_marked() -> None:
    vocabulary = Vocabulary.parse("person: face, eye")
    nested = Result(
        image_size=(200, 200),
        boxes_xyxy=[[10, 10, 190, 190], [40, 40, 160, 160], [60, 60, 80, 80]],
        scores=[0.9, 0.8, 0.7],
        class_ids=[0, 1, 2],
        vocabulary=vocabulary,
    )
    items = {item.index: item for item in build_scene(nested, (200, 200))}
    assert [items[i].name for i in range(3)] == ["person", "face", "› eye"]
    assert [items[i].depth for i in range(3)] == [0, 1, 2]


def test_crowds_of_one_class_get_different_neighbours() -> None:
    row = [(3, (k / 30, 0.4, k / 30 + 0.02, 0.6)) for k in range(30)]
    colours = [item.colour for item in build_scene(scene_of((300, 3000), *row), (3000, 300))]
    assert all(a != b for a, b in itertools.pairwise(colours))
    assert len(set(colours)) == len(OBJECT_COLOURS)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (60, 100), (400, 300), (1500, 1100), (20, 900), (900, 20)])
def test_any_size(size: tuple[int, int]) -> None:
    drawn = draw(scene_of(size, CAR, *WHEELS, DOOR), legend=False)
    scale = max(1, 640 / max(size))
    assert drawn.shape == (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)), 3)
    assert draw(scene_of(size, CAR), minimum_side=0).shape == (*size, 3)
    if min(size) > 50:
        assert (drawn != GREY).any(axis=2).mean() > 0.2


def test_small_images_are_drawn_from_the_maps_not_scaled_up() -> None:
    """A disc on a 30 pixel image comes out as a smooth disc, not as blocks."""
    small = scene_of((30, 30), (0, (0.1, 0.1, 0.9, 0.9)))
    changed = (draw(small, labels=False) != GREY).any(axis=2)
    y, x = np.mgrid[:640, :640] + 0.5
    disc = np.hypot(x - 320, y - 320) < changed.sum() ** 0.5 / np.pi**0.5
    assert (changed ^ disc).sum() / disc.sum() < 0.03


def test_labels_change_only_what_they_should(cars: Result) -> None:
    bare, named, unscored = draw(cars, labels=False), draw(cars), draw(cars, scores=False)
    assert named.shape == bare.shape
    assert 0.005 < (named != bare).any(axis=2).mean() < 0.1
    assert (unscored != bare).any(axis=2).sum() < (named != bare).any(axis=2).sum()
    assert np.array_equal(named, draw(cars))
    assert (draw(cars, text_scale=2) != bare).any(axis=2).sum() > 2 * (named != bare).any(axis=2).sum()


def test_nothing_found() -> None:
    assert (draw(scene_of((700, 500))) == GREY).all()


def test_boxes_without_masks() -> None:
    drawn = draw(scene_of((400, 400), (0, (0.25, 0.25, 0.75, 0.75)), masks=False), labels=False, minimum_side=0)
    changed = (drawn != GREY).any(axis=2)
    assert changed[100:300, 100].all()
    assert not changed[110:290, 110:290].any()
    assert not changed[:99].any()


def test_empty_masks_still_get_their_label() -> None:
    result = scene_of((400, 400), CAR)
    empty = Result(
        image_size=(400, 400),
        boxes_xyxy=result.boxes_xyxy,
        scores=result.scores,
        class_ids=result.class_ids,
        masks=MaskStack.from_bitmaps(np.zeros((1, 400, 400), dtype=bool)),
        vocabulary=VOCABULARY,
        image=result.image,
    )
    assert (draw(empty, labels=False) == GREY).all()
    assert (draw(empty) != GREY).any()


def test_legend_when_asked_or_when_crowded(cars: Result) -> None:
    assert draw(cars, legend="auto").shape == (600, 900, 3)
    wider = draw(cars, legend=True)
    assert wider.shape[0] == 600
    assert wider.shape[1] > 950
    rng = np.random.default_rng(0)
    corners = rng.random((150, 2)) * 0.8
    crowd = scene_of((300, 400), *((0, (x, y, x + 0.1, y + 0.1)) for x, y in corners))
    assert draw(crowd).shape[1] > 640
    assert draw(crowd, legend=False).shape == (480, 640, 3)


def test_legend_below_wide_images() -> None:
    rows = [Row(str(i), "a part 0.50", OBJECT_COLOURS[i % 8], i > 0, i == 0) for i in range(20)]
    font = typeface.load(14)
    below = with_legend(Image.new("RGB", (900, 200)), rows, font)
    assert below.width == 900
    assert below.height > 250
    beside = with_legend(Image.new("RGB", (500, 400)), rows, font)
    assert beside.height == 400
    assert beside.width > 560


def test_a_image_of_another_size_is_refused(cars: Result) -> None:
    with pytest.raises(ValueError, match="expected"):
        draw_result(np.zeros((10, 10, 3), dtype=np.uint8), cars)


def test_long_and_foreign_names() -> None:
    names = ["a very long phrase that goes on and on " * 3, "Außenspiegel", "колесо", "车轮", "🚗"]
    vocabulary = Vocabulary.from_names([name.strip() for name in names])
    boxes = [[20.0 + 60 * i, 50, 70 + 60 * i, 200] for i in range(5)]
    result = Result(
        image_size=(300, 400), boxes_xyxy=boxes, scores=[0.5] * 5, class_ids=range(5), vocabulary=vocabulary
    )
    assert draw_result(np.zeros((300, 400, 3), dtype=np.uint8), result, legend=False).size == (640, 480)
    font = typeface.load(16)
    assert font.getlength(shortened(names[0], font, 100)) <= 100
    assert shortened("car", font, 100) == "car"


def test_fonts(tmp_path: Path) -> None:
    own = typeface.load_for(["Größe", "façade", "колесо", "τροχός", "przód"], 20)
    assert own.getname()[0] == "Roboto"
    assert typeface._missing(own, "ößçколесοτροχόςó") == 0
    assert typeface._missing(own, "车") == 1
    (tmp_path / "no.ttf").write_text("no font")
    for name in (str(tmp_path / "no.ttf"), "no such font.ttf"):
        with pytest.raises(OutputError, match="cannot load the font"):
            typeface.load(12, name)


def test_label_tiles() -> None:
    font = typeface.load(20)
    width, height = label_size("wheel 0.91", font)
    canvas = Image.new("RGB", (300, 100), "black")
    draw_label(canvas, (10, 20), "wheel 0.91", font, OBJECT_COLOURS[1])
    pixels = np.asarray(canvas)
    touched = np.argwhere(pixels.any(axis=2))
    assert touched.min(axis=0).tolist() == [20, 10]
    assert touched.max(axis=0).tolist() == [20 + height - 1, 10 + width - 1]
    assert pixels[20 + height // 2, 12].tolist() == list(OBJECT_COLOURS[1])
    part = Image.new("RGB", (300, 100), "black")
    draw_label(part, (10, 20), "wheel 0.91", font, OBJECT_COLOURS[1], outlined=True)
    assert np.asarray(part)[20:60, 12:200].mean() > pixels[20:60, 12:200].mean()  # pale


def test_leader_reaches_from_end_to_end() -> None:
    canvas = Image.new("RGB", (200, 200), (GREY,) * 3)
    draw_leader(canvas, (20, 30), (150, 170), (255, 0, 0), 2.0)
    pixels = np.asarray(canvas)
    assert pixels[170, 150].tolist() == [255, 0, 0]
    assert pixels[100, 85].tolist() == [255, 0, 0]
    touched = np.argwhere((pixels != GREY).any(axis=2))
    assert touched.min() >= 15
    assert touched.max() <= 176


def test_brush_clips_and_skips_empty_masks() -> None:
    layer, stroke = Layer((40, 30)), Stroke((255, 0, 0), 0.5, 1.0, 2.0)
    layer.add(Brush(MaskCrop(0, 0, np.zeros((0, 0), dtype=bool)), layer.size, 2.0), stroke)
    assert not layer.paint.any()
    layer.add(Brush(MaskCrop(0, 0, np.ones((30, 40), dtype=bool)), layer.size, 2.0), stroke)
    assert (layer.paint == layer.paint[15, :4].tolist() * 40).all()  # no contour along the border


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_enlarging_is_that_of_pillow(scale: int) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (12, 9, 4), dtype=np.uint8)
    padded = np.pad(tile, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.uint16)
    expected = [
        Image.fromarray(tile[:, :, band]).resize((9 * scale, 12 * scale), Image.Resampling.BILINEAR)
        for band in range(4)
    ]
    assert np.abs(enlarged(padded, scale).astype(int) - np.stack(expected, axis=2).astype(int)).max() <= 1


@pytest.mark.parametrize("size", [(900, 600), (2801, 1999)])
def test_a_layer_is_what_painting_on_the_image_itself_would_be(size: tuple[int, int]) -> None:
    """Also where the layer is smaller than the image, and its size no multiple of the scale."""
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    layer = Layer(size)
    assert (layer.scale > 1) == (size[0] > 2000)
    y, x = np.mgrid[: layer.size[1], : layer.size[0]]
    disc = np.hypot(x * layer.scale - width / 2, y * layer.scale - height / 2) < height * 0.4
    layer.add(Brush(MaskCrop(0, 0, disc), layer.size, 2.0), Stroke((255, 0, 0), 0.5, 0.5, 2.0))
    drawn = np.asarray(layer.over(image)).astype(int)
    full_y, full_x = np.mgrid[:height, :width]
    radius = np.hypot(full_x - width / 2, full_y - height / 2)
    inside, outside = radius < height * 0.4 - 3 * layer.scale, radius > height * 0.4 + 3 * layer.scale
    assert np.abs(drawn[inside] - (image[inside] * 0.5 + np.array([127.5, 0, 0]))).max() <= 2
    assert (drawn[outside] == image[outside]).all()


def test_options_of_the_drawing(cars: Result) -> None:
    plain = draw(cars, labels=False)
    framed = draw(cars, labels=False, boxes=True)
    only = draw(cars, labels=False, masks=False)
    x0, y0, x1, y1 = cars.boxes_xyxy[4].astype(int)
    assert (framed != plain)[y0 + 1, x0 + 5 : x1 - 5].any(axis=1).all()
    assert (only[(y0 + y1) // 2, (x0 + x1) // 2] == GREY).all()  # boxes are frames
    assert (only[y0 + 1, x0 + 5 : x1 - 5] != GREY).any(axis=1).all()
    assert (draw(cars, labels=False, masks=False, boxes=False) == GREY).all()
    thin, thick = ((draw(cars, labels=False, masks=False, line_width=w) != GREY).sum() for w in (1, 6))
    assert 4 < thick / thin < 8
    small, large = ((draw(cars, font_size=s) != plain).any(axis=2).sum() for s in (10, 30))
    assert large > 4 * small
    for option in ("line_width", "font_size", "text_scale"):
        with pytest.raises(ValueError, match=f"{option} must be above 0"):
            draw(cars, **{option: 0})


def test_masks_cut_off_by_their_boxes_run_out_in_a_curve_but_stay_as_they_are() -> None:
    sure = np.full((1, 28, 28), 0.99, dtype=np.float32)
    cut = Result(
        image_size=(400, 400),
        boxes_xyxy=[[100, 100, 300, 300]],
        scores=[0.9],
        class_ids=[0],
        masks=MaskStack(sure, [[100, 100, 300, 300]], (400, 400)),
        vocabulary=VOCABULARY,
        image=np.full((400, 400, 3), GREY, dtype=np.uint8),
    )
    changed = (draw(cut, labels=False, minimum_side=0) != GREY).any(axis=2)
    assert changed[92:300, 200].all()
    assert not changed[:80].any()
    assert np.asarray(cut.masks)[0, :100].sum() == 0

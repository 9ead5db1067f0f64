"""Phrases to detections, on a street with two cars and two people."""

from __future__ import annotations

import pytest

from vlpart import Result, SelectionError, Vocabulary
from vlpart.results.select import parse

VOCABULARY = Vocabulary.parse("car: wheel, door, headlight; person: head; dog")
# name, box; the first car looks to the left, the second shows nothing of its ends
THINGS = [
    ("car", (10, 40, 110, 90)),
    ("car:wheel", (20, 70, 40, 90)),
    ("car:wheel", (80, 70, 100, 90)),
    ("car:door", (50, 50, 70, 80)),
    ("car:headlight", (10, 55, 20, 62)),
    ("car", (150, 50, 290, 130)),
    ("car:wheel", (165, 105, 190, 130)),
    ("car:wheel", (250, 105, 275, 130)),
    ("person", (120, 20, 140, 80)),
    ("person:head", (126, 20, 134, 30)),
    ("person", (310, 10, 350, 150)),
]


def street(things: list[tuple[str, tuple[int, int, int, int]]] = THINGS) -> Result:
    return Result(
        image_size=(160, 400),
        boxes_xyxy=[box for _, box in things],
        scores=[0.95 - 0.01 * i for i in range(len(things))],
        class_ids=[VOCABULARY.index(name) for name, _ in things],
        vocabulary=VOCABULARY,
    )


def boxes(phrase: str, result: Result | None = None) -> list[tuple[int, ...]]:
    return sorted(tuple(map(int, box)) for box in (result or street()).select(phrase).boxes_xyxy)


WHEELS = [(20, 70, 40, 90), (80, 70, 100, 90), (165, 105, 190, 130), (250, 105, 275, 130)]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("cars", [(10, 40, 110, 90), (150, 50, 290, 130)]),
        ("the second car", [(150, 50, 290, 130)]),
        ("2nd car", [(150, 50, 290, 130)]),
        ("car 2", [(150, 50, 290, 130)]),
        ("last car", [(150, 50, 290, 130)]),
        ("second car from the right", [(10, 40, 110, 90)]),
        ("left car", [(10, 40, 110, 90)]),
        ("largest car", [(150, 50, 290, 130)]),
        ("smallest person", [(120, 20, 140, 80)]),
        ("second largest person", [(120, 20, 140, 80)]),
        ("front person", [(310, 10, 350, 150)]),
        ("nearest car", [(150, 50, 290, 130)]),
        ("topmost person", [(120, 20, 140, 80)]),
        ("the 2 cars", [(10, 40, 110, 90), (150, 50, 290, 130)]),
        ("people", [(120, 20, 140, 80), (310, 10, 350, 150)]),
        ("both cars", [(10, 40, 110, 90), (150, 50, 290, 130)]),
        ("both wheels of the second car", WHEELS[2:]),
        ("both left wheels", WHEELS[:2]),
        ("both the first car and the left person", [(10, 40, 110, 90), (120, 20, 140, 80)]),
        ("the bigger car", [(150, 50, 290, 130)]),
        ("the closer person", [(310, 10, 350, 150)]),
        ("the shorter person's head", [(126, 20, 134, 30)]),
        ("one car", [(10, 40, 110, 90)]),
        ("the left one", [(10, 40, 110, 90)]),
        ("her left wheel", [WHEELS[0]]),
        ("wheels", WHEELS),
        ("two left wheels", WHEELS[:2]),
        ("left wheels", WHEELS[:2]),
        ("third wheel", [WHEELS[2]]),
        ("wheel of the second car", WHEELS[2:]),
        ("left wheel of the second car", [WHEELS[2]]),
        ("the second car's left wheel", [WHEELS[2]]),
        ("right wheel of every car", [WHEELS[1], WHEELS[3]]),
        ("front wheel of the first car", [WHEELS[0]]),
        ("rear wheel of the first car", [WHEELS[1]]),
        ("right rear wheel of the first car", [WHEELS[1]]),
        ("door of the car", [(50, 50, 70, 80)]),
        ("car door", [(50, 50, 70, 80)]),
        ("person nearest to the second car", [(120, 20, 140, 80)]),
        ("person nearest the second car", [(120, 20, 140, 80)]),
        ("car to the left of the first person", [(10, 40, 110, 90)]),
        ("wheel of the car right of the first person", WHEELS[2:]),
        ("head of the left person", [(126, 20, 134, 30)]),
        ("door above the left wheel", [(50, 50, 70, 80)]),
        ("door below the left wheel", []),
    ],
)
def test_phrases(phrase: str, expected: list[tuple[int, ...]]) -> None:
    if not expected:
        with pytest.raises(SelectionError):
            boxes(phrase)
    else:
        assert boxes(phrase) == sorted(expected)


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("third car", "there are 2; the image has 2 car, 4 car:wheel"),
        ("dog", "nothing of that name was found; the image has 2 car"),
        ("door of the second car", "none belongs to 'the second car'"),
        ("front wheel of the second car", "which end of its object is the front"),
        ("wheel of the person", "the parts of person are head"),
        ("wheel of the dog", "dog has no parts"),
        ("weel", "did you mean wheel"),
        ("shiny car", "'shiny' is no name of the vocabulary"),
        ("", "an empty phrase"),
        ("wheel of", "ends too early"),
        ("zeroth car", "'zeroth'"),
        ("0th car", "begins with 1"),
        ("right headlight of the first car", "the only one is not at the right"),
        ("second wheel from the sky", "'from' is followed by"),
    ],
)
def test_what_is_not_there_is_said(phrase: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message.replace("(", r"\(")):
        street().select(phrase)


def test_the_error_says_what_was_found() -> None:
    with pytest.raises(SelectionError) as caught:
        street().select("third car")
    assert caught.value.found == {
        "car": 2,
        "car:wheel": 4,
        "car:door": 1,
        "car:headlight": 1,
        "person": 2,
        "person:head": 1,
    }
    with pytest.raises(SelectionError, match="nothing was found in the image") as caught:
        street([]).select("car")
    assert caught.value.found == {}


def test_a_mirrored_car_has_its_front_on_the_other_side() -> None:
    mirrored = [(name, (400 - x1, y0, 400 - x0, y1)) for name, (x0, y0, x1, y1) in THINGS]
    assert boxes("front wheel of the second car", street(mirrored)) == [(360, 70, 380, 90)]


def test_objects_bring_their_parts_if_asked() -> None:
    assert len(street().select("first car")) == 1
    with_parts = street().select("first car", with_parts=True)
    assert sorted(with_parts.names) == ["car", "car:door", "car:headlight", "car:wheel", "car:wheel"]
    assert [len(group.parts) for group in with_parts.objects] == [4]


def test_names_of_the_vocabulary_come_before_words_of_place() -> None:
    vocabulary = Vocabulary.from_names(
        ["car", "car:front left door", "car:back left door", "car:left mirror", "cup_(golf)"]
    )
    assert parse("front left door", vocabulary).class_ids == {1}
    assert parse("left front door of the car", vocabulary).class_ids == {1}
    assert parse("rear left door", vocabulary).class_ids == {2}
    assert parse("left doors", vocabulary).class_ids == {1, 2}
    assert parse("left doors", vocabulary).axes == ()
    assert parse("doors", vocabulary).class_ids == {1, 2}
    assert parse("left mirror", vocabulary).axes == ()
    assert parse("largest left mirror", vocabulary).axes == ("largest",)
    assert parse("golf cup", Vocabulary.from_names(["golf cup", "cup"])).class_ids == {0}
    assert parse("cup", vocabulary).class_ids == {4}


@pytest.mark.parametrize(
    ("phrase", "why"),
    [
        ("both wheels", "there are 4, not two"),
        ("both doors", "there is only 1, not two"),
        ("the larger wheel", "there are 4, not two to compare"),
        ("the closer door", "there is only 1, not two to compare"),
    ],
)
def test_two_are_two(phrase: str, why: str) -> None:
    with pytest.raises(SelectionError, match=why):
        street().select(phrase)

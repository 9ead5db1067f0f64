"""Many ways to say which: word orders, several at once, spellings, what is nonsense; on a street with two dogs."""

from __future__ import annotations

import numpy as np
import pytest

from vlpart import Result, SelectionError, Vocabulary
from vlpart.results.phrases import parse

VOCABULARY = Vocabulary.parse(
    "car: wheel, door, headlight, window, license plate; person: head, left arm, right arm, leg; "
    "dog: head, tail, leg, ear; traffic light; bus; tree"
)
THINGS = {
    "car 1": ("car", (10, 40, 110, 90)),
    "wheel 1": ("car:wheel", (20, 70, 40, 90)),
    "wheel 2": ("car:wheel", (80, 70, 100, 90)),
    "door": ("car:door", (50, 50, 70, 80)),
    "headlight": ("car:headlight", (10, 55, 20, 62)),
    "car 2": ("car", (150, 50, 290, 130)),
    "wheel 3": ("car:wheel", (165, 105, 190, 130)),
    "wheel 4": ("car:wheel", (250, 105, 275, 130)),
    "plate": ("car:license plate", (280, 100, 290, 110)),
    "person 1": ("person", (120, 20, 140, 80)),
    "head 1": ("person:head", (126, 20, 134, 30)),
    "arm 1": ("person:left arm", (134, 32, 140, 50)),
    "person 2": ("person", (310, 10, 350, 150)),
    "head 2": ("person:head", (322, 10, 338, 30)),
    "dog 2": ("dog", (360, 110, 395, 150)),
    "dog head 2": ("dog:head", (385, 110, 395, 122)),
    "tail 2": ("dog:tail", (360, 112, 366, 120)),
    "ear 1": ("dog:ear", (386, 110, 389, 114)),
    "ear 2": ("dog:ear", (391, 110, 394, 114)),
    "dog 1": ("dog", (100, 130, 130, 158)),
    "dog head 1": ("dog:head", (100, 130, 110, 140)),
    "light": ("traffic light", (200, 2, 210, 30)),
}
KEYS = list(THINGS)


def street() -> Result:
    return Result(
        image_size=(160, 400),
        boxes_xyxy=[box for _, box in THINGS.values()],
        scores=np.linspace(0.95, 0.5, len(THINGS)),
        class_ids=[VOCABULARY.index(name) for name, _ in THINGS.values()],
        vocabulary=VOCABULARY,
    )


def chosen(phrase: str) -> set[str]:
    by_box = {box: key for key, (_, box) in THINGS.items()}
    return {by_box[tuple(map(int, box))] for box in street().select(phrase).boxes_xyxy}  # type: ignore[index]


WHEELS = "wheel 1, wheel 2, wheel 3, wheel 4"


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        # without a name: the objects, everything, the parts
        ("the biggest", "car 2"),
        ("the largest object", "car 2"),
        ("two largest", "car 2, person 2"),
        ("the tallest thing", "person 2"),
        ("left", "car 1"),
        ("third from the left", "person 1"),
        ("everything", ", ".join(KEYS)),
        ("all parts of the second car", "wheel 3, wheel 4, plate"),
        ("left of the second car", "car 1, person 1, dog 1"),
        # where, behind the name
        ("wheel on the right", "wheel 4"),
        ("the wheels on the left", "wheel 1, wheel 2"),
        ("the car on the left side", "car 1"),
        ("car on the far left", "car 1"),
        ("the person to the left", "person 1"),
        ("the person in the middle", "person 1"),
        ("the person in front", "person 2"),
        ("second car from left", "car 2"),
        ("Second Wheel From The Left", "wheel 2"),
        ("the third from the left wheel", "wheel 3"),
        ("right ear of the dog on the right", "ear 2"),
        ("wheel of the second car from the right", "wheel 1, wheel 2"),
        ("wheel on the left of the second car", "wheel 3"),
        ("the person on the left of the second car", "person 1"),
        # corners
        ("bottom right wheel", "wheel 4"),
        ("wheel at the bottom right", "wheel 4"),
        ("the dog in the lower right corner", "dog 2"),
        ("bottom left wheel of the second car", "wheel 3"),
        # words of one piece, of two, with a hyphen
        ("left-most wheel", "wheel 1"),
        ("right most car", "car 2"),
        ("right-hand car", "car 2"),
        ("the car on the left hand side", "car 1"),
        ("leftmost wheel of the rightmost car", "wheel 3"),
        # order and number
        ("the last two wheels", "wheel 3, wheel 4"),
        ("first three wheels", "wheel 1, wheel 2, wheel 3"),
        ("a pair of wheels", "wheel 1, wheel 2"),
        ("last but one wheel", "wheel 3"),
        ("penultimate wheel", "wheel 3"),
        ("third to last wheel", "wheel 2"),
        ("wheel number two", "wheel 2"),
        ("#2 wheel", "wheel 2"),
        ("car no. 2", "car 2"),
        ("wheel two", "wheel 2"),
        ("2 dogs", "dog 1, dog 2"),
        ("the dog's left ear", "ear 1"),
        # size
        ("the tallest person", "person 2"),
        ("the shortest person", "person 1"),
        ("the widest car", "car 2"),
        # beside, before, behind
        ("head of the dog next to the car", "dog head 1"),
        ("the dog beside the first car", "dog 1"),
        ("the dog by the first car", "dog 1"),
        ("the dog closest to the person on the right", "dog 2"),
        ("person behind the second car", "person 1"),
        ("the person in front of the second car", "person 2"),
        ("car closest to the camera", "car 2"),
        ("the car farthest away", "car 1"),
        ("the head furthest from the viewer", "head 1"),
        ("the car in the foreground", "car 2"),
        # several at once
        ("wheels and doors", f"{WHEELS}, door"),
        ("car or bus", "car 1, car 2"),
        ("first and second car", "car 1, car 2"),
        ("left and right wheel of the second car", "wheel 3, wheel 4"),
        ("wheels and license plate of the second car", "wheel 3, wheel 4, plate"),
        ("wheels of the first and second car", WHEELS),
        ("head of the left person and tail of the dog", "head 1, tail 2"),
        ("left and right arm or tree", "arm 1"),
        ("doors, headlights, tails", "door, headlight, tail 2"),
        # names
        ("licence plate", "plate"),
        ("traffic lights", "light"),
        ("left arm", "arm 1"),
        ("dog tail", "tail 2"),
        ("WHEEL", WHEELS),
        ("the cars' wheels", WHEELS),
    ],
)
def test_ways_to_say_it(phrase: str, expected: str) -> None:
    assert chosen(phrase) == set(expected.split(", "))


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("asdf qwer", "'qwer' is no name of the vocabulary"),
        ("das linke Rad", "'rad' is no name"),
        ("the red car", "'red' is no name"),
        ("all wheels except the left one", "'except' is no name"),
        ("person with the dog", "'with' is no name"),
        ("the car dog", "more than one name: tie"),
        ("the", "'the' is no name"),
        ("!!!", "an empty phrase"),
        ("of the car", "begins with 'of'"),
        ("second second car", "only one of its numbers"),
        ("second third car", "only one of its numbers"),
        ("second two cars", "only one of its numbers"),
        ("every second wheel", "say 'of every"),
        ("left right wheel", "it cannot be left and right"),
        ("the largest smallest car", "it cannot be largest and smallest"),
        ("the dog in the corner", "'in' is followed by"),
        ("wheel, second car", "a comma does not say"),
        ("the first and second car's wheels", "say it with 'of'"),
        ("head of head", "dog:head, person:head have no parts"),
        ("the wheel of the car of the person", "'the car' is no part of 'the person'"),
        ("car in the middle of the dog", "so it has no middle for it"),
        ("cars and buses", "nothing of that name was found"),
        ("bus or tree", "no such thing as 'bus'"),
        ("the dog behind the traffic light", "nothing of that name is there"),
        ("ears of the dog next to the second car", "none belongs to"),
        ("three dogs", "there are 2"),
        ("42", "there are 7"),
        ("wheel next to", "ends too early"),
    ],
)
def test_what_is_nonsense_or_not_there_is_said(phrase: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message.replace("(", r"\(")):
        street().select(phrase)


def test_names_with_and_are_names() -> None:
    vocabulary = Vocabulary.from_names(["salt and pepper shaker", "cup"])
    assert parse("left salt and pepper shaker", vocabulary).class_ids == {0}
    assert not parse("left salt and pepper shaker", vocabulary).also


def test_a_camera_in_the_vocabulary_is_a_camera() -> None:
    term = parse("cup closest to the camera", Vocabulary.from_names(["cup", "camera"]))
    assert term.link == "nearest" and term.other is not None and term.other.class_ids == {1}


def test_objects_where_the_vocabulary_has_one_of_that_name() -> None:
    assert parse("the largest object", Vocabulary.from_names(["cup", "object"])).class_ids == {1}
    assert parse("left hand", Vocabulary.parse("person: left hand, hand")).class_ids == {1}

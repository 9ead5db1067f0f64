"""Which category an answer is, other wordings, distractors."""

from __future__ import annotations

import pytest

from tests.evaluation.made_up import CATEGORIES
from vlpart.errors import DataError, EvaluationError
from vlpart.evaluation.robustness import DEFAULT_WORDINGS, distractor_names, read_wordings
from vlpart.evaluation.vocabularies import categories_of_classes, dataset_vocabulary, paraphrased, with_distractors
from vlpart.text.vocabulary import Vocabulary

TRUTH = {"categories": CATEGORIES[::-1]}


def test_the_names_of_the_data_in_ascending_id():
    names = dataset_vocabulary(TRUTH)
    assert names.names == ("car", "car:wheel", "car:door", "car:hood")
    assert categories_of_classes(TRUTH, names) == [3, 7, 9, 11]


def test_a_known_list_gives_its_own_entries():
    listed = Vocabulary.load("voc")
    truth = {"categories": [{"id": e.id, "name": e.name} for e in listed.entries]}
    names = dataset_vocabulary(truth, "voc")
    assert names == listed and "potted plant" in names.texts
    some = dataset_vocabulary({"categories": truth["categories"][14:17]}, "voc")
    assert some.names == listed.names[14:17]
    with pytest.raises(DataError, match="not of voc.*15 is 'truck', in the list it is 'person'"):
        dataset_vocabulary({"categories": [{"id": 15, "name": "truck"}]}, "voc")
    with pytest.raises(DataError, match="no such id"):
        dataset_vocabulary({"categories": [{"id": 99, "name": "person"}]}, "voc")


def test_other_vocabularies_are_matched_by_name_then_by_order():
    by_name = Vocabulary.from_names(["dog", "car door", "car", "car:hood", "car_wheel"])
    assert categories_of_classes(TRUTH, by_name) == [None, 9, 3, 11, 7]
    by_order = Vocabulary.from_names(["auto", "tyre", "entrance", "bonnet"])
    assert categories_of_classes(TRUTH, by_order) == [3, 7, 9, 11]
    with pytest.raises(DataError, match="5 names, the data has 4 categories, of which 'car:hood'"):
        categories_of_classes(TRUTH, Vocabulary.from_names(["car", "car:wheel", "car:door", "dog", "cat"]))


def test_wordings_change_parts_objects_and_whole_names():
    names = dataset_vocabulary(TRUTH)
    other = paraphrased(names, {"Wheel": "tyre", "car:hood": "bonnet"})
    assert other.names == ("car", "car:tyre", "car:door", "bonnet")
    assert [entry.part for entry in other.entries] == [None, "tyre", "door", None]
    assert other.ids == names.ids
    assert paraphrased(names, {"car": "automobile"}).names[1] == "automobile:wheel"
    assert paraphrased(Vocabulary.load("partimagenet"), {"tier": "tyre"}).names[25] == "Car tyre"
    assert paraphrased(Vocabulary.load("voc"), {"pottedplant": "flower pot"}).texts[15] == "flower pot"
    with pytest.raises(EvaluationError, match="change no name"):
        paraphrased(names, {"roof": "top"})


def test_distractors_are_added_behind():
    names = dataset_vocabulary(TRUTH)
    more = with_distractors(names, ["dog", "CAR", "car wheel", "dog", "cat"])
    assert more.names == (*names.names, "dog", "cat")
    assert len(set(more.ids)) == 6
    assert categories_of_classes(TRUTH, more) == [3, 7, 9, 11, None, None]
    with pytest.raises(EvaluationError, match="already"):
        with_distractors(names, ["car"])
    twenty = distractor_names("20", names)
    assert len(set(twenty)) == 20 and "_" not in "".join(twenty)
    assert distractor_names("voc", names)[0] == "aeroplane"
    with pytest.raises(EvaluationError):
        distractor_names("0", names)


def test_files_of_wordings(tmp_path):
    default = read_wordings(DEFAULT_WORDINGS)
    assert default["wheel"] == "tyre" and default["hood"] == "bonnet"
    for text in ("[]", '{"a": 1}', "{"):
        path = tmp_path / "words.json"
        path.write_text(text)
        with pytest.raises(EvaluationError, match=r"words\.json"):
            read_wordings(path)
    with pytest.raises(EvaluationError, match="cannot read"):
        read_wordings(tmp_path / "none.json")

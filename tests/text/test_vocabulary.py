"""Vocabulary: the package's lists, the inline syntax, files, parts and their objects, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vlpart.errors import VocabularyError
from vlpart.text.naming import MAX_NAME_LENGTH
from vlpart.text.vocabulary import Entry, Vocabulary

SIZES = {
    "addition_part": 55,
    "coco": 80,
    "golden": 117,
    "golden_addition": 11,
    "golden_paco": 75,
    "golden_partimagenet": 11,
    "golden_pascal": 20,
    "imagenet_1k": 1000,
    "imagenet_s20": 20,
    "lvis_v1": 1203,
    "paco": 531,
    "partimagenet": 40,
    "partimagenet_supercategories": 11,
    "pascal_part": 93,
    "pascal_part_base": 77,
    "pascal_part_novel": 16,
    "tiny": 389,
    "voc": 20,
}


# ---- the lists of the package


UNIONS = {"lvis_paco": 1659, "pascal_part_voc": 113}


def test_lists_are_complete() -> None:
    assert {name: len(Vocabulary.load(name)) for name in Vocabulary.available()} == SIZES | UNIONS


@pytest.mark.parametrize("name", sorted(SIZES.keys() - {"tiny"}))
def test_list_equals_the_reference(name: str, shared: Path) -> None:
    reference = json.loads((shared / "facts" / "vocabularies" / f"{name}.json").read_text())["categories"]
    fields = ("id", "name", "object", "part", "abbr", "wnid", "image_count", "frequency")
    vocabulary = Vocabulary.load(name)
    assert [tuple(getattr(e, f) for f in fields) for e in vocabulary.entries] == [
        tuple(c.get(f) for f in fields) for c in reference
    ]
    assert [[list(pair) for pair in e.imagenet_id] for e in vocabulary.entries] == [
        c.get("imagenet_id", []) for c in reference
    ]
    assert vocabulary.title == name
    assert vocabulary.about


def test_ids_map_back_to_indices() -> None:
    coco = Vocabulary.load("coco")
    assert coco.ids[11] == 13  # COCO leaves 12 out
    assert coco.index_of_id[13] == 11 == coco.index("stop sign")
    partimagenet = Vocabulary.load("partimagenet")
    assert partimagenet.ids == tuple(range(40))


def test_parts_know_their_object() -> None:
    paco = Vocabulary.load("paco")
    door = paco.index("car_(automobile):antenna")
    owner = paco.index("car_(automobile)")
    assert paco.is_part(door)
    assert not paco.is_part(owner)
    assert paco.object_of(door) == owner
    assert paco.object_of(owner) is None
    assert door in paco.parts_of(owner)
    assert paco.parts_of(door) == ()
    pascal = Vocabulary.load("pascal_part")
    assert pascal.object_of(0) is None  # a list of parts only
    assert (pascal.object_name(0), pascal.part_name(0)) == ("aeroplane", "body")
    imagenet_part = Vocabulary.load("partimagenet").entries[0]
    assert imagenet_part == Entry(name="Quadruped Head", id=0, object="Quadruped", part="Head")


def test_repeated_names_of_a_list_find_the_first() -> None:
    imagenet = Vocabulary.load("imagenet_1k")
    first = [i for i, name in enumerate(imagenet.names) if name == "crane"]
    assert len(first) == 2
    assert imagenet.index("crane") == first[0]


# ---- the inline syntax


@pytest.mark.parametrize(
    ("word", "lists"),
    [
        ("lvis", "lvis_paco or lvis_v1"),
        ("tinyy", "tiny"),
        ("Pascal", "pascal_part or pascal_part_base or pascal_part_novel or pascal_part_voc"),
        ("pascalpart", "pascal_part"),
        ("taco", None),
        ("car", None),
        ("tiny car", None),
        ("lvis; coco", None),
    ],
)
def test_a_word_that_is_nearly_a_list_is_taken_with_a_warning(
    word: str, lists: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert Vocabulary.of(word) == Vocabulary.parse(word)
    assert [message.partition("the list ")[2] for message in caplog.messages] == ([lists] if lists else [])


def test_parse() -> None:
    vocabulary = Vocabulary.parse("car: wheel, door; dog head; person")
    assert vocabulary.names == ("car", "car:wheel", "car:door", "dog head", "person")
    assert vocabulary.ids == (1, 2, 3, 4, 5)
    assert vocabulary.parts_of(0) == (1, 2)
    assert vocabulary.object_of(2) == 0
    assert [vocabulary.part_name(i) for i in range(5)] == [None, "wheel", "door", None, None]
    assert [vocabulary.object_name(i) for i in range(5)] == ["car", "car", "car", "dog head", "person"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("head", ("head",)),
        ("person, dog", ("person", "dog")),
        ("  car :  wheel ,door ;person;\n", ("car", "car:wheel", "car:door", "person")),
        ("car: wheel\r\ncar: door\n\nperson", ("car", "car:wheel", "car:door", "person")),
        ("car; car: wheel", ("car", "car:wheel")),
        ("car:wheel, car:door", ("car", "car:wheel", "car:door")),
        ("person, car: wheel, dog: head", ("person", "car", "car:wheel", "dog", "dog:head")),
        ("Traffic\tLight", ("Traffic Light",)),
        ("cafe\u0301", ("caf\u00e9",)),
    ],
)
def test_parse_variants(text: str, names: tuple[str, ...]) -> None:
    assert Vocabulary.parse(text).names == names


def test_plain_part_of_a_named_object_is_recognised() -> None:
    vocabulary = Vocabulary.parse("dog head; dog; table; table lamp; dining table; Dining Table leg; cat head")
    parts = {vocabulary.names[i]: vocabulary.object_of(i) for i in range(len(vocabulary))}
    assert parts["dog head"] == 1
    assert parts["table lamp"] is None  # a lamp is no part of anything in the lists
    assert parts["Dining Table leg"] == 4  # the longest object, in any case
    assert parts["cat head"] is None  # "cat" is not there
    assert vocabulary.object_name(0) == "dog"


def test_part_names_of_the_vocabulary_itself_count() -> None:
    vocabulary = Vocabulary.parse("robot: gripper; crane; crane gripper")
    assert vocabulary.object_of(vocabulary.index("crane gripper")) == vocabulary.index("crane")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" ;\n", "is empty"),
        ("a;;b", "Piece 2"),
        ("a,,b", "Piece 1"),
        ("car:", "a part after it"),
        (": wheel", "an object before"),
        ("a:b:c", "more than one ':'"),
        ("car; dog; Car", "named twice (entries 1 and 3)"),
        ("car: wheel, Wheel", "named twice"),
        ("x" * (MAX_NAME_LENGTH + 1), "201 characters"),
        ("a\x07b", "U+0007"),
        ("a\x1bb", "U+001B"),
        ("a\ud800", "U+D800"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3, None, b"car", ["car"]])
def test_parse_wants_a_string(value: object) -> None:
    with pytest.raises(VocabularyError, match="must be a string"):
        Vocabulary.parse(value)  # type: ignore[arg-type]


# ---- from names and embeddings


def test_from_names() -> None:
    vocabulary = Vocabulary.from_names(["car", "car : wheel", "handle", "dog head"], [None, None, "mug", "dog"])
    assert vocabulary.names == ("car", "car:wheel", "mug:handle", "dog head")
    assert [(e.object, e.part) for e in vocabulary.entries] == [
        (None, None),
        ("car", "wheel"),
        ("mug", "handle"),
        ("dog", "head"),
    ]


@pytest.mark.parametrize(
    ("names", "objects"),
    [
        ([], None),
        ("car", None),
        ({"car": ["wheel"]}, None),
        (["car", ""], None),
        (["car", 3], None),
        (["car", "CAR"], None),
        (["car:"], None),
        (["a\nb"], None),
        (["car"], []),
        (["car:wheel"], ["dog"]),
        (["wheel"], [""]),
    ],
)
def test_from_names_refuses(names: list[str], objects: list[str | None] | None) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary.from_names(names, objects)


def test_from_embeddings_normalises_and_copies() -> None:
    given = np.array([[3.0, 4.0], [0.0, 2.0]])
    vocabulary = Vocabulary.from_embeddings(["car", "car:wheel"], given)
    given[:] = 0
    assert vocabulary.embeddings is not None
    assert vocabulary.embeddings.dtype == np.float32
    np.testing.assert_allclose(vocabulary.embeddings, [[0.6, 0.8], [0, 1]], rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.embeddings[0, 0] = 1
    assert vocabulary != Vocabulary.from_names(["car", "car:wheel"])


@pytest.mark.parametrize(
    "embeddings",
    [np.zeros((2, 4)), np.ones((3, 4)), np.ones(2), np.ones((2, 0)), np.full((2, 4), np.nan), [["a", "b"]], "x", None],
)
def test_from_embeddings_refuses(embeddings: np.ndarray) -> None:
    if embeddings is None:
        assert Vocabulary.from_embeddings(["a", "b"], embeddings).embeddings is None
        return
    with pytest.raises(VocabularyError):
        Vocabulary.from_embeddings(["a", "b"], embeddings)


def test_from_embeddings_refuses_a_tensor_under_training() -> None:
    with pytest.raises(VocabularyError, match="detach"):
        Vocabulary.from_embeddings(["a"], torch.ones((1, 4), requires_grad=True))


@pytest.mark.timeout(10)  # 0.1 s alone
def test_thousands_of_names() -> None:
    vocabulary = Vocabulary.from_names([f"thing {i}" for i in range(6000)])
    assert vocabulary.index("thing 5999") == 5999
    parsed = Vocabulary.parse("; ".join(f"object {i}: part, other" for i in range(2000)))
    assert len(parsed) == 6000
    assert parsed.parts_of(parsed.index("object 1999")) == (5998, 5999)


# ---- content, copies, search


def test_equal_and_hashed_by_content() -> None:
    a, b = Vocabulary.parse("car: wheel; dog"), Vocabulary.from_names(["car", "car:wheel", "dog"])
    assert a == b
    assert len({a, b}) == 1
    assert a.content_hash == b.content_hash
    assert a != Vocabulary.from_names(["car:wheel", "car", "dog"])
    assert a != "car"


def test_survives_pickle_and_dict() -> None:
    paco = Vocabulary.load("paco")
    assert pickle.loads(pickle.dumps(paco)) == paco
    again = Vocabulary.from_dict(json.loads(json.dumps(paco.to_dict())))
    assert again == paco
    assert (again.title, again.about) == (paco.title, paco.about)


def test_subset_keeps_ids_and_embeddings() -> None:
    whole = Vocabulary.from_embeddings(["a", "b", "c"], np.eye(3))
    part = whole.subset([2, 0])
    assert part.names == ("c", "a")
    assert part.ids == (3, 1)
    np.testing.assert_array_equal(part.embeddings, np.eye(3)[[2, 0]])
    with pytest.raises(VocabularyError):
        whole.subset([])


def test_index_suggests() -> None:
    coco = Vocabulary.load("coco")
    assert coco.index("Person") == 0
    assert "CAR" in coco
    assert "cart" not in coco
    with pytest.raises(VocabularyError, match="did you mean person"):
        coco.index("persn")


# ---- files and `of`


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff# what to look for\ncar: wheel, door\n\n  # more\ntail lamp\n", encoding="utf-8")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.names == ("car", "car:wheel", "car:door", "tail lamp")
    assert vocabulary.title == "mine"


def test_coco_file(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    categories = [
        {"id": 7, "name": "car", "supercategory": "OBJECT", "part": None},
        {"id": 3, "name": "car:wheel", "object": "car", "part": "wheel"},
        {"id": 9, "name": "Car Body", "object": "car", "part": "Body", "image_count": 4, "frequency": "r"},
        {"id": 10, "name": "car"},
    ]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    vocabulary = Vocabulary.load(str(path))
    assert vocabulary.ids == (7, 3, 9, 10)
    assert vocabulary.parts_of(0) == (1, 2)
    assert vocabulary.entries[2].frequency == "r"
    assert vocabulary == Vocabulary.from_categories(categories)


def test_own_form_and_plain_list(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(Vocabulary.load("pascal_part").to_dict()))
    assert Vocabulary.load(path) == Vocabulary.load("pascal_part")
    path.write_text('["car", "car:wheel"]')
    assert Vocabulary.load(path).parts_of(0) == (1,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[" * 100_000),
        ("a.json", b"3"),
        ("a.json", b'{"images": []}'),
        ("a.json", b'{"categories": []}'),
        ("a.json", b'{"categories": [3]}'),
        ("a.json", b'{"categories": [{"id": 1}]}'),
        ("a.json", b'{"categories": [{"id": 1, "name": "a\\u0007"}]}'),
        ("a.json", b'{"categories": [{"id": "x", "name": "a"}]}'),
        ("a.json", b'{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}'),
        ("a.json", b'{"categories": [{"id": 1, "name": "a", "image_count": "many"}]}'),
        ("a.json", b'{"categories": [{"id": 1, "name": "a", "imagenet_id": [3]}]}'),
        ("a.json", b"\xff\xfe"),
        ("a.txt", b"\xff\xfe\x00"),
        ("a.txt", b""),
        ("a.txt", b"# only a comment\n"),
        ("a.txt", b"car\ncar\n"),
        ("a.csv", b"car"),
    ],
)
def test_bad_files(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.load(path)
    assert "\n" not in str(caught.value)


def test_missing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="did you mean pascal_part"):
        Vocabulary.load("pascal_prt")
    with pytest.raises(VocabularyError):
        Vocabulary.load(tmp_path)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(VocabularyError, match="cannot be read"):
        Vocabulary.load(tmp_path / "folder.json")


def test_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("car\n")
    parsed = Vocabulary.parse("car")
    assert Vocabulary.of(parsed) is parsed
    assert Vocabulary.of("car") == Vocabulary.of(["car"]) == Vocabulary.of(("car",)) == parsed
    assert Vocabulary.of(path) == Vocabulary.of(str(path)) == parsed
    assert Vocabulary.of("voc") == Vocabulary.load("voc")
    for wrong in ("gone.txt", "pascal_prt", 3, b"car", None, {"car"}):
        with pytest.raises(VocabularyError):
            Vocabulary.of(wrong)  # type: ignore[arg-type]


def test_imports_no_torch_and_no_numpy() -> None:
    code = (
        "import sys; from vlpart.text.vocabulary import Vocabulary; Vocabulary.load('lvis_v1'); "
        "Vocabulary.parse('car: wheel'); assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- lists that would take for ever


def test_long_names_are_refused_before_they_are_composed(tmp_path: Path) -> None:
    """Composing 200,000 combining marks takes minutes, since each is sorted among all the others."""
    path = tmp_path / "nfc.txt"
    path.write_text("a" + "\u0301\u0323" * 100_000, encoding="utf-8")
    with pytest.raises(VocabularyError, match="the limit is 200"):
        Vocabulary.load(path)


def test_names_are_composed_before_they_are_counted() -> None:
    assert Vocabulary.parse("e\u0301" * 150).names == ("\u00e9" * 150,)


def test_ids_that_would_fall_on_one_place_of_a_dictionary() -> None:
    categories = [{"id": (2**61 - 1) * i, "name": f"name {i}"} for i in range(1, 50_000)]
    with pytest.raises(VocabularyError, match="64 bits"):
        Vocabulary.from_categories(categories)


@pytest.mark.parametrize(
    "category",
    [
        {"id": 1, "name": "a", "text": "b" * 100_000},
        {"id": 1, "name": "a", "imagenet_id": [[1e999, 2]]},
        {"id": 10**400, "name": "a"},
        {"id": [[]] * 3, "name": "a"},
    ],
)
def test_fields_without_bounds(category: dict[str, object]) -> None:
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.from_categories([category])
    assert len(str(caught.value)) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_no_vocabulary(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "names.txt")
    with pytest.raises(VocabularyError, match="a pipe"):
        Vocabulary.load(tmp_path / "names.txt")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(VocabularyError, match="a device"):
        Vocabulary.load(tmp_path / "zero.json")


def test_unions_of_lists() -> None:
    """Every PACO object is one of LVIS, so its 75 objects come once: 1203 + 531 - 75."""
    both = Vocabulary.load("lvis_paco")
    assert len(both) == 1659
    assert both.names[:1203] == Vocabulary.load("lvis_v1").names
    assert set(both.names[1203:]) == {name for name in Vocabulary.load("paco").names if ":" in name}
    parts = Vocabulary.load("pascal_part_voc")
    assert parts.names == (*Vocabulary.load("pascal_part").names, *Vocabulary.load("voc").names)
    assert [entry.id for entry in parts.entries] == list(range(1, 114))

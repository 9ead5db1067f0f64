"""Names of results, which never clash and never hit a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlpart.errors import OutputError
from vlpart.files import write_file
from vlpart.inference.output_names import OutputNames, SourceProtectedError


def touch(*paths: Path) -> list[str]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"source")
    return [str(path) for path in paths]


def test_files_of_one_folder_are_named_by_their_stem(tmp_path: Path) -> None:
    sources = touch(tmp_path / "a.jpg", tmp_path / "b.JPEG")
    names = OutputNames(sources, tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["a", "b"]


def test_same_stem_in_two_folders_keeps_the_folders(tmp_path: Path) -> None:
    sources = touch(tmp_path / "x" / "p.jpg", tmp_path / "y" / "p.jpg")
    names = OutputNames(sources, tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["x/p", "y/p"]
    assert names.relative(sources[1]) == "y/p.jpg"


def test_images_that_differ_only_in_suffix_or_case_are_numbered(tmp_path: Path) -> None:
    sources = touch(tmp_path / "p.jpg", tmp_path / "p.png", tmp_path / "P.webp")
    names = OutputNames([str(tmp_path)], tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["p", "p-2", "P-3"]


def test_a_number_does_not_take_the_name_of_another_image(tmp_path: Path) -> None:
    sources = touch(tmp_path / "p-2.jpg", tmp_path / "p.jpg", tmp_path / "p.png")
    names = OutputNames(sources, tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["p-2", "p", "p-3"]


def test_folders_and_files_together_share_the_folder_above(tmp_path: Path) -> None:
    inside, beside = touch(tmp_path / "album" / "day" / "p.jpg", tmp_path / "p.jpg")
    names = OutputNames([str(tmp_path / "album"), beside], tmp_path / "out")
    assert [names.stem(inside), names.stem(beside)] == ["album/day/p", "p"]


@pytest.mark.parametrize(
    ("address", "stem"),
    [
        ("https://example.org/cats/my%20cat.jpg?size=large", "my_cat"),
        ("https://example.org/", "example.org"),
        ("https://example.org/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://example.org/" + "n" * 500 + ".jpg", "n" * 120),
        ("https://example.org/" + "%E7%8C%AB" * 100 + ".jpg", "猫" * 76),
    ],
)
def test_addresses_give_plain_file_names(tmp_path: Path, address: str, stem: str) -> None:
    assert OutputNames([address], tmp_path).stem(address) == stem


def test_the_longest_file_names_leave_room_for_what_is_added(tmp_path: Path) -> None:
    first, second = touch(tmp_path / ("猫" * 83 + ".jpg"), tmp_path / ("猫" * 83 + ".png"))
    names = OutputNames([first, second], tmp_path / "out")
    stems = [names.stem(first), names.stem(second)]
    assert stems == ["猫" * 76, "猫" * 76 + "-2"]
    for stem in stems:
        write_file(names.target(stem + "_parts.json"), b"{}")


def test_names_that_no_file_system_holds_are_no_trouble_yet(tmp_path: Path) -> None:
    for name in ("n" * 300 + ".jpg", "n" * 300 + "*.jpg", "~nobody is called so.jpg"):
        names = OutputNames([name], tmp_path / "out")
        assert names.relative(name) == name
        assert names.stem(name) is not None


def test_the_output_folder_must_not_be_a_source_folder(tmp_path: Path) -> None:
    touch(tmp_path / "album" / "p.jpg")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "album")
    for output in (tmp_path / "album", tmp_path / "album" / ".." / "album", link):
        with pytest.raises(OutputError, match="choose another with --output"):
            OutputNames([str(tmp_path / "album")], output)


def test_results_in_a_subfolder_of_the_source_are_not_sources(tmp_path: Path) -> None:
    source, result = touch(tmp_path / "p.jpg", tmp_path / "out" / "p_parts.jpg")
    names = OutputNames([str(tmp_path)], tmp_path / "out")
    assert names.stem(result) is None
    assert names.stem(source) is not None
    assert names.target("p_parts.jpg") == tmp_path / "out" / "p_parts.jpg"  # a second run may replace it
    assert OutputNames([result], tmp_path / "out").stem(result) is not None  # named explicitly: a source


def test_a_result_never_takes_the_name_of_a_source(tmp_path: Path) -> None:
    sources = touch(tmp_path / "p.jpg", tmp_path / "p_parts.jpg")
    names = OutputNames(sources, tmp_path)
    with pytest.raises(SourceProtectedError, match=r"p_parts\.jpg would overwrite a source"):
        names.target("p_parts.jpg")
    assert names.target("p_parts.json") == tmp_path / "p_parts.json"


def test_a_source_is_recognised_through_links(tmp_path: Path) -> None:
    (source,) = touch(tmp_path / "real" / "q_parts.jpg")
    folder_link = tmp_path / "folder"
    folder_link.symlink_to(tmp_path / "real")
    with pytest.raises(SourceProtectedError):
        OutputNames([source], folder_link).target("q_parts.jpg")
    file_link = tmp_path / "out" / "q_parts.jpg"
    file_link.parent.mkdir()
    file_link.symlink_to(source)
    with pytest.raises(SourceProtectedError):
        OutputNames([source], tmp_path / "out").target("q_parts.jpg")
    with pytest.raises(SourceProtectedError):
        OutputNames([str(file_link)], tmp_path / "out").target("q_parts.jpg")


def test_a_pattern_protects_what_it_may_match(tmp_path: Path) -> None:
    touch(tmp_path / "p.jpg", tmp_path / "p_parts.jpg")
    names = OutputNames([str(tmp_path / "*.jpg")], tmp_path)
    with pytest.raises(SourceProtectedError):
        names.target("p_parts.jpg")
    assert names.target("other_parts.jpg").name == "other_parts.jpg"

"""A short seeded run of every kind of spoiled input; `scripts/robustness.py` runs more, with bounds for each case."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness.more_kinds import ALL_KINDS
from tests.robustness.mutations import ODD, outcome
from vlpart import web
from vlpart.errors import VlpartError
from vlpart.names import printable
from vlpart.text.vocabulary import Vocabulary

SHORT = {"server answers": 25, "videos": 40, "exported graphs": 40, "requests": 40}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # forms that starlette leaves half read
@pytest.mark.parametrize("name", ALL_KINDS)
def test_spoiled_inputs_are_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = [outcome(ALL_KINDS[name], index, tmp_path) for index in range(SHORT.get(name, 120))]
    if name not in ("logs", "text caches"):  # what is spoiled there is left out, or made again
        assert "refused" in found, "nothing was spoiled enough"


few = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
values = st.sampled_from(ODD) | st.text(max_size=3)


@few
@given(st.text(alphabet=st.sampled_from("ab :;,\n\t#\u0301\u200d\x00"), max_size=60))
def test_any_text_is_a_vocabulary_or_refused(text: str) -> None:
    try:
        found = Vocabulary.parse(text)
    except VlpartError as error:
        message = str(error)
    else:
        message = found.names[0]
    assert message
    assert "\n" not in message


@few
@given(st.lists(st.fixed_dictionaries({}, optional={"id": values, "name": values, "text": values}), max_size=3))
def test_any_categories_are_a_vocabulary_or_refused(categories: list[dict[str, object]]) -> None:
    try:
        found = len(Vocabulary.from_categories(categories))
    except VlpartError:
        found = 0
    assert found in (0, len(categories))


@few
@given(st.text(max_size=12))
def test_whatever_is_shown_is_printable(text: str) -> None:
    for given_text in (text, f"http://a:b@c/{text}"):
        for shown in (printable(given_text), web.shown(given_text)):
            assert "\x1b" not in shown
            assert "\n" not in shown
            shown.encode("utf-8")
    assert "geheim" not in web.shown(f"http://anna:geheim@host/{text}")


@few
@given(st.text(max_size=12) | st.text(max_size=6).map(lambda end: f"http://{end}"))
def test_any_address_is_quoted_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert web.quoted(text).lower().startswith("http")

"""What the commands show: bars on a terminal, and lines above them."""

from __future__ import annotations

import io
import sys

import pytest

from vlpart.cli.console import Bars


@pytest.mark.parametrize("in_bytes", [False, True])
def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch, in_bytes: bool) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    with Bars(in_bytes=in_bytes) as progress:
        progress("r50_voc", 10, None)
        progress("r50_voc", 20, 100)
        progress.say("a line")
    assert out.getvalue() == "a line\n"  # no terminal, no bar
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Bars(in_bytes=in_bytes) as progress:
        progress("r50_voc", 100, 100)
        progress.say("[another] line")
    assert "r50_voc" in out.getvalue()
    assert "[another] line" in out.getvalue()
    out.truncate(0)
    with Bars(hidden=True, in_bytes=in_bytes) as progress:
        progress("r50_voc", 100, 100)
    assert "r50_voc" not in out.getvalue()

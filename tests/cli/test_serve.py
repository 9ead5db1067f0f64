"""`vlpart serve`: that it starts, says where, ends when told to, and says in one line why it does not start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytest.importorskip("fastapi", reason='needs the extra "serve"')


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_says_where_it_is_and_ends_when_told_to(tiny_weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlpart", "serve", "--port", "0", "--token", "abc"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stdout is not None and server.stderr is not None
        try:
            line = server.stdout.readline()
            assert line.startswith("the studio is at http://127.0.0.1:") and line.endswith("(Ctrl-C ends it)\n")
            address, _, token = line.split()[4].partition("#token=")
            assert token == "abc"
            asked = urllib.request.Request(f"{address}v1/models", headers={"Authorization": "Bearer abc"})
            with urllib.request.urlopen(asked, timeout=20) as answer:
                assert json.load(answer)[0]["name"] == "tiny"
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        assert server.stderr.read() == "stopped\n"


def test_a_port_that_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = run("serve", "--port", str(port))
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: cannot listen on 127.0.0.1:{port}; another program has it: ")


def test_a_model_that_is_not_there(run: Run) -> None:
    outcome = run("serve", "--port", "0", "--model", "tiyn")
    assert outcome.code == 1 and "did you mean tiny" in outcome.err.lower()


def test_without_the_extra_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = run("serve")
    assert outcome.code == 1
    assert outcome.err == 'error: uvicorn is not installed: pip install "vlpart[serve]"\n'


def test_the_world_is_let_in_only_with_a_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import vlpart.cli.serve as command

    started = []
    monkeypatch.setattr(command, "_run", lambda settings, host, port, open_page: started.append((settings, host)))
    assert "anybody who can reach 0.0.0.0" in run("serve", "--host", "0.0.0.0").err
    assert run("serve", "--host", "0.0.0.0", "--token", "abc").err == ""
    assert run("serve", "--host", "::1").err == ""
    assert [settings.hosts is None for settings, _ in started] == [True, True, False]
    assert [settings.token for settings, _ in started] == [None, "abc", None]


def test_an_engine_is_for_exported_files(run: Run) -> None:
    outcome = run("serve", "--port", "0", "--engine", "onnxruntime")
    assert outcome.code == 2 and "vlpart export tiny" in " ".join(outcome.err.replace("│", " ").split())


def test_a_file_that_is_not_there_is_told_at_the_start(run: Run, tmp_path: Path) -> None:
    outcome = run("serve", "--port", "0", "--model", tmp_path / "absent.onnx", "--engine", "onnxruntime")
    assert outcome.code == 1 and "there is no exported model" in outcome.err

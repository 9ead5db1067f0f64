"""Downloads from a server on this machine: whole, interrupted, resumed, changed, refused, wrong, at once, disk full."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.web_server import DATA, SHA256, Script, Server
from tests.web_server import server as server
from vlpart.errors import DownloadError, ModelNotFoundError, WeightsError
from vlpart.zoo import catalogue, download
from vlpart.zoo.download import cache_folder, download_file, download_model


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "model.pth"


def leftovers(target: Path) -> set[str]:
    """Names beside the file, but for the lock."""
    return {path.name for path in target.parent.iterdir()} - {target.name + ".lock"}


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


# ---- whole


def test_whole(server: Server, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert (
        download_file(server.url, target, size=len(DATA), sha256=SHA256, progress=lambda label, *a: seen.append(a))
        == target
    )
    assert target.read_bytes() == DATA
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert leftovers(target) == {"model.pth", "model.pth.json"}
    record = json.loads((target.parent / "model.pth.json").read_text())
    assert (record["sha256"], record["size"], record["url"]) == (SHA256, len(DATA), server.url)


def test_nothing_is_asked_twice(server: Server, target: Path) -> None:
    download_file(server.url, target)
    download_file(server.url, target)
    assert len(server.script.asked) == 1
    download_file(server.url, target, force=True)
    assert len(server.script.asked) == 2


def test_redirects_and_unknown_length(server: Server, target: Path) -> None:
    server.script = Script(redirect=True, say_length=False, etag="")
    assert download_file(server.url, target).read_bytes() == DATA


# ---- interrupted


def test_a_broken_line_goes_on(server: Server, target: Path) -> None:
    server.script = Script(cuts=[300_000, 200_000])
    assert download_file(server.url, target, sha256=SHA256).read_bytes() == DATA
    assert server.script.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_the_next_call_goes_on(server: Server, target: Path) -> None:
    server.script = Script(cuts=[300_000, 0, 0, 0, 0])
    with pytest.raises(DownloadError, match="300000 bytes are kept, run it again"):
        download_file(server.url, target)
    assert not target.exists()
    assert part_of(target).stat().st_size == 300_000
    server.script = Script()
    assert download_file(server.url, target).read_bytes() == DATA
    assert server.script.asked == ["bytes=300000-"]
    assert leftovers(target) == {"model.pth", "model.pth.json"}


def test_control_c_keeps_the_beginning(server: Server, target: Path) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        if done >= 2 * download.BLOCK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(server.url, target, progress=stop)
    kept = part_of(target).stat().st_size
    assert kept >= 2 * download.BLOCK
    assert download_file(server.url, target).read_bytes() == DATA
    assert server.script.asked == [None, f"bytes={kept}-"]


def test_server_without_ranges_starts_again(server: Server, target: Path) -> None:
    server.script = Script(cuts=[300_000], ranges=False)
    assert download_file(server.url, target, sha256=SHA256).read_bytes() == DATA


@pytest.mark.parametrize("etag", ['"two"', ""])
def test_a_changed_file_is_not_glued_together(etag: str, server: Server, target: Path) -> None:
    server.script = Script(data=b"x" * 500_000, cuts=[300_000, 0, 0, 0, 0])
    with pytest.raises(DownloadError):
        download_file(server.url, target)
    if not etag:  # a server that says nothing about versions: the other length gives it away
        notes = target.parent / "model.pth.part.json"
        notes.write_text(json.dumps(json.loads(notes.read_text()) | {"version": ""}))
    server.script = Script(etag=etag)
    assert download_file(server.url, target).read_bytes() == DATA


def test_part_of_another_address_is_not_used(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(b"x" * 1000)
    assert download_file(server.url, target).read_bytes() == DATA
    assert server.script.asked == [None]


def test_whole_part_is_only_verified(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(DATA)
    (target.parent / "model.pth.part.json").write_text(
        json.dumps({"url": server.url, "version": '"one"', "total": len(DATA)})
    )
    assert download_file(server.url, target).read_bytes() == DATA
    assert server.script.asked == [f"bytes={len(DATA)}-"]


def test_a_part_that_is_too_long(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(DATA + b"more")
    assert download_file(server.url, target, size=len(DATA)).read_bytes() == DATA


# ---- refused and wrong


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refused_at_once(status: int, server: Server, target: Path) -> None:
    server.script = Script(statuses=[status] * 9)
    with pytest.raises(DownloadError, match=f"answered {status}"):
        download_file(server.url, target)
    assert len(server.script.asked) == 1
    assert not target.exists()


def test_busy_servers_are_asked_again(server: Server, target: Path) -> None:
    server.script = Script(statuses=[503])
    assert download_file(server.url, target).read_bytes() == DATA
    server.script = Script(statuses=[503] * 9)
    with pytest.raises(DownloadError, match="503"):
        download_file(server.url, target, force=True)


def test_refused_connection(target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="could not be downloaded"):
        download_file(f"http://127.0.0.1:{port}/x", target, timeout=2)


def test_silent_server_times_out(target: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DownloadError, match="timed out"):
            download_file(f"http://127.0.0.1:{silent.getsockname()[1]}/x", target, timeout=0.1)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "model.pth", ""])
def test_only_web_addresses(url: str, target: Path) -> None:
    with pytest.raises(DownloadError, match="http"):
        download_file(url, target)


def test_wrong_hash(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="SHA-256"):
        download_file(server.url, target, sha256="0" * 64)
    assert leftovers(target) == set()


def test_wrong_size(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match=f"has {len(DATA)} bytes"):
        download_file(server.url, target, size=5)
    server.script = Script(say_length=False)
    with pytest.raises(DownloadError, match="more than the 5 bytes"):
        download_file(server.url, target, size=5)
    assert leftovers(target) == set()


def test_web_page_and_empty_file(server: Server, target: Path) -> None:
    server.script = Script(data=b"<html>log in</html>", content_type="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="web page"):
        download_file(server.url, target)
    server.script = Script(data=b"")
    with pytest.raises(DownloadError, match="empty"):
        download_file(server.url, target)


# ---- what is there already


def test_damaged_later(server: Server, target: Path) -> None:
    download_file(server.url, target)
    target.write_bytes(DATA[:-1] + b"\0")
    with pytest.raises(DownloadError, match="damaged"):
        download_file(server.url, target)
    target.write_bytes(DATA[:-1])
    with pytest.raises(DownloadError, match="bytes are expected|are expected"):
        download_file(server.url, target)
    assert download_file(server.url, target, force=True).read_bytes() == DATA


def test_touched_but_whole(server: Server, target: Path) -> None:
    download_file(server.url, target)
    os.utime(target, (1, 1))
    assert download_file(server.url, target) == target
    assert len(server.script.asked) == 1


def test_put_there_by_hand(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(DATA)
    url = "http://127.0.0.1:9/never-asked"
    assert download_file(url, target, sha256=SHA256) == target
    (target.parent / "model.pth.json").write_text("not json")
    assert download_file(url, target) == target
    assert json.loads((target.parent / "model.pth.json").read_text())["sha256"] == SHA256
    with pytest.raises(DownloadError, match="damaged"):
        download_file(url, target, sha256="0" * 64)


# ---- the disk, and others


def test_no_room(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = download.shutil.disk_usage(target.anchor)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="disk is full"):
        download_file(server.url, target)
    assert not target.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_disk_full_while_writing(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="disk is full"):
        download_file(server.url, target)
    part_of(target).unlink()
    assert download_file(server.url, target).read_bytes() == DATA


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="cannot be written"):
        download_file(server.url, tmp_path / "x" / "model.pth")


def test_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="VLPART_CACHE"):
        download_file(server.url, tmp_path / "file" / "model.pth")


def test_read_only_errors_are_named(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, other: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DownloadError, match="Read-only"):
        download_file(server.url, target)


_DOWNLOAD = """
import sys
from pathlib import Path
from vlpart.zoo.download import download_file, sha256_of
print(sha256_of(download_file(sys.argv[1], Path(sys.argv[2]))))
"""


def test_two_processes_download_once(server: Server, target: Path) -> None:
    command = [sys.executable, "-c", _DOWNLOAD, server.url, str(target)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert digests == [SHA256, SHA256]
    assert len(server.script.asked) == 1


def test_two_threads_download_once(server: Server, target: Path) -> None:
    threads = [threading.Thread(target=download_file, args=(server.url, target)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == DATA
    assert len(server.script.asked) == 1


# ---- models by name


@pytest.fixture
def one_model(server: Server, monkeypatch: pytest.MonkeyPatch) -> catalogue.ModelEntry:
    """The catalogue's r50_voc, served from here."""
    entry = replace(catalogue.get_model("r50_voc"), url=server.url.replace("model.pth", "r50_voc.pth"))
    monkeypatch.setattr(download, "get_model", lambda name: entry)
    return entry


@pytest.mark.usefixtures("one_model")
def test_model_goes_to_the_cache(private_cache: Path, tmp_path: Path) -> None:
    assert download_model("r50_voc") == private_cache / "models" / "r50_voc.pth"
    assert download_model("r50_voc", folder=tmp_path).read_bytes() == DATA


def test_model_offline_says_what_to_do(one_model: catalogue.ModelEntry, server: Server, private_cache: Path) -> None:
    server.script = Script(statuses=[404])
    with pytest.raises(DownloadError) as caught:
        download_model("r50_voc")
    message = str(caught.value)
    assert one_model.url is not None
    for needed in ("404", one_model.url, str(private_cache / "models" / "r50_voc.pth"), "--weights"):
        assert needed in message
    assert "\n" not in message


def test_embedded_models_need_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ASSETS", tmp_path)
    with pytest.raises(WeightsError, match="install the package again"):
        download_model("tiny")
    (tmp_path / "tiny.safetensors").write_bytes(b"x")
    assert download_model("tiny") == tmp_path / "tiny.safetensors"


def test_unknown_model() -> None:
    with pytest.raises(ModelNotFoundError, match="r50_coco"):
        download_model("r50_cocoo")


# ---- folders, progress, imports


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLPART_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("VLPART_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("VLPART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "vlpart"
    assert cache_folder().name == "vlpart"
    assert cache_folder().is_absolute()


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown user in a container: some versions of platformdirs raise, others give a path below `~`."""

    def homeless(*given: object, **named: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("VLPART_CACHE")
    for lost in (homeless, lambda *given, **named: Path("~/.cache/vlpart")):
        monkeypatch.setattr("vlpart.files.user_cache_path", lost)
        folder = cache_folder()
        assert folder.is_dir()
        assert folder == cache_folder()
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    assert caplog.text.count("set VLPART_CACHE") <= 1
    assert not Path("~").exists()


def test_light_imports() -> None:
    code = (
        "import sys, vlpart.zoo.download, vlpart.zoo.catalogue; vlpart.zoo.catalogue.list_models(); "
        "assert not {'torch', 'numpy', 'rich', 'filelock'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

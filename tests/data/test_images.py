"""Every kind of image becomes (H, W, 3) uint8 RGB, and every kind of bad one an ImageError of one line."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from vlpart import web
from vlpart.data import image_headers, images
from vlpart.data.image_files import list_images
from vlpart.data.images import read_image
from vlpart.errors import ImageError


@pytest.fixture
def image() -> np.ndarray:
    """(20, 30, 3): red left half, blue right half, one green row on top."""
    array = np.zeros((20, 30, 3), dtype=np.uint8)
    array[:, :15, 0] = 255
    array[:, 15:, 2] = 255
    array[0] = (0, 255, 0)
    return array


def encoded(image: Image.Image, suffix: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def test_all_ways_in_give_the_same_pixels(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(image)))
    tensor = torch.from_numpy(image)
    with path.open("rb") as file:
        ways = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes()), file]
        ways += [Image.open(path), image, image[:, ::-1][:, ::-1], tensor, tensor.permute(2, 0, 1)]
        ways += [tensor.permute(2, 0, 1) / 255, (tensor / 255).double()]
        for way in ways:
            read = read_image(way)
            assert read.dtype == np.uint8
            assert read.flags.c_contiguous
            assert np.array_equal(read, image), type(way)
            assert not np.shares_memory(read, image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_exif_orientation(image: np.ndarray, orientation: int, mode: str) -> None:
    stored = Image.fromarray(image).convert(mode)
    upright = read_image(stored)
    turn = {2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1)}
    turn |= {6: lambda x: np.rot90(x, -1), 7: lambda x: x[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    assert np.array_equal(read_image(data), turn.get(orientation, lambda x: x)(upright))
    assert np.array_equal(read_image(Image.open(io.BytesIO(data))), read_image(data))


def test_transparency_goes_on_white(image: np.ndarray) -> None:
    rgba = np.dstack([image, np.full((20, 30), 255, dtype=np.uint8)])
    rgba[10:, :, 3] = 0
    rgba[5, :, 3] = 128
    expected = image.copy()
    expected[10:] = 255
    for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba)), torch.from_numpy(rgba)):
        read = read_image(source)
        assert np.array_equal(np.delete(read, 5, axis=0), np.delete(expected, 5, axis=0))
        assert read[5, 0].tolist() == [255, 127, 127]
    grey = read_image(Image.fromarray(rgba).convert("LA"))
    assert (grey[15] == 255).all()
    assert (grey[3, 0] == 76).all()


def test_palettes(image: np.ndarray) -> None:
    palette = Image.fromarray(image).quantize(3)
    assert np.abs(read_image(palette).astype(int) - image).max() <= 2
    opaque = read_image(encoded(palette))
    index = palette.getpixel((0, 10))
    clear = read_image(encoded(palette, transparency=index))
    assert (clear[10, 0] == 255).all()
    assert np.array_equal(clear[10, 20], opaque[10, 20])
    keyed = encoded(Image.fromarray(image), transparency=(0, 0, 255))
    assert (read_image(keyed)[10, 20] == 255).all()
    assert read_image(keyed)[10, 0].tolist() == [255, 0, 0]


def test_one_bit() -> None:
    bits = np.eye(9, dtype=bool)
    assert np.array_equal(read_image(Image.fromarray(bits))[:, :, 1], bits * np.uint8(255))


@pytest.mark.parametrize(("top", "bits"), [(200, 8), (256, 10), (1023, 10), (3000, 12), (16000, 14), (65535, 16)])
def test_sixteen_bit_grey_uses_the_smallest_depth_that_holds_it(top: int, bits: int) -> None:
    ramp = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    expected = np.rint(ramp * (255 / (2**bits - 1)))
    for source in (ramp, Image.fromarray(ramp), encoded(Image.fromarray(ramp)), encoded(Image.fromarray(ramp), "TIFF")):
        assert np.array_equal(read_image(source)[:, :, 0], expected)
    wide = Image.fromarray(ramp.astype(np.int32))
    assert wide.mode == "I"
    assert np.array_equal(read_image(wide)[:, :, 2], expected)


def test_float_and_wide_images() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    expected = np.rint(ramp * 255)
    for values in (ramp, ramp * 255, ramp * 5000 - 2500):
        assert np.abs(read_image(encoded(Image.fromarray(values), "TIFF"))[:, :, 0] - expected).max() <= 1
    assert not read_image(Image.new("F", (3, 3))).any()
    negative = np.rint(ramp * 200000 - 100).astype(np.int32)
    assert np.abs(read_image(Image.fromarray(negative))[:, :, 0] - expected).max() <= 1
    ramp[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        read_image(Image.fromarray(ramp))


def test_cmyk_jpeg(image: np.ndarray) -> None:
    """Pillow writes CMYK as Adobe does (inverted), so a round trip shows whether the inversion is undone."""
    data = encoded(Image.fromarray(image).convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert Image.open(io.BytesIO(data)).info["adobe_transform"] is not None
    read = read_image(data).astype(int)
    assert np.abs(read[5:, 2:10] - image[5:, 2:10]).max() < 12
    assert np.abs(read[5:, 20:] - image[5:, 20:]).max() < 12


def test_first_frame_of_an_animation(image: np.ndarray) -> None:
    first, second = Image.fromarray(image), Image.fromarray(255 - image)
    for suffix, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})):
        data = encoded(first, suffix, save_all=True, append_images=[second], **options)
        assert Image.open(io.BytesIO(data)).n_frames == 2
        assert np.array_equal(read_image(data), image), suffix


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {})],
)
def test_truncated_files_never_come_out_half(
    suffix: str, options: dict[str, Any], lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # some libraries switch this on for everybody
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), suffix, **options)
    assert read_image(data).shape == (64, 64, 3)
    for keep in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match=r"damaged|header") as error:
            read_image(data[: int(len(data) * keep)])
        assert "\n" not in str(error.value)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_unreadable_exif_is_ignored(image: np.ndarray) -> None:
    data = encoded(Image.fromarray(image), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x01\x12")
    assert read_image(data).shape == image.shape


def test_pixel_limit_is_checked_before_decoding(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    small = encoded(Image.fromarray(image))
    for source in (small, image, Image.fromarray(image), torch.from_numpy(image)):
        with pytest.raises(ImageError, match=r"600 pixels \(30x20\).*--max-pixels.*max_pixels"):
            read_image(source, max_pixels=599)
        assert read_image(source, max_pixels=600).shape == (20, 30, 3)
        assert read_image(source, max_pixels=None).shape == (20, 30, 3)
    bomb = bytearray(small)
    bomb[16:24] = struct.pack(">II", 20_000, 20_000)  # the size in the header of the PNG
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="400,000,000 pixels"):  # and no warning of Pillow's
        read_image(bomb)


def test_the_limit_can_be_lifted_over_pillows_own(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert read_image(encoded(Image.fromarray(image))).shape == image.shape
    assert Image.MAX_IMAGE_PIXELS == 200


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "float32: convert it to uint8"),
        (torch.full((3, 4, 4), 1.5), r"float32 with values outside 0\.\.1: convert it to uint8.*torch\.uint8"),
        (torch.full((3, 4, 4), torch.nan), "outside 0..1"),
        (np.zeros((4, 4, 3), dtype=np.int64), "int64"),
        (np.zeros((4, 4, 3), dtype=np.uint16), "uint16 colour"),
        (np.zeros((3, 8, 9), dtype=np.uint8), r"shape \(3, 8, 9\).*transpose"),
        (np.zeros((1, 8, 9, 3), dtype=np.uint8), "pass a list"),
        (torch.zeros((1, 3, 8, 9), dtype=torch.uint8), "pass a list"),
        (np.zeros((8, 9, 5), dtype=np.uint8), "shape"),
        (np.zeros(9, dtype=np.uint8), "shape"),
        (np.zeros((0, 9, 3), dtype=np.uint8), "no pixels"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        (b"", "empty"),
        (b"GIF89a", "image bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
        (io.StringIO("text"), "binary mode"),
        (17, "int"),
        (None, "NoneType"),
        (["a.jpg"], "list"),
        ("nowhere/at all.jpg", "no such image: nowhere"),
        ("n" * 300 + ".jpg", "no such image: nnn"),
        ("~nobody is called so.jpg", "no such image: ~nobody"),
        ("", "source is empty"),
        ("a\0b.jpg", "not a file name"),
        ("https://", "cannot fetch"),
        ("http://[bad", "cannot fetch"),
    ],
)
def test_bad_sources(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as error:
        read_image(source)
    assert "\n" not in str(error.value)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.touch()
    text.write_text("<html>not found</html>")
    with pytest.raises(ImageError, match=r"empty\.jpg is empty"):
        read_image(empty)
    with pytest.raises(ImageError, match=r"text\.jpg is not an image"):
        read_image(text)


def test_a_video_is_named_as_one(tmp_path: Path) -> None:
    video = tmp_path / "holiday.MP4"
    video.write_bytes(b"\x00\x00\x00\x20ftypisom")
    with pytest.raises(ImageError, match=r"holiday\.MP4 is a video.*vlpart predict"):
        read_image(video)


def test_a_name_that_begins_with_a_tilde_is_a_name(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("~backup.png").write_bytes(encoded(Image.fromarray(image)))
    assert np.array_equal(read_image("~backup.png"), image)
    assert np.array_equal(read_image("~/~backup.png"), image)
    assert list(list_images("~backup.png")) == [Path("~backup.png")]
    assert list(list_images("~*.png")) == [Path("~backup.png")]
    with pytest.raises(ImageError, match="no image matches ~no"):
        list(list_images("~no*.png"))


def test_damaged_bytes_raise_nothing_but_image_errors() -> None:
    """Flip bytes all over small files of every format: an image or an ImageError, never another exception."""
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    messages: list[str] = []
    for suffix in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"):
        data = np.frombuffer(encoded(noise, suffix), dtype=np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(0, min(len(data), 200), 3)] = rng.integers(0, 256, 3)
            try:
                assert read_image(damaged.tobytes(), max_pixels=1_000_000).shape[2] == 3
            except ImageError as error:
                messages.append(str(error))
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)


class _Images(BaseHTTPRequestHandler):
    body = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        _Images.asked.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body) * (2 if self.path == "/short" else 1)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _Images.body = encoded(Image.fromarray(image))
    with HTTPServer(("127.0.0.1", 0), _Images) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_urls(server: str, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.array_equal(read_image(f"{server}/a.png"), image)
    with pytest.raises(ImageError, match="gone: HTTP 404"):
        read_image(f"{server}/gone")
    with pytest.raises(ImageError, match=r"of \d+ bytes came|broken answer"):
        read_image(f"{server}/short")
    monkeypatch.setattr(images, "MAX_DOWNLOAD_BYTES", 50)
    with pytest.raises(ImageError, match="is over 0 MB"):
        read_image(f"{server}/a.png")
    with pytest.raises(ImageError, match="cannot fetch http://127"):
        read_image("http://127.0.0.1:9/a.png", timeout=2)


def test_urls_as_people_copy_them(server: str, image: np.ndarray) -> None:
    address = f"{server}/my cat/Kätzchen%20(1).png?größe=2 x&url=http://a/b#top"
    assert np.array_equal(read_image(address), image)
    assert _Images.asked[-1] == "/my%20cat/K%C3%A4tzchen%20(1).png?gr%C3%B6%C3%9Fe=2%20x&url=http://a/b"
    assert web.quoted("https://bücher.example:8080/a.png") == "https://xn--bcher-kva.example:8080/a.png"
    with pytest.raises(ImageError, match="cannot fetch"):
        read_image("http://a..ü/a.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.png",
        "a.JPG",
        "notes.txt",
        ".hidden.jpg",
        "sub/c.webp",
        "sub/deep/d.tif",
        "empty/readme.md",
        "e[1].png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(images: Iterator[Path | str], folder: Path) -> list[str]:
    return [image if isinstance(image, str) else image.absolute().relative_to(folder).as_posix() for image in images]


def test_folders_and_patterns(folder: Path) -> None:
    flat = ["a.JPG", "b.png", "e[1].png"]
    assert names(list_images(folder), folder) == flat
    assert names(list_images([folder], recursive=True), folder) == [*flat, "sub/c.webp", "sub/deep/d.tif"]
    assert names(list_images("*.png"), folder) == ["b.png", "e[1].png"]
    assert names(list_images(str(folder / "**" / "*")), folder) == [*flat, "sub/c.webp", "sub/deep/d.tif"]
    assert names(list_images("e[1].png"), folder) == ["e[1].png"]


def test_order_repetitions_and_what_passes_through(folder: Path) -> None:
    url = "https://example.org/x?y=*"
    sources = ["sub", url, "b.png", "./b.png", folder, url, "missing.jpg", "notes.txt"]
    expected = ["sub/c.webp", url, "b.png", "a.JPG", "e[1].png", "missing.jpg", "notes.txt"]
    assert names(list_images(sources), folder) == expected


@pytest.mark.parametrize("source", ["empty", "*.bmp", "nothing*/x.jpg"])
def test_nothing_there_is_said_before_work_starts(folder: Path, source: str) -> None:
    with pytest.raises(ImageError, match=r"\.jpg .*\.png"):
        list_images(["b.png", source])


def test_no_sources() -> None:
    with pytest.raises(ImageError, match="no images given"):
        list_images([])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("", "source is empty"),
        (["a.jpg", ""], "source is empty"),
        (None, "not NoneType"),
        (np.zeros((2, 4, 3), dtype=np.uint8), r"not ndarray.*predict\(\)"),
        (["a.jpg", np.zeros((4, 4, 3), dtype=np.uint8)], "not ndarray"),
        (7, "not int"),
    ],
)
def test_sources_that_are_no_names(sources: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        list_images(sources)


def test_names_that_no_file_system_holds_pass_through(folder: Path) -> None:
    for name in ("n" * 300, "n" * 300 + ".jpg"):
        assert names(list_images(name), folder) == [name]
    with pytest.raises(ImageError, match="no image matches"):
        list_images("n" * 300 + "*.jpg")


def test_listing_is_lazy(folder: Path) -> None:
    stream = list_images(folder, recursive=True)
    assert next(stream) == folder / "a.JPG"
    (folder / "sub" / "late.png").touch()
    assert folder / "sub" / "late.png" in list(stream)


# ---- files that would cost more than they weigh


def icon(width: int, height: int) -> bytes:
    """An ICO file whose directory says 1x1 and whose PNG says more."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 1, 1, 0, 0, 1, 24, len(png), 22) + png


def webp(kind: bytes, width: int, height: int) -> bytes:
    """The header of a WebP file."""
    w, h = width - 1, height - 1
    bodies = {
        b"VP8X": bytes(4) + w.to_bytes(3, "little") + h.to_bytes(3, "little"),
        b"VP8L": b"\x2f" + (w | h << 14).to_bytes(4, "little"),
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height),
    }
    chunk = kind + struct.pack("<I", len(bodies[kind])) + bodies[kind] + bytes(16)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def avif(brand: bytes, width: int, height: int) -> bytes:
    """The boxes of an AVIF or HEIC file down to the size."""
    size = box(b"ispe", struct.pack(">III", 0, width, height))
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", size)))
    return box(b"ftyp", brand + bytes(4) + brand) + meta + box(b"mdat", bytes(16))


BOMBS = [icon(20_000, 20_000), icon(1 << 30, 1 << 30), avif(b"avif", 60_000, 60_000), avif(b"heic", 60_000, 60_000)]
BOMBS += [webp(kind, 16_000, 16_000) for kind in (b"VP8X", b"VP8L", b"VP8 ")]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda data: str(data[4:16]))
def test_the_limit_holds_before_a_decoder_runs(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()

    def decoder(*_: object) -> Image.Image:
        raise AssertionError("a decoder was started")

    for name in {"ICO", "WEBP", "AVIF"} & set(Image.OPEN):  # older Pillows have no AVIF
        monkeypatch.setitem(Image.OPEN, name, (decoder, Image.OPEN[name][1]))
    with pytest.raises(ImageError, match="pixels"):
        read_image(bomb)


@pytest.mark.parametrize("kind", ["ICO", "WEBP", "AVIF"])
def test_what_is_checked_early_is_read(kind: str, image: np.ndarray) -> None:
    if kind not in Image.SAVE and (Image.init() is None or kind not in Image.SAVE):
        pytest.skip(f"this Pillow writes no {kind}")
    square = Image.fromarray(np.ascontiguousarray(np.tile(image, (2, 1, 1))[:16, :16])).resize((32, 32))
    options = {"ICO": {"sizes": [(32, 32)]}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}[kind]
    assert np.abs(read_image(encoded(square, kind, **options)).astype(int) - np.asarray(square)).mean() < 8


def test_jpeg_of_endless_scans(image: np.ndarray) -> None:
    data = encoded(Image.fromarray(image), "JPEG", progressive=True)
    read_image(data)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans"):
        read_image(data[:-2] + scan * 300 + data[-2:])


def test_heic_is_read_or_named(image: np.ndarray) -> None:
    if not image_headers.HAS_HEIF:
        with pytest.raises(ImageError, match=r"vlpart\[heif\]"):
            read_image(avif(b"heic", 64, 64))
        return
    import pillow_heif

    wide = Image.fromarray(image).resize((120, 80))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(wide).save(buffer, quality=90)
    assert np.abs(read_image(buffer.getvalue()).astype(int) - np.asarray(wide)).mean() < 8


def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "HAS_HEIF", False)
    with pytest.raises(ImageError, match=r"vlpart\[heif\]"):
        read_image(avif(b"heic", 64, 64))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_pipes_devices_and_loops(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.jpg", tmp_path / "loop.jpg"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, words in ((pipe, "is a pipe"), (Path("/dev/zero"), "is a device"), (loop, "symbolic links")):
        with pytest.raises(ImageError, match=words):
            read_image(path)
        with pytest.raises(ImageError, match=words), images.image_header(path):
            pass

"""Opening an image file: what its header says is checked before any decoder sees it.

Pillow decodes ICO files, and makes the canvas of WebP and AVIF files, as soon as they are opened, before anybody can
ask for their size; so the sizes of these are read here. No global setting of Pillow is touched, so that threads need
not wait for one another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib.util import find_spec
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from vlpart.errors import ImageError

# No format that runs another program (EPS) or renders (WMF); JPEG includes MPO.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "MPO", "ICO", "PCX")

MAX_SCANS = 200
"""Passes of a progressive JPEG: every one goes over the whole image, and cameras and programs make 10 or so."""

MAX_ICON_PIXELS = 16_000_000
"""Of one image in an ICO file, whatever the pixel limit: 256 x 256 is usual."""

_MAX_BOXES = 10_000
_MAX_META = 16_000_000  # bytes of the description in front of an AVIF or HEIC image
_CONTAINERS = (b"meta", b"iprp", b"ipco", b"moov", b"trak")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

HAS_HEIF = find_spec("pillow_heif") is not None
"""Whether HEIC files can be read."""


def open_image(file: IO[bytes], label: str, max_pixels: int | None) -> Image.Image:
    """A Pillow image, not decoded yet, of at most `max_pixels`.

    Args:
        file: seekable, in binary mode.
        label: name for messages.
        max_pixels: None = no limit (but see `MAX_ICON_PIXELS` and `MAX_SCANS`).

    Raises:
        ImageError: over the limit, HEIC without pillow-heif, or a damaged header.
        UnidentifiedImageError: of no known format.
    """
    file.seek(0)
    prefix = file.read(32)
    for width, height in _early_sizes(file, prefix, label):
        check_size(width, height, label, max_pixels)
    image = _heif(file, prefix, label) or _opened(file, prefix)
    check_size(image.width, image.height, label, max_pixels)
    return image


def check_size(width: int, height: int, label: str, max_pixels: int | None) -> None:
    """Refuse an image without pixels, or with too many.

    Raises:
        ImageError: it is refused.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{label} has no pixels ({width}x{height})")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"{label} has {width * height:,} pixels ({width}x{height}), more than the limit of {max_pixels:,}: "
            "raise it with --max-pixels (argument max_pixels) or scale the image down"
        )


def _opened(file: IO[bytes], prefix: bytes) -> Image.Image:
    """What `Image.open` gives, without its own pixel limit, which is a global and warns."""
    Image.init()
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            if accept is not None and accept(prefix[:16]) is not True:  # also a text that says why not
                continue
            file.seek(0)
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # how plugins say that it is not theirs
            continue
    raise UnidentifiedImageError


def _heif(file: IO[bytes], prefix: bytes, label: str) -> Image.Image | None:
    """The image of a HEIC file; None for any other."""
    if prefix[4:8] != b"ftyp" or prefix[8:12] not in _HEIC_BRANDS or _brands(file) & set(_AVIF_BRANDS):
        return None
    if not HAS_HEIF:
        raise ImageError(f'{label} is HEIC: pip install "vlpart[heif]" to read such images, or convert it to JPEG')
    from pillow_heif import HeifImageFile

    file.seek(0)
    try:
        image: Any = HeifImageFile(file, "")
    except SyntaxError as error:
        raise ImageError(f"{label} is damaged: {' '.join(str(error).split())}") from error
    return image


def _brands(file: IO[bytes]) -> set[bytes]:
    file.seek(0)
    length = int.from_bytes(file.read(4), "big")
    names = file.read(min(max(length - 4, 0), 1024))[4:]
    return {names[at : at + 4] for at in range(0, len(names) - 3, 4)}


# ---- sizes of what is decoded when it is opened


def _early_sizes(file: IO[bytes], prefix: bytes, label: str) -> Iterator[tuple[int, int]]:
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        yield from _webp_size(prefix)
    elif prefix[:4] == b"\0\0\1\0":
        yield from _icon_sizes(file, label)
    elif prefix[4:8] == b"ftyp":
        yield from _container_sizes(file, label)
    elif prefix[:3] == b"\xff\xd8\xff":
        _check_scans(file, label)


def _webp_size(head: bytes) -> Iterator[tuple[int, int]]:
    kind = head[12:16]
    if kind == b"VP8X" and len(head) >= 30:
        yield 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    elif kind == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        yield 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 " and len(head) >= 30:
        width, height = struct.unpack("<HH", head[26:30])
        if width & 0x3FFF and height & 0x3FFF:  # else damaged, as the decoder will say
            yield width & 0x3FFF, height & 0x3FFF


def _icon_sizes(file: IO[bytes], label: str) -> Iterator[tuple[int, int]]:
    """Sizes of the PNG or BMP images in an ICO file; what its own directory says (256 at most) is no bound."""
    file.seek(4)
    count = int.from_bytes(file.read(2), "little")
    entries = file.read(16 * count)
    for at in range(0, len(entries) - 15, 16):
        file.seek(int.from_bytes(entries[at + 12 : at + 16], "little"))
        head = file.read(26)
        if len(head) < 26:
            continue
        if head.startswith(b"\x89PNG"):
            width, height = struct.unpack(">II", head[16:24])
        else:
            width, height = (abs(side) for side in struct.unpack("<ii", head[4:12]))
            height //= 2
        if width * height > MAX_ICON_PIXELS:
            raise ImageError(
                f"{label} is an icon of {width}x{height} pixels, more than {MAX_ICON_PIXELS:,}: convert it"
            )
        if width and height:  # else damaged, as the decoder will say
            yield width, height


def _container_sizes(file: IO[bytes], label: str) -> Iterator[tuple[int, int]]:
    """Sizes in the boxes of an AVIF or HEIC file: of images (`ispe`) and of tracks (`tkhd`)."""
    end = file.seek(0, 2)
    todo, seen = [(0, end)], 0
    while todo:
        at, end = todo.pop()
        while at + 8 <= end:
            seen += 1
            if seen > _MAX_BOXES:
                raise ImageError(f"{label} is damaged: it has over {_MAX_BOXES} boxes")
            file.seek(at)
            head = file.read(16)
            length, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
            if length == 1:
                length, skip = int.from_bytes(head[8:16], "big"), 16
            last = min(end, at + length) if length else end
            if length and length < skip:
                return  # damaged, as the decoder will say
            if kind in _CONTAINERS:
                if last - at > _MAX_META:
                    raise ImageError(f"{label} is damaged: its description has {last - at:,} bytes")
                todo.append((at + skip + (4 if kind == b"meta" else 0), last))
            elif kind in (b"ispe", b"tkhd"):
                file.seek(at + skip)
                yield from _sizes_of(kind, file.read(min(last - at - skip, 104)))
            at = last


def _sizes_of(kind: bytes, body: bytes) -> Iterator[tuple[int, int]]:
    if kind == b"ispe" and len(body) >= 12:
        width, height = struct.unpack(">II", body[4:12])
    elif kind == b"tkhd" and len(body) >= 84:
        width, height = (
            side >> 16 for side in struct.unpack(">II", body[-8:] if len(body) in (84, 96) else body[76:84])
        )
    else:
        return
    if width and height:
        yield width, height


def _check_scans(file: IO[bytes], label: str) -> None:
    """Count the starts of scans of a JPEG; in its compressed data the two bytes never stand together."""
    file.seek(0)
    scans, last = 0, b""
    while block := file.read(1 << 20):
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:] if block[-1:] == b"\xff" else b""
        if scans > MAX_SCANS:
            raise ImageError(f"{label} is a JPEG of over {MAX_SCANS} scans: save it again as a usual one")

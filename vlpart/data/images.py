"""Any image to (H, W, 3) uint8 RGB.

Every way an image can be bad ends in `ImageError` with one line that says what to do; nothing is decoded before the
pixel limit is checked, and a truncated file never becomes a half-grey image.
"""

from __future__ import annotations

import errno
import io
import math
import os
import threading
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from vlpart import web
from vlpart.checks import in_range, natural
from vlpart.data.image_files import VIDEO_SUFFIXES, is_url, named_sources
from vlpart.data.image_headers import check_size, open_image
from vlpart.errors import ImageError
from vlpart.files import is_folder, local_path, open_regular, read_at_most

if TYPE_CHECKING:
    from torch import Tensor

RGBArray = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
"""Default pixel limit: 100 megapixels, 300 MB as RGB."""

MAX_DOWNLOAD_BYTES = 200_000_000
DOWNLOAD_SECONDS = 20.0


MAX_FILE_BYTES = 2_000_000_000
"""Bytes of an image file or stream that are read at most."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an image is cut into overlapping tiles, see `vlpart.inference.slices`.

    Attributes:
        side: of a tile, in pixels of the image.
        short_side, max_side: to which each tile is resized, as an image would be.
    """

    side: int
    short_side: int
    max_side: int


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """An image that was read for a predictor, once for whatever is asked about it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, the whole image.
        resized: (h, w, 3) uint8 RGB, as the network sees it.
        path: the file or address it came from, if it came from one.
        tiling: for a large image that is looked at in pieces, too; None looks at it as a whole.
    """

    pixels: RGBArray
    resized: RGBArray
    path: str | None = None
    tiling: Tiling | None = None


def read_image(source: Any, *, max_pixels: int | None = MAX_PIXELS, timeout: float = DOWNLOAD_SECONDS) -> RGBArray:
    """Read an image as a new (H, W, 3) uint8 RGB array, upright (EXIF orientation applied).

    Transparent pixels are put on white. Of an animation the first frame is taken. CMYK is converted as Pillow does
    (inverted Adobe files included). Grey images with more than 8 bits are scaled from the smallest of 8, 10, 12, 14
    or 16 bits that holds their largest value; float images (TIFF) from 0..1 or 0..255, whichever holds them; anything
    else linearly from its minimum and maximum.

    Args:
        source: a path, an http(s) address, the bytes of a file, an open binary file, a PIL image, a uint8 array (H, W),
            (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA (uint16 if grey), a tensor (C, H, W), (H, W, C) or (H, W): uint8,
            or float in 0..1 as torchvision has them.
        max_pixels: refuse images with more pixels than this; None = no limit.
        timeout: seconds an address may take to answer; in all it may take three times as long.

    Raises:
        ImageError: missing, empty, damaged, not an image, over the pixel limit, an array of the wrong type or shape.
        ValueError: `max_pixels` or `timeout` that is no number, or not above 0.
    """
    if max_pixels is not None:
        in_range("max_pixels", max_pixels, 1, math.inf)
    in_range("timeout", timeout, 0.001, 86_400)
    if isinstance(source, Image.Image):
        check_size(source.width, source.height, "PIL image", max_pixels)
        return _decoded(source, "PIL image")
    if isinstance(source, np.ndarray):
        return _rgb_of_array(source, "array", max_pixels)
    if type(source).__module__.split(".")[0] == "torch" and hasattr(source, "detach"):
        return _rgb_of_tensor(source, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _rgb_of_file(io.BytesIO(bytes(source)), "image bytes", max_pixels)
    if is_url(source):
        return _rgb_of_file(io.BytesIO(_download(source, timeout)), web.shown(source), max_pixels)
    if isinstance(source, (str, os.PathLike)):
        return read_image_file(_path_of(source), max_pixels=max_pixels)
    if callable(getattr(source, "read", None)):
        return _rgb_of_stream(source, max_pixels)
    kinds = "path, URL, bytes, open file, PIL image, array or tensor"
    raise ImageError(f"cannot read an image from {type(source).__name__}: pass one {kinds}")


def read_image_file(path: Path, *, max_pixels: int | None = MAX_PIXELS) -> RGBArray:
    """`read_image` of a file that is known to be one, whatever its name looks like.

    Raises:
        ImageError: see `read_image`.
    """
    if is_folder(path):
        raise ImageError(f"{path} is a folder, not an image: pass its files, or list them with list_images")
    with _opened(path) as file:
        return _rgb_of_file(file, str(path), max_pixels)


@contextmanager
def image_header(path: Path, max_pixels: int | None = MAX_PIXELS) -> Iterator[Image.Image]:
    """An image file, opened but not decoded: its size, mode and EXIF data; as a context.

    Raises:
        ImageError: missing, not a regular file, not an image, damaged in its header, over the pixel limit.
    """
    with _opened(path) as file, _header(file, str(path), max_pixels) as image:
        yield image


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open_regular(path, MAX_FILE_BYTES) as file:
            yield file
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR):
            raise ImageError(f"no such image: {path}") from None
        raise ImageError(f"cannot open {path}: {error.strerror or error}") from error
    except ValueError as error:  # a null character in the name
        raise ImageError(f"not a file name: {str(path)!r}: {error}") from error


def _path_of(source: str | os.PathLike[str]) -> Path:
    (name,) = named_sources(source)
    return local_path(name)


def _rgb_of_stream(stream: Any, max_pixels: int | None) -> RGBArray:
    label = f"file object {getattr(stream, 'name', '') or type(stream).__name__}"
    try:
        data = read_at_most(stream, MAX_FILE_BYTES)
    except TypeError:
        raise ImageError(f'{label} gives text: open it in binary mode, open(path, "rb")') from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {label}: {_one_line(error)}") from error
    if data is None:
        raise ImageError(f"{label} gives over {MAX_FILE_BYTES // 1_000_000} MB")
    return _rgb_of_file(io.BytesIO(data), label, max_pixels)


def _rgb_of_file(file: IO[bytes], label: str, max_pixels: int | None) -> RGBArray:
    with _header(file, label, max_pixels) as image:
        return _decoded(image, label)


def _header(file: IO[bytes], label: str, max_pixels: int | None) -> Image.Image:
    try:
        return open_image(file, label, max_pixels)
    except UnidentifiedImageError:
        raise ImageError(f"{label} {_why_unidentified(file, label)}") from None
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"not enough memory to open {label}") from error
    except Exception as error:  # decoders raise anything on damaged headers
        raise ImageError(f"{label} is damaged: {_one_line(error)}") from error


def _why_unidentified(file: IO[bytes], label: str) -> str:
    file.seek(0)
    if not file.read(1):
        return "is empty (0 bytes)"
    if label.lower().endswith(VIDEO_SUFFIXES):
        return "is a video, not an image: vlpart predict VIDEO reads it (vlpart.video.run.predict_video in Python)"
    return "is not an image of a known format, or its header is damaged: convert it to JPEG or PNG"


def _decoded(image: Image.Image, label: str) -> RGBArray:
    try:
        _load_complete(image)
        return np.array(_opaque_rgb(_upright(image), label))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"not enough memory to decode {label} ({image.width}x{image.height})") from error
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, zlib.error ...
        raise ImageError(f"{label} is damaged or truncated: {_one_line(error)}") from error


_truncated_files = threading.Lock()


def _load_complete(image: Image.Image) -> None:
    """Decode; an incomplete file is an error even where another library told Pillow to put up with it."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        image.load()
        return
    with _truncated_files:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  unreadable EXIF: viewers show such an image as it is stored
        return image


def _opaque_rgb(image: Image.Image, label: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), label)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layers = image.convert("LA") if image.mode == "La" else image
        rgba = layers.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: NDArray[Any], label: str) -> NDArray[np.uint8]:
    """Grey values of any number type as uint8 (the rule is in the docstring of `read_image`)."""
    if not np.isfinite(grey).all():
        raise ImageError(f"{label} holds NaN or infinite values")
    low, high = float(grey.min()), float(grey.max())
    tops = (1.0, 255.0) if grey.dtype.kind == "f" else tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))
    fitting = [top for top in tops if low >= 0 and high <= top]
    low, high = (0.0, fitting[0]) if fitting else (low, high)
    return np.rint((grey.astype(np.float64) - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)


def _rgb_of_array(array: NDArray[Any], label: str, max_pixels: int | None) -> RGBArray:
    if array.dtype.kind == "f":
        raise ImageError(
            f"{label} is {array.dtype}: convert it to uint8 in 0..255 first, if it is in 0..1 by "
            "(x * 255).round().astype('uint8')"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{label} is {array.dtype}: images are uint8 RGB in 0..255 (or uint16 grey)")
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not grey and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        hint = ": transpose it, x.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        hint = ": pass a list of images" if array.ndim == 4 else hint
        expected = "(H, W, 3), (H, W, 4), (H, W, 1) or (H, W)"
        raise ImageError(f"{label} has the shape {array.shape}, expected {expected}{hint}")
    check_size(array.shape[1], array.shape[0], label, max_pixels)
    if grey:
        flat = array.reshape(array.shape[:2])
        flat = flat if flat.dtype == np.uint8 else _eight_bits(flat, label)
        return np.repeat(flat[:, :, None], 3, axis=2)
    if array.dtype != np.uint8:
        raise ImageError(f"{label} is {array.dtype} colour: convert it to uint8 first, (x // 257).astype('uint8')")
    if array.shape[2] == 4:
        return _decoded(Image.fromarray(np.ascontiguousarray(array)), label)
    return np.array(array, order="C")


def _rgb_of_tensor(tensor: Tensor, max_pixels: int | None) -> RGBArray:
    array = tensor.detach().cpu()
    if array.is_floating_point():
        array = array.float()
        if not bool(((array >= 0) & (array <= 1)).all()):  # also refuses NaN
            raise ImageError(
                f"tensor is {tensor.dtype} with values outside 0..1: convert it to uint8 in 0..255 first, "
                "x.round().to(torch.uint8), and undo a normalisation"
            )
        array = (array * 255).round().byte()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):  # the layout of torch first, where both would fit
        array = array.permute(1, 2, 0)
    return _rgb_of_array(array.numpy(), "tensor", max_pixels)


def _download(url: str, timeout: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    headers = {"User-Agent": "vlpart", "Accept": "image/*,*/*;q=0.5"}
    try:
        with (
            web.Watch(3 * timeout) as watch,
            web.open_url(url, watch, timeout=timeout, headers=headers) as answer,
        ):
            expected = natural(answer.headers.get("Content-Length", ""))
            while chunk := answer.read(1 << 16):
                size += len(chunk)
                if size > MAX_DOWNLOAD_BYTES:
                    limit = f"{MAX_DOWNLOAD_BYTES // 1_000_000} MB"
                    raise ImageError(f"{web.shown(url)} is over {limit}: download it, then pass the file")
                chunks.append(chunk)
            if watch.expired:
                raise TimeoutError("it took too long")
    except web.FAILURES as error:
        if watch.expired:
            raise ImageError(f"{web.shown(url)} took over {3 * timeout:g} s: download it, then pass the file") from None
        hint = "" if isinstance(error, urllib.error.HTTPError) else "; check the address and the network"
        raise ImageError(f"cannot fetch {web.shown(url)}: {web.reason_of(error)}{hint}") from None
    if expected is not None and size < expected:
        raise ImageError(f"cannot fetch {web.shown(url)}: {size} of {expected} bytes came; try again")
    return b"".join(chunks)

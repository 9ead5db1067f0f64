"""How the server is set up, and the bound of everything that clients send."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpart.checks import check_fields, in_range

MEGA = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of `vlpart.serve.app.create_app`.

    Attributes:
        models: what clients may choose from: names of the catalogue, weight files, run folders, exported files. The
            first one is the default and is loaded when the server starts, the others when they are first asked for.
        engine: what computes exported files; None = that of their format.
        device: where models run; None = cuda where there is one, else cpu.
        token: what clients send as `Authorization: Bearer TOKEN`; None = nothing.
        hosts: names by which the server may be called (the header `Host`); None = any. A page from elsewhere whose name
            was made to point to this machine calls it by that name.
        images: folder with the images that tasks of Label Studio name; None = only images in a request are read.
        max_body: bytes of one request.
        max_held: bytes of the requests that are in memory at one time; more are refused with 429.
        max_pixels: of one image.
        max_images: of one batch.
        max_names: of one vocabulary.
        max_detections: of one image.
        max_side: `short_side` that may be asked for, pixels.
        queue: images that wait at most; more are refused with 429.
        batch: images that are computed together at most.
        batch_pixels: of the images that are computed together, before resizing; the first is always taken.
        body_seconds: in which a request must have arrived.
        seconds: after which an image that still waits is given up with 503.
        header_seconds: in which a client must send the head of a request, and take an answer.
        connections: that may be open.
    """

    models: tuple[str, ...] = ("tiny",)
    engine: str | None = None
    device: str | None = None
    token: str | None = None
    hosts: tuple[str, ...] | None = ("localhost", "127.0.0.1", "[::1]")
    images: Path | None = None
    max_body: int = 64 * MEGA
    max_held: int = 512 * MEGA
    max_pixels: int = 50 * MEGA
    max_images: int = 16
    max_names: int = 3000
    max_detections: int = 300
    max_side: int = 1600
    queue: int = 64
    batch: int = 8
    batch_pixels: int = 50 * MEGA
    body_seconds: float = 30.0
    seconds: float = 60.0
    header_seconds: float = 15.0
    connections: int = 512

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.models:
            raise ValueError("models: name at least one")
        for name in ("body_seconds", "seconds", "header_seconds"):
            in_range(name, getattr(self, name), 1e-3, 1e9)
        if self.token is not None and not (self.token and self.token.isprintable()):
            raise ValueError("token must be printable text that is not empty, or None")
        for name in (
            "max_body",
            "max_held",
            "max_pixels",
            "max_images",
            "max_names",
            "max_detections",
            "max_side",
            "queue",
            "batch",
            "connections",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

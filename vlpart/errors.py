"""Typed exceptions. Everything the library raises on purpose derives from `VlpartError`.

The command line prints `str(error)` on one line, so a message names what was wrong and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


LONGEST = 8_000
"""Characters of a message: names in it may come from anywhere, and be of any length."""


class VlpartError(Exception):
    """Base of every error raised on purpose by this package."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(_bounded(each) if isinstance(each, str) else each for each in arguments))


class ImageError(VlpartError):
    """An image could not be read: missing, corrupt, unsupported, or over the pixel limit."""


class VideoError(VlpartError):
    """A video cannot be read: missing, damaged, no frames in the range, or PyAV or a tracker is not installed."""


class VocabularyError(VlpartError):
    """A vocabulary is unknown, empty, malformed, or does not fit the text encoder."""


class TextEncoderError(VlpartError):
    """A text encoder is missing, cannot be downloaded, or was given something that is not text."""


class WeightsError(VlpartError):
    """A weight file is missing, corrupt, refused (arbitrary pickle) or does not fit the architecture."""


class ModelNotFoundError(VlpartError):
    """No model of that name; the message lists near names."""


class DownloadError(VlpartError):
    """A download failed, is incomplete, or its size or hash differs from what is recorded."""


class DataError(VlpartError):
    """A dataset file is missing, malformed or inconsistent."""


class TrainingError(VlpartError):
    """Training cannot start or go on: a non-finite loss, a full disk, a checkpoint of another recipe."""


class EvaluationError(VlpartError):
    """Predictions or ground truth cannot be scored: wrong sizes, unknown ids, malformed masks."""


class OutputError(VlpartError):
    """A result cannot be written: the folder is not writable, the disk is full, or it would overwrite its input."""


class SelectionError(VlpartError):
    """A phrase selects nothing of a result: it is not understood, or there is no such thing.

    Attributes:
        found: what was found in the image instead, name to count; empty for a phrase that was not understood.
    """

    def __init__(self, message: str, found: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.found = dict(found or {})


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 100]} ... ({len(text):,} characters)"

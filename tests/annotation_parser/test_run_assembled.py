from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions
from vlpart.annotation_parser.run import open_image_parser
from vlpart.errors import DataError, VlpartError

CARS = ParserOptions(base_objects=frozenset({"car"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "nonsense"}, "device 'nonsense' cannot be used here"),
        ({"precision": "fp16"}, "no precision 'fp16' here: use one of auto, float32, bf16"),
    ],
)
def test_devices_and_precisions_are_checked_first(settings: dict[str, str], message: str) -> None:
    """Before the features and the detector, which may be a download, and without torch's own error."""
    with pytest.raises(VlpartError, match=message):
        open_image_parser(None, CARS, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(VlpartError, match="device 'cuda' cannot be used here"):
        open_image_parser(None, CARS, device="cuda")


def test_a_parser_of_base_objects_needs_no_bank(tiny_weights: Path) -> None:
    parser = open_image_parser(None, CARS, weights=tiny_weights, device="cpu", precision="bf16")
    assert isinstance(parser, ImageParser)
    assert parser.detector is not None
    assert (parser.detector.device, parser.detector.precision) == (torch.device("cpu"), "bf16")
    assert (parser.features, parser.bank) == (None, None)


def test_without_a_bank_and_without_base_objects_there_is_nothing_to_do() -> None:
    with pytest.raises(DataError, match="needs a reference bank"):
        open_image_parser(None, ParserOptions(), device="cpu")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlpart.annotation_parser.features.base import check_describable, fingerprint
from vlpart.annotation_parser.features.load import load_features
from vlpart.annotation_parser.features.maps import MapFeatures, unlike_border
from vlpart.annotation_parser.features.vit import DinoFeatures, VisionTransformer
from vlpart.errors import DownloadError, ImageError, ModelNotFoundError, VlpartError, WeightsError


@pytest.fixture(scope="module")
def small() -> DinoFeatures:
    torch.manual_seed(0)
    return DinoFeatures(VisionTransformer(width=24, depth=2, heads=6, patch=8, stride=4, table=3))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_of_one_size_run_as_one_batch(small: DinoFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [photo(20, 24, 0), photo(24, 20, 1), photo(20, 24, 2)]
    alone = [small.describe([image])[0] for image in images]
    sizes: list[int] = []
    forward = small.model.forward
    monkeypatch.setattr(small.model, "forward", lambda pixels: sizes.append(len(pixels)) or forward(pixels))
    together = small.describe(images)
    assert sizes == [2, 1]
    for one, other in zip(alone, together, strict=True):
        assert one.grid == other.grid
        torch.testing.assert_close(one.descriptors, other.descriptors, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.class_token, other.class_token, atol=1e-5, rtol=1e-4)
    assert [f.grid for f in together] == [(4, 5), (5, 4), (4, 5)]
    assert together[0].descriptors.shape == (20, 24)
    assert small.describe([]) == []


def test_a_image_smaller_than_a_patch_is_an_image_that_cannot_be_described(small: DinoFeatures) -> None:
    check_describable(photo(8, 20), small)
    for function in (lambda image: check_describable(image, small), lambda image: small.describe([image])):
        with pytest.raises(
            ImageError, match=r"20x7 pixels is too small for dino_vits8 features, which take 8 at least"
        ):
            function(photo(7, 20))
        with pytest.raises(ImageError, match="3x672"):
            function(photo(672, 3))


def test_maps_describe_the_thinnest_image() -> None:
    model = torch.nn.Conv2d(3, 4, 8, stride=8)
    features = MapFeatures("maps", model, lambda x: [model(x)], step=32, short_side=64, max_side=64)
    check_describable(photo(1, 100), features)
    (found,) = features.describe([photo(1, 100)])
    assert found.grid == (4, 12)
    assert found.descriptors.isfinite().all()


def test_weights_from_a_file(tmp_path: Path) -> None:
    model = VisionTransformer()
    path = tmp_path / "dino.safetensors"
    save_file({**model.state_dict(), "norm.weight": torch.ones(384)}, path)
    loaded = load_features("dino_vits8", weights=path)
    assert (loaded.name, loaded.foreground, loaded.fingerprint) == ("dino_vits8", 0.05, fingerprint(model))
    with pytest.raises(WeightsError, match="There is no weight file"):
        load_features("dino_vits8", weights=tmp_path / "none.pth")


def test_a_file_in_the_cache_is_used(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VisionTransformer()
    (private_cache / "features").mkdir()
    torch.save(model.state_dict(), private_cache / "features" / "dino_deitsmall8_pretrain.pth")
    assert load_features("dino_vits8").fingerprint == fingerprint(model)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No network; the addresses that were tried."""
    tried: list[str] = []

    def fail(url: str, target: Path, **options: object) -> Path:
        tried.append(url)
        raise DownloadError(f"{url}: no network.")

    monkeypatch.setattr("vlpart.zoo.download.download_file", fail)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *arguments: None)
    return tried


def test_without_a_network_the_error_says_what_to_do(offline: list[str], private_cache: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        load_features("dino_vits8")
    message = str(caught.value)
    assert len(offline) == 2
    assert all(word in message for word in (offline[1], str(private_cache), "--feature-weights", "--features embedded"))


def test_without_a_network_the_embedded_features_serve(offline: list[str], tiny_weights: Path) -> None:
    notes: list[str] = []
    found = load_features("dino_vits8", on_fallback=notes.append)
    assert found.name == "embedded"
    assert len(notes) == 1
    assert "Going on with the features of the embedded model" in notes[0]
    first, second = found.describe([photo(100, 130), photo(40, 40)])
    assert first.grid == (12, 16)
    assert len(first.descriptors) == 12 * 16
    assert (float(first.saliency.min()), float(first.saliency.max())) == (0, 1)
    assert first.class_token.shape == second.class_token.shape


@pytest.mark.parametrize("name", ["dino_vits9", "timm:no_such_model"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        load_features(name)


def test_maps_become_descriptors_that_ignore_what_all_patches_share() -> None:
    model = torch.nn.Conv2d(3, 4, 8, stride=8)
    plain = MapFeatures("maps", model, lambda x: [model(x)], step=32, short_side=64, max_side=64)
    shifted = MapFeatures("maps", model, lambda x: [model(x) + 5], step=32, short_side=64, max_side=64)
    image = photo(60, 70)
    (a,), (b,) = plain.describe([image]), shifted.describe([image])
    assert a.grid == (8, 8)  # stretched to 64x64
    torch.testing.assert_close(a.descriptors, b.descriptors, atol=1e-4, rtol=1e-4)


def test_what_differs_from_the_border_is_salient() -> None:
    patches = torch.tensor([1.0, 0]).repeat(25, 1)
    patches[12] = torch.tensor([0.0, 1])
    patches[7] = torch.tensor([1.0, 1])
    saliency = unlike_border(patches, (5, 5))
    assert saliency[12] == 1
    assert saliency[7] == pytest.approx(1 - 0.5**0.5)
    assert (saliency[patches[:, 1] == 0] == 0).all()


def test_a_network_that_takes_one_size_sees_every_image_in_it() -> None:
    model, sizes = torch.nn.Conv2d(3, 4, 8, stride=8), []

    def maps(pixels: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(tuple(pixels.shape[2:]))
        return [model(pixels)]

    features = MapFeatures("maps", model, maps, step=8, size=(32, 48), short_side=32, max_side=64)
    first, second = features.describe([photo(100, 30), photo(60, 70)])
    assert sizes == [(32, 48), (32, 48)]
    assert first.grid == second.grid == (4, 6)


def test_pixels_are_normalised_as_the_network_was_trained() -> None:
    model, seen = torch.nn.Conv2d(3, 4, 8, stride=8), []

    def maps(pixels: torch.Tensor) -> list[torch.Tensor]:
        seen.append(pixels.amax(dim=(0, 2, 3)).tolist())
        return [model(pixels)]

    white = np.full((32, 32, 3), 255, dtype=np.uint8)
    sizes = {"step": 32, "short_side": 64, "max_side": 64}
    usual = MapFeatures("maps", model, maps, **sizes)
    other = MapFeatures("maps", model, maps, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125), **sizes)
    usual.describe([white])
    other.describe([white])
    assert seen == [pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]), [1, 2, 4]]
    assert usual.fingerprint == fingerprint(model)
    assert other.fingerprint != usual.fingerprint  # tokens made with one are no good for the other


@pytest.mark.parametrize("name", ["dino_vits8", "embedded", "timm:resnet18"])
def test_devices_and_precisions_are_checked_before_anything_is_fetched(name: str, offline: list[str]) -> None:
    with pytest.raises(VlpartError, match="device 'nonsense' cannot be used here"):
        load_features(name, device="nonsense")
    with pytest.raises(VlpartError, match="no precision 'fp16' here: use one of auto, float32, bf16"):
        load_features(name, precision="fp16")
    assert offline == []


def test_extractors_check_them_too(small: DinoFeatures) -> None:
    with pytest.raises(VlpartError, match="fp16"):
        DinoFeatures(small.model, precision="fp16")
    with pytest.raises(VlpartError, match="nonsense"):
        MapFeatures("maps", small.model, lambda x: [x], step=8, short_side=64, max_side=64, device="nonsense")

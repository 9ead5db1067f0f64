from __future__ import annotations

import urllib.error
from email.message import Message
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vlpart.annotation_parser.features.load import load_features
from vlpart.annotation_parser.features.maps import MapFeatures
from vlpart.annotation_parser.features.timm import timm_features, timm_maps
from vlpart.errors import DownloadError, ModelNotFoundError, WeightsError

timm = pytest.importorskip("timm")


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "step", "size", "grid"),
    [
        ("resnet18", 32, None, (12, 20)),
        ("vit_tiny_patch16_224", 16, None, (12, 18)),
        ("vit_small_patch14_dinov2", 14, None, (13, 20)),
        ("swin_tiny_patch4_window7_224", 32, None, (12, 20)),  # puts channels last
        ("maxvit_rmlp_pico_rw_256", 256, None, (32, 32)),  # windows that must come out even
        ("test_vit_relpos", 16, (160, 160), (20, 20)),
        ("test_coatnet", 32, (160, 160), (20, 20)),
        ("levit_128s", 64, (224, 224), (28, 28)),
    ],
)
def test_any_timm_model_describes_images(
    name: str, step: int, size: tuple[int, int] | None, grid: tuple[int, int]
) -> None:
    maps = timm_maps(name)
    assert (maps.step, maps.size) == (step, size)
    extractor = timm_features(maps)
    (found,) = extractor.describe([image(100, 150)])
    assert found.grid == grid
    assert found.descriptors.shape[0] == found.saliency.shape[0] == grid[0] * grid[1]
    assert found.descriptors.isfinite().all()
    assert (extractor.short_side, extractor.max_side) == ((size[0], 2 * size[0]) if size else (448, 896))


def test_a_model_of_imagenet_pixels_and_any_size_is_described_as_ever() -> None:
    extractor = timm_features(timm_maps("resnet18"))
    model = timm.create_model("resnet18", features_only=True, out_indices=(-3, -2, -1))
    model.load_state_dict(extractor.model.state_dict())
    plain = MapFeatures("timm:resnet18", model, model, step=32, short_side=448, max_side=896)
    assert plain.fingerprint == extractor.fingerprint
    for one, other in zip(plain.describe([image(90, 70)]), extractor.describe([image(90, 70)]), strict=True):
        assert torch.equal(one.descriptors, other.descriptors)
        assert torch.equal(one.class_token, other.class_token)
        assert torch.equal(one.saliency, other.saliency)


@pytest.mark.parametrize(("name", "expected"), [("test_resnet", 1.0), ("mobilevit_xxs", 0.5)])
def test_pixels_are_normalised_as_the_model_was_trained(name: str, expected: float) -> None:
    maps = timm_maps(name)
    extractor, seen = timm_features(maps), []
    maps.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].unique().tolist()))
    shade = 255 if expected == 1 else 127.5
    extractor.describe([np.full((64, 64, 3), shade, dtype=np.uint8)])
    assert seen == [[pytest.approx(expected, abs=0.01)]]


def test_nothing_else_is_drawn_from_the_generator() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    timm_maps("test_resnet")
    assert torch.equal(torch.get_rng_state(), before)


class Stubborn(nn.Module):
    """Gives no maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.feature_info, self.pretrained_cfg = network.feature_info, network.pretrained_cfg

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        raise AssertionError("height must be prime\n")


def test_a_model_without_maps_is_named_with_one_that_works(
    monkeypatch: pytest.MonkeyPatch, stored: dict[str, Path]
) -> None:
    create = timm.create_model
    monkeypatch.setattr("timm.create_model", lambda *names, **options: Stubborn(create(*names, **options)))
    with pytest.raises(ModelNotFoundError) as caught:
        load_features("timm:test_resnet", weights=stored["test_resnet"])
    message = str(caught.value)
    assert message.startswith("timm's test_resnet gives no maps of an image (height must be prime): ")
    assert "timm:resnet50" in message


@pytest.mark.parametrize(("name", "hint"), [("resnet5", "resnet50"), ("resnet18.nothing", "resnet18.a1_in1k")])
def test_names_that_timm_does_not_have(name: str, hint: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"no model '{name}': did you mean .*{hint}"):
        load_features(f"timm:{name}")


# ---- weights


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weight files of whole models, as timm publishes them."""
    folder, paths = tmp_path_factory.mktemp("timm"), {}
    torch.manual_seed(5)
    for name in ("test_resnet", "test_vit", "test_vit2"):
        paths[name] = folder / f"{name}.safetensors"
        save_file(timm.create_model(name).state_dict(), paths[name])
    return paths


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_weights_from_a_file(name: str, stored: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_features(f"timm:{name}", weights=stored[name])
    assert isinstance(loaded, MapFeatures)
    assert loaded.name == f"timm:{name}"
    assert loaded.fingerprint != timm_features(timm_maps(name)).fingerprint
    whole = timm.create_model(name, checkpoint_path=str(stored[name]))
    published = {key: value for key, value in whole.state_dict().items() if value.ndim == 4}
    used = [value for value in loaded.model.state_dict().values() if value.ndim == 4]
    assert used
    assert all(any(torch.equal(value, each) for each in published.values()) for value in used)

    torch.save({"state_dict": whole.state_dict()}, tmp_path / "again.pth")
    assert load_features(f"timm:{name}", weights=tmp_path / "again.pth").fingerprint == loaded.fingerprint


def test_weights_of_another_model(stored: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    for other in ("test_vit", "test_vit2"):  # no name in common; some names and shapes
        with pytest.raises(WeightsError, match=rf"'.*{other}\.safetensors' holds no weights of timm's test_resnet"):
            load_features("timm:test_resnet", weights=stored[other])
    with pytest.raises(WeightsError, match="holds no weights of timm's test_vit2"):
        load_features("timm:test_vit2", weights=stored["test_vit"])
    assert caplog.text == ""  # timm warns of each of their weights


def test_weights_that_lack_a_layer(stored: dict[str, Path], tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", checkpoint_path=str(stored["test_resnet"])).state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith("layer2.0.conv1")}, tmp_path / "lacking.pth")
    with pytest.raises(
        WeightsError, match=r"lacking\.pth' holds no weights of .* \(layer2\.0\.conv1\.weight missing\)"
    ):
        load_features("timm:test_resnet", weights=tmp_path / "lacking.pth")


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no weight file"):
        load_features("timm:test_resnet", weights=tmp_path / "none.pth")
    for name in ("damaged.pth", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"nothing that can be read")
        with pytest.raises(WeightsError, match=name) as caught:
            load_features("timm:test_resnet", weights=tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No network, and nothing in the hub's cache; the addresses that were tried."""
    found: list[str] = []

    def fail(url: str, target: Path, **options: object) -> Path:
        found.append(url)
        raise DownloadError(f"{url} could not be downloaded: no network.")

    monkeypatch.setattr("vlpart.zoo.download.download_file", fail)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names, **options: None)
    return found


def test_without_a_network_there_is_one_error_that_says_what_to_do(tried: list[str]) -> None:
    with pytest.raises(DownloadError) as caught:
        load_features("timm:test_resnet.r160_in1k")
    assert tried == ["https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"]
    message = str(caught.value)
    assert all(word in message for word in (tried[0], "no network", "--feature-weights", "--features embedded"))
    assert "\n" not in message


def test_a_model_whose_weights_are_not_published(tried: list[str]) -> None:
    with pytest.raises(DownloadError, match=r"none are published.*Pass a file with --feature-weights"):
        load_features("timm:mixer_s32_224")
    assert tried == []


@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
def test_a_name_that_timm_had_before(tried: list[str]) -> None:
    with pytest.raises(DownloadError, match="vit_tiny_patch16_224_in21k"):
        load_features("timm:vit_tiny_patch16_224_in21k")
    assert [url.split("/")[-4] for url in tried] == ["vit_tiny_patch16_224.augreg_in21k"]


def test_published_weights_are_kept_and_an_older_file_serves(
    stored: dict[str, Path], private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def serve(url: str, target: Path, **options: object) -> Path:
        tried.append(url)
        if url.endswith(".safetensors"):
            missing = urllib.error.HTTPError(url, 404, "Not Found", Message(), None)
            raise DownloadError(f"{url}: the server answered 404 Not Found.") from missing
        whole = timm.create_model("test_resnet", checkpoint_path=str(stored["test_resnet"]))
        target.parent.mkdir(parents=True)
        torch.save(whole.state_dict(), target)
        return target

    monkeypatch.setattr("vlpart.zoo.download.download_file", serve)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names, **options: None)
    first = load_features("timm:test_resnet").fingerprint
    assert [url.rpartition("/")[2] for url in tried] == ["model.safetensors", "pytorch_model.bin"]
    assert first == load_features("timm:test_resnet", weights=stored["test_resnet"]).fingerprint
    assert first == load_features("timm:test_resnet").fingerprint
    assert len(tried) == 2  # it is in the cache now
    assert [path.parent for path in (private_cache / "features").iterdir()] == [private_cache / "features"]


def test_weights_in_the_cache_of_the_hub_are_used(
    stored: dict[str, Path], tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, file, revision: str(stored["test_vit"]) if file.endswith(".safetensors") else None,
    )
    assert (
        load_features("timm:test_vit").fingerprint
        == load_features("timm:test_vit", weights=stored["test_vit"]).fingerprint
    )
    assert tried == []

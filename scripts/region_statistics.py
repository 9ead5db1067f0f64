"""Write the statistics of regions that exemplars are compared with (`vlpart/inference/exemplars.py`).

    python scripts/region_statistics.py --data ROOT [--images 12]

Asks the embedded model for the features of its proposals in training images of every data set below ROOT that has a
`train.json` beside `images/`, takes from each image its mean, and keeps the covariance of the rest. No annotation is
used. To be run again when the embedded model has learned more; until then the old ones serve nearly as well.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file

import vlpart
from vlpart.data.preprocess import to_batch
from vlpart.inference.exemplars import STATISTICS, packed


@torch.inference_mode()
def centred_features(predictor: vlpart.Predictor, path: Path) -> torch.Tensor:
    """(R, D) features of the proposals of an image less their mean."""
    image = predictor.read(path)
    batch = to_batch([image.resized])
    pyramid = predictor.detector.pyramid(batch.pixels)
    proposals = predictor.detector.propose(pyramid, batch.sizes_hw)[0].boxes_xyxy.float()
    features = predictor.detector.roi_heads.embed(pyramid, [proposals])
    return features - features.mean(dim=0)


def main() -> None:
    """Look at the images, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12, help="of each data set")
    parser.add_argument("--output", type=Path, default=STATISTICS)
    options = parser.parse_args()
    predictor = vlpart.load("tiny", device="cpu")
    total, count, sets = torch.zeros((), dtype=torch.float64), 0, 0
    for file in sorted(options.data.glob("*/train.json")):
        names = [image["file_name"] for image in json.loads(file.read_text())["images"]]
        chosen = [file.parent / "images" / name for name in random.Random(0).sample(names, min(len(names), 200))]
        chosen = [path for path in chosen if path.is_file()][: options.images]
        for path in chosen:
            features = centred_features(predictor, path).double()
            total, count = total + features.T @ features, count + len(features)
        sets += bool(chosen)
        print(f"{file.parent.name}: {len(chosen)} images, {count} regions so far", flush=True)
    save_file({predictor.architecture: packed((total / count).float())}, options.output)
    print(f"{options.output}: {sets} sets, {count} regions, {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()

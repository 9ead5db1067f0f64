"""Eyes, eyebrows, noses and mouths in the same photos, by several packages: where, how exactly, in which time.

    python benchmarks/peers/faces.py find dlib data/faces found/      # in an environment with that package
    python benchmarks/peers/faces.py score data/faces found/          # the table of all that was found

A peer is run as its documentation shows it, with its own weights, in an environment of its own:

    dlib       pip install dlib-bin face-recognition-models "setuptools<80"
    mediapipe  pip install mediapipe==0.10.21     (the last line of versions with the weights in the wheel)
    haar       pip install "opencv-python-headless<5"
    mtcnn      pip install facenet-pytorch
    vlpart     pip install .

DATA is a folder with val.json (COCO's form, categories `person:eye` ...) and images/. CPU seconds are those of all
threads, without the reading of the file and the loading of the model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

PARTS = ("eye", "eyebrow", "nose", "mouth")
Found = list[dict[str, Any]]
"""Per part `name`, `point` [x, y], and `outline`, the corners of a polygon or the rows of a bitmap, or null."""
Peer = Callable[[NDArray[np.uint8]], Found]


def part(name: str, outline: Any) -> dict[str, Any]:
    """A part whose outline is a list of points."""
    points = np.asarray(outline, float)
    return {"name": name, "point": ((points.min(0) + points.max(0)) / 2).tolist(), "polygon": points.tolist()}


def spot(name: str, x: float, y: float) -> dict[str, Any]:
    """A part of which the place alone is known."""
    return {"name": name, "point": [float(x), float(y)]}


def hull(points: Any) -> NDArray[np.float64]:
    """The corners of the convex hull, by a walk over the points from left to right and back (Andrew, 1979)."""
    ordered = sorted(map(tuple, np.asarray(points, float).tolist()))
    corners: list[tuple[float, ...]] = []
    for walk in (ordered, ordered[::-1]):
        side: list[tuple[float, ...]] = []
        for x, y in walk:
            while len(side) > 1 and (side[-1][0] - side[-2][0]) * (y - side[-2][1]) <= (side[-1][1] - side[-2][1]) * (
                x - side[-2][0]
            ):
                side.pop()
            side.append((x, y))
        corners += side[:-1]
    return np.asarray(corners)


def dlib_peer() -> Peer:
    """68 points of each face that the frontal detector finds (model: 300-W, for research)."""
    import dlib
    import face_recognition_models

    detect = dlib.get_frontal_face_detector()
    predict = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())
    groups = {"eyebrow": [range(17, 22), range(22, 27)], "nose": [range(27, 36)], "mouth": [range(48, 60)]}
    groups["eye"] = [range(36, 42), range(42, 48)]

    def find(photo: NDArray[np.uint8]) -> Found:
        found = []
        for face in detect(photo, 1):
            shape = predict(photo, face)
            points = np.array([[shape.part(i).x, shape.part(i).y] for i in range(68)])
            found += [part(name, hull(points[list(of)])) for name, each in groups.items() for of in each]
        return found

    return find


def mediapipe_peer() -> Peer:
    """The face mesh of 468 points, of up to five faces."""
    import mediapipe

    mesh = mediapipe.solutions.face_mesh
    network = mesh.FaceMesh(static_image_mode=True, max_num_faces=5, min_detection_confidence=0.5)
    names = {
        "eye": (mesh.FACEMESH_LEFT_EYE, mesh.FACEMESH_RIGHT_EYE),
        "eyebrow": (mesh.FACEMESH_LEFT_EYEBROW, mesh.FACEMESH_RIGHT_EYEBROW),
        "nose": (mesh.FACEMESH_NOSE,),
        "mouth": (mesh.FACEMESH_LIPS,),
    }
    groups = [(name, sorted({i for edge in edges for i in edge})) for name, all_of in names.items() for edges in all_of]

    def find(photo: NDArray[np.uint8]) -> Found:
        found = []
        for face in network.process(photo).multi_face_landmarks or ():
            points = np.array([[each.x, each.y] for each in face.landmark]) * photo.shape[1::-1]
            found += [part(name, hull(points[of])) for name, of in groups]
        return found

    return find


def haar_peer() -> Peer:
    """OpenCV's cascades: frontal faces, eyes in their upper part, smiles (for want of mouths) in the lower one."""
    import cv2

    cv2.setNumThreads(1)
    read = [
        cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
        for name in ("frontalface_default", "eye", "smile")
    ]

    def find(photo: NDArray[np.uint8]) -> Found:
        grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
        found = []
        for x, y, width, height in read[0].detectMultiScale(grey, 1.1, 5):
            for name, cascade, top, bottom, neighbours in (
                ("eye", read[1], y, y + height * 6 // 10, 5),
                ("mouth", read[2], y + height // 2, y + height, 15),
            ):
                for left, up, wide, high in cascade.detectMultiScale(grey[top:bottom, x : x + width], 1.1, neighbours):
                    found.append(spot(name, x + left + wide / 2, top + up + high / 2))
        return found

    return find


def mtcnn_peer() -> Peer:
    """Five points of each face: eyes, nose, corners of the mouth."""
    from facenet_pytorch import MTCNN

    network = MTCNN(keep_all=True)

    def find(photo: NDArray[np.uint8]) -> Found:
        _, _, faces = network.detect(Image.fromarray(photo), landmarks=True)
        found = []
        for face in () if faces is None else faces:
            found += [spot("eye", *face[0]), spot("eye", *face[1]), spot("nose", *face[2])]
            found.append(spot("mouth", *((face[3] + face[4]) / 2)))
        return found

    return find


def vlpart_peer() -> Peer:
    """`tiny`, asked for the four parts as the command line does."""
    import torch

    import vlpart

    torch.set_num_threads(1)
    predictor = vlpart.load("tiny")
    words = vlpart.Vocabulary.parse("person: eye, eyebrow, nose, mouth")

    def find(photo: NDArray[np.uint8]) -> Found:
        result = predictor(photo, vocabulary=words, score_threshold=0.5).without_nested().without_overlapping()
        found = []
        for i, name in enumerate(result.names):
            if name != "person":
                x0, y0, x1, y1 = result.boxes_xyxy[i]
                bitmap = None if result.masks is None else result.masks[i].astype(int).tolist()
                found.append({**spot(name.partition(":")[2], (x0 + x1) / 2, (y0 + y1) / 2), "bitmap": bitmap})
        return found

    return find


PEERS = {
    "vlpart": vlpart_peer,
    "mediapipe": mediapipe_peer,
    "dlib": dlib_peer,
    "mtcnn": mtcnn_peer,
    "haar": haar_peer,
}


def find_all(peer: str, data: Path, target: Path, limit: int) -> None:
    """What a package finds in the photos of val.json, as JSON lines in `target`/PEER.jsonl."""
    find = PEERS[peer]()
    target.mkdir(parents=True, exist_ok=True)
    images = json.loads((data / "val.json").read_text())["images"][:limit]
    with (target / f"{peer}.jsonl").open("w") as file:
        for i, image in enumerate(images):
            with Image.open(data / "images" / image["file_name"]) as opened:
                photo = np.asarray(opened.convert("RGB"))
            if i == 0:
                find(photo)  # what is built at the first call
            began = time.process_time()
            found = find(photo)
            record = {"id": image["id"], "seconds": time.process_time() - began, "parts": found}
            file.write(json.dumps(record) + "\n")


def bitmap_of(found: dict[str, Any], height: int, width: int) -> NDArray[np.bool_] | None:
    """The pixels of a part, None where its place alone is known."""
    if found.get("bitmap"):
        return np.asarray(found["bitmap"], bool)
    if not found.get("polygon"):
        return None
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in found["polygon"]], fill=1, outline=1)
    return np.asarray(canvas, bool)


def score(data: Path, target: Path) -> None:
    """Per part: how many of the annotated ones have a find whose centre lies in their box (two pixels more on each
    side), how many finds lie in none, and the mean IoU of the outlines of those that do.
    """
    from pycocotools import mask as coding

    truth = json.loads((data / "val.json").read_text())
    names = {each["id"]: each["name"].partition(":")[2] for each in truth["categories"]}
    sizes = {each["id"]: (each["height"], each["width"]) for each in truth["images"]}
    print("\t".join(["package", *(f"{name}: found, false, IoU" for name in PARTS), "CPU s"]))
    for peer in [each for each in PEERS if (target / f"{each}.jsonl").exists()]:
        records = [json.loads(line) for line in (target / f"{peer}.jsonl").open()]
        row = [peer]
        for name in PARTS:
            total, hits, false, overlaps = 0, 0, 0, []
            for record in records:
                left = [each for each in record["parts"] if each["name"] == name]
                for each in truth["annotations"]:
                    if each["image_id"] != record["id"] or names[each["category_id"]] != name:
                        continue
                    total += 1
                    x, y, wide, high = each["bbox"]
                    inside = [
                        found
                        for found in left
                        if x - 2 <= found["point"][0] <= x + wide + 2 and y - 2 <= found["point"][1] <= y + high + 2
                    ]
                    if inside:
                        hits += 1
                        left.remove(inside[0])
                        shape = bitmap_of(inside[0], *sizes[record["id"]])
                        if shape is not None:
                            right = coding.decode(each["segmentation"]).astype(bool)
                            overlaps.append((shape & right).sum() / (shape | right).sum())
                false += len(left)
            exact = f"{np.mean(overlaps):.2f}" if overlaps else "-"
            row.append(f"{hits} of {total}, {false}, {exact}")
        row.append(f"{np.median([record['seconds'] for record in records]):.3f}")
        print("\t".join(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    finder = commands.add_parser("find")
    finder.add_argument("peer", choices=PEERS)
    scorer = commands.add_parser("score")
    for each in (finder, scorer):
        each.add_argument("data", type=Path)
        each.add_argument("target", type=Path)
    finder.add_argument("--images", type=int, default=150)
    options = parser.parse_args()
    if options.command == "find":
        find_all(options.peer, options.data, options.target, options.images)
    else:
        score(options.data, options.target)


if __name__ == "__main__":
    main()

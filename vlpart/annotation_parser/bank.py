"""The reference bank: one class token per base image, on disk, and the exact search for the nearest one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import uuid
import zipfile
from array import array
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlpart.annotation_parser.correspondence import Matches, nearest, normalised
from vlpart.annotation_parser.references import Reference
from vlpart.errors import DataError, OutputError, VlpartError
from vlpart.files import open_regular, read_json, why
from vlpart.names import check_names, plain

if TYPE_CHECKING:
    from vlpart.annotation_parser.features.base import FeatureExtractor

FORMAT = 1
HEADER, TOKENS, INDEX, RECORDS = "bank.json", "tokens.f32", "index.npz", "references.jsonl"


_MAX_HEADER = 50_000_000
_MAX_RECORD = 50_000_000
_DAMAGED = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, MemoryError)


def _check_index(file: BinaryIO, count: int) -> None:
    """Refuse an index that unpacks to more than `count` rows need.

    Raises:
        ValueError: it does.
    """
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > 4096 + 64 * (count + 1):
            raise ValueError(f"{INDEX} is larger than {count} references need")
    file.seek(0)


class ReferenceBank:
    """Base images by class token. A folder of four files; tokens are mapped, not read, so that large banks open fast.

    Attributes:
        header: how it was made: features, fingerprint, short_side, max_side, images (folder), count, token_dim,
            objects (names); unit "objects" where its references are single objects.
        tokens: (M, T) float32, rows of length 1.
        images: folder of the images.
        digest: a short hash of what is in it.
    """

    def __init__(self, folder: str | Path, images: str | Path | None = None) -> None:
        """Open a bank.

        Args:
            folder: as written by `write_bank`.
            images: where the base images are now; None = where they were when the bank was built.

        Raises:
            DataError: not a bank, or damaged.
        """
        self.folder = Path(folder)
        try:
            self._open(images)
        except FileNotFoundError as error:
            raise DataError(
                f"{self.folder} is no reference bank ({Path(error.filename).name} is missing): vlpart parse build"
            ) from None
        except (*_DAMAGED, zipfile.BadZipFile, AttributeError, EOFError, NotImplementedError) as error:
            raise self._damaged(why(error)) from error
        self._subsets: dict[frozenset[str], tuple[Tensor, Tensor]] = {}

    def _open(self, images: str | Path | None) -> None:
        self.header: dict[str, Any] = read_json(self.folder / HEADER, _MAX_HEADER)
        if not isinstance(self.header, dict):
            raise self._damaged(f"{HEADER} is no object")
        count, width = int(self.header["count"]), int(self.header["token_dim"])
        with open_regular(self.folder / TOKENS) as file:
            tokens = np.memmap(file, dtype="<f4", mode="c", shape=(count, width))
        with open_regular(self.folder / INDEX) as file:
            _check_index(file, count)
            with np.load(file, allow_pickle=False) as index:
                self._offsets, self._object_ids = index["offsets"], index["object_ids"]
        with open_regular(self.folder / RECORDS) as file:
            size = os.fstat(file.fileno()).st_size
        if self.header.get("format") != FORMAT or not len(tokens) == len(self._offsets) == len(self._object_ids):
            raise DataError(f"the reference bank {self.folder} is of another version or damaged: build it again")
        if wrong := _wrong_in(self.header):
            raise self._damaged(f"{HEADER} has no valid {wrong}")
        if self.header.get("records_size", size) != size or not np.all(np.diff(self._offsets, append=size) > 0):
            raise self._damaged(f"{RECORDS} is not the one that was written")
        self.tokens: Tensor = torch.from_numpy(tokens)
        sample = tokens[:: max(1, len(tokens) // 256)]
        if not np.isfinite(sample).all():
            raise self._damaged(f"{TOKENS} has values that are not finite")
        self.digest = hashlib.sha256(sample.tobytes() + self._offsets.tobytes()).hexdigest()[:16]
        self.images = Path(images if images is not None else self.header["images"])

    def _damaged(self, why: str) -> DataError:
        return DataError(f"the reference bank {self.folder} is damaged ({why}): build it again")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def objects(self) -> list[str]:
        """Names of the objects in it, sorted."""
        return list(self.header["objects"])

    def reference(self, index: int) -> Reference:
        """What is known about image `index`.

        Raises:
            DataError: the bank is damaged.
        """
        try:
            with open_regular(self.folder / RECORDS) as file:
                file.seek(int(self._offsets[index]))
                return Reference.from_dict(json.loads(file.readline(_MAX_RECORD)))
        except (*_DAMAGED, IndexError, AttributeError, VlpartError) as error:
            raise self._damaged(f"reference {index}: {why(error)}") from error

    @property
    def features(self) -> str:
        """The features that it was built with."""
        return str(self.header["features"])

    @property
    def of_objects(self) -> bool:
        """Whether its references are objects, each cut out of its image, and not whole images."""
        return self.header.get("unit") == "objects"

    def parts_by_object(self) -> dict[str, list[str]]:
        """The part names that are annotated on some reference of an object, by object."""
        parts_of: dict[str, dict[str, None]] = {}
        for index in range(len(self)):
            reference = self.reference(index)
            parts_of.setdefault(reference.object, {}).update(dict.fromkeys(part.part for part in reference.parts))
        return {name: list(parts) for name, parts in parts_of.items()}

    def parts_of(self, index: int) -> frozenset[tuple[str, str]]:
        """(object, part) names, in the form of `plain`, that are annotated on reference `index`."""
        return self._parts[index]

    @cached_property
    def _parts(self) -> list[frozenset[tuple[str, str]]]:
        references = (self.reference(index) for index in range(len(self)))
        return [frozenset((plain(part.object), plain(part.part)) for part in r.parts) for r in references]

    def settings(self) -> dict[str, Any]:
        """What the bank is, without where its files are."""
        keys = ("features", "fingerprint", "short_side", "max_side", "count", "unit")
        return {key: self.header[key] for key in keys if key in self.header} | {"digest": self.digest}

    def search(self, tokens: Tensor, k: int = 1, objects: Iterable[str] | None = None) -> Matches:
        """The nearest images by cosine: exact, tile by tile.

        Args:
            tokens: (Q, T) class tokens of any length.
            k: how many for each; fewer if there are not as many.
            objects: only images of these objects; None = all.

        Raises:
            DataError: no image of these objects, or a class token that is not finite.
        """
        keys, numbers = self._subset(objects)
        matches = nearest(normalised(tokens).to(keys.device), keys, min(k, len(keys)))
        if not torch.isfinite(matches.similarities).all():
            raise DataError(
                f"similarities to the references of {self.folder} are not finite: build the bank again, in float32"
            )
        return Matches(indices=numbers[matches.indices], similarities=matches.similarities)

    def to(self, device: str | torch.device) -> ReferenceBank:
        """Move the tokens to a device; on the CPU they stay mapped."""
        if torch.device(device) != self.tokens.device:
            self.tokens = self.tokens.to(device)
            self._subsets.clear()
        return self

    @cached_property
    def _everything(self) -> Tensor:
        return torch.arange(len(self))

    def _subset(self, objects: Iterable[str] | None) -> tuple[Tensor, Tensor]:
        """Tokens of the images of some objects, and their numbers."""
        if objects is None:
            return self.tokens, self._everything.to(self.tokens.device)
        chosen = frozenset(plain(name) for name in objects)
        if chosen not in self._subsets:
            ids = [i for i, name in enumerate(self.objects) if plain(name) in chosen]
            numbers = torch.from_numpy(np.flatnonzero(np.isin(self._object_ids, ids))).to(self.tokens.device)
            if not len(numbers):
                raise DataError(
                    f"the reference bank {self.folder} has no {' or '.join(sorted(chosen))}; it has "
                    f"{', '.join(self.objects)}"
                )
            self._subsets[chosen] = (self.tokens[numbers], numbers)
        return self._subsets[chosen]


def write_bank(
    folder: Path, entries: Iterable[tuple[Reference, NDArray[np.float32]]], header: Mapping[str, Any]
) -> int:
    """Write a bank, entry by entry; it is there whole or not at all.

    Args:
        folder: created; an older bank in it is replaced once the new one is whole.
        entries: references with their class tokens (T,).
        header: see `ReferenceBank.header`; format, count, token_dim and objects are filled in.

    Returns:
        The number of entries.

    Raises:
        DataError: no entries.
        OutputError: the folder cannot be written.
    """
    objects: dict[str, int] = {}
    object_ids, offsets, width = array("i"), array("q"), 0
    place = folder.resolve()
    made = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        made.mkdir(parents=True)
        with (made / RECORDS).open("wb") as records, (made / TOKENS).open("wb") as tokens:
            for reference, token in entries:
                width = len(token)
                tokens.write(normalised(torch.from_numpy(token)[None]).numpy().astype("<f4").tobytes())
                offsets.append(records.tell())
                object_ids.append(objects.setdefault(reference.object, len(objects)))
                records.write(json.dumps(reference.to_dict()).encode() + b"\n")
            size = records.tell()
        if not offsets:
            raise DataError("none of the base images could be used: nothing to build a bank from")
        names = sorted(objects)
        order = np.array([names.index(name) for name in objects], dtype=np.int32)
        index = {"offsets": np.array(offsets, dtype=np.int64), "object_ids": order[np.array(object_ids)]}
        np.savez(made / INDEX, **index)
        about = {"format": FORMAT, "count": len(offsets), "token_dim": width, "objects": names, "records_size": size}
        (made / HEADER).write_text(json.dumps({**header, **about}, indent=1) + "\n", encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HEADER).unlink(missing_ok=True)  # no header, no bank: what is half replaced is never read
        for name in (RECORDS, TOKENS, INDEX, HEADER):
            (made / name).replace(folder / name)
    except OSError as error:
        raise OutputError(f"cannot write the reference bank {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return len(offsets)


def _wrong_in(header: Mapping[str, Any]) -> str | None:
    """The name of an entry of a header that is missing or of a wrong kind."""
    kinds = {"features": str, "fingerprint": str, "short_side": int, "max_side": int, "images": str, "objects": list}
    for name, kind in kinds.items():
        value = header.get(name)
        if not isinstance(value, kind) or not value or (isinstance(value, int) and value < 1):
            return name
    return None


def pack_token(token: Tensor) -> str:
    """A class token as text for JSON."""
    return base64.b64encode(token.float().cpu().numpy().astype("<f4").tobytes()).decode("ascii")


def unpack_token(text: str) -> NDArray[np.float32]:
    """The inverse of `pack_token`."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)


def check_features(bank: ReferenceBank, features: FeatureExtractor) -> None:
    """Class tokens of two networks, or of two sets of weights, cannot be compared."""
    built = (bank.header.get("features"), bank.header.get("fingerprint"))
    if built != (features.name, features.fingerprint):
        raise DataError(
            f"the reference bank {bank.folder} was built with {built[0]} features of the weights {built[1]}, not "
            f"{features.name} of {features.fingerprint}: build it again, or use those"
        )


def check_sources(sources: Mapping[str, Iterable[str]], labels: Iterable[str], bank: ReferenceBank | None) -> None:
    """Refuse references per label (`ParserOptions.sources`) of labels or base objects that there are not.

    Raises:
        DataError: there are some.
    """
    check_names(sources, labels, "no image has the label")
    if bank is not None:
        for bases in sources.values():
            check_names(bases, bank.objects, f"the reference bank {bank.folder} has no")

"""A `Result` as a table (pandas) and as GeoJSON, for notebooks, microscopes and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlpart.errors import OutputError
from vlpart.masks.polygons import Polygon, area, rectangle

if TYPE_CHECKING:
    import pandas

    from vlpart.types import NamedDetections

Affine = tuple[float, float, float, float, float, float]


def to_dataframe(result: NamedDetections) -> pandas.DataFrame:
    """See `Result.to_dataframe`."""
    try:
        import pandas
    except ImportError as error:
        raise OutputError("pandas is not installed: pip install pandas") from error
    vocabulary, class_ids = result.vocabulary, result.class_ids.tolist()
    sides = result.boxes_xyxy.reshape(-1, 4)
    boxes = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    return pandas.DataFrame(
        {
            "path": [result.path] * len(result),
            "name": result.names,
            "object": [vocabulary.object_name(i) for i in class_ids],
            "part": [vocabulary.part_name(i) for i in class_ids],
            "score": result.scores,
            "owner": result.owners,
            **{name: sides[:, k] for k, name in enumerate(("x0", "y0", "x1", "y1"))},
            "area": boxes.astype(np.float64) if result.masks is None else result.masks.areas().astype(np.float64),
        }
    )


def to_geojson(result: NamedDetections, transform: Affine | None = None) -> dict[str, Any]:
    """See `Result.to_geojson`."""
    names, owners, features = result.names, result.owners.tolist(), []
    for i, name in enumerate(names):
        rings = [rectangle(result.boxes_xyxy[i])] if result.masks is None else result.masks.rings(i)
        polygons = [[_closed(ring, transform) for ring in rings_of_one] for rings_of_one in _nested(rings)]
        geometry: dict[str, Any] | None = None
        if len(polygons) == 1:
            geometry = {"type": "Polygon", "coordinates": polygons[0]}
        elif polygons:
            geometry = {"type": "MultiPolygon", "coordinates": polygons}
        owner = owners[i] if owners[i] >= 0 else None
        features.append(
            {
                "type": "Feature",
                "id": i,
                "geometry": geometry,
                "properties": {
                    "name": name,
                    "score": round(float(result.scores[i]), 6),
                    "part_of": owner,
                    "objectType": "detection",  # this and the classification are what QuPath reads
                    "classification": {"name": name},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _closed(ring: Polygon, transform: Affine | None) -> list[list[float]]:
    """The corners of a ring, the first one again at the end, in the coordinates asked for."""
    x, y = np.concatenate([ring, ring[:1]]).T
    if transform is not None:
        a, b, c, d, e, f = transform
        x, y = a * x + b * y + c, d * x + e * y + f
    return [[round(float(u), 9), round(float(v), 9)] for u, v in zip(x, y, strict=True)]


def _nested(rings: Sequence[Polygon]) -> list[list[Polygon]]:
    """Rings that are filled by the even-odd rule as polygons: an outline, then its holes."""
    around = [[k for k, other in enumerate(rings) if k != i and _holds(other, ring)] for i, ring in enumerate(rings)]
    polygons = {i: [ring] for i, ring in enumerate(rings) if len(around[i]) % 2 == 0}
    for i, ring in enumerate(rings):
        if len(around[i]) % 2:
            outlines = [k for k in around[i] if k in polygons]
            polygons[min(outlines, key=lambda k: area(rings[k]))].append(ring)
    return list(polygons.values())


def _holds(outer: Polygon, inner: Polygon) -> bool:
    """Whether one ring lies inside another: the middle of its first side does (corners may touch)."""
    x, y = (inner[0] + inner[1]) / 2
    (x0, y0), (x1, y1) = outer.T, np.roll(outer, -1, axis=0).T
    crosses = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = x < (x1 - x0) * (y - y0) / (y1 - y0) + x0
    return bool(np.count_nonzero(crosses & left) % 2)

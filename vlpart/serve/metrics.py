"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The figures of one server; two in one process keep apart.

    Attributes:
        requests: answers by path, method and status.
        seconds: from the head of a request to the end of its answer, by path.
        images: images that were computed.
        detections: that were found in them.
        batches: sizes of the batches that were computed.
        computing: seconds that a batch took.
        waiting: images in the queue now.
        held: bytes of requests in memory now.
        refused: requests that were turned away, by reason.
        given_up: images that were not computed because their client had left, or that waited too long.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("vlpart_requests_total", "Answers", ("path", "method", "status"), registry=registry)
        self.seconds = Histogram(
            "vlpart_request_seconds", "Time to the end of the answer", ("path",), buckets=_SECONDS, registry=registry
        )
        self.images = Counter("vlpart_images_total", "Images computed", registry=registry)
        self.detections = Counter("vlpart_detections_total", "Detections found", registry=registry)
        self.batches = Histogram(
            "vlpart_batch_images", "Images computed together", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.computing = Histogram(
            "vlpart_batch_seconds", "Time to compute a batch", buckets=_SECONDS, registry=registry
        )
        self.waiting = Gauge("vlpart_queue_images", "Images that wait", registry=registry)
        self.held = Gauge("vlpart_held_bytes", "Bytes of requests in memory", registry=registry)
        self.refused = Counter("vlpart_refused_total", "Requests turned away", ("reason",), registry=registry)
        self.given_up = Counter("vlpart_given_up_total", "Images not computed", ("reason",), registry=registry)

    def text(self) -> bytes:
        """All figures in the text format of Prometheus."""
        return generate_latest(self._registry)

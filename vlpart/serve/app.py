"""The routes of the server, for any ASGI server; `vlpart serve` runs it with uvicorn."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from vlpart import __version__
from vlpart.errors import DataError, ImageError, ModelNotFoundError, OutputError, VlpartError, VocabularyError
from vlpart.inference.batch import readable_threshold
from vlpart.serve import engine, schema
from vlpart.serve.batching import AGAIN, JobQueue, QueueFullError, TooSlowError
from vlpart.serve.bodies import MAX_VALUES, accepts, body, checked, is_dense, lines
from vlpart.serve.downloads import Wanted, files_of
from vlpart.serve.engine import Engine, Models, TooLargeError, pixels_of, vocabulary_of
from vlpart.serve.guard import Guard
from vlpart.serve.labelling import add_labelling
from vlpart.serve.metrics import Metrics
from vlpart.serve.settings import ServeSettings
from vlpart.text.vocabulary import Vocabulary

STATIC = Path(__file__).parent / "static"
SAMPLE = Path(__file__).parents[1] / "assets" / "samples" / "astronaut.jpg"

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLargeError, 413),
    (QueueFullError, 429),
    (TooSlowError, 503),
    (ModelNotFoundError, 404),
    (ImageError, 422),
    (VocabularyError, 422),
    (DataError, 422),
    (OutputError, 422),
    (VlpartError, 503),
    (MemoryError, 503),
)
_COMPLETION_LISTS = ("tiny", "pascal_part", "lvis_paco", "coco")


def create_app(settings: ServeSettings | None = None) -> FastAPI:
    """The page and the HTTP API.

    Examples:
        >>> from vlpart.serve.app import create_app
        >>> from vlpart.serve.settings import ServeSettings
        >>> app = create_app(ServeSettings(models=("tiny",), token="secret"))

    Args:
        settings: default: the embedded model, on loopback, without a token.

    Raises:
        ModelNotFoundError, WeightsError: a model of the settings is not to be had.
    """
    if settings is not None and not isinstance(settings, ServeSettings):
        raise TypeError(f"settings must be ServeSettings, got {type(settings).__name__}")
    server = Server(settings or ServeSettings())
    app = FastAPI(
        title="vlpart",
        version=__version__,
        summary="Open-vocabulary part segmentation: a photo in, its objects and their parts out",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=server.lifespan,
    )
    app.add_middleware(Guard, settings=server.settings, metrics=server.metrics)
    _handle_errors(app)
    _add_predictions(app, server)
    _add_descriptions(app, server)
    add_labelling(app, server, server.settings.images)
    _add_page(app)
    app.state.models = server.models
    return app


class Server:
    """What the routes share."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(settings)
        self.engine = Engine(self.models, settings, self.metrics)
        self.device = ""
        self._queue: JobQueue | None = None

    @property
    def queue(self) -> JobQueue:
        """The queue, while the server runs."""
        if self._queue is None:
            raise RuntimeError("the server has not been started: run its lifespan")
        return self._queue

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the first model, then compute until the server ends."""
        first = await run_in_threadpool(self.models.get, self.models.names[0])
        self.device = str(getattr(first, "device", "cpu"))
        self._queue = JobQueue(self.settings, self.metrics)
        running = asyncio.create_task(self._queue.run())
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def predictions(self, request: Request, images: Sequence[bytes], options: schema.Options) -> list[Any]:
        """The answers for images, or what is wrong with each; all or none go into the queue.

        Raises:
            VlpartError: nothing of it can be computed.
        """
        if options.short_side is not None and options.short_side > self.settings.max_side:
            taken = self.settings.max_side
            raise HTTPException(422, f"short_side is {options.short_side}, and this server takes {taken}")
        model = self.models.named(options.model)
        vocabulary = await run_in_threadpool(vocabulary_of, options.vocabulary, self.settings.max_names)
        sizes = await run_in_threadpool(_sizes, images, self.settings.max_pixels)
        wanted = [engine.Request(image, model, vocabulary, options) for image in images]
        jobs = [
            (self.engine.predict, each, each.key, size)
            for each, size in zip(wanted, sizes, strict=True)
            if isinstance(size, int)
        ]
        computed = iter(await self.compute(request, jobs) if jobs else ())
        return [next(computed) if isinstance(size, int) else size for size in sizes]

    async def compute(self, request: Request, jobs: Sequence[Any]) -> list[Any]:
        """The answers to jobs, errors among them; if the client leaves, they are taken out of the queue."""
        futures = self.queue.submit(jobs)
        done = asyncio.gather(*futures, return_exceptions=True)
        left = asyncio.ensure_future(_left(request))
        both: set[asyncio.Future[Any]] = {done, left}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return list(done.result())
            raise HTTPException(499, "the client has left")
        finally:
            left.cancel()
            for future in futures:
                future.cancel()


async def _left(request: Request) -> None:
    """Returns when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _sizes(images: Sequence[bytes], most: int) -> list[int | VlpartError]:
    sizes: list[int | VlpartError] = []
    for image in images:
        try:
            sizes.append(pixels_of(image, most))
        except VlpartError as error:
            sizes.append(error)
    return sizes


# ---- errors


def _status_of(error: BaseException) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _failed(error: BaseException) -> Response:
    """An error as an answer; what is not meant for clients goes to the log of the server only."""
    status = _status_of(error)
    if status == 500:
        raise error
    again = error.again if isinstance(error, QueueFullError) else AGAIN[0]
    headers = {"Retry-After": str(again)} if status in (429, 503) else None
    detail = " ".join(str(error).split()) or type(error).__name__
    return JSONResponse({"detail": detail.encode(errors="backslashreplace").decode()}, status, headers)


def _handle_errors(app: FastAPI) -> None:
    async def known(request: Request, error: Exception) -> Response:
        return _failed(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"detail": lines(error.errors())}, 422)

    app.add_exception_handler(VlpartError, known)
    app.add_exception_handler(RequestValidationError, invalid)


_Failures = dict[int | str, dict[str, Any]]
_FAILURES: _Failures = {
    status: {"model": schema.Failure, "description": text}
    for status, text in {
        400: "The body cannot be read",
        401: "A token is needed",
        403: "Another site asks, or the server is called by another name",
        404: "No such model or list",
        408: "The request came too slowly",
        413: "Too many bytes or pixels",
        415: "Neither a form nor JSON",
        422: "Something in the request is wrong; `detail` says what",
        429: "The queue is full: try again after `Retry-After` seconds",
        500: "The server failed",
        503: "It took too long, or the model cannot be loaded",
    }.items()
}


# ---- routes


def _add_predictions(app: FastAPI, server: Server) -> None:
    settings = server.settings

    @app.post(
        "/v1/predict",
        responses={200: {"model": schema.Prediction}, **_FAILURES},
        response_class=Response,
        openapi_extra=accepts(schema.PredictRequest, "image", several=False),
        summary="Objects and parts of one image",
        tags=["predict"],
    )
    async def predict(request: Request) -> Response:
        fields, files = await body(request, "image")
        if len(files) != 1:
            raise HTTPException(422, f"image: one is needed, not {len(files)}; several go to /v1/batch")
        (answer,) = await server.predictions(request, [files[0][1]], checked(schema.Options, fields))
        if isinstance(answer, BaseException):
            return _failed(answer)
        return Response(answer, media_type="application/json")

    @app.post(
        "/v1/batch",
        responses={200: {"model": schema.BatchAnswer}, **_FAILURES},
        response_class=Response,
        openapi_extra=accepts(schema.BatchRequest, "images", several=True),
        summary="Objects and parts of several images",
        tags=["predict"],
    )
    async def batch(request: Request) -> Response:
        """Answers in the order of the images; an image that cannot be read has an answer with `detail` alone."""
        fields, files = await body(request, "images")
        if len(files) > settings.max_images:
            raise HTTPException(413, f"images: {len(files)} were sent, and this server takes {settings.max_images}")
        options = checked(schema.Options, fields)
        answers = await server.predictions(request, [data for _, data in files], options)
        for answer in answers:
            if isinstance(answer, BaseException) and _status_of(answer) not in (413, 422):
                return _failed(answer)
        parts = [each if isinstance(each, bytes) else json.dumps({"detail": str(each)}).encode() for each in answers]
        return Response(b'{"results": [' + b", ".join(parts) + b"]}", media_type="application/json")

    @app.post(
        "/v1/export",
        responses={200: {"content": {"application/octet-stream": {}}}, **_FAILURES},
        response_class=Response,
        openapi_extra=accepts(schema.ExportOptions, "images", several=True, json_too=False),
        summary="Results, perhaps corrected, as files",
        tags=["predict"],
    )
    async def export(request: Request) -> Response:
        """The files of `vlpart predict --format`: one as it is, several in a ZIP file."""
        fields, files = await body(request, "images")
        if isinstance(fields.get("results"), str):
            if is_dense(fields["results"].encode(errors="replace")):
                raise HTTPException(413, f"results: more than {MAX_VALUES:,} values")
            try:
                fields["results"] = json.loads(fields["results"])
            except (ValueError, RecursionError):
                raise HTTPException(422, "results: not JSON") from None
        options = checked(schema.ExportOptions, fields)
        if len(files) != len(options.results):
            raise HTTPException(422, f"results: {len(options.results)} for {len(files)} images")
        sizes = await run_in_threadpool(_sizes, [data for _, data in files], settings.max_pixels)
        for size in sizes:
            if isinstance(size, VlpartError):
                raise size
        wanted = Wanted(files, options.results, options.formats, settings.max_pixels, settings.max_detections)
        (answer,) = await server.compute(request, [(files_of, wanted, None, 0)])
        if isinstance(answer, BaseException):
            return _failed(answer)
        name, data = answer
        headers = {"Content-Disposition": _attachment(name)}
        return Response(data, media_type="application/octet-stream", headers=headers)


def _attachment(name: str) -> str:
    from urllib.parse import quote

    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"


def _add_descriptions(app: FastAPI, server: Server) -> None:
    settings = server.settings
    refused: _Failures = {status: _FAILURES[status] for status in (401, 403)}

    @app.get("/v1/models", response_model=list[schema.ModelInfo], responses=refused, tags=["about"])
    async def models() -> Any:
        """The models that may be asked for, the default first."""
        return server.models.info()

    @app.get("/v1/vocabularies", response_model=list[schema.VocabularyInfo], responses=refused, tags=["about"])
    async def vocabularies() -> Any:
        """The lists of the package."""
        lists = [Vocabulary.load(name) for name in Vocabulary.available()]
        return [{"name": each.title, "about": each.about, "entries": len(each)} for each in lists]

    @app.get(
        "/v1/vocabularies/{name}",
        response_model=schema.VocabularyAnswer,
        responses=refused | {404: _FAILURES[404], 422: _FAILURES[422]},
        tags=["about"],
    )
    async def vocabulary_list(name: str) -> Any:
        """The entries of one list."""
        if name not in Vocabulary.available():
            raise HTTPException(404, f"there is no list {name!r}")
        return _described(Vocabulary.load(name))

    @app.post(
        "/v1/vocabulary",
        response_model=schema.VocabularyAnswer,
        responses={status: _FAILURES[status] for status in (400, 401, 403, 404, 408, 413, 422, 429)},
        tags=["about"],
    )
    def vocabulary(text: schema.VocabularyText) -> Any:
        """How a vocabulary is understood, or what is wrong with it."""
        found = vocabulary_of(text.vocabulary, settings.max_names)
        assert found is not None
        return _described(found) | {"unknown": server.models.unknown_words(server.models.named(text.model), found)}

    @app.get("/v1/names", response_model=schema.Names, responses=refused, tags=["about"])
    def names() -> Any:
        """Every object of the lists and its parts, for completion."""
        return {"objects": _known_names()}

    @app.get("/v1/version", response_model=schema.Version, responses=refused, tags=["about"])
    async def version() -> Any:
        """Of the server."""
        return {"vlpart": __version__, "torch": importlib.metadata.version("torch"), "device": server.device}

    @app.get("/health", response_model=schema.Health, responses={403: _FAILURES[403]}, tags=["about"])
    async def health() -> Any:
        """Whether the server answers; needs no token."""
        return {"status": "ok", "waiting": len(server.queue), "queue": settings.queue}

    @app.get(
        "/metrics",
        response_class=Response,
        responses=refused | {200: {"content": {"text/plain": {}}}},
        tags=["about"],
    )
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(server.metrics.text(), media_type=server.metrics.content_type)


def _described(vocabulary: Vocabulary) -> dict[str, Any]:
    entries = [{"id": e.id, "name": e.name, "object": e.object, "part": e.part} for e in vocabulary.entries]
    return {
        "name": vocabulary.title,
        "about": vocabulary.about,
        "threshold": readable_threshold(len(vocabulary)),
        "entries": entries,
    }


def _known_names() -> dict[str, list[str]]:
    """Objects of the lists, spelt with spaces, and their parts."""
    found: dict[str, list[str]] = {}
    for name in _COMPLETION_LISTS:
        vocabulary = Vocabulary.load(name)
        for i, entry in enumerate(vocabulary.entries):
            parts = found.setdefault(vocabulary.object_name(i).replace("_", " ").casefold(), [])
            part = None if entry.part is None else entry.part.replace("_", " ")
            if part is not None and part not in parts:
                parts.append(part)
    return dict(sorted(found.items()))


def _add_page(app: FastAPI) -> None:
    fresh = {"Cache-Control": "no-cache"}

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=fresh)

    @app.get("/static/sample.jpg", include_in_schema=False)
    async def sample() -> FileResponse:
        return FileResponse(SAMPLE, headers=fresh)

    app.mount("/static", _Static(directory=STATIC), name="static")


class _Static(StaticFiles):
    """Files of the page, asked for again each time: an installation that is brought up to date shows at once."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """With a header for the browser's cache."""
        response = super().file_response(*args, **options)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

"""Routes for labelling tools: a machine learning backend of Label Studio, a remote server of X-AnyLabeling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from vlpart.errors import ImageError
from vlpart.integrations import label_studio, x_anylabeling
from vlpart.results.result import Result
from vlpart.serve import schema
from vlpart.serve.bodies import checked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vlpart.serve.engine import Models
    from vlpart.serve.settings import ServeSettings


class Server(Protocol):
    """What these routes need of the server."""

    settings: ServeSettings
    models: Models

    async def predictions(self, request: Request, images: Sequence[bytes], options: schema.Options) -> list[Any]:
        """The answers for images."""
        ...


async def _json(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return content


def add_labelling(app: FastAPI, server: Server, images: Path | None) -> None:
    """Add the routes.

    Args:
        app: the application.
        server: what computes.
        images: folder with the images that tasks of Label Studio name; None takes those in the request only.
    """
    _add_label_studio(app, server, images)
    _add_x_anylabeling(app, server)


def _add_label_studio(app: FastAPI, server: Server, images: Path | None) -> None:
    version = f"vlpart {server.models.names[0]}"

    @app.get("/label-studio/health", include_in_schema=False)
    @app.get("/label-studio/", include_in_schema=False)
    async def health() -> dict[str, Any]:
        return {"status": "UP", "model_class": "vlpart"}

    @app.post("/label-studio/setup", include_in_schema=False)
    async def setup(request: Request) -> dict[str, Any]:
        content = await _json(request)
        if content.get("schema"):
            await run_in_threadpool(label_studio.names_of_config, str(content["schema"]))
        return {"model_version": version}

    @app.post("/label-studio/webhook", include_in_schema=False)
    async def webhook() -> dict[str, Any]:
        """What it tells of every annotation; this backend does not train while somebody labels."""
        return {}

    @app.post("/label-studio/predict", include_in_schema=False)
    async def predict(request: Request) -> dict[str, Any]:
        """Predictions for the tasks of Label Studio."""
        content = await _json(request)
        tasks, config = content.get("tasks"), content.get("label_config")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise HTTPException(422, "tasks: a list of tasks is needed")
        if len(tasks) > server.settings.max_images:
            raise HTTPException(413, f"tasks: {len(tasks)}, and this server takes {server.settings.max_images}")
        names = await run_in_threadpool(label_studio.names_of_config, config) if isinstance(config, str) else None
        controls = label_studio.controls_of_config(config) if isinstance(config, str) else None
        most = server.settings.max_body
        files = [await run_in_threadpool(label_studio.image_of_task, task, images, most) for task in tasks]
        options = checked(schema.Options, {"vocabulary": names, "masks": ["rle"]})
        results = await _results(server, request, files, options)
        return {
            "results": [label_studio.prediction_of(r, version, controls) for r in results],
            "model_version": version,
        }


def _add_x_anylabeling(app: FastAPI, server: Server) -> None:
    @app.get("/x-anylabeling/health", include_in_schema=False)
    async def health() -> dict[str, Any]:
        return {"status": "healthy"}

    @app.get("/x-anylabeling/v1/models", include_in_schema=False)
    async def models() -> dict[str, Any]:
        return {"success": True, "data": {name: x_anylabeling.model_info(name, ()) for name in server.models.names}}

    @app.post("/x-anylabeling/v1/predict", include_in_schema=False)
    async def predict(request: Request) -> dict[str, Any]:
        """The shapes of one image, for X-AnyLabeling."""
        content = await _json(request)
        params = content.get("params") if isinstance(content.get("params"), dict) else {}
        assert isinstance(params, dict)
        image = await run_in_threadpool(label_studio.bytes_of_data_address, str(content.get("image")))
        options = checked(
            schema.Options,
            {
                "model": content.get("model"),
                "vocabulary": params.get("text_prompt") or None,
                "threshold": params.get("conf_threshold") or None,  # 0 is what the tool sends unless somebody sets it
                "iou": params.get("iou_threshold") or 0.7,
                "masks": ["rle"],
            },
        )
        (result,) = await _results(server, request, [image], options)
        wanted = params.get("filter_classes") or None
        shapes = [s for s in x_anylabeling.shapes_of(result) if wanted is None or s["label"] in wanted]
        return {"success": True, "data": {"shapes": shapes, "description": "", "replace": None}}


async def _results(server: Server, request: Request, images: list[bytes], options: schema.Options) -> list[Result]:
    answers = await server.predictions(request, images, options)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    if len(answers) != len(images):
        raise ImageError("an image has no answer")
    return [Result.from_dict(json.loads(answer)) for answer in answers]

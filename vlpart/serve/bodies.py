"""Reading what is sent, as a form or as JSON, and describing both for the OpenAPI text."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

_MOST_FIELDS, _MOST_TEXT = 64, 64_000_000  # of a form; the whole of it is bounded by the settings
MAX_VALUES = 1_000_000
"""Values in one JSON text: a small one that holds many empty lists takes twenty times its size, and minutes."""
_Model = TypeVar("_Model", bound=BaseModel)


def lines(errors: Sequence[Any]) -> str:
    """What pydantic found, in one line."""
    told = [(".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")) for error in errors[:5]]
    return "; ".join(f"{where}: {what}".lstrip(": ") for where, what in told)


def is_dense(text: bytes | bytearray) -> bool:
    """Whether a JSON text has more values than are read; commas in its strings count as well."""
    return sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES


def checked(kind: type[_Model], data: Any) -> _Model:
    """`data` as a model of pydantic. Raises `HTTPException` (422) with one line that says what does not fit."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise HTTPException(422, lines(error.errors())) from None


async def body(request: Request, files: str) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """The fields and files of a request, sent as a form or as JSON.

    Args:
        request: the request.
        files: name of the field with the files; in JSON it holds base64, once or in a list.

    Raises:
        HTTPException: of another content type, malformed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request, files)
    if kind != "application/json":
        raise HTTPException(415, "send multipart/form-data, or application/json with the image as base64")
    try:
        data = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(data, dict):
        raise HTTPException(422, "the body is not a JSON object")
    found: list[tuple[str, bytes]] = []
    given = data.pop(files, None)
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise HTTPException(422, f"{files}: the bytes of an image file are needed, as base64")
    for number, each in enumerate(given, start=1):
        try:
            found.append((f"image_{number}.jpg", base64.b64decode(each, validate=True)))
        except (binascii.Error, ValueError):
            raise HTTPException(422, f"{files}: number {number} is not base64") from None
    return data, found


async def _form(request: Request, files: str) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    fields: dict[str, Any] = {}
    found: list[tuple[str, bytes]] = []
    try:
        async with request.form(max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS, max_part_size=_MOST_TEXT) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name != files:
                        raise HTTPException(422, f"{name}: not expected; files go into the field {files}")
                    found.append((value.filename or "image.jpg", await value.read()))
                elif name in fields:
                    raise HTTPException(422, f"{name}: given twice")
                else:
                    fields[name] = value
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from None
    if not found:
        raise HTTPException(422, f"{files}: a file is needed")
    return fields, found


def accepts(kind: type[BaseModel], files: str, *, several: bool, json_too: bool = True) -> dict[str, Any]:
    """The request body for the OpenAPI text: `kind` as JSON, and the same as a form with `files` as a file."""
    described = kind.model_json_schema()
    one = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    fields = {name: {k: v for k, v in each.items() if k != "title"} for name, each in described["properties"].items()}
    for name, each in fields.items():
        if each.get("type") == "array" and name != files:
            fields[name] = {"type": "string", "description": each.get("description", "")}
        elif "anyOf" in each:
            (scalar, *_) = each.pop("anyOf")
            fields[name] = {k: v for k, v in (each | scalar).items() if k != "default"}
    fields[files] = {"type": "array", "items": one, "minItems": 1} if several else one
    needed = [name for name in described.get("required", []) if name != files] + [files]
    form = {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if json_too:
        content["application/json"] = {"schema": described}
    return {"requestBody": {"required": True, "content": content}}

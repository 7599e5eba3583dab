"""The OpenAPI document, made from the types that decode the requests."""

import json
import re
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.http.messages import Fault, components

REFERENCE = re.compile(r"#/components/schemas/(\w+)")
FAULTS = {
    400: "not JSON",
    401: "no or a wrong bearer token",
    404: "what the request names does not exist",
    409: "not with this bundle",
    413: "the body is too large",
    415: "the body is not application/json",
    422: "JSON that does not say what it must",
    503: "no room, or a part that is needed does not answer: Retry-After says when to try again",
    504: "the deadline has passed",
}


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"application/json": {"schema": schema}}


def operation(request: type[msgspec.Struct], response: type[msgspec.Struct]) -> dict[str, Any]:
    """What a route says of itself, as arguments of FastAPI's decorators."""
    faults = {
        status: {"description": text, "content": _content(Fault)} for status, text in FAULTS.items()
    }
    return {
        "responses": {200: {"description": "done", "content": _content(response)}, **faults},
        "openapi_extra": {"requestBody": {"required": True, "content": _content(request)}},
    }


def _reachable(text: str) -> dict[str, Any]:
    """The schemas that a text refers to, and those that they refer to."""
    known, found, waiting = components(), {}, REFERENCE.findall(text)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = known[name]
            waiting += REFERENCE.findall(json.dumps(known[name]))
    return found


def describe(app: FastAPI) -> None:
    """Give the application its document at /openapi.json."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas |= _reachable(json.dumps(found["paths"]))
            found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"token": []}, {}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

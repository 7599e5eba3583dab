"""The page at `/`: compose a history, watch candidates become an answer, move the policy. Three
files without a build step; nothing is fetched from elsewhere.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.responses import FileResponse

from serving.http.desk import Desk
from serving.policy_spec import PolicySpec
from serving.recommender import Recommender
from serving.titles import Titles

PAGE = Path(__file__).with_name("page")
FILES = {
    "/": ("playground.html", "text/html"),
    "/playground.js": ("playground.js", "text/javascript"),
    "/playground.css": ("playground.css", "text/css"),
}
SECURITY = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
POLICY = TypeAdapter(PolicySpec)
FOUND = 12
"""Titles told for what was typed."""


@lru_cache(maxsize=2)
def _titles(recommender: Recommender) -> Titles:
    return Titles(recommender.raw_item_ids[1:].to_list(), recommender.titles())


def about(recommender: Recommender) -> dict[str, Any]:
    """What the page needs to know of a bundle."""
    columns = [
        {"name": column.name, "kind": column.kind} for column in recommender.schema.item_columns
    ]
    return {
        "bundle_version": recommender.bundle_version,
        "num_items": recommender.num_items,
        "sources": recommender.source_names,
        "ranker": recommender.manifest.ranker is not None,
        "columns": columns,
        "policy": POLICY.dump_python(recommender.manifest.policy, mode="json"),
    }


def add_playground(app: FastAPI, desk: Desk) -> None:
    """Give an application the page and the two questions that only the page asks."""
    service = desk.service

    def serve_file(name: str, kind: str) -> FileResponse:
        return FileResponse(PAGE / name, media_type=kind, headers=SECURITY)

    for path, (name, kind) in FILES.items():

        def page(name: str = name, kind: str = kind) -> FileResponse:
            return serve_file(name, kind)

        app.add_api_route(path, page, include_in_schema=False, response_model=None)

    @app.get("/v1/titles", include_in_schema=False)
    def titles(q: str) -> list[dict[str, Any]]:
        """Items whose titles hold the words typed so far."""
        found = _titles(service.recommender).search(q[:200], FOUND)
        return [{"item_id": raw, "title": title} for raw, title in found]

    @app.get("/v1/about", include_in_schema=False)
    def tell() -> dict[str, Any]:
        """The bundles at hand."""
        compared = service.compared
        return {
            "serving": about(service.recommender),
            "compared": None if compared is None else about(compared.recommender),
        }

"""Items added over HTTP: recommended at once, after a swap, after a restart, until retired."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.live import Live
from serving.recommender import Recommender
from serving.registry import Registry

Start = Callable[..., Any]
NEW = {"item_id": 7, "title": "new thing", "genre": "drama", "price": 3.5}
OF_DRAMA = [20, 60, 100]
"""Raw ids of the toy whose genre is that of NEW (dense ids 2, 6, 10)."""


@pytest.fixture
def bundle(tmp_path: Path, make_toy: Callable) -> Path:
    """Items are what their genre says; histories add up."""
    import numpy as np

    vectors = np.zeros((61, 8), np.float16)
    items = np.arange(1, 61)
    genre = np.where(items % 4 == 0, 0, items % 4 + 1)
    vectors[items, genre] = 1
    return make_toy(tmp_path / "bundle", vectors=vectors, attributes=True, encodes_items=True).path


def complete(row: dict[str, Any], recommender: Recommender) -> dict[str, Any]:
    """The row with every declared column, null where it says nothing."""
    return {column.name: None for column in recommender.schema.item_columns} | row


def asked(client: Any) -> list[int]:
    found = client.post("/v1/recommend", {"history": OF_DRAMA, "k": 5})
    assert found.status == 200, found.body
    return [item["item_id"] for item in found.json["items"]]


def test_an_added_item_is_recommended_from_then_on(
    start: Start, bundle: Path, tmp_path: Path
) -> None:
    registry, journal = Registry(tmp_path / "registry"), tmp_path / "items.jsonl"
    registry.publish(bundle, canary=False)
    live = Live.of_registry(registry.path, journal)
    row = complete(NEW, live.recommender)
    running = start(live=live, refresh_seconds=0.0)
    assert 7 not in asked(running.public)
    added = running.admin.post("/v1/items/add", {"items": [row]})
    assert (added.status, added.json["count"]) == (200, 1), added.body
    found = running.public.post("/v1/recommend", {"history": OF_DRAMA, "k": 1, "columns": True})
    assert found.json["items"][0]["item_id"] == 7  # its vector is three times as long
    assert found.json["items"][0]["title"] == "new thing"
    assert "+" in found.json["bundle_version"]
    assert running.public.post("/v1/similar", {"item_id": 7, "k": 3}).status == 200
    followed = running.public.post("/v1/recommend", {"history": [7], "k": 3})
    assert (followed.status, followed.json["unknown"]) == (200, 0)
    again = running.admin.post("/v1/items/add", {"items": [row]})
    assert (again.status, again.json["count"]) == (200, 0), "known already"
    assert running.admin.get("/status").json["added_items"] == 1

    registry.publish(bundle, canary=False)
    assert running.admin.post("/v1/refresh", {}).json["swapped"]
    assert asked(running.public)[0] == 7, "the change outlives the bundle"
    restarted = Live.of_registry(registry.path, journal)
    assert restarted.recommender.recommend(OF_DRAMA, k=1).items[0].item_id == 7
    restarted.close()

    retired = running.admin.post("/v1/items/retire", {"item_ids": [7]})
    assert (retired.status, retired.json["count"]) == (200, 1)
    assert 7 not in asked(running.public)


def test_what_cannot_be_added_changes_nothing(start: Start, bundle: Path) -> None:
    live = Live.of_bundle(bundle)
    row = complete(NEW, live.recommender)
    running = start(live=live)
    wrong = [
        {"item_id": "seven"},
        {"price": "much"},
        {"genre": 4},
        {"genre": ["drama"]},
        {"released": "soon"},
    ]
    for change in wrong:
        found = running.admin.post("/v1/items/add", {"items": [row, row | change]})
        assert (found.status, found.json["error"]) == (422, "request"), (change, found.body)
    del row["genre"]
    assert running.admin.post("/v1/items/add", {"items": [row]}).status == 422
    assert running.admin.get("/status").json["added_items"] == 0
    assert 7 not in asked(running.public)

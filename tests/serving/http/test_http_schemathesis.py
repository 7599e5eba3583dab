"""Requests made from the service's own OpenAPI document: none is a fault of ours, and every answer
is one that the document announces.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from serving.history import SQLiteHistory
from serving.live import Live
from serving.recommender import Recommender
from serving.service import Service

schemathesis = pytest.importorskip("schemathesis", reason="comes with the dev extra")
PUBLIC = ("recommend", "similar", "events", "forget", "explain")
ADMIN = ("items/add", "items/retire", "refresh", "rollback")
ANNOUNCED = {200, 400, 401, 404, 405, 409, 413, 415, 422, 503, 504}


@pytest.fixture(scope="module")
def running(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.serving.http.conftest import run_server

    store = SQLiteHistory(Path(tmp_path_factory.mktemp("fuzz")) / "state.db")
    with run_server(Service(Live(recommender), store=store)) as server:
        yield server


def ask_much(address: str, path: str, examples: int) -> dict[int, int]:
    """How many answers of each status the route gave; each is checked against the document."""
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operation = document[path]["POST"]
    counts: dict[int, int] = {}

    @given(case=operation.as_strategy())
    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any) -> None:
        response = case.call()
        status = response.status_code
        assert status in ANNOUNCED, (status, response.text)
        if status != 405:
            case.validate_response(response, checks=checks)
        counts[status] = counts.get(status, 0) + 1

    ask()
    return counts


@pytest.mark.parametrize("route", [*PUBLIC, *ADMIN])
def test_a_route_keeps_to_its_document(running: Any, route: str) -> None:
    address = running.public.address if route in PUBLIC else running.admin.address
    assert sum(ask_much(address, f"/v1/{route}", 15).values()) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("route", [*PUBLIC, *ADMIN])
def test_a_route_keeps_to_its_document_for_long(
    running: Any, route: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = running.public.address if route in PUBLIC else running.admin.address
    counts = ask_much(address, f"/v1/{route}", 1_000)
    with capsys.disabled():
        print(f"\n{route}: {dict(sorted(counts.items()))}")

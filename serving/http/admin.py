"""The admin listener: what operators and machines of the house do. Not for the public."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving.http import messages
from serving.http.desk import Call, Desk
from serving.http.gate import Room, Visit
from serving.http.openapi import describe, operation
from serving.http.public import add_health


class AdminRoutes:
    """What the routes do; each runs on a thread of the desk."""

    def __init__(self, desk: Desk) -> None:
        self._live, self._swaps = desk.service.live, desk.meters.swaps

    def add(self, message: messages.AddItemsRequest, visit: Visit) -> messages.Done:
        """Make new items recommendable."""
        return messages.Done(request_id=visit.request_id, count=self._live.add_items(message.items))

    def retire(self, message: messages.RetireItemsRequest, visit: Visit) -> messages.Done:
        """Never recommend some items again."""
        return messages.Done(
            request_id=visit.request_id, count=self._live.retire_items(message.item_ids)
        )

    def refresh(self, message: messages.RefreshRequest, visit: Visit) -> dict[str, Any]:
        """Swap to what CURRENT names."""
        return self._told(self._live.refresh())

    def roll_back(self, message: messages.RollbackRequest, visit: Visit) -> dict[str, Any]:
        """Point CURRENT to an older version, and swap."""
        return self._told(self._live.roll_back(message.version))

    def calls(self) -> dict[str, Call]:
        """By name."""
        every = (
            Call("add", messages.AddItemsRequest, self.add),
            Call("retire", messages.RetireItemsRequest, self.retire),
            Call("refresh", messages.RefreshRequest, self.refresh),
            Call("rollback", messages.RollbackRequest, self.roll_back),
        )
        return {call.route: call for call in every}

    def _told(self, swapped: bool) -> dict[str, Any]:  # noqa: FBT001 (one fact, passed on)
        status = self._live.status()
        refused = not swapped and status.get("refused") is not None
        self._swaps.labels("swapped" if swapped else "refused" if refused else "unchanged").inc()
        return {"swapped": swapped, **status}


def admin_app(desk: Desk, room: Room) -> FastAPI:
    """The application of the admin listener, to be put behind a Gate of its own."""
    app = FastAPI(title="recsys admin", version="1", docs_url=None, redoc_url=None)
    calls = AdminRoutes(desk).calls()
    describe(app)

    @app.post("/v1/items/add", **operation(messages.AddItemsRequest, messages.Done))
    async def add(request: Request) -> Response:
        """Make items recommendable that the bundle does not know, from their attributes."""
        return await desk.run(request, calls["add"])

    @app.post("/v1/items/retire", **operation(messages.RetireItemsRequest, messages.Done))
    async def retire(request: Request) -> Response:
        """Never recommend these items again."""
        return await desk.run(request, calls["retire"])

    @app.post("/v1/refresh", **operation(messages.RefreshRequest, messages.Release))
    async def refresh(request: Request) -> Response:
        """Swap to what the registry's CURRENT names; a bad release is told and not served."""
        return await desk.run(request, calls["refresh"])

    @app.post("/v1/rollback", **operation(messages.RollbackRequest, messages.Release))
    async def rollback(request: Request) -> Response:
        """Serve an older version of the registry, by default the one before."""
        return await desk.run(request, calls["rollback"])

    @app.get("/metrics")
    def metrics() -> Response:
        """Numbers in Prometheus' text format."""
        return Response(desk.meters.exposition(), media_type="text/plain; version=0.0.4")

    @app.get("/status")
    def status() -> dict[str, Any]:
        """What serves, and what became of the latest attempt to replace it."""
        return desk.service.live.status()

    add_health(app, desk, room)
    return app

"""The admin listener: what operators and machines of the house do. Not for the public."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving.http.desk import Desk
from serving.http.gate import Room
from serving.http.openapi import describe
from serving.http.public import add_health


def admin_app(desk: Desk, room: Room) -> FastAPI:
    """The application of the admin listener, to be put behind a Gate of its own."""
    app = FastAPI(title="recsys admin", version="1", docs_url=None, redoc_url=None)
    describe(app)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Numbers in Prometheus' text format."""
        return Response(desk.meters.exposition(), media_type="text/plain; version=0.0.4")

    add_health(app, desk, room)
    return app

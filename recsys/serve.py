"""Serving from the command line: loads, says where, and serves until told to stop."""

import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console

from features.errors import InputError

NEEDED = ("fastapi", "uvicorn", "msgspec", "prometheus_client")


def serve_bundle(
    bundle: Path, config: Path | None, overrides: dict[str, Any], compare: Path | None
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises InputError, BundleError or StateError before that."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f"serving needs {', '.join(missing)}: pip install 'recsys-engine[http]'")
    from serving.http.config import load_config  # noqa: PLC0415 - the extra
    from serving.http.journal import log_to_stderr  # noqa: PLC0415
    from serving.http.server import Server, open_service  # noqa: PLC0415

    settings = load_config(config, overrides)
    console = Console(stderr=True, highlight=False)
    with console.status(f"loading {bundle}"):
        service = open_service(bundle, settings, compare)
    server = Server(service, settings)
    log_to_stderr()

    def started(public: str, admin: str) -> None:
        console.print(
            f"bundle {service.recommender.bundle_version}  {service.recommender.num_items:,} items"
        )
        page = "   playground: open it in a browser" if settings.playground else ""
        console.print(f"public  {public}{page}")
        console.print(f"admin   {admin}/metrics")

    server.run(started)

"""Serving from the command line: loads, says where, and serves until told to stop."""

import gc
import importlib.util
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from features.errors import InputError
from serving.errors import ServingError

if TYPE_CHECKING:
    from serving.http.config import ServeConfig

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Requests are the parallelism: a product that takes several cores only makes others wait."""
NEEDED = ("fastapi", "uvicorn", "msgspec", "prometheus_client")


def serve_bundle(
    bundle: Path, config: Path | None, overrides: dict[str, Any], compare: Path | None
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises InputError, BundleError or StateError before that."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f"serving needs {', '.join(missing)}: pip install 'recsys-engine[http]'")
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    from serving.http.config import load_config  # noqa: PLC0415 - the extra

    settings = load_config(config, overrides)
    if settings.processes > 1:
        _serve_processes(bundle, settings, compare)
    else:
        serve_one(bundle, settings, compare)


def serve_one(bundle: Path, settings: "ServeConfig", compare: Path | None) -> None:
    """Serve in this process until told to stop."""
    from serving.http.journal import log_to_stderr  # noqa: PLC0415 - the extra
    from serving.http.server import Server, open_service  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    with console.status(f"loading {bundle}"):
        service = open_service(bundle, settings, compare)
    server = Server(service, settings)
    gc.collect()
    gc.freeze()  # what is loaded stays: no collection need look through a million items again
    log_to_stderr()

    def started(public: str, admin: str) -> None:
        console.print(
            f"bundle {service.recommender.bundle_version}  {service.recommender.num_items:,} items"
        )
        page = "   playground: open it in a browser" if settings.playground else ""
        console.print(f"public  {public}{page}")
        console.print(f"admin   {admin}/metrics")

    server.run(started)


def _serve_processes(bundle: Path, settings: "ServeConfig", compare: Path | None) -> None:
    """Serve in several processes at one port until told to stop. One that ends by itself ends all:
    whoever watches this one starts them again.
    """
    from serving.http.server import shared_socket  # noqa: PLC0415 - the extra

    held = shared_socket(settings)  # the port is known, and is ours, before anybody listens
    port = held.getsockname()[1]
    first = settings.admin_port or port + 1
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    for number in range(settings.processes):
        own = replace(settings, port=port, admin_port=first + number, reuse_port=True)
        processes.append(context.Process(target=_serve_child, args=(bundle, own, compare)))

    told: list[int] = []

    def stop(number: int, frame: Any) -> None:
        told.append(number)
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for process in processes:
        process.start()
    wait([process.sentinel for process in processes])
    if not told:  # one ended by itself; a second signal would cut short those that are ending
        stop(signal.SIGTERM, None)
    _end(processes, told)
    held.close()


def _serve_child(bundle: Path, settings: "ServeConfig", compare: Path | None) -> None:
    try:
        serve_one(bundle, settings, compare)
    except (InputError, ServingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _end(processes: Sequence[BaseProcess], told: Sequence[int]) -> None:
    """Wait for all; end with the status of the first that did not end well.

    told: signals that they were sent: to end by one of them is well.
    """
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    failed = [code for code in codes if code and -code not in told]
    if failed:
        sys.exit(failed[0] if failed[0] > 0 else 1)

"""The threads behind the event loop."""

import asyncio
import threading
import time

import pytest

from serving.http.workers import Workers


def test_results_and_errors_come_back() -> None:
    async def ask() -> None:
        workers = Workers(2)
        assert await asyncio.gather(*(workers.run(divmod, n, 7) for n in range(50))) == [
            divmod(n, 7) for n in range(50)
        ]
        with pytest.raises(ZeroDivisionError):
            await workers.run(divmod, 1, 0)
        assert await workers.run(lambda: threading.current_thread().name) in (
            "recsys_0",
            "recsys_1",
        )
        await asyncio.to_thread(workers.close)
        with pytest.raises(RuntimeError, match="ended"):
            await workers.run(divmod, 1, 1)

    asyncio.run(ask())


def test_who_goes_away_disturbs_nobody() -> None:
    async def ask() -> None:
        workers, go = Workers(1), threading.Event()
        waiting = asyncio.create_task(workers.run(go.wait, 20))
        behind = asyncio.create_task(workers.run(divmod, 9, 7))
        await asyncio.sleep(0.01)
        waiting.cancel()
        go.set()
        assert await behind == (1, 2)
        await asyncio.to_thread(workers.close)

    asyncio.run(ask())


def test_what_was_begun_is_finished() -> None:
    done = []

    async def ask() -> Workers:
        workers = Workers(1)
        task = asyncio.create_task(workers.run(lambda: (time.sleep(0.05), done.append(1))))
        await asyncio.sleep(0.01)
        task.cancel()
        return workers

    workers = asyncio.run(ask())
    workers.close()  # the loop is gone, the thread still counts
    assert done == [1]

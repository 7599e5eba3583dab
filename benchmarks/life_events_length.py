"""Time and memory of the life-event transformer against the length of documents.

    /work/bin/bench .venv/bin/python benchmarks/life_events_length.py

Each length and kind of global attention runs in a process of its own, so that its peak memory is
its own; a forward pass in torch on one thread, batch 1, median of the passes that fit the budget.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

LENGTHS = (256, 1_024, 2_560, 10_000)
KINDS = ("favor", "softmax", "all softmax")
BUDGET = 6.0
"""Seconds a cell; at least one pass after a warm-up."""


def measure(kind: str, length: int) -> dict[str, float]:
    """Seconds a pass, and MiB above those of the loaded model."""
    import torch

    from recsys.models.life_events import LifeEvents, LifeEventsConfig
    from recsys.models.outcome_interface import LifeBatch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    local = 0 if kind == "all softmax" else 7
    attention = "favor" if kind == "favor" else "softmax"
    config = LifeEventsConfig(
        num_tokens=2043, num_prefix=5, max_len=10_000, dim=280, feed_forward=2210, num_blocks=1,
        num_heads=10, local_heads=local, features=436, global_attention=attention,
    )  # fmt: skip
    model = LifeEvents(config).eval()
    real = (1, length)
    days = torch.arange(length, dtype=torch.float32)[None]
    batch = LifeBatch(torch.randint(1, 2043, real), days, days / 365, torch.randint(1, 4, real))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    with torch.inference_mode():
        model.predict(batch)
        started = time.perf_counter()
        while not seconds or (time.perf_counter() - started < BUDGET and len(seconds) < 20):
            begun = time.perf_counter()
            model.predict(batch)
            seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "mib": (peak - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", nargs=2, metavar=("KIND", "LENGTH"))
    chosen = parser.parse_args()
    if chosen.cell:
        print(json.dumps(measure(chosen.cell[0], int(chosen.cell[1]))))
        return
    print("| tokens | " + " | ".join(f"{kind}: ms, MiB" for kind in KINDS) + " |")
    print("|---" * (len(KINDS) + 1) + "|")
    for length in LENGTHS:
        cells = []
        for kind in KINDS:
            command = [sys.executable, __file__, "--cell", kind, str(length)]
            found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            cells.append(f"{1000 * found['seconds']:,.0f}, {found['mib']:,.0f}")
        print(f"| {length:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

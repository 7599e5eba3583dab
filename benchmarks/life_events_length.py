"""Time and memory of the life-event transformer against the length of documents.

    .venv/bin/python benchmarks/life_events_length.py

Each length and kind of attention runs in a process of its own, so that its peak memory is its own:
one block of the published size (280 wide, 10 heads, 436 random features), a forward pass in torch
on one thread, batch 1. Seconds are of the processor, not of the clock, so that a busy machine
changes them little; the median of the passes that fit the budget. `all softmax` has no local heads.
The allocator keeps memory between passes (`KEEP`): by default glibc maps every large tensor anew,
and the page faults, which grow with the tensors and not with the arithmetic, took up to 40 % of a
pass of 10,000 tokens.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

LENGTHS = (256, 1_024, 2_560, 10_000)
KINDS = ("local + FAVOR+", "all softmax")
BUDGET = 2.0
"""Processor seconds a cell; at least one pass after a warm-up."""
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
"""Environment of a cell: glibc gives no large block back."""


def measure(kind: str, length: int) -> dict[str, float]:
    """Seconds a pass, and MiB above those of the loaded model."""
    import torch

    from recsys.models.life_events import LifeEvents, LifeEventsConfig
    from recsys.models.outcome_interface import LifeBatch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    local = 0 if kind == "all softmax" else 7
    attention = "softmax" if kind == "all softmax" else "favor"
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
        started = time.process_time()
        while not seconds or (time.process_time() - started < BUDGET and len(seconds) < 20):
            begun = time.process_time()
            model.predict(batch)
            seconds.append(time.process_time() - begun)
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
            done = subprocess.run(command, env=os.environ | KEEP, capture_output=True, check=True)
            found = json.loads(done.stdout)
            cells.append(f"{1000 * found['seconds']:,.0f}, {found['mib']:,.0f}")
        print(f"| {length:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

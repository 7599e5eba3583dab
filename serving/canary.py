"""A bundle tried in a process of its own before it may replace one that serves.

    python -m serving.canary BUNDLE [--memory BYTES]

Loads the bundle and repeats its golden requests. A model file can crash the process that opens
it, loop, or eat the memory: here that is the end of a child and a refusal, nothing more.
The child prints one line of JSON: its peak memory, its seconds, or why it refuses.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from serving.errors import BundleError, ServingError

SECONDS = 300.0
"""Patience with one bundle: 1 M vectors are hashed and indexed in ten."""
REFUSED = 3
"""Exit status of a child that refuses the bundle with a reason."""
SHOWN = 500
"""Characters of a child's last words in an error."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a bundle cost a process that serves it and nothing else."""

    peak_bytes: int
    """Greatest resident memory."""
    seconds: float
    """To load and answer the golden requests."""


def try_bundle(path: Path, *, seconds: float = SECONDS, memory: int | None = None) -> Trial:
    """Load a bundle in a child process and repeat its golden requests.

    memory: bytes of address space the child may take; None does not limit it.
    Raises BundleError where the child refuses, crashes, or takes too long.
    """
    command = [sys.executable, "-m", "serving.canary", str(path)]
    if memory is not None:
        command += ["--memory", str(memory)]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"{path} did not load within {seconds:g} s: it is not served") from None
    if child.returncode == 0:
        return Trial(**json.loads(child.stdout.splitlines()[-1]))
    if child.returncode == REFUSED:
        raise BundleError(child.stdout.strip())
    if child.returncode < 0:
        died = f"was killed by {signal.Signals(-child.returncode).name}"
    else:
        died = f"ended with status {child.returncode}"
    words = child.stderr.strip()[-SHOWN:]
    raise BundleError(f"the process that tried {path} {died}: it is not served. {words}".strip())


def available_memory() -> int:
    """Bytes that can be taken without swapping, as the kernel sees it; greater than any need
    where it does not say.
    """
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return sys.maxsize


def main() -> int:
    """The child: exit status 0 for a bundle that may serve."""
    parser = argparse.ArgumentParser(description="Try a bundle; see the module's head.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--memory", type=int)
    options = parser.parse_args()
    if options.memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (options.memory, options.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from serving.recommender import Recommender  # noqa: PLC0415 (within the limits)

    started = time.monotonic()
    try:
        Recommender.load(options.bundle).check_golden()
    except ServingError as error:
        sys.stdout.write(f"{error}\n")
        return REFUSED
    except MemoryError:
        sys.stdout.write(f"{options.bundle} needs more than {options.memory} bytes of memory\n")
        return REFUSED
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.monotonic() - started
    sys.stdout.write(json.dumps({"peak_bytes": peak, "seconds": seconds}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`recsys score` at growing numbers of users: time, memory of the greatest process, and linearity.

    python benchmarks/batch_sizes.py --users 10000 100000 1000000 --processes 2

The bundle and the histories of `batch_scoring.py`, in files of 10,000 users (a part each).
"""

from batch_scoring import prepared, run_command, sizes, write_events

SHARD = 10_000


def main() -> None:
    """Print one line a size."""
    parser = sizes(__doc__)
    parser.set_defaults(users=[10_000, 100_000])
    options = parser.parse_args()
    options.part_size = SHARD
    print("| users | processes | command s | users/s | processor s | peak MiB of a process |")
    print("|---|---|---|---|---|---|", flush=True)
    with prepared(options) as root:
        for users in options.users:
            shards = root / f"shards-{users}"
            shards.mkdir()
            for first in range(0, users, SHARD):
                path = shards / f"users-{first:09d}.parquet"
                write_events(path, min(SHARD, users - first), options.items, first)
            for processes in options.processes:
                run = run_command(root, shards, options, processes)
                print(
                    f"| {users:,} | {processes} | {run.seconds:.1f} | {users / run.seconds:,.0f} "
                    f"| {run.used:.1f} | {run.peak_mib:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

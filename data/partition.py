"""A log larger than memory -> `events/` in parts by hash of the user, in bounded memory.

1. Ids: whole numbers or texts? Typed files say it; CSV files are looked through once.
2. Shuffle: each file, a batch at a time, is converted and checked (`data.log`), and written as one
   chunk: an Arrow file with a record batch for every part, in the order of the log.
3. Gather: the batches of one part from all chunks, sorted by user and time, become its file.

Files and parts are pieces of work that may be done elsewhere, side by side (`data.shuffle`,
`features.spread`). A killed run continues after its last finished file or part. With a `base`, only
files that the base has not read are taken; its parts are shared by hard link, and new rows come in
files of their own beside them. Memory: some copies of one batch, then of one part.
"""

import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data.aside import REJECTED
from data.columns import id_type
from data.config import LogFiles
from data.files import Scan, find_files
from data.log import open_events, read_item_pieces, read_user_pieces, title_of
from data.shuffle import FileTask, PartTask, gather_part, shuffle_file
from features.errors import InputError
from features.parts import part_file
from features.progress import peak_memory, progress
from features.resume import Workspace, resumable_stage
from features.schema import check_items
from features.spread import Spread, in_turn
from features.stage import StageManifest, file_sha256, read_manifest

ID_COLUMNS = ("user_id", "item_id", "session_id")


def partition(
    config: LogFiles, out: Path, base: Path | None = None, spread: Spread | None = None
) -> None:
    """Write the `events` stage of a log to `out` in `config.parts` parts. Raises InputError.

    base: an `events/` in parts whose log this one continues. spread: where files are shuffled and
    parts sorted; by default here. Prints one line to stderr.
    """
    started = time.perf_counter()
    older = _open_base(config, base) if base is not None else None
    paths = _new_files(config, older)
    plan = {
        "config": asdict(config),
        "files": [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in paths],
        "base": older.sha256 if older else "",
    }
    about = _about(config, older)
    with (
        resumable_stage(out, kind="events", config=about, parent="", plan=plan) as work,
        ThreadPoolExecutor(1) as pool,
    ):
        hashes = {str(path): pool.submit(file_sha256, path) for path in paths}
        if base is not None and older is not None:
            _link(base, older, work)
        scans = [open_events(config, path) for path in paths]
        types = _write_tables(config, scans, older, work)
        generation = int(about["generation"])
        _shuffle(config, scans, types, work, spread)
        rows = _gather(config, generation, work, spread or in_turn)
        _finish(work, hashes, rows)
        described = _describe(work.config)
    seconds = time.perf_counter() - started
    print(
        f"{out}: {described}; {seconds:.1f} s, {rows / seconds:,.0f} new rows/s, "
        f"peak memory {peak_memory():,.0f} MiB",
        file=sys.stderr,
    )


def _about(config: LogFiles, older: StageManifest | None) -> dict[str, Any]:
    before = older.config if older else {}
    return {
        "source": asdict(config),
        "item_columns": dict(config.items.columns) if config.items else {},
        "title_column": title_of(config.items),
        "licence": "",
        "citation": "",
        "notes": [],
        "parts": config.parts,
        "generation": before.get("generation", -1) + 1,
        "rows": before.get("rows", 0),
        "behaviours": list(before.get("behaviours", [])),
        "raw_files": dict(before.get("raw_files", {})),
        "raw_sizes": dict(before.get("raw_sizes", {})),
    }


def _open_base(config: LogFiles, base: Path) -> StageManifest:
    older = read_manifest(base, "events")
    if older.config.get("parts") != config.parts:
        raise InputError(
            f"{base} has {older.config.get('parts', 'no')} parts, the config says "
            f"{config.parts}: a log grows in the parts that it has"
        )
    return older


def _new_files(config: LogFiles, older: StageManifest | None) -> list[Path]:
    paths = find_files(config.paths, "data.paths")
    known = older.config["raw_sizes"] if older else {}
    for path in paths:
        if known.get(str(path), path.stat().st_size) != path.stat().st_size:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, and {known[str(path)]} when the base "
                f"read it: give new events in new files"
            )
    if not (new := [path for path in paths if str(path) not in known]):
        raise InputError(f"data.paths = {list(config.paths)} names no file that the base lacks")
    return new


def _link(base: Path, older: StageManifest, work: Workspace) -> None:
    """Share the parts of `base` by hard link."""
    (work.directory / "parts").mkdir(exist_ok=True)
    for name, digest in older.files.items():
        if name.startswith("parts/"):
            target = work.directory / name
            if not target.exists():
                os.link(base / name, target)
            work.hashes[name] = digest


def _write_tables(
    config: LogFiles, scans: list[Scan], older: StageManifest | None, work: Workspace
) -> dict[str, pl.DataType]:
    """Write items and users; return the types of the ids that occur."""
    items = read_item_pieces(config, config.items) if config.items else []
    users = read_user_pieces(config, config.users) if config.users else []
    beside = {"item_id": items, "user_id": users, "session_id": []}
    types: dict[str, pl.DataType] = {}
    for name in ID_COLUMNS:
        held = [scan for scan in scans if name in scan.lazy.collect_schema()]
        if 0 < len(held) < len(scans) and name == "session_id":
            raise InputError(f"{held[0].path} has a {name} and another file has none")
        if held:
            types[name] = id_type(name, held, beside[name])
    found = {name: str(kind) for name, kind in types.items()}
    if older and older.config["id_types"] != found:
        raise InputError(f"ids are {found}, and {older.config['id_types']} in the base")
    work.config["id_types"] = found
    if items:
        frame = pl.concat([p.frame.cast({"item_id": types["item_id"]}) for p in items])
        kinds = dict(config.items.columns) if config.items else {}
        check_items(frame, str(items[0].path), kinds).write_parquet(
            work.directory / "items.parquet"
        )
    if users:
        frame = pl.concat([p.frame.cast({"user_id": types["user_id"]}) for p in users])
        frame.write_parquet(work.directory / "users.parquet")
    return types


def _shuffle(
    config: LogFiles,
    scans: list[Scan],
    types: dict[str, pl.DataType],
    work: Workspace,
    spread: Spread | None,
) -> None:
    """Chunks of all files, each with a batch a part; a finished file is in the journal."""
    tasks = [
        FileTask(config, number, scan.path, types, work.scratch)
        for number, scan in enumerate(scans)
    ]
    waiting = [task for task in tasks if task.key not in work.done]
    with progress("shuffling", len(scans)) as bar:
        for _ in range(len(tasks) - len(waiting)):
            bar.advance()
        if spread is None:
            results = in_turn(partial(shuffle_file, say_rows=bar.rows), waiting)
        else:
            results = spread(shuffle_file, waiting)
        for task, shuffled in zip(waiting, results, strict=True):
            work.finish(task.key, shuffled.note, *shuffled.files)
            if spread is not None:
                bar.rows(shuffled.note["rows"])
            bar.advance()


def _gather(
    config: LogFiles,
    generation: int,
    work: Workspace,
    spread: Spread,
) -> int:
    """Write the file of every part that has new rows; return how many rows there are."""
    notes = [note for key, note in work.done.items() if key.startswith("file ")]
    chunks = tuple(work.scratch / name for note in notes for name in note["chunks"])
    known = [*work.config["behaviours"], *(name for note in notes for name in note["behaviours"])]
    work.config["behaviours"] = sorted(set(known))
    (work.directory / "parts").mkdir(exist_ok=True)
    if not chunks:
        raise InputError(f"data.paths = {list(config.paths)}: no row can be used")
    behaviours = tuple(work.config["behaviours"])
    tasks = [
        PartTask(config, part, chunks, behaviours, work.directory / part_file(part, generation))
        for part in range(config.parts)
    ]
    waiting = [task for task in tasks if task.key not in work.done]
    with progress("sorting", config.parts) as bar:
        for _ in range(len(tasks) - len(waiting)):
            bar.advance()
        for task, rows in zip(waiting, spread(gather_part, waiting), strict=True):
            work.finish(task.key, rows, *([task.out] if rows else []))
            bar.rows(rows)
            bar.advance()
    return sum(note["rows"] for note in notes)


def _finish(work: Workspace, hashes: dict[str, Future[str]], rows: int) -> None:
    """Put the rejected rows together, and note the raw files."""
    left_out = 0
    rejected = work.directory / REJECTED
    with rejected.open("w") as together:
        for path in sorted(work.scratch.glob("rejected-*.jsonl")):
            lines = path.read_text()
            together.write(lines)
            left_out += lines.count("\n")
    if not left_out:
        rejected.unlink()
    work.config["rejected_rows"] = left_out
    work.config["rows"] += rows
    work.config["raw_files"] |= {name: digest.result() for name, digest in hashes.items()}
    work.config["raw_sizes"] |= {name: Path(name).stat().st_size for name in hashes}


def _describe(config: dict[str, Any]) -> str:
    left_out = config["rejected_rows"]
    aside = f", {left_out:,} rows left out and listed in {REJECTED}" if left_out else ""
    return (
        f"{config['rows']:,} events ({', '.join(config['behaviours'][:8])}) in {config['parts']} "
        f"parts{aside}"
    )

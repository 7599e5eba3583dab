"""A stage that is made part by part, and goes on where a killed process stopped.

As `features.stage`, with these differences: the hidden sibling is kept when the process dies (not
when the work fails: a full disk gets its space back), and a journal in it names the files that are
finished. The same call with the same plan keeps those and makes the others; another plan starts
over. `scratch/` below it holds what no reader needs, and goes before the stage is published.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.stage import lock, partial_path, publish, refuse_existing, sync, write_manifest

PLAN, JOURNAL, SCRATCH = "plan.json", "journal.jsonl", "scratch"


@dataclass
class Workspace:
    """An unfinished stage."""

    directory: Path
    """What will be published."""
    scratch: Path
    config: dict[str, Any]
    """For the manifest; what the work finds out may be added to it."""
    hashes: dict[str, str] = field(default_factory=dict)
    """sha256 of files that are known already, such as those linked from another stage."""
    done: dict[str, Any] = field(default_factory=dict)
    """Key of each finished piece of work -> what was noted of it."""

    def finish(self, key: str, note: Any, *files: Path) -> None:
        """Record that a piece of work is done; its files are on disk from then on."""
        for path in files:
            sync(path)
        line = {
            "key": key,
            "note": note,
            "files": {p.relative_to(self.directory).as_posix(): p.stat().st_size for p in files},
        }
        with (self.scratch / JOURNAL).open("a") as journal:
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.done[key] = note


@contextmanager
def resumable_stage(
    out: Path, *, kind: str, config: Mapping[str, Any], parent: str, plan: Mapping[str, Any]
) -> Iterator[Workspace]:
    """Yield a workspace to fill; on success its directory becomes `out`.

    plan: what the work depends on; only an interrupted stage of an equal plan is continued.
    Raises InputError when `out` exists or another process is writing it.
    """
    refuse_existing(out)
    with lock(out):
        refuse_existing(out)  # another writer may have finished in between
        partial = partial_path(out)
        scratch = partial / SCRATCH
        wanted = json.loads(json.dumps(plan))
        if _read_json(scratch / PLAN) != wanted:
            shutil.rmtree(partial, ignore_errors=True)
            scratch.mkdir(parents=True)
            (scratch / PLAN).write_text(json.dumps(wanted))
        work = Workspace(partial, scratch, dict(config), done=_finished(partial))
        try:
            yield work
            shutil.rmtree(scratch)
            write_manifest(partial, kind, work.config, parent, known=work.hashes)
            publish(partial, out)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _finished(partial: Path) -> dict[str, Any]:
    """The journal's entries whose files are there in full; a half-written last line is none."""
    done: dict[str, Any] = {}
    journal = partial / SCRATCH / JOURNAL
    if not journal.exists():
        return done
    for line in journal.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        sizes = entry["files"].items()
        if all(
            (partial / name).is_file() and (partial / name).stat().st_size == size
            for name, size in sizes
        ):
            done[entry["key"]] = entry["note"]
    return done

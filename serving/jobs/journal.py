"""The journal of a job: which parts are whole. It is what a job continues from after a kill."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from features.stage import file_sha256
from serving.jobs.plan import Plan

PLAN, JOURNAL = "plan.json", "parts.jsonl"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A finished part, as the journal has it."""

    part: int
    users: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A part that could not be made."""

    part: int
    source: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Journal:
    """The unfinished job in one directory."""

    directory: Path
    plan: Plan

    def resume(self) -> dict[int, PartRecord]:
        """The finished parts that an interrupted call of the same plan left, by number.

        Whatever else lies in the directory is removed; another plan's content altogether.
        """
        wanted, mark = self.plan.to_json(), self.directory / PLAN
        if not mark.is_file() or mark.read_text() != wanted:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir()
            mark.write_text(wanted)
        files = {part.number: part.file for part in self.plan.parts}
        done = {
            record.part: record
            for record in self._read()
            if record.part in files and self._is_whole(files[record.part], record)
        }
        keep = {PLAN, JOURNAL, *(files[number] for number in done)}
        for path in self.directory.iterdir():
            if path.name not in keep:
                path.unlink()
        return done

    def add(self, record: PartRecord) -> None:
        """Enter a part that is on disk; the entry is on disk when this returns."""
        with (self.directory / JOURNAL).open("a") as stream:
            stream.write(json.dumps(asdict(record)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def finish(self, done: dict[int, PartRecord]) -> None:
        """Rewrite the journal in the order of the parts: the same job gives the same file."""
        lines = "".join(json.dumps(asdict(done[number])) + "\n" for number in sorted(done))
        sibling = self.directory / "parts.tmp"
        sibling.write_text(lines)
        sibling.replace(self.directory / JOURNAL)

    def _read(self) -> Iterator[PartRecord]:
        path = self.directory / JOURNAL
        for line in path.read_text().splitlines() if path.is_file() else ():
            try:
                yield PartRecord(**json.loads(line))
            except (ValueError, TypeError):
                return  # the line that was being written at the kill

    def _is_whole(self, file: str, record: PartRecord) -> bool:
        path = self.directory / file
        return path.is_file() and file_sha256(path) == record.sha256

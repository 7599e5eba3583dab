"""A stage directory is whole or absent; its manifest refuses what is not its own."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from features import stage
from features.errors import InputError
from features.stage import (
    file_sha256,
    lock,
    partial_path,
    read_manifest,
    verify_files,
    write_stage,
)


def write(out: Path, content: str = "hello") -> None:
    with write_stage(out, kind="run", config={"steps": 3}, parent="abc") as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "a.txt").write_text(content)


def test_a_manifest_names_every_file_config_and_parent(tmp_path: Path) -> None:
    write(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out", "run")
    verify_files(tmp_path / "out", manifest)
    assert manifest.files == {"deep/a.txt": file_sha256(tmp_path / "out/deep/a.txt")}
    assert (manifest.kind, manifest.parent, manifest.config) == ("run", "abc", {"steps": 3})
    assert manifest.sha256 == file_sha256(tmp_path / "out/manifest.json")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no lock, nothing partial


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with write_stage(tmp_path / "out", kind="run", config={}, parent="") as directory:
            (directory / "a.txt").write_text("half")
            assert not (tmp_path / "out").exists()
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match=r"disk full"):
        fail()
    assert not (tmp_path / "out").exists()
    assert not partial_path(tmp_path / "out").exists()
    write(tmp_path / "out")


def test_what_a_killed_writer_left_is_not_taken_over(tmp_path: Path) -> None:
    partial_path(tmp_path / "out").mkdir()
    (partial_path(tmp_path / "out") / "stale.txt").write_text("from before")
    write(tmp_path / "out")
    assert list(read_manifest(tmp_path / "out", "run").files) == ["deep/a.txt"]


def test_a_second_writer_is_refused_while_the_first_works(tmp_path: Path) -> None:
    with write_stage(tmp_path / "out", kind="run", config={}, parent="") as directory:
        (directory / "a.txt").write_text("mine")
        with pytest.raises(InputError, match=r"out is being written by another process"):
            write(tmp_path / "out")
        assert (directory / "a.txt").read_text() == "mine"
    with pytest.raises(InputError, match=r"out exists: choose a new directory"):
        write(tmp_path / "out")
    assert list(read_manifest(tmp_path / "out", "run").files) == ["a.txt"]


def test_a_writer_that_finishes_between_check_and_lock_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(out: Path) -> AbstractContextManager[None]:
        monkeypatch.undo()
        write(out, "of the other writer")
        return lock(out)

    monkeypatch.setattr(stage, "lock", late)
    with pytest.raises(InputError, match=r"exists"):
        write(tmp_path / "out")
    assert (tmp_path / "out/deep/a.txt").read_text() == "of the other writer"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c | {"format_version": 99}, "has format version 99, this release reads 1"),
        (lambda c: c | {"kind": "bundle"}, "holds the stage `bundle`, expected `run`"),
        (lambda c: {k: v for k, v in c.items() if k != "files"}, "is damaged .*build the direct"),
    ],
)
def test_a_manifest_of_something_else_is_refused(
    edit: Callable, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "out")
    path = tmp_path / "out/manifest.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "out", "run")


def test_a_truncated_manifest_and_a_bare_directory_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "out")
    path = tmp_path / "out/manifest.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"manifest.json is damaged"):
        read_manifest(tmp_path / "out", "run")
    with pytest.raises(InputError, match=r"has no manifest.json"):
        read_manifest(tmp_path, "run")


def test_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out", "run")
    (tmp_path / "out/deep/a.txt").write_text("hellO")
    with pytest.raises(InputError, match=r"deep/a.txt is damaged: sha256 \w{12}, manifest says"):
        verify_files(tmp_path / "out", manifest)
    (tmp_path / "out/deep/a.txt").unlink()
    with pytest.raises(InputError, match=r"deep/a.txt is missing"):
        verify_files(tmp_path / "out", manifest)

"""A bundle loads whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.stage import partial_path
from serving.bundle import MANIFEST, SEAL, open_bundle, seal, write_bundle
from serving.errors import BundleError
from serving.manifest import FORMAT_VERSION, Manifest
from serving.recommender import Recommender


@pytest.fixture
def bundle(toy: Any, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    copy = tmp_path / "bundle"
    shutil.copytree(toy.path, copy)
    for path in copy.iterdir():
        path.chmod(0o644)
    return copy


def reseal(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make its hash right again: what is left is the strict parser."""
    content = json.loads((bundle / MANIFEST).read_text())
    change(content)
    text = json.dumps(content)
    (bundle / MANIFEST).write_text(text)
    (bundle / SEAL).write_text(hashlib.sha256(text.encode()).hexdigest() + "\n")


def test_a_whole_bundle_opens(toy: Any, bundle: Path) -> None:
    opened = open_bundle(bundle)
    digest = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    assert opened.sha256 == digest
    assert opened.version == digest[:12]
    assert opened.manifest.num_items == toy.num_items


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_one_flipped_bit_anywhere_is_refused(bundle: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(bundle.iterdir())))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    try:
        with pytest.raises(BundleError, match=path.stem):
            Recommender.load(bundle)
    finally:
        path.write_bytes(whole)


def test_every_part_of_manifest_and_seal_counts(bundle: Path) -> None:
    for name, step in ((MANIFEST, 23), (SEAL, 1)):
        whole = (bundle / name).read_bytes()
        for place in range(0, len(whole), step):
            damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
            (bundle / name).write_bytes(damaged)
            with pytest.raises(BundleError):
                open_bundle(bundle)
        (bundle / name).write_bytes(whole)
    open_bundle(bundle)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_refused(bundle: Path, share: float) -> None:
    for path in sorted(bundle.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BundleError, match=path.stem):
            open_bundle(bundle)
        path.write_bytes(whole)


def test_a_missing_or_extra_file_is_refused(bundle: Path) -> None:
    for path in sorted(bundle.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError, match=path.stem):
            open_bundle(bundle)
        path.write_bytes(whole)
    (bundle / "notes.json").write_text("{}")
    with pytest.raises(BundleError, match=r"notes\.json.*does not list"):
        open_bundle(bundle)


def test_links_and_directories_are_refused(bundle: Path, tmp_path: Path) -> None:
    path = bundle / "model.vectors.npy"
    elsewhere = tmp_path / "elsewhere.npy"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(BundleError, match=r"model\.vectors\.npy is a link"):
        open_bundle(bundle)
    path.unlink()
    os.link(elsewhere, path)
    with pytest.raises(BundleError, match=r"model\.vectors\.npy is a link"):
        open_bundle(bundle)
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleError, match=r"model\.vectors\.npy is a link or not a plain file"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "name",
    ["code.py", "weights.pkl", "index.faiss", "lib.so", "ranker.txt", ".hidden.json", "a b.json"],
)
def test_forbidden_files_are_refused_even_when_listed(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}
    reseal(bundle, lambda content: content["files"].update({name: entry}))
    with pytest.raises(BundleError, match="not allowed in a bundle"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "sub/x.json"])
def test_paths_out_of_the_directory_are_refused(bundle: Path, name: str) -> None:
    entry = {"sha256": "0" * 64, "size": 1}
    reseal(bundle, lambda content: content["files"].update({name: entry}))
    with pytest.raises(BundleError, match="lacks"):
        open_bundle(bundle)


def test_parts_outside_the_bundle_are_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copy(bundle / "model.vectors.npy", tmp_path / "outside.npy")
    for name in ("../outside.npy", str(tmp_path / "outside.npy")):
        reseal(bundle, lambda content, name=name: content["sources"][0].update(vectors=name))
        with pytest.raises(BundleError, match=r"outside\.npy.*not among its files"):
            Recommender.load(bundle)


def test_a_catalogue_of_something_else_is_refused(bundle: Path) -> None:
    shutil.copy(bundle / "schema.json", bundle / "catalogue.parquet")
    digest = hashlib.sha256((bundle / "schema.json").read_bytes()).hexdigest()
    entry = {"sha256": digest, "size": (bundle / "schema.json").stat().st_size}
    reseal(bundle, lambda content: content["files"].update({"catalogue.parquet": entry}))
    with pytest.raises(BundleError, match=r"items of .* cannot be read"):
        Recommender.load(bundle)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
def test_another_format_version_is_refused(bundle: Path, version: object) -> None:
    reseal(bundle, lambda content: content.update(format_version=version))
    with pytest.raises(BundleError, match=f"format version {version}, this release reads 1"):
        open_bundle(bundle)


def test_the_manifest_is_read_strictly(bundle: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["sources"][0]["surprise"] = 1
        content["num_items"] = "60"

    reseal(bundle, spoil)
    with pytest.raises(BundleError, match=r"num_items: .*\(2 such\)"):
        open_bundle(bundle)


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a directory"):
        open_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    ("name", "key", "value", "reason"),
    [
        ("sources", "dim", 9, "expected float16"),
        ("sources", "inputs", ["events"], "takes"),
        ("sources", "encoder", "model.vectors.npy", "cannot be opened"),
        ("sources", "vectors", "popularity.scores.npy", "expected float16"),
        ("sources", "vectors", "schema.json", "cannot be read"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    bundle: Path, name: str, key: str, value: object, reason: str
) -> None:
    reseal(bundle, lambda content: content[name][0].update({key: value}))
    with pytest.raises(BundleError, match=reason):
        Recommender.load(bundle)


def draft(toy: Any) -> Manifest:
    return open_bundle(toy.path).manifest


def test_a_failed_writer_leaves_nothing(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "bundle"

    def fail() -> None:
        with write_bundle(out) as directory:
            (directory / "schema.json").write_text("{}")
            seal(directory, draft(toy))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not out.exists()
    assert not partial_path(out).exists()


def test_an_unsealed_or_existing_bundle_is_not_published(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(BundleError, match="is missing"), write_bundle(out) as directory:
        (directory / "schema.json").write_text("{}")
    assert not out.exists()
    out.mkdir()
    with pytest.raises(InputError, match="exists"), write_bundle(out):
        pass


def test_what_a_killed_writer_left_does_not_load_and_is_replaced(
    toy: Any, tmp_path: Path, make_toy: Callable
) -> None:
    partial = partial_path(tmp_path / "bundle")
    shutil.copytree(toy.path, partial)
    (partial / SEAL).unlink()
    with pytest.raises(BundleError):
        open_bundle(partial)
    made = make_toy(tmp_path / "bundle")
    assert not partial.exists()
    Recommender.load(made.path)
    assert (made.path / SEAL).read_text() == (toy.path / SEAL).read_text()

"""Publishing, pointing, rolling back, collecting: whole versions only, whatever happens."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError
from features.stage import lock
from serving.bundle import MANIFEST, open_bundle
from serving.errors import BundleError
from serving.registry import CURRENT, Registry


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_toy: Callable) -> list[Path]:
    """Three bundles of different content."""
    root = tmp_path_factory.mktemp("bundles")
    return [make_toy(root / str(n), num_items=20 + n).path for n in range(3)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def publish_all(registry: Registry, bundles: list[Path]) -> list[str]:
    return [registry.publish(path, canary=False)[0].version for path in bundles]


def test_each_publish_becomes_current_and_versions_ascend(
    registry: Registry, bundles: list[Path]
) -> None:
    for number, path in enumerate(bundles, 1):
        release, _ = registry.publish(path, canary=False)
        assert registry.current() == release
        assert release.version == f"{number:06d}-{open_bundle(path).version}"
        assert registry.open(release).sha256 == open_bundle(path).sha256
    assert registry.versions() == sorted(registry.versions())
    modes = {path.stat().st_mode & 0o222 for path in registry.directory(release.version).iterdir()}
    assert modes == {0}, "a published file can be written"


def test_the_former_version_comes_back_and_numbers_are_not_reused(
    registry: Registry, bundles: list[Path]
) -> None:
    first, second, third = publish_all(registry, bundles)
    assert registry.roll_back().version == second
    assert registry.roll_back().version == first
    with pytest.raises(BundleError, match="no version before"):
        registry.roll_back()
    assert registry.roll_back(third).version == third
    with pytest.raises(BundleError, match="has no version 000009"):
        registry.roll_back("000009-000000000000")
    registry.collect(keep=1, keep_days=0)
    assert registry.publish(bundles[0], canary=False)[0].version.startswith("000004-")


def test_a_damaged_bundle_is_not_published(
    registry: Registry, bundles: list[Path], tmp_path: Path
) -> None:
    publish_all(registry, bundles[:1])
    damaged = tmp_path / "damaged"
    shutil.copytree(bundles[1], damaged)
    vectors = damaged / "model.vectors.npy"
    vectors.chmod(0o644)
    vectors.write_bytes(vectors.read_bytes()[:-1])
    before = registry.current()
    with pytest.raises(BundleError, match=r"model\.vectors\.npy has"):
        registry.publish(damaged, canary=False)
    assert registry.current() == before
    assert len(registry.versions()) == 1


def test_a_version_damaged_later_is_refused_by_pointer_and_rollback(
    registry: Registry, bundles: list[Path]
) -> None:
    first, _ = publish_all(registry, bundles[:2])
    path = registry.directory(first) / MANIFEST
    path.chmod(0o644)
    path.write_text(path.read_text() + " ")
    with pytest.raises(BundleError, match="does not match"):
        registry.roll_back(first)
    other = registry.publish(bundles[2], canary=False)[0]
    shutil.rmtree(registry.directory(other.version))
    shutil.copytree(bundles[0], registry.directory(other.version))
    with pytest.raises(BundleError, match="names"):
        registry.open(other)


@pytest.mark.parametrize("content", ["", "x", "000001-aaaaaaaaaaaa", "../../etc passwd\n", "\xff"])
def test_a_damaged_pointer_is_refused(
    registry: Registry, bundles: list[Path], content: str
) -> None:
    publish_all(registry, bundles[:1])
    (registry.path / CURRENT).write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match=CURRENT):
        registry.current()


def test_every_flipped_byte_of_the_pointer_is_noticed(
    registry: Registry, bundles: list[Path]
) -> None:
    publish_all(registry, bundles[:2])
    whole = (registry.path / CURRENT).read_bytes()
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        (registry.path / CURRENT).write_bytes(damaged)
        with pytest.raises(BundleError):
            registry.open(registry.current())


def test_collection_spares_what_is_current_recent_or_held(
    registry: Registry, bundles: list[Path]
) -> None:
    first, second, third = publish_all(registry, bundles)
    assert registry.collect(keep=1) == []  # all were current a moment ago
    handle = registry.take_hold(first)
    assert registry.collect(keep=1, keep_days=0) == [second]
    os.close(handle)
    assert registry.collect(keep=1, keep_days=0) == [first]
    assert registry.versions() == [third]
    registry.publish(bundles[0], canary=False)
    registry.roll_back(third)
    assert registry.collect(keep=0, keep_days=0) != [third]
    assert third in registry.versions()


def test_a_version_noted_but_never_made_current_is_not_recent(
    registry: Registry, bundles: list[Path]
) -> None:
    """A kill between the note in releases.jsonl and the new CURRENT."""
    first = registry.publish(bundles[0], canary=False)[0]
    second = registry.publish(bundles[1], canary=False)[0]
    (registry.path / "CURRENT").write_text(first.line())
    assert registry.collect(keep=0, keep_days=0) == [second.version]
    assert registry.versions() == [first.version]


def test_a_mapped_version_survives_its_collection(registry: Registry, bundles: list[Path]) -> None:
    first, *_ = publish_all(registry, bundles)
    bundle = open_bundle(registry.directory(first))
    vectors = bundle.array("model.vectors.npy", (21, 8), np.float16)
    before = vectors.copy()
    assert first in registry.collect(keep=1, keep_days=0)
    np.testing.assert_array_equal(vectors, before)


def test_orphans_of_killed_writers_are_collected(registry: Registry, bundles: list[Path]) -> None:
    publish_all(registry, bundles[:1])
    orphan = registry.path / "versions" / ".000009-aaaaaaaaaaaa.partial"
    shutil.copytree(bundles[1], orphan)
    orphan.chmod(0o555)
    assert registry.versions() == [registry.current().version]
    registry.collect()
    assert not orphan.exists()


def test_two_writers_take_turns(registry: Registry, bundles: list[Path]) -> None:
    publish_all(registry, bundles[:1])
    with lock(registry.path / CURRENT), pytest.raises(InputError, match="another process"):
        registry.publish(bundles[1], canary=False)


def test_a_history_with_a_torn_line_is_read(registry: Registry, bundles: list[Path]) -> None:
    first, second = publish_all(registry, bundles[:2])
    with (registry.path / "releases.jsonl").open("a") as stream:
        stream.write(json.dumps({"version": second})[:12])
    assert registry.roll_back().version == first
    assert registry.collect(keep=1, keep_days=0) in ([], [second])


def keys(directory: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = directory / "release.key", directory / "release.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def test_only_signed_releases_open_where_a_key_is_trusted(
    tmp_path: Path, bundles: list[Path]
) -> None:
    from serving.signature import PublicKey, SigningKey

    private, public = keys(tmp_path)
    (tmp_path / "other").mkdir()
    stranger, _ = keys(tmp_path / "other")
    trusted = Registry(tmp_path / "registry", public_key=PublicKey.read(public))
    release, _ = trusted.publish(bundles[0], canary=False, signing_key=SigningKey.read(private))
    assert trusted.open(release).sha256 == release.sha256
    unsigned, _ = trusted.publish(bundles[1], canary=False)
    with pytest.raises(BundleError, match="is not signed"):
        trusted.open(unsigned)
    forged, _ = trusted.publish(bundles[2], canary=False, signing_key=SigningKey.read(stranger))
    with pytest.raises(BundleError, match="not by the key"):
        trusted.open(forged)
    with pytest.raises(InputError, match="is not a PEM public key"):
        PublicKey.read(private)
    with pytest.raises(InputError, match="is not an unencrypted PEM private key"):
        SigningKey.read(public)

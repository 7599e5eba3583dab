"""A release replaces another without a request noticing; a bad one never does."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.bundle import open_bundle, seal
from serving.errors import BundleError
from serving.handle import ServingHandle
from serving.manifest import Golden
from serving.registry import CURRENT, Registry


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_toy: Callable) -> list[Path]:
    root = tmp_path_factory.mktemp("bundles")
    return [make_toy(root / str(n), num_items=40 + n).path for n in range(3)]


@pytest.fixture
def registry(tmp_path: Path, bundles: list[Path]) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.publish(bundles[0], canary=False)
    return registry


@pytest.fixture
def handle(registry: Registry) -> Iterator[ServingHandle]:
    opened = ServingHandle.open(registry.path, canary=False)
    yield opened
    opened.close()


def spoil(path: Path, name: str) -> None:
    target = path / name
    target.chmod(0o644)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(bytes(content))


def test_refresh_swaps_to_what_is_current(
    handle: ServingHandle, registry: Registry, bundles: list[Path]
) -> None:
    old = handle.recommender
    assert not handle.refresh()
    release, _ = registry.publish(bundles[1], canary=False)
    assert handle.refresh()
    assert handle.status.release == release
    assert handle.recommender.bundle_sha256 == release.sha256
    assert handle.recommender.num_items == 41
    assert old.recommend([10], k=3).bundle_version == old.bundle_version  # still answers
    assert handle.roll_back()
    assert handle.recommender.bundle_version == old.bundle_version
    assert handle.status.swaps == 2


def test_a_release_damaged_on_disk_is_refused_and_the_old_one_serves(
    handle: ServingHandle, registry: Registry, bundles: list[Path]
) -> None:
    before = handle.recommender
    release, _ = registry.publish(bundles[1], canary=False)
    spoil(registry.directory(release.version), "model.vectors.npy")
    assert not handle.refresh()
    assert handle.recommender is before
    assert handle.status.reason is not None
    assert "model.vectors.npy is damaged" in handle.status.reason
    assert release.version in str(handle.status.refused)
    registry.publish(bundles[2], canary=False)
    assert handle.refresh()
    assert handle.status.reason is None


def test_the_last_known_good_version_serves_where_current_is_bad(
    registry: Registry, bundles: list[Path]
) -> None:
    good = registry.current()
    release, _ = registry.publish(bundles[1], canary=False)
    spoil(registry.directory(release.version), "popularity.scores.npy")
    handle = ServingHandle.open(registry.path, canary=False)
    assert handle.status.release == good
    assert handle.status.last_known_good
    assert "popularity.scores.npy is damaged" in str(handle.status.reason)
    handle.close()
    (registry.path / CURRENT).write_text("nonsense")
    handle = ServingHandle.open(registry.path, canary=False)
    assert handle.status.release == good
    handle.close()
    spoil(registry.directory(good.version), "popularity.scores.npy")
    with pytest.raises(BundleError, match=r"no version of .* can be served"):
        ServingHandle.open(registry.path, canary=False)


def test_a_version_in_use_is_not_collected(
    handle: ServingHandle, registry: Registry, bundles: list[Path]
) -> None:
    first = handle.status.release.version
    for path in bundles[1:]:
        registry.publish(path, canary=False)
    second = registry.versions()[1]
    assert registry.collect(keep=1, keep_days=0) == [second]
    handle.refresh()
    assert registry.collect(keep=1, keep_days=0) == [first]


def test_retired_items_stay_retired_across_swaps(
    handle: ServingHandle, registry: Registry, bundles: list[Path]
) -> None:
    best = handle.recommender.recommend([10], k=1).items[0].item_id
    handle.retire_items([best, 123_456])
    for path in bundles[1:]:
        listed = {item.item_id for item in handle.recommender.recommend([10], k=50).items}
        assert len(listed) >= 38
        assert best not in listed
        assert best not in {
            item.item_id for item in handle.recommender.similar_items(20, k=50).items
        }
        handle.recommender.recommend([best], k=3)  # still understood in a history
        registry.publish(path, canary=False)
        assert handle.refresh()


def test_a_watcher_swaps_by_itself(
    handle: ServingHandle, registry: Registry, bundles: list[Path]
) -> None:
    swapped = threading.Event()
    handle.watch(0.02, after=swapped.set)
    release, _ = registry.publish(bundles[1], canary=False)
    assert swapped.wait(10)
    assert handle.status.release == release


def golden_of_another_model(bundle: Path, out: Path) -> None:
    """A whole, sealed bundle whose stored answer is wrong."""
    shutil.copytree(bundle, out)
    for path in out.iterdir():
        path.chmod(0o644)
    manifest = open_bundle(bundle).manifest
    golden = Golden(
        items=(1, 2), timestamps=(0, 0), events=(1, 1), at=0, expected=(3,), scores=(1e9,)
    )
    seal(out, manifest.model_copy(update={"golden": (golden,)}))


def test_the_canary_refuses_what_answers_differently(
    registry: Registry, bundles: list[Path], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    golden_of_another_model(bundles[1], wrong)
    before = registry.current()
    with pytest.raises(BundleError, match="stored request 0 is answered"):
        registry.publish(wrong)
    assert registry.current() == before
    release, trial = registry.publish(bundles[1])
    assert trial is not None
    assert 10 << 20 < trial.peak_bytes < 4 << 30
    assert registry.current() == release


def test_twenty_five_swaps_under_load_lose_and_mix_nothing(
    handle: ServingHandle, registry: Registry, bundles: list[Path]
) -> None:
    """Each bundle has its own number of items, so an answer proves where it came from."""
    items_of = {open_bundle(path).version: open_bundle(path).manifest.num_items for path in bundles}
    stop, wrong, counts = threading.Event(), [], [0, 0]

    def ask(worker: int) -> None:
        while not stop.is_set():
            try:
                answer = handle.recommender.recommend([10, 20], k=100)
                if len(answer.items) != items_of[answer.bundle_version] - 2:
                    wrong.append(answer)
            except Exception as error:
                wrong.append(error)
            counts[worker] += 1

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for number in range(25):
        registry.publish(bundles[(number + 1) % 3], canary=False)
        assert handle.refresh()
    time.sleep(0.05)
    stop.set()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert handle.status.swaps == 25
    assert min(counts) > 100

"""What kills, hangs or starves the child that tries a bundle never touches this process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving import handle
from serving.canary import available_memory, try_bundle
from serving.errors import BundleError
from serving.handle import ServingHandle
from serving.registry import Registry

SITE = "import os, signal, sys, time\nif 'serving.canary' in ' '.join(sys.orig_argv): {act}\n"


def childs_fate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """Makes child interpreters do something at their start, as a bad model file would."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE.format(act=act))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{Path.cwd()}")


def test_a_good_bundle_tells_what_it_costs(toy: Any) -> None:
    trial = try_bundle(toy.path)
    assert 10 << 20 < trial.peak_bytes < 4 << 30
    assert 0 < trial.seconds < 120
    assert available_memory() > 0


def test_a_crashing_model_is_refused_and_the_old_one_serves(
    tmp_path: Path, toy: Any, make_toy: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(toy.path, canary=False)
    serving = ServingHandle.open(registry.path, canary=False)
    serving.canary = True
    before = serving.recommender
    childs_fate(tmp_path, monkeypatch, "os.kill(os.getpid(), signal.SIGSEGV)")
    other = make_toy(tmp_path / "other", num_items=30).path
    with pytest.raises(BundleError, match="was killed by SIGSEGV: it is not served"):
        registry.publish(other)
    assert len(registry.versions()) == 1
    registry.publish(other, canary=False)  # by somebody who did not try it
    assert not serving.refresh()
    assert serving.recommender is before
    assert "SIGSEGV" in str(serving.status.reason)
    assert serving.recommender.recommend([10], k=3).items
    serving.close()


def test_a_bundle_that_hangs_is_refused(
    tmp_path: Path, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    childs_fate(tmp_path, monkeypatch, "time.sleep(600)")
    with pytest.raises(BundleError, match=r"did not load within 0\.5 s"):
        try_bundle(toy.path, seconds=0.5)


def test_an_exit_without_a_reason_is_refused_with_its_last_words(
    tmp_path: Path, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    childs_fate(
        tmp_path, monkeypatch, "sys.stderr.write('no room'), sys.stderr.flush(), os._exit(9)"
    )
    with pytest.raises(BundleError, match=r"ended with status 9.*no room"):
        try_bundle(toy.path)


def test_a_child_may_not_take_more_memory_than_it_is_given(toy: Any) -> None:
    with pytest.raises(BundleError, match=r"memory|status|killed"):
        try_bundle(toy.path, memory=200 << 20)


def test_a_version_that_would_not_fit_beside_the_old_one_is_refused(
    tmp_path: Path, toy: Any, make_toy: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(toy.path, canary=False)
    serving = ServingHandle.open(registry.path, canary=False)
    serving.canary = True
    registry.publish(make_toy(tmp_path / "other", num_items=30).path, canary=False)
    monkeypatch.setattr(handle, "available_memory", lambda: 1 << 20)
    assert not serving.refresh()
    assert "1 MiB are available" in str(serving.status.reason)
    monkeypatch.undo()
    serving.status = serving.status.__class__(serving.status.release, 0.0)
    assert serving.refresh()
    serving.close()

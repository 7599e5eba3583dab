"""Looking into a model: the planted event is found, a random concept is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import InputError
from recsys.interpret.concepts import TcavSizes, score_concepts
from recsys.interpret.event_map import write_map, write_robustness
from recsys.interpret.opened import OpenedRun
from recsys.interpret.timeline import explain, write_timeline
from recsys.training.run import train


def test_the_planted_event_speaks_for_the_outcome(vertical: Any, tmp_path: Path) -> None:
    opened = OpenedRun.open(vertical.run, vertical.lives)
    sick = np.flatnonzero(opened.data.cases["labels"][:, 0] == 1)[:20]
    hits = 0
    for row in sick:
        found = explain(opened, int(row), 0)
        strongest = max(found.events, key=lambda event: event.attribution)
        hits += any(name == "code=bad" for name, _ in strongest.tokens)
    assert hits >= 16
    person = int(opened.data.raw_users()[int(opened.data.cases["user"][sick[0]])].as_py())
    write_timeline(vertical.run, vertical.lives, str(person), "sick", tmp_path / "t.html")
    assert "code=bad" in (tmp_path / "t.html").read_text()
    with pytest.raises(InputError, match="has no case"):
        write_timeline(vertical.run, vertical.lives, "12345", "", tmp_path / "t.html")


def test_a_planted_concept_pushes_up_and_another_does_not(vertical: Any) -> None:
    opened = OpenedRun.open(vertical.run, vertical.lives)
    sizes = TcavSizes(bags=20)
    bad, walk = score_concepts(opened, ["code=bad", "code=walk"], "sick", sizes)
    assert bad.verdict == "up"
    assert bad.accuracy > 0.8
    assert walk.verdict != "up"
    with pytest.raises(InputError, match="no token 'code=nothing'; some there are"):
        score_concepts(opened, ["code=nothing"], "sick", sizes)


def test_maps_and_robustness_across_seeds(vertical: Any, tmp_path: Path) -> None:
    assert write_map(vertical.run, vertical.lives, tmp_path / "map.html") == 6 + 4 + 2
    assert "code=bad" in (tmp_path / "map.html").read_text()
    for seed in (1, 2):
        settings = replace(vertical.training, seed=seed)
        train(
            "life_events",
            vertical.sizes,
            settings,
            vertical.lives,
            tmp_path / f"seed{seed}",
        )
    runs = [tmp_path / "seed1", tmp_path / "seed2"]
    [same] = write_robustness([runs[0], runs[0]], vertical.lives, tmp_path / "r.json")
    assert same.correlation == pytest.approx(1.0)
    assert same.p_value < 0.01
    [pair] = write_robustness(runs, vertical.lives, tmp_path / "r.json", permutations=200)
    assert -1 <= pair.correlation < same.correlation

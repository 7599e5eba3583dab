"""The recipes of DARE's paper on hand-made pieces of the raw files: rows as the authors' code has.

For a user with T clicks: the test target is click T, the validation target T - 1, the training
targets T + 1 - i for i = 3, 8, ..., 93, each with the 200 events before it and two negatives that
the user never clicks (specification of thuml/DARE, preprocess/).
"""

from pathlib import Path

import numpy as np
import pytest
from lightning_fabric import Fabric

from data.build import build_events
from features.build import build_dataset
from features.store import Dataset
from recsys.config import RunConfig, read_config
from recsys.models import MODELS
from recsys.pipeline import train_stage
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.ranking import RankingTask, SampledStream

CONFIGS = Path(__file__).parents[3] / "configs"
CLICKS = {7: 230, 8: 210, 9: 209, 11: 305}
"""By user; 209 are one too few."""
ITEMS = 400


def clicks(user: int) -> list[int]:
    """Item of each click; user u walks through the items with u as the stride."""
    return [1 + (17 * user + user * i) % ITEMS for i in range(CLICKS[user])]


def taobao(root: Path) -> None:
    lines = []
    for user in CLICKS:
        for i, item in enumerate(clicks(user)):
            lines.append(f"{user},{item},{item % 7},pv,{1511544070 + 60 * i}")
            if i % 10 == 0:
                lines.append(f"{user},{item},{item % 7},{'buy' if i % 20 else 'cart'},"
                             f"{1511544071 + 60 * i}")  # fmt: skip
    (root / "taobao").mkdir()
    (root / "taobao/UserBehavior.csv").write_text("\n".join(lines) + "\n")


def tmall(root: Path) -> None:
    lines = ["user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"]
    for user in CLICKS:
        for i, item in enumerate(clicks(user)):
            day = f"{511 + i // 12:04d}" if i < 240 else f"{601 + (i - 240) // 12:04d}"
            lines.append(f"{user},{item},{item % 7},{item % 5},{item % 3},{day},0")
            if i % 10 == 0:
                lines.append(f"{user},{item},{item % 7},{item % 5},{item % 3},{day},2")
    (root / "ijcai-15").mkdir()
    (root / "ijcai-15/user_log_format1.csv").write_text("\n".join(lines) + "\n")
    users = "".join(f"{user},3,1\n" for user in CLICKS)
    (root / "ijcai-15/user_info_format1.csv").write_text("user_id,age_range,gender\n" + users)


PIECES = {"dare-taobao": taobao, "dare-tmall-ijcai15": tmall}


@pytest.fixture(params=PIECES)
def built(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[RunConfig, Dataset]:
    PIECES[request.param](tmp_path)
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    config = read_config(CONFIGS / f"{request.param}.toml")
    build_events(config.data, tmp_path / "events")
    build_dataset(tmp_path / "events", config.features, tmp_path / "dataset")
    return config, Dataset.open(tmp_path / "dataset")


def test_the_rows_are_those_of_the_authors_code(built: tuple[RunConfig, Dataset]) -> None:
    config, data = built
    raw = data.vocabulary("item").to_pylist()
    users = [int(user) for user in data.vocabulary("user").to_pylist()]
    assert sorted(users) == [7, 8, 11]
    name, options = config.model["name"], {k: v for k, v in config.model.items() if k != "name"}
    model = MODELS[name].model(model_config(name, options, dataset_facts(data)))
    task = RankingTask.of(Fabric(accelerator="cpu", devices=1), model, config.train, data)
    assert isinstance(task.stream, SampledStream)
    moments = task.stream.moments
    for row, user in enumerate(users):
        chosen, total = clicks(user), CLICKS[user]
        mine = np.flatnonzero(moments.users == row)
        assert len(mine) == 19
        found = [int(raw[data.items[r] - 1]) for r in moments.rows[mine]]
        places = [total + 1 - i for i in range(93, 2, -5)]  # the first click is number 1
        assert found == [chosen[place - 1] for place in places]
        assert list(moments.cuts[mine] - moments.starts[mine]) == [place - 1 for place in places]
        held_out = task.validation
        which = np.flatnonzero(held_out.moments.users == row)
        assert [int(raw[i - 1]) for i in held_out.candidates[which, 0]] == [chosen[total - 2]]
        assert held_out.candidates[which].shape == (1, 3)
        others = [int(raw[i - 1]) for i in held_out.candidates[which, 1:].reshape(-1) if i]
        assert not set(others) & set(chosen)
    assert min(moments.cuts - moments.starts) == 117
    batch = next(task.batches(0))
    assert batch.history.items.shape[1] == 200
    assert batch.candidates.ids.shape == (3 * 19, 3)


def test_the_recipe_trains(built: tuple[RunConfig, Dataset], tmp_path: Path) -> None:
    config, data = built
    best = train_stage(config, data.path, tmp_path / "run")
    assert best.step > 0
    assert 0 <= best.score <= 1

"""Rows and labels of several tasks, against a double loop over the log."""

import json
from pathlib import Path

import numpy as np
import pytest
from lightning_fabric import Fabric

from features.errors import InputError
from features.layout import CUTS, EVENTS, ITEMS, USERS, DatasetSchema, ItemColumn
from features.stage import write_stage
from features.store import Dataset, write_table
from recsys.models.dare import DARE, DAREConfig
from recsys.training.config import RankingConfig, TrainConfig
from recsys.training.examples import held_out_examples, training_examples
from recsys.training.labels import labelled_moments
from recsys.training.ranking import RankingTask
from recsys.training.run import train
from recsys.training.task_config import TaskConfig

TYPES = ("show", "click", "buy")
SHOW, CLICK, BUY = 1, 2, 3
NUM_ITEMS = 9
TASKS = (
    TaskConfig(name="click", events=("click",)),
    TaskConfig(name="buy", events=("buy",)),
    TaskConfig(name="buy_of_clicked", events=("buy",), among="click"),
)
Row = tuple[int, int, int]
"""Item, second, behaviour."""


def write_log(out: Path, users: list[list[Row]], targets: tuple[str, ...] = ("click",)) -> Dataset:
    """The last quarter of each user's events tests, the quarter before it validates."""
    ends = np.cumsum([len(rows) for rows in users])
    starts = ends - [len(rows) for rows in users]
    quarter = (ends - starts) // 4
    flat = np.array([row for rows in users for row in rows])
    schema = DatasetSchema(
        num_users=len(users),
        num_items=NUM_ITEMS,
        num_warm_items=NUM_ITEMS,
        num_events=len(flat),
        event_types=TYPES,
        target_events=targets,
        cold_targets="keep",
        item_columns=(ItemColumn(name="colour", kind="category", size=4),),
        title_column="",
        raw_item_type="int",
        raw_user_type="int",
        cutoff=0,
        split={"name": "leave-one-out"},
    )
    cuts = (starts, ends - 2 * quarter, ends - 2 * quarter, ends - quarter, ends - quarter, ends)
    with write_stage(out, kind="dataset", config={}, parent="") as directory:
        columns = {"item_id": flat[:, 0].astype(np.int32), "timestamp": flat[:, 1] * 1_000_000}
        write_table(directory / EVENTS, columns | {"event": flat[:, 2].astype(np.uint8)})
        write_table(directory / USERS, dict(zip(CUTS, cuts, strict=True)))
        write_table(directory / ITEMS, {"colour": (np.arange(NUM_ITEMS + 1) % 4).astype(np.int32)})
        schema.write(directory)
    return Dataset.open(out)


def random_log(seed: int, num_users: int = 12) -> list[list[Row]]:
    draw = np.random.default_rng(seed)
    return [
        [
            (int(draw.integers(1, NUM_ITEMS + 1)), int(t), int(draw.integers(1, 4)))
            for t in np.sort(draw.integers(0, 60, 40))
        ]
        for _ in range(num_users)
    ]


def by_definition(rows: list[Row], first: int, end: int, shown: bool, gap: int) -> dict:
    """Row of the meeting -> item and labels of click and buy, of the meetings in [first, end)."""
    found = {}
    for item in range(1, NUM_ITEMS + 1):
        runs: list[list[int]] = []
        for r, (i, t, event) in enumerate(rows[:end]):
            if i != item:
                continue
            new = not runs or t - rows[runs[-1][-1]][1] > gap
            if shown and event == SHOW and not new:
                before = rows[runs[-1][-1]]
                new = not (before[2] == SHOW and before[1] == t)
            if new:
                runs.append([])
            runs[-1].append(r)
        for run in runs:
            events = [rows[r][2] for r in run]
            counts = events[0] == SHOW if shown else CLICK in events
            if counts and run[0] >= first:
                found[run[0]] = (item, CLICK in events, BUY in events)
    return found


@pytest.mark.parametrize("shown", ["", "show"])
@pytest.mark.parametrize("gap", [0, 7])
@pytest.mark.parametrize("seed", range(3))
def test_meetings_and_labels_are_those_of_the_definition(
    shown: str, gap: int, seed: int, tmp_path: Path
) -> None:
    log = random_log(seed)
    data = write_log(tmp_path / "dataset", log)
    config = RankingConfig(
        tasks=TASKS, shown=shown, label_seconds=gap, targets_per_user=0, min_history=0
    )
    for first, end in (("start", "train_end"), ("validation_start", "validation_end")):
        moments, items, labels = labelled_moments(data, config, data.cuts[first], data.cuts[end])
        expected = {}
        for u, rows in enumerate(log):
            start = int(data.cuts["start"][u])
            bounds = int(data.cuts[first][u]) - start, int(data.cuts[end][u]) - start
            theirs = by_definition(rows, *bounds, bool(shown), gap)
            expected |= {(u, start + row): value for row, value in theirs.items()}
        found = {}
        for r in range(len(moments)):
            for item, (click, buy, again) in zip(items[r], labels[r], strict=True):
                assert again == buy
                if item:
                    found[(int(moments.users[r]), int(item), int(data.timestamps[moments.rows[r]]))] = (bool(click), bool(buy))  # noqa: E501  # fmt: skip
        wanted = {
            (u, item, int(data.timestamps[row])): (click, buy)
            for (u, row), (item, click, buy) in expected.items()
        }
        assert found == wanted
        assert (moments.cuts <= moments.rows).all()


def test_a_list_shares_its_history_and_long_ones_are_cut(tmp_path: Path) -> None:
    shows = [(item, 10, SHOW) for item in range(1, 8)]
    rows = [(9, 1, CLICK), *shows, (3, 11, CLICK), (5, 12, BUY), (1, 50, SHOW), (1, 51, CLICK)]
    rows += [(8, 90 + i, CLICK) for i in range(12)]
    data = write_log(tmp_path / "dataset", [rows])
    config = RankingConfig(tasks=TASKS, shown="show", label_seconds=5, list_size=4)
    found = training_examples(data, config)
    assert found.candidates.tolist() == [[1, 2, 3, 4], [5, 6, 7, 0], [1, 0, 0, 0]]
    assert found.moments.cuts.tolist() == [1, 1, 10]
    assert found.labels[..., 0].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert found.labels[..., 1].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert found.known[1, :, 0].tolist() == [True, True, True, False]


def test_a_conversion_is_known_among_clicks_only(tmp_path: Path) -> None:
    data = write_log(tmp_path / "dataset", random_log(5))
    config = RankingConfig(tasks=TASKS, label_seconds=7, negatives=3)
    found = held_out_examples(data, "test", config, seed=0)
    real = found.candidates > 0
    assert (found.known[..., 0] == real).all()
    assert (found.known[..., 2] == (real & (found.labels[..., 0] > 0))).all()
    assert not found.labels[:, -3:].any()
    assert 0 < found.known[..., 2].sum() < real.sum()


def test_a_label_never_comes_from_behind_the_cut(tmp_path: Path) -> None:
    rows = [(1, 0, CLICK), (2, 1, CLICK), (2, 2, BUY), (3, 3, CLICK), (3, 4, BUY), (4, 5, CLICK)]
    data = write_log(tmp_path / "dataset", [[*rows, (5, 6, CLICK), (3, 7, BUY)]])
    found = training_examples(data, RankingConfig(tasks=TASKS, label_seconds=10))
    # training ends in front of (3, 4, BUY): the click on 3 is not known to end in a buy
    assert found.candidates[:, 0].tolist() == [2, 3]
    assert found.labels[:, 0, 1].tolist() == [1, 0]


def test_a_task_without_both_labels_is_refused(tmp_path: Path) -> None:
    rows = [(1 + i % 9, i, CLICK) for i in range(40)]
    data = write_log(tmp_path / "dataset", [rows])
    config = TrainConfig(ranking=RankingConfig(tasks=TASKS))
    with pytest.raises(InputError, match=r"task buy has 0 positive"):
        train("dtrn", {}, config, data.path, tmp_path / "run")


def test_unknown_behaviours_are_refused(tmp_path: Path) -> None:
    data = write_log(tmp_path / "dataset", random_log(1))
    config = RankingConfig(tasks=(TaskConfig(name="like", events=("like",)),))
    with pytest.raises(InputError, match=r"task like names \['like'\]"):
        training_examples(data, config)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shown": "show"}, "needs tasks"),
        ({"tasks": (TASKS[0], TASKS[0])}, "name one twice"),
        ({"tasks": (TASKS[2],)}, "none of"),
        ({"negatives": 0}, "negatives=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RankingConfig(**options)


def test_a_model_of_one_task_refuses_several(tmp_path: Path) -> None:
    data = write_log(tmp_path / "dataset", random_log(1))
    model = DARE(DAREConfig(num_items=NUM_ITEMS))
    config = TrainConfig(ranking=RankingConfig(tasks=TASKS, label_seconds=7))
    with pytest.raises(InputError, match="several tasks"):
        RankingTask.of(Fabric(accelerator="cpu", devices=1), model, config, data)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "gradient"])
def test_several_tasks_train_and_tell_of_each(weighting: str, tmp_path: Path) -> None:
    data = write_log(tmp_path / "dataset", random_log(2, num_users=40))
    ranking = RankingConfig(tasks=TASKS, label_seconds=7, negatives=2, watch_gradients=True)
    config = TrainConfig(ranking=ranking, max_epochs=2, batch_size=32)
    options = {"dim": 8, "weighting": weighting, "sizes": {"hidden": [8], "tower": []}}
    train("dtrn", options, config, data.path, tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "auc" in line]
    assert len(told) == 2
    wanted = {f"{name}.{t.name}" for name in ("auc", "gauc", "log_loss", "ece") for t in TASKS}
    wanted |= {"cosine.tables.click.buy", "cosine.transformer.buy.buy_of_clicked"}
    assert wanted <= told[0].keys()

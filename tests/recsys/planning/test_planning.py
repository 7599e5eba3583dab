"""Prices from trials, bills from prices: by hand, and the commands around them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from features.errors import InputError
from recsys.cli import app
from recsys.planning.calibrate import calibrate, errors, grid
from recsys.planning.costs import SHIPPED, Costs, Trial, Used, fit, fit_prices
from recsys.planning.trial import config_of, measure, write_log
from recsys.planning.workload import STAGES, Workload

SMALL = Workload(users=50, items=20, history=10, epochs=1)
TRUTH = {
    stage: {kind: 10.0**-n for n, kind in enumerate(SMALL.time_of(stage), 1)} for stage in STAGES
}


def pretend(workload: Workload) -> Trial:
    """A trial on a machine whose prices are TRUTH, and whose memory is 100 MiB for anything."""
    used = {
        stage: Used(
            cpu_seconds=sum(TRUTH[stage][kind] * n for kind, n in workload.time_of(stage).items()),
            peak_mib=100.0,
        )
        for stage in STAGES
    }
    return Trial(workload=workload, used=used)


@pytest.fixture(scope="module")
def costs() -> Costs:
    trials = [pretend(workload) for workload in grid(1.0)]
    return fit(trials, "a machine", "2026-01-31", 0.8)


def test_prices_by_hand() -> None:
    work = [{"start": 1.0, "rows": 10.0}, {"start": 1.0, "rows": 30.0}]
    assert fit_prices(work, [7.0, 11.0]) == pytest.approx({"start": 5.0, "rows": 0.2})
    cheaper = fit_prices(work, [11.0, 7.0])  # more rows for less: no price is below 0
    assert cheaper.keys() == {"start"}
    assert 7 < cheaper["start"] < 11


def test_a_small_trial_counts_as_much_as_a_large_one() -> None:
    work = [{"rows": 1.0}, {"rows": 1_000.0}]
    price = fit_prices(work, [2.0, 1_000.0])["rows"]
    assert price == pytest.approx((0.5 + 1) / (0.25 + 1))  # least squares of price * work / cost


def test_the_work_of_a_workload_by_hand() -> None:
    workload = Workload(
        users=2_000, items=1_000, history=20, max_len=10, dim=8, num_blocks=1, epochs=3,
        negatives=0, batch_size=100, k=5, candidates=7,
    )  # fmt: skip
    assert workload.events == 40_000
    train, score = workload.time_of("train"), workload.time_of("score")
    assert train["tokens"] == 3 * 2_000 * 10
    assert train["loss"] == 3 * (2_000 * 10) * 1_000 * 8 * 2 * 3  # forward, and twice backward
    assert train["steps"] == 60
    assert train["weights"] == 3 * 20 * 1_000 * 8  # every step visits every weight of the table
    assert train["search"] == 3 * 2 * 2_000 * 1_000 * 8
    assert score["search"] == 2 * 2_000 * 1_000 * 8
    assert score["listed items"] == 10_000
    assert score["ranked items"] == 14_000
    per_token = 2 * (6 * 8 * 8 + 2 * 10 * 8)
    assert score["encoder"] == 2_000 * 10 * per_token
    assert replace(workload, negatives=50).time_of("train")["loss"] == train["loss"] / 20
    assert workload.time_of("export")["indexed items"] == 0
    assert replace(workload, items=60_000).time_of("export")["indexed items"] == 60_000


def test_prices_that_are_true_are_found_and_carry_over(costs: Costs) -> None:
    for workload in (SMALL, replace(SMALL, users=400_000, items=40_000, candidates=100)):
        for time, memory in errors(costs, pretend(workload)).values():
            assert time == pytest.approx(1.0, abs=0.02)
            assert memory == pytest.approx(1.0, abs=0.02)


def test_the_trials_tell_all_prices_apart() -> None:
    """No kind of work is a sum of others over the grid: else its price would be a guess."""
    for stage in STAGES:
        rows = [workload.time_of(stage) for workload in grid(1.0)]
        matrix = np.array([list(row.values()) for row in rows])
        assert np.linalg.matrix_rank(matrix / matrix.max(axis=0)) == matrix.shape[1], stage


def test_costs_are_read_as_they_were_written(costs: Costs, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(costs.to_json())
    assert Costs.read(tmp_path / "costs.json") == costs
    (tmp_path / "costs.json").write_text('{"machine": 3}')
    with pytest.raises(InputError, match=r"holds no costs: .*recsys calibrate"):
        Costs.read(tmp_path / "costs.json")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        Costs.read(tmp_path / "none.json")


def test_the_log_of_a_trial_names_every_item_and_each_user_once(tmp_path: Path) -> None:
    write_log(tmp_path / "log", Workload(users=300, items=100, history=8))
    frame = pl.read_parquet(tmp_path / "log")
    assert frame["user_id"].n_unique() == 300
    assert frame["item_id"].n_unique() == 100
    assert len(frame) == pytest.approx(300 * 8, rel=0.1)
    with pytest.raises(InputError, match="cannot name 9,000 items"):
        write_log(tmp_path / "other", Workload(users=300, items=9_000, history=8))


def test_a_verb_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(config_of(SMALL, tmp_path / "log"))
    with pytest.raises(InputError, match=r"`recsys data .*` ended with 2: error: .*log"):
        measure(["data", str(tmp_path / "config.toml"), "--out", str(tmp_path / "events")])


def test_trials_do_not_work_in_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        calibrate(tmp_path, 1.0, print)


def test_the_plan_command_shows_every_stage(costs: Costs, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(costs.to_json())
    options = ["plan", "--users", "1e6", "--items", "1e5", "--costs", str(tmp_path / "costs.json")]
    shown = CliRunner().invoke(app, options, env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for stage in STAGES:
        assert stage in shown.output
    hours = costs.bill(Workload(users=1_000_000, items=100_000))["score"].cpu_seconds / 3_600
    assert f"{hours:,.2f}" in shown.output
    assert "a machine, 2026-01-31" in shown.output


def test_sizes_that_make_no_sense_are_refused() -> None:
    failed = CliRunner().invoke(app, ["plan", "--users", "0", "--items", "10"])
    assert isinstance(failed.exception, InputError)
    assert "users = 0 must be at least 1" in str(failed.exception)


def test_the_prices_that_come_with_the_package() -> None:
    shipped = Costs.read(SHIPPED)
    assert {stage for stage in STAGES if shipped.seconds[stage]} == set(STAGES)
    assert 0 < shipped.parallel <= 1
    for trial in shipped.trials:  # what they were fitted to
        for stage, (time, memory) in errors(shipped, trial).items():
            assert 0.7 < time < 1.4, (stage, trial.workload)
            assert 0.7 < memory < 1.4, (stage, trial.workload)

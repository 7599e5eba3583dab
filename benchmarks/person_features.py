"""Is the person's vector worth its time in the second stage? MovieLens-1M, split at one instant.

    .venv/bin/python benchmarks/person_features.py STAGES WORK

STAGES holds events, dataset and run of configs/sasrec-ml-1m-time.toml. An outcome model learns
30-day churn from 2000-11-01 (its window ends the day before the validation begins); the same run of
SASRec is then exported twice, without and with its vector in LightGBM, and both bundles are
evaluated on the same test users. Prints the paired difference and the time of a request of each.
"""

import argparse
import statistics
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from features.life_build import build_lives
from features.life_config import AtDate
from features.store import Dataset
from offline_eval.significance import paired_difference
from offline_eval.task import Task
from recsys.config import read_config
from recsys.evaluate import evaluate
from recsys.export.bundle import export
from recsys.export.outcomes import export_outcomes
from recsys.training.run import train
from serving.bundle import open_bundle
from serving.recommender import Recommender

CONFIGS = Path(__file__).parents[1] / "configs"
METRIC = "ndcg@10"
REQUESTS = 200


def outcome_bundle(events: Path, work: Path) -> Path:
    """Churn in November 2000, as a bundle."""
    config = read_config(CONFIGS / "life-ml-1m-churn.toml")
    assert config.life is not None
    assert config.model is not None
    cohort = AtDate(at=date(2000, 11, 1), window_days=30, active_days=30)
    sizes = dict(config.model)
    name = sizes.pop("name")
    if not (work / "lives").exists():
        build_lives(events, replace(config.life, cohort=cohort), work / "lives")
    if not (work / "outcome-run").exists():
        train(name, sizes, config.train, work / "lives", work / "outcome-run")
    if not (work / "outcomes").exists():
        export_outcomes(work / "outcome-run", work / "lives", config.export, work / "outcomes")
    return work / "outcomes"


def request_ms(bundle: Path, dataset: Path) -> float:
    """Median milliseconds of a request, test histories of at most 200 events."""
    recommender, task = (
        Recommender.load(bundle),
        Task.of(Dataset.open(dataset), "test", exclude_seen=True),
    )
    known = np.flatnonzero((task.histories.lengths > 0) & (task.histories.lengths <= 200))
    taken = []
    for row in known[:REQUESTS]:
        one = task.histories.take(np.array([row]))
        started = time.perf_counter()
        recommender.rank(one, k=10, at=task.at[[row]])
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken[5:])


def values(report: Path) -> tuple[np.ndarray, np.ndarray]:
    """The metric of each test user of the bundle, and the events each had before."""
    rows = pl.read_parquet(report / "per_user.parquet").filter(pl.col("system") == "bundle")
    rows = rows.sort("user_id")
    return rows[METRIC].to_numpy().astype(np.float64), rows["history_length"].to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", type=Path)
    parser.add_argument("work", type=Path)
    chosen = parser.parse_args()
    stages, work = chosen.stages, chosen.work
    work.mkdir(parents=True, exist_ok=True)
    persons = outcome_bundle(stages / "events", work)
    config = read_config(CONFIGS / "sasrec-ml-1m-time.toml").export
    with_persons = replace(config.lightgbm, persons=str(persons))
    found, lengths = {}, np.zeros(0)
    for name, ranker in (("without", config.lightgbm), ("with", with_persons)):
        bundle, report = work / f"bundle-{name}", work / f"report-{name}"
        if not bundle.exists():
            export(stages / "run", stages / "dataset", replace(config, lightgbm=ranker), bundle)
        if not report.exists():
            evaluate(bundle, stages / "dataset", report, ks=(10,), baselines=())
        found[name], lengths = values(report)
        shares = open_bundle(bundle).manifest.report["ranker"]["importance"]
        gained = sum(share for feature, share in shares.items() if feature.startswith("person_"))
        print(
            f"{name} person vectors: {METRIC} {found[name].mean():.4f}, their share of the gain "
            f"{gained:.3f}, {request_ms(bundle, stages / 'dataset'):.1f} ms a request",
            flush=True,
        )
    for told, rows in (("all users", lengths >= 0), ("users with a history", lengths > 0)):
        gap = paired_difference(found["with"][rows], found["without"][rows])
        print(f"with minus without, {told} ({rows.sum()}): {gap}")


if __name__ == "__main__":
    main()

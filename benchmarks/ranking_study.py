"""DARE beside TWIN, DIN, an average and LightGBM on real logs: AUC and GAUC over several seeds.

    python benchmarks/ranking_study.py configs/dare-ml-1m.toml --out work/ranking-study
    python benchmarks/ranking_report.py work/ranking-study

All learn from the same training moments, stop on the same validation moments and are tested on the
same test moments with the same negatives. LightGBM reads the point-in-time features of
`features.asof` and no item id. A seed changes weights, order and training negatives, not the test.

What is finished stays: every run leaves `<dataset>/<model>-<seed>.npz` (test scores) and `.json`.
`benchmarks/ranking_report.py` makes the page.
"""

import fcntl
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import lightgbm as lgb
import numpy as np
import torch
import typer
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import load_model

from data.build import build_events
from features.asof import ItemTimeline, feature_names, ranking_features
from features.build import build_dataset
from features.store import Dataset
from recsys.config import RunConfig, read_config
from recsys.models import MODELS
from recsys.training.checkpoint import Checkpoints
from recsys.training.examples import Examples, held_out_examples
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.moments import Chosen, NegativeSampler
from recsys.training.ranking import RankingTask, figures, predict
from recsys.training.run import run_loop

MODELS_COMPARED = ("dare", "twin", "din", "average_pooling", "lightgbm", "dare_half")
"""dare_half: DARE with attention half as wide as representation."""
SEEDS = (0, 1, 2)
TRAINING_MOMENTS, TEST_MOMENTS = 12_000, 5_000
"""At most, drawn by user: what keeps a run near a minute."""
TEST_SEED = 0
app = typer.Typer(add_completion=False, help=__doc__)
Out = Annotated[Path, typer.Option(help="Folder of data sets and finished runs.")]


@dataclass(frozen=True, slots=True)
class Study:
    """One data set and what is learnt from and tested on it."""

    config: RunConfig
    data: Dataset
    test: Examples

    @classmethod
    def open(cls, path: Path, folder: Path) -> "Study":
        """Build what is not there, and draw the test."""
        config = read_config(path)
        events, dataset = folder / "events", folder / "dataset"
        if not events.exists():
            build_events(config.data, events)
        if not dataset.exists():
            build_dataset(events, config.features, dataset)
        data = Dataset.open(dataset)
        test = held_out_examples(data, "test", config.train.ranking, TEST_SEED)
        return cls(config, data, test.take(by_users(test.moments.users, TEST_MOMENTS)))

    def task(self, model: torch.nn.Module, fabric: Fabric, seed: int) -> RankingTask:
        """The task of `recsys train`, on fewer moments."""
        task = RankingTask.of(fabric, model, replace(self.config.train, seed=seed), self.data)
        stream: Any = task.stream
        rows = by_users(stream.moments.users, TRAINING_MOMENTS)
        return replace(task, stream=replace(stream, examples=stream.examples.take(rows)))


def by_users(users_R: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows of whole users, drawn at random, about `most` of them."""
    order = np.random.default_rng(17).permutation(np.unique(users_R))
    counts = np.bincount(users_R)[order]
    chosen = order[: max(int(np.searchsorted(np.cumsum(counts), most)), 1)]
    return np.flatnonzero(np.isin(users_R, chosen))


def train_neural(study: Study, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train a model, score the test with the weights of the best validation."""
    options = {k: v for k, v in (study.config.model or {}).items() if k != "name"}
    kind = name.removesuffix("_half")
    options |= {"attention_dim": 8} if kind != name else {}
    sizes = model_config(kind, options, dataset_facts(study.data))
    torch.manual_seed(seed)
    model: Any = MODELS[kind].model(sizes)
    fabric = Fabric(accelerator="cpu", devices=1)
    task = study.task(model, fabric, seed)
    work = folder / f"{name}-{seed}.partial"
    work.mkdir(exist_ok=True)
    checkpoints = Checkpoints(work)
    progress = run_loop(fabric, model, study.config.train, task, checkpoints)
    load_model(model, checkpoints.best_path(progress.best_step))
    model.eval()
    scores = predict(model, study.data, study.test, torch.device("cpu"))
    for path in work.iterdir():
        if path.is_file():
            path.unlink()
    return {
        "scores": scores[..., 0], "validation": progress.best_score, "steps": progress.best_step,
        "moments": len(task.stream.moments),  # pyright: ignore[reportAttributeAccessIssue]
    }  # fmt: skip


def train_trees(study: Study, seed: int) -> dict[str, Any]:
    """LightGBM on the features of the same training moments, stopped by the same validation."""
    config, data = study.config.train, study.data
    sizes = model_config("average_pooling", {}, dataset_facts(data))
    task = study.task(MODELS["average_pooling"].model(sizes), Fabric(accelerator="cpu"), seed)
    stream: Any = task.stream
    sampler = NegativeSampler(data, config.ranking, Chosen(data, data.cuts["train_end"]))
    draw = np.random.default_rng([seed, 5])
    learn = Examples.sampled(data, stream.moments, sampler.draw(stream.moments, draw))
    timeline = ItemTimeline.open(data.path)
    names = feature_names(data.schema.item_columns, (), "all")

    def table(examples: Examples) -> lgb.Dataset:
        known = examples.known[..., 0]
        values, labels = features(study, examples, timeline)[known], examples.labels[..., 0][known]
        return lgb.Dataset(values, labels, feature_name=list(names), free_raw_data=False)

    settings = {
        "objective": "binary", "metric": "auc", "learning_rate": 0.05, "num_leaves": 31,
        "min_data_in_leaf": 50, "lambda_l2": 10.0, "feature_fraction": 0.8, "bagging_freq": 1,
        "bagging_fraction": 0.8, "seed": seed, "num_threads": 1, "verbosity": -1,
        "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    booster = lgb.train(
        settings, table(learn), 400, valid_sets=[table(task.validation)],
        callbacks=[lgb.early_stopping(30, verbose=False)],
    )  # fmt: skip
    values = features(study, study.test, timeline)
    scores = np.asarray(booster.predict(values.reshape(-1, values.shape[-1]), raw_score=True))
    gains = booster.feature_importance("gain")
    best = [names[f] for f in np.argsort(-gains)[:5]]
    return {
        "scores": scores.reshape(study.test.candidates.shape).astype(np.float32),
        "validation": booster.best_score["valid_0"]["auc"], "steps": booster.best_iteration,
        "moments": len(stream.moments), "features": best,
    }  # fmt: skip


def features(study: Study, examples: Examples, timeline: ItemTimeline) -> NDArray[np.float32]:
    """As of each target's time, (R, C, F)."""
    data, moments = study.data, examples.moments
    columns = data.schema.item_columns
    return ranking_features(
        moments.histories(data), data.timestamps[moments.rows], examples.candidates, {}, timeline,
        data.item_table, columns, wanted="all",
    )  # fmt: skip


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="One of configs/dare-*.toml.")],
    out: Out,
    seconds: Annotated[float, typer.Option(help="Starts no run after this time.")] = 780,
    only: Annotated[str, typer.Option(help="Models, separated by commas.")] = "",
) -> None:
    """Make the runs of one data set that are not there yet."""
    torch.set_num_threads(1)
    started = time.monotonic()
    folder = out / config.stem
    folder.mkdir(parents=True, exist_ok=True)
    stream = (folder / "lock").open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        typer.echo(f"{folder} is being worked on: nothing done")
        return
    study = Study.open(config, folder)
    note_facts(study, folder)
    for seed in SEEDS:
        for name in only.split(",") if only else MODELS_COMPARED:
            if (folder / f"{name}-{seed}.json").exists():
                continue
            if time.monotonic() - started > seconds:
                typer.echo(f"{config.stem}: time is up before {name}, seed {seed}")
                return
            begun = time.monotonic()
            trees = name == "lightgbm"
            found = train_trees(study, seed) if trees else train_neural(study, name, seed, folder)
            scores = found.pop("scores")
            np.savez(folder / f"{name}-{seed}.npz", scores=scores)
            found |= figures(study.test, scores[..., None], ("target",))
            found["seconds"] = time.monotonic() - begun
            (folder / f"{name}-{seed}.json").write_text(json.dumps(found))
            typer.echo(f"{config.stem} {name} seed {seed}: {found}")


def note_facts(study: Study, folder: Path) -> None:
    """What the report needs of the data set, so that it opens none."""
    test, data = study.test, study.data
    known = test.known[..., 0]
    users = np.broadcast_to(test.moments.users[:, None], known.shape)
    np.savez(
        folder / "test.npz", users=users[known], labels=test.labels[..., 0][known], known=known
    )
    lengths = test.moments.cuts - test.moments.starts
    facts = {
        "users": len(np.unique(test.moments.users)), "moments": len(test.moments),
        "items": data.schema.num_items, "events": data.schema.num_events,
        "columns": [c.name for c in data.schema.item_columns if c.kind.startswith("categor")],
        "median_history": int(np.median(np.minimum(lengths, 200))),
        "ranking": asdict(study.config.train.ranking),
    }  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    app()

"""One config over several seeds: split by person, initial weights and order all change.

    RECSYS_DATA=... .venv/bin/python benchmarks/outcome_studies.py CONFIG WORK \
        --seeds 5 --gru 'dim = 32'

For each seed: a dataset of lives with its own test persons, a training, and the figures on the test
persons of the model and of the simpler models. Predictions are torch's, calibrated on the
validation persons as the export does; one seed through `recsys run` shows that the bundle answers
the same. --gru also trains the recurrent baseline with these sizes. Writes WORK/seeds.json.
"""

import argparse
import json
import math
import statistics
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.life_store import Lives
from recsys.config import RunConfig, read_config

FIGURES = ("auc", "aul", "c_mcc", "pr_auc", "log_loss", "ece")


def predictions(run: Path, data: Lives, rows: np.ndarray) -> np.ndarray:
    """Probabilities before calibration, (rows, P)."""
    from features.life_encode import encode_documents
    from recsys.models.outcome_interface import OutcomeModel
    from recsys.training.outcomes import life_batch
    from recsys.training.run import load_run

    model = load_run(run)[0]
    assert isinstance(model, OutcomeModel)
    found = []
    with torch.inference_mode():
        for first in range(0, len(rows), 64):
            documents = data.documents(rows[first : first + 64])
            inputs = encode_documents(documents, data.schema, model.max_len)
            found.append(model.predict(life_batch(inputs))[0].numpy())
    return np.concatenate(found).astype(np.float64)


def calibrated(run: Path, data: Lives) -> np.ndarray:
    """The first outcome's probability of every test case, calibrated on the validation cases."""
    from recsys.export.outcomes import fit_one, unchanged
    from serving.calibration import calibrate

    held, test = data.rows("validation"), data.rows("test")
    label = data.labels(held)[:, 0]
    known = ~np.isnan(label)
    raw = predictions(run, data, held)[known, :1]
    start = unchanged(data.schema.outcomes[0])
    fitted = fit_one(start, raw, label[known].astype(np.int64), 2)
    return calibrate(fitted, predictions(run, data, test)[:, :1])


def run_seed(
    config: RunConfig, events: Path, work: Path, seed: int, gru: str
) -> dict[str, dict[str, float]]:
    """Figures by system."""
    from features.life_build import build_lives
    from offline_eval.examples import measure_outcome
    from recsys.outcome_baselines import OUTCOME_BASELINES, Parts, tabulate
    from recsys.training.run import train

    assert config.life is not None
    assert config.model is not None
    lives = work / f"lives{seed}"
    if not lives.exists():
        build_lives(events, replace(config.life, seed=seed), lives)
    data = Lives.open(lives)
    label = data.cases["labels"][:, 0]
    code = np.where(np.isnan(label), -1, label).astype(np.int64)
    rows = {name: data.rows(name) for name in ("train", "validation", "test")}
    known = {name: r[code[r] >= 0] for name, r in rows.items()}
    threshold = float(code[known["train"]].mean())
    systems: dict[str, np.ndarray] = {}
    options = {key: value for key, value in config.model.items() if key != "name"}
    models: dict[str, Any] = {"life_events": options}
    if gru:
        models["event_gru"] = tomllib.loads(gru)
    for name, sizes in models.items():
        run = work / f"{name}{seed}"
        if not run.exists():
            train(name, sizes, replace(config.train, seed=seed), lives, run)
        systems[name] = calibrated(run, data)[code[rows["test"]] >= 0]
    table = tabulate(data)
    parts = Parts(known["train"], known["validation"], code, 2, seed)
    systems |= {name: fit(table, parts)[known["test"]] for name, fit in OUTCOME_BASELINES.items()}
    positive, found = code[known["test"]] == 1, {}
    for name, p_B1 in systems.items():
        p_B = np.clip(p_B1[:, 0], 0, 1)
        estimates = measure_outcome(positive, p_B, alpha=0.0, threshold=threshold, resamples=2)
        found[name] = {figure: estimates[figure].value for figure in FIGURES}
        found[name]["tpr"] = float((p_B[positive] >= threshold).mean())
        found[name]["fpr"] = float((p_B[~positive] >= threshold).mean())
    told = ", ".join(f"{name} {figures['auc']:.4f}" for name, figures in found.items())
    print(
        f"seed {seed}: prevalence {positive.mean():.4f} of {len(positive)} | AUC {told}", flush=True
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--gru", default="", help="TOML of the recurrent model's sizes.")
    chosen = parser.parse_args()
    from data.build import build_events

    config, work = read_config(chosen.config), chosen.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "events").exists():
        build_events(config.data, work / "events")
    seeds = [
        run_seed(config, work / "events", work, seed, chosen.gru.replace(";", "\n"))
        for seed in range(chosen.seeds)
    ]
    (work / "seeds.json").write_text(json.dumps(seeds, indent=1) + "\n")
    figures = (*FIGURES, "tpr", "fpr")
    print("| system | " + " | ".join(figures) + " | AUC of life_events minus this |")
    print("|---" * (len(figures) + 2) + "|")
    for name in seeds[0]:
        cells = []
        for figure in figures:
            values = [seed[name][figure] for seed in seeds if not math.isnan(seed[name][figure])]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.4f} ± {spread:.4f}" if values else "")
        gaps = [seed["life_events"]["auc"] - seed[name]["auc"] for seed in seeds]
        print(f"| {name} | " + " | ".join(cells) + " | "
              + ", ".join(f"{gap:+.3f}" for gap in gaps) + " |")  # fmt: skip


if __name__ == "__main__":
    main()

"""Public studies of outcomes, each over several splits by person: resumable, one file a split.

    RECSYS_DATA=... .venv/bin/python benchmarks/outcome_studies.py diabetes WORK --seeds 0 1 2 3 4
    .venv/bin/python benchmarks/outcome_tables.py WORK docs/results/life_events.md

For each seed: a dataset of lives with its own test persons, trainings, bundles, and the figures of
every system on the test persons. Models are asked through their bundles, as a service would be.
What WORK/STUDY/seed-N.json holds already is not computed again, a training that was stopped goes
on; `outcome_tables.py` makes the tables of all studies from these files. --only leaves the other
systems for later. Give one seed a call where a recurrent network is exported: its second export in
one process fails in torch.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.life_store import Lives
from recsys.config import RunConfig, read_config

ROOT = Path(__file__).parents[1]
FIGURES = ("auc", "aul", "c_mcc", "pr_auc", "log_loss", "ece")
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A system that is trained and asked through a bundle.

    model: fields that replace those of the config's [model]; train and life: of [train] and
    [train.life]; lives: of [life]. pretraining: fields of [train] of a run without labels to start
    from; empty starts from drawn weights.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    life: Mapping[str, Any] = field(default_factory=dict)
    lives: Mapping[str, Any] = field(default_factory=dict)
    pretraining: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A config and what is trained on it."""

    config: str
    systems: Mapping[str, Trained]


MODEL, GRU, PRETRAINED = "life_events", "event_gru", "life_events, pre-trained"
NO_AGE = {"birth": "", "birth_tokens": False}
STUDIES = {
    "diabetes": Study(
        config="life-danish-diabetes.toml",
        systems={
            MODEL: Trained(),
            GRU: Trained(model={"name": GRU, "dim": 64, "max_len": 32}),
            PRETRAINED: Trained(pretraining={"max_epochs": 8}),
            "life_events without age": Trained(lives=NO_AGE),
        },
    ),
    "icu": Study(
        config="life-physionet2012.toml",
        systems={
            MODEL: Trained(),
            GRU: Trained(
                model={"name": GRU, "dim": 32, "max_len": 768, "dropout": 0.2},
                train={"max_epochs": 5},
            ),
            PRETRAINED: Trained(
                train={"max_epochs": 5, "learning_rate": 2e-3}, pretraining={"max_epochs": 8}
            ),
        },
    ),
    "children": Study(
        config="life-skelleftea-children.toml",
        systems={
            MODEL: Trained(),
            GRU: Trained(model={"name": GRU, "dim": 32, "max_len": 128}),
            PRETRAINED: Trained(pretraining={"max_epochs": 6}),
        },
    ),
    "births": Study(
        config="life-skelleftea-births.toml",
        systems={
            MODEL: Trained(),
            GRU: Trained(model={"name": GRU, "dim": 32, "max_len": 96}),
            PRETRAINED: Trained(pretraining={"max_epochs": 6}),
            "life_events without age": Trained(lives=NO_AGE),
        },
    ),
    "churn": Study(
        config="life-ml-1m-churn.toml",
        systems={
            MODEL: Trained(),
            GRU: Trained(model={"name": GRU, "dim": 32, "max_len": 192}),
        },
    ),
}


@dataclass(frozen=True)
class Split:
    """One seed of a study, and where it is kept."""

    config: RunConfig
    events: Path
    folder: Path
    seed: int

    def lives(self, changed: Mapping[str, Any], name: str) -> Lives:
        """The dataset, built when it is missing."""
        from features.life_build import build_lives

        assert self.config.life is not None
        path = self.folder / f"lives-{self.seed}{name}"
        if not path.exists():
            build_lives(self.events, replace(self.config.life, seed=self.seed, **changed), path)
        return Lives.open(path)


def ask(split: Split, name: str, system: Trained, data: Lives) -> Floats:
    """Probabilities (B,) of the first outcome on the test cases, from a bundle."""
    from recsys.export.config import ExportConfig
    from recsys.export.outcomes import export_outcomes
    from recsys.training.run import train
    from serving.outcomes import OutcomePredictor

    assert split.config.model is not None
    plain = name.replace(", ", "-").replace(" ", "-")
    run = split.folder / f"run-{split.seed}-{plain}"
    bundle = split.folder / f"bundle-{split.seed}-{plain}"
    sizes = dict(system.model) or dict(split.config.model)
    kind = sizes.pop("name", MODEL)
    base = replace(split.config.train, seed=split.seed)
    settings = replace(base, **system.train, life=replace(base.life, **system.life))
    if system.pretraining:
        before = split.folder / f"run-{split.seed}-pretraining"
        if not before.exists():
            life = replace(base.life, task="pretraining", thinned=base.life.thinned)
            train(kind, sizes, replace(base, **system.pretraining, life=life), data.path, before)
        settings = replace(settings, start_from=str(before))
    if not run.exists():
        train(kind, sizes, settings, data.path, run)
    if not bundle.exists():
        export_outcomes(run, data.path, ExportConfig(golden_requests=2), bundle)
    found = OutcomePredictor.load(bundle).run(data.documents(data.rows("test")))
    return found.probabilities[:, 0].astype(np.float64)


def simpler(data: Lives, code: NDArray[np.int64], seed: int) -> dict[str, Callable[[], Floats]]:
    """Functions of the simpler models, and of one on parts of what it is given."""
    from recsys.outcome_baselines import OUTCOME_BASELINES, CaseTable, Parts, lightgbm, tabulate

    known = {name: (r := data.rows(name))[code[r] >= 0] for name in ("train", "validation")}
    parts, table, test = (
        Parts(known["train"], known["validation"], code, 2, seed),
        tabulate(data),
        data.rows("test"),
    )

    def only(*kept: str) -> CaseTable:
        names = ("who", "counts", "values", "times")
        return CaseTable(
            *(x if n in kept else x[:, :0] for n in names for x in (getattr(table, n),))
        )

    def fit(chosen: Callable[[CaseTable, Parts], Floats], given: CaseTable) -> Floats:
        return chosen(given, parts)[test, 0]

    found = {name: lambda f=f: fit(f, table) for name, f in OUTCOME_BASELINES.items()}
    found["lightgbm: times alone"] = lambda: fit(lightgbm, only("times"))
    found["lightgbm: token counts and background"] = lambda: fit(lightgbm, only("who", "counts"))
    if data.schema.series:
        found["lightgbm: values and background"] = lambda: fit(lightgbm, only("who", "values"))
    return found


def measure(positive_B: NDArray[np.bool_], p_B: Floats, threshold: float) -> dict[str, float]:
    """Figures of one system; intervals come from the splits, not from resampling."""
    from offline_eval.examples import measure_outcome

    p_B = np.clip(p_B, 0, 1)
    found = measure_outcome(positive_B, p_B, alpha=0.0, threshold=threshold, resamples=2)
    figures = {name: float(found[name].value) for name in FIGURES}
    figures["tpr"] = float((p_B[positive_B] >= threshold).mean())
    figures["fpr"] = float((p_B[~positive_B] >= threshold).mean())
    return figures


def run_seed(study: Study, split: Split, only: list[str]) -> None:
    """Compute what the file of this seed lacks."""
    path = split.folder / f"seed-{split.seed}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    data = split.lives({}, "")
    label = data.cases["labels"][:, 0]
    code = np.where(np.isnan(label), -1, label).astype(np.int64)
    test, train = (r[code[r] >= 0] for r in (data.rows("test"), data.rows("train")))
    asked, positive = code[data.rows("test")] >= 0, code[test] == 1
    threshold = float(code[train].mean())
    content |= {
        "test": len(test), "train": len(train), "prevalence": float(positive.mean()),
        "outcome": data.schema.outcomes[0].name,
    }  # fmt: skip
    systems = content.setdefault("systems", {})
    todo: dict[str, Callable[[], Floats]] = dict(simpler(data, code, split.seed))
    for name, system in study.systems.items():
        lives = split.lives(system.lives, f"-{name.split()[-1]}") if system.lives else data
        todo[name] = lambda n=name, s=system, d=lives: ask(split, n, s, d)
    for name, answer in todo.items():
        if name in systems or (only and name not in only):
            continue
        started = time.process_time()
        systems[name] = measure(positive, answer()[asked], threshold)
        systems[name]["processor_seconds"] = round(time.process_time() - started, 1)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"seed {split.seed} {name}: AUC {systems[name]['auc']:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="*", default=[], help="Systems to compute now.")
    chosen = parser.parse_args()
    from data.build import build_events

    study, folder = STUDIES[chosen.study], chosen.work / chosen.study
    config = read_config(ROOT / "configs" / study.config)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "events").exists():
        build_events(config.data, folder / "events")
    for seed in chosen.seeds:
        run_seed(study, Split(config, folder / "events", folder, seed), chosen.only)


if __name__ == "__main__":
    main()

"""Reports side by side, user by user: which run is better, on what, and could it be chance?

Runs of one name are seeds of one system: their values are averaged per user, and their spread
enters every interval and test.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import InputError
from features.stage import read_manifest, verify_files
from offline_eval.fingerprint import differing_parts
from offline_eval.hypotheses import holm
from offline_eval.metrics import Floats
from offline_eval.pairs import significance_letters
from offline_eval.records import PER_USER_FILE
from offline_eval.report import Comparison, Kind, Report, label, read_report, without_nan
from offline_eval.seeds import compare_seeds, estimate_seeds
from offline_eval.significance import Estimate, per_owner
from offline_eval.table import main_metrics

GATE = "recent_popularity"
Values = Mapping[str, Floats]
"""By metric, (R, U): a row a seed, a column a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One system of the comparison."""

    name: str
    kind: Kind
    seeds: int
    estimates: Mapping[str, Estimate]
    """By metric name; intervals over users, and over seeds where there are several."""
    spread: Mapping[str, float]
    """Standard deviation over the seeds by metric name; nan for a single one."""
    letters: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Systems of several reports under one protocol."""

    fingerprint: str
    title: str
    users: int
    metric: str
    """What letters and verdicts are about."""
    entries: Sequence[Entry]
    """Best first."""
    comparisons: Sequence[Comparison]
    """Each later run against the first on every metric, then every run against the gate and the
    best baseline on the main one; p-values corrected (Holm) for all of them together."""
    differing: Sequence[str]
    """Parts of the protocol that differ; empty unless differences were allowed."""

    @property
    def metrics(self) -> list[str]:
        """Metric names, in the order of the first entry."""
        return list(self.entries[0].estimates)

    def to_json(self) -> str:
        """As JSON; nan is null."""
        return json.dumps(without_nan(asdict(self)), indent=1, allow_nan=False) + "\n"


def compare(
    runs: Sequence[tuple[str, Path]],
    *,
    metric: str | None = None,
    baselines: bool = True,
    allow_differences: bool = False,
    resamples: int = 1_000,
    seed: int = 0,
) -> RunComparison:
    """Compare reports given as (name, directory), paired by user, on their main metrics.

    baselines: also the baselines of the first report. metric: what letters and verdicts are about;
    None takes NDCG at the reports' main cut-off. Raises InputError where the protocols differ,
    naming the parts, unless that is allowed; also where reports are over different users, a file is
    damaged, or there is no such metric.
    """
    opened = [_opened(path) for _, path in runs]
    differing = check_protocols(runs, opened, allow_differences=allow_differences)
    columns = pl.read_parquet_schema(runs[0][1] / PER_USER_FILE)
    names = [name for name in main_metrics(opened[0])[0] if name in columns]  # not coverage
    main = metric or f"ndcg@{opened[0].main_k}"
    if main not in columns or main not in opened[0].metrics:
        known = [name for name in opened[0].metrics if name in columns]
        raise InputError(f"no metric {main!r} with a value a user: choose from {known}")
    names = list(dict.fromkeys([main, *names]))
    kinds, values, users = _gather(runs, opened, names, baselines=baselines)
    values_of_main = {name: by_metric[main].mean(axis=0) for name, by_metric in values.items()}
    letters = significance_letters(values_of_main, seed=seed)
    entries = [
        Entry(
            name=name,
            kind=kinds[name],
            seeds=len(next(iter(by_metric.values()))),
            estimates={
                one: estimate_seeds(found, resamples=resamples, seed=seed)
                for one, found in by_metric.items()
            },
            spread={one: _spread(found) for one, found in by_metric.items()},
            letters=letters[name],
        )
        for name, by_metric in values.items()
    ]
    entries.sort(key=lambda entry: -np.nan_to_num(entry.estimates[main].value, nan=-1.0))
    return RunComparison(
        fingerprint=opened[0].fingerprint,
        title=", ".join(dict.fromkeys(name for name, _ in runs)),
        users=users,
        metric=main,
        entries=entries,
        comparisons=_comparisons(
            entries, values, _pairs(runs, entries, names, main), (resamples, seed)
        ),
        differing=differing,
    )


def check_protocols(
    runs: Sequence[tuple[str, Path]], opened: Sequence[Report], *, allow_differences: bool
) -> list[str]:
    """The parts in which any protocol differs from the first; raises InputError unless allowed."""
    found: list[str] = []
    for (_, path), report in zip(runs[1:], opened[1:], strict=True):
        differing = differing_parts(opened[0].protocol, report.protocol)
        if differing and not allow_differences:
            raise InputError(
                f"{runs[0][1]} and {path} measure different things, so their numbers do not "
                f"compare: {'; '.join(differing)}. Evaluate both on one dataset with one config"
            )
        found += differing
    return list(dict.fromkeys(found))


def _opened(directory: Path) -> Report:
    verify_files(directory, read_manifest(directory, "report"))
    return read_report(directory)


def _gather(
    runs: Sequence[tuple[str, Path]],
    opened: Sequence[Report],
    names: Sequence[str],
    *,
    baselines: bool,
) -> tuple[dict[str, Kind], Mapping[str, Values], int]:
    """Kind and values of every system by name, and the number of users."""
    kinds: dict[str, Kind] = {}
    rows: dict[str, list[Mapping[str, Floats]]] = {}
    users: pl.Series | None = None
    for number, ((name, path), report) in enumerate(zip(runs, opened, strict=True)):
        frame = pl.read_parquet(path / PER_USER_FILE).with_columns(pl.col("system").cast(pl.String))
        if missing := [one for one in names if one not in frame.columns]:
            raise InputError(f"{path} has no {', '.join(map(label, missing))}: use equal cut-offs")
        for system in report.systems:
            if system.kind == "baseline" and (number > 0 or not baselines):
                continue
            found = frame.filter(pl.col("system") == system.name).sort(
                "user_id", maintain_order=True
            )
            users = found["user_id"] if users is None else users
            if not found["user_id"].equals(users):
                raise InputError(
                    f"{runs[0][1]} has {len(users)} users and {path} has {len(found)}, not the "
                    "same ones: a paired comparison needs all systems on every user"
                )
            key = {"bundle": name, "stage": f"{name} without ranker"}.get(system.kind, system.name)
            kinds[key] = system.kind
            owners = found["user_id"].rle_id().to_numpy().astype(np.int64)  # a user's cases
            values = {
                one: per_owner(found[one].to_numpy().astype(np.float64), owners) for one in names
            }
            rows.setdefault(key, []).append(values)
    assert users is not None  # a report has a bundle
    stacked = {
        key: {one: np.stack([values[one] for values in found]) for one in names}
        for key, found in rows.items()
    }
    return kinds, stacked, users.n_unique()


def _pairs(
    runs: Sequence[tuple[str, Path]], entries: Sequence[Entry], names: Sequence[str], main: str
) -> list[tuple[str, str, str]]:
    """First system, second system and metric of each test."""
    bundles = list(dict.fromkeys(name for name, _ in runs))
    pairs = [(one, bundles[0], metric) for one in bundles[1:] for metric in names]
    baselines = [entry.name for entry in entries if entry.kind == "baseline"]
    rivals = list(dict.fromkeys([*(b for b in baselines if b == GATE), *baselines[:1]]))
    ours = [entry.name for entry in entries if entry.kind != "baseline"]
    return pairs + [(one, rival, main) for one in ours for rival in rivals]


def _comparisons(
    entries: Sequence[Entry],
    values: Mapping[str, Values],
    pairs: Sequence[tuple[str, str, str]],
    draws: tuple[int, int],
) -> list[Comparison]:
    resamples, seed = draws
    tested = [
        compare_seeds(values[first][metric], values[second][metric], resamples=resamples, seed=seed)
        for first, second, metric in pairs
    ]
    adjusted = holm(np.array([one.p for one in tested]))
    return [
        Comparison(
            first=first,
            second=second,
            metric=metric,
            difference=one.difference,
            p=one.p,
            p_holm=float(p),
            detectable=one.detectable,
        )
        for (first, second, metric), one, p in zip(pairs, tested, adjusted, strict=True)
    ]


def _spread(values_RU: Floats) -> float:
    """Standard deviation of the seeds' means; nan for one seed, or where nothing is defined."""
    known_U = ~np.isnan(values_RU).any(axis=0)
    if len(values_RU) < 2 or not known_U.any():
        return float("nan")
    return float(values_RU[:, known_U].mean(axis=1).std(ddof=1))

"""The probe suite: every task with the model, its untrained twin, a bag of songs, and chance.

probes.json   every figure
probes.html   the same as a page
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from features.errors import InputError
from features.stage import write_stage
from offline_eval.charts import Series, axis_of, document, legend, line_chart, row, told_apart
from offline_eval.significance import Estimate
from recsys.models.interface import Retriever
from recsys.playlists.opened import Ints, Opened
from recsys.playlists.probes import (
    CHANGES,
    FRACTIONS,
    Accuracy,
    Change,
    ProbeTask,
    all_tasks,
    length_task,
    precision_at,
    probe_vectors,
)

KS = (1, 10)
KINDS = {"model": "bundle", "untrained": "stage", "bag of songs": "baseline"}
"""Classes of the style sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """What to probe, and on how much."""

    users: Path | None = None
    label: str = ""
    """Column of `users`."""
    attribute: str = ""
    """Column of the songs, for diversity."""
    content_songs: int = 500
    most: int = 10_000
    """Playlists to train classifiers on."""
    changes: tuple[Change, ...] = CHANGES
    fractions: tuple[float, ...] = FRACTIONS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One task: chance, and each system's accuracy."""

    task: str
    classes: int
    majority: float
    found: Mapping[str, Accuracy]


def write_probes(run: Path, dataset: Path, out: Path, options: ProbeOptions) -> list[Row]:
    """Probe a run; writes `out` and returns the rows. Raises InputError where nothing fits."""
    opened = Opened.open(run, dataset)
    parts = _parts(opened, options)
    (train, train_rows), (test, test_rows) = parts
    labels = None
    if options.label:
        if options.users is None:
            raise InputError("--label names a column of --users: give that file too")
        labels = _codes(opened, options.users, options.label, (train_rows, test_rows))
    tasks = all_tasks(
        train,
        test,
        labels=labels,
        value_of=opened.attribute(options.attribute) if options.attribute else None,
        num_songs=options.content_songs,
        orders=dict.fromkeys(options.changes, options.fractions),
    )
    systems: dict[str, Retriever] = {
        "model": opened.model,
        "untrained": opened.untrained(run),
        "bag of songs": opened.bag(),
    }
    rows = [_probe_all(task, opened, systems, options.seed) for task in _shown(tasks)]
    rows += _retrieval(opened, systems, (train, test), labels)
    config = {"run": str(run.name), "options": json.loads(json.dumps(asdict(options), default=str))}
    parent = opened.data.manifest.sha256
    with write_stage(out, kind="probes", config=config, parent=parent) as directory:
        facts = {"model": opened.name, "training": len(train), "test": len(test)}
        content = {**facts, "rows": [asdict(one) for one in rows]}
        (directory / "probes.json").write_text(json.dumps(content, indent=1) + "\n")
        (directory / "probes.html").write_text(page(opened.name, rows, len(train), len(test)))
    return rows


def _parts(opened: Opened, options: ProbeOptions) -> list[tuple[list[Ints], Ints]]:
    """Playlists to train classifiers on, and to test them with, with their rows."""
    draw = np.random.default_rng(options.seed)
    parts = []
    for part in ("training", "test"):
        rows = opened.rows(part)
        rows = np.sort(draw.permutation(rows)[: options.most])
        # what the model cannot read cannot be asked of it
        songs = [one[-opened.model.max_len :] for one in opened.songs(rows, part)]
        if len(songs) < 20:
            raise InputError(
                f"{opened.data.path} has {len(songs)} playlists in its {part} part: probes need "
                f"20 at least"
            )
        parts.append((songs, rows))
    return parts


def _codes(opened: Opened, users: Path, column: str, rows: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Labels as numbers, -1 for none, of training and of test playlists."""
    told = [opened.column(users, column, some) for some in rows]
    names = sorted({name for part in told for name in part if name is not None})
    number = {name: i for i, name in enumerate(names)}
    first, second = (
        np.array([-1 if one is None else number[one] for one in part]) for part in told
    )
    return first, second


def _shown(tasks: Sequence[ProbeTask]) -> Sequence[ProbeTask]:
    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()
    return track(tasks, "probing", console=console, disable=quiet)  # pyright: ignore


def _probe_all(task: ProbeTask, opened: Opened, systems: Mapping[str, Retriever], seed: int) -> Row:
    found = {
        name: probe_vectors(
            task, opened.vectors(task.train, model), opened.vectors(task.test, model), seed=seed
        )
        for name, model in systems.items()
    }
    return Row(task.name, len(np.unique(task.train_class)), task.majority, found)


def _retrieval(
    opened: Opened,
    systems: Mapping[str, Retriever],
    songs: tuple[Sequence[Ints], Sequence[Ints]],
    labels: tuple[Ints, Ints] | None,
) -> list[Row]:
    """Precision of the nearest training playlists: the same label, the same class of length."""
    lengths = length_task(*songs)
    classes = {"length": (lengths.train_class, lengths.test_class)}
    if labels is not None:
        classes = {"label": labels, **classes}
    vectors = {
        name: (opened.vectors(songs[0], model), opened.vectors(songs[1], model))
        for name, model in systems.items()
    }
    rows = []
    for name, (train, test) in classes.items():
        known = train[train >= 0]
        values, counts = np.unique(known, return_counts=True)
        shares = dict(zip(values.tolist(), (counts / len(known)).tolist(), strict=True))
        prior = float(np.mean([shares.get(one, 0.0) for one in test[test >= 0].tolist()]))
        for k in KS:
            found = {
                system: precision_at(both, (train, test), k) for system, both in vectors.items()
            }
            rows.append(Row(f"retrieval: {name} P@{k}", len(values), prior, found))
    return rows


def print_rows(rows: Sequence[Row]) -> None:
    """The table on the terminal."""
    table = Table(title="Probes: accuracy, or precision of retrieval")
    table.add_column("task")
    for name in ("classes", "majority", *KINDS):
        table.add_column(name, justify="right")
    for one in rows:
        cells = [f"{a.value:.3f} [{a.low:.2f}, {a.high:.2f}]" for a in one.found.values()]
        table.add_row(one.task, str(one.classes), f"{one.majority:.3f}", *cells)
    Console().print(table)


def page(model: str, rows: Sequence[Row], train: int, test: int) -> str:
    """The same as HTML: a row a system, and the order tasks as lines."""
    body = [
        f"<h1>Probes of {escape(model)}</h1>",
        f"<p>Classifiers on frozen vectors: trained on {train:,} playlists, tested on {test:,}. "
        "Bars are 95 % intervals over test playlists; the mark is the majority rate (of retrieval: "
        "the share of the class). Below or at the mark nothing is known of the task.</p>",
    ]
    ordered = [one for one in rows if one.task.startswith("order: ")]
    for one in [one for one in rows if one not in ordered]:
        estimates = {name: estimate(found) for name, found in one.found.items()}
        axis = axis_of("accuracy", estimates.values(), one.majority)
        lines = "".join(
            row(name, KINDS[name], found, axis, one.majority) for name, found in estimates.items()
        )
        told = f"{escape(one.task)} <small>({one.classes} classes)</small>"
        body.append(f"<h2>{told}</h2><div class='rows'>{lines}</div>")
    for change in dict.fromkeys(one.task.split()[1] for one in ordered):
        chosen = [one for one in ordered if one.task.split()[1] == change]
        shares = [float(one.task.split()[2].rstrip("%")) for one in chosen]
        series = [
            Series(
                name=name,
                kind=KINDS[name],
                points=[(x, o.found[name].value) for x, o in zip(shares, chosen, strict=True)],
                bands=[(o.found[name].low, o.found[name].high) for o in chosen],
            )
            for name in KINDS
        ]
        series = told_apart(series)
        chart = line_chart(series, x="% of the songs moved", y="accuracy", from_zero=False)
        body.append(f"<h2>order: {escape(change)}</h2>{legend(series)}{chart}")
    return document(f"Probes of {model}", body)


def estimate(found: Accuracy) -> Estimate:
    """As the charts take it."""
    low = found.low if found.playlists else math.nan
    return Estimate(found.value, low, found.high, found.playlists, 0)

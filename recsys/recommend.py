"""Recommendations as a person reads them: the history with titles, then the list with reasons."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from features.errors import InputError
from features.layout import Split
from features.store import Dataset
from serving.model_source import ModelSource
from serving.recommender import Recommendations, Recommender

SHOWN_HISTORY = 5
"""Most recent events to print."""
SHOWN_CATEGORIES = 3
"""Likeliest values to print of each column that the bundle predicts."""


def recommend_items(bundle: Path, items: Sequence[str], k: int) -> None:
    """Print k recommendations for raw item ids, oldest first."""
    recommender = Recommender.load(bundle)
    history = [recommender.parse_item_id(item) for item in items]
    show(recommender, history, recommender.recommend(history, k=k), Console())


def recommend_user(bundle: Path, dataset: Path, user: str, k: int) -> None:
    """Print k recommendations for a user of a dataset, from all that user's events."""
    recommender = Recommender.load(bundle)
    history = user_history(Dataset.open(dataset), user)
    answer = recommender.recommend(history, k=k)
    show(recommender, [event[0] for event in history], answer, Console(), user=user)


def user_history(
    dataset: Dataset, user: str, before: Split | None = None
) -> list[tuple[int | str, int, str]]:
    """A user's events as (raw item id, microseconds, behaviour), oldest first.

    `before` stops at the start of that split. Raises InputError for a user the dataset lacks.
    """
    users = dataset.vocabulary("user").to_pylist()
    raw = int(user) if dataset.schema.raw_user_type == "int" and user.isdigit() else user
    if raw not in users:
        known = ", ".join(str(name) for name in users[:5])
        raise InputError(
            f"user {user!r} is not among the {len(users)} users of {dataset.path}: try {known}"
        )
    row = users.index(raw)
    end = dataset.cuts["test_end" if before is None else f"{before}_start"][row]
    rows = slice(int(dataset.cuts["start"][row]), int(end))
    raw_items = dataset.vocabulary("item").take(dataset.items[rows] - 1).to_pylist()
    names = dataset.schema.event_types
    times = dataset.timestamps[rows].tolist()
    return [
        (item, time, names[code - 1])
        for item, time, code in zip(raw_items, times, dataset.events[rows].tolist(), strict=True)
    ]


def predicted_columns(recommender: Recommender) -> list[str]:
    """Category columns whose next value some source of the bundle predicts."""
    models = [one for one in recommender.pipeline.sources if isinstance(one, ModelSource)]
    return [column for one in models for column in one.predicted]


def show(
    recommender: Recommender,
    history: Sequence[int | str],
    answer: Recommendations,
    console: Console,
    *,
    user: str = "this history",
) -> None:
    """Print the last events of a history, the recommendations for it, and what kind of item is
    likely to come next, where the bundle predicts that.
    """
    recent = history[-SHOWN_HISTORY:]
    console.print(f"[bold]{user}[/] has {len(history)} events; the last {len(recent)}:")
    for item in recent:
        console.print(f"  {item}  {recommender.title(item) or ''}", highlight=False)
    table = Table(title=f"{len(answer.items)} recommendations for {user}", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("item")
    table.add_column("title")
    table.add_column("score", justify="right")
    table.add_column("from")
    for rank, item in enumerate(answer.items, 1):
        score = f"{item.score:.3f}"
        table.add_row(str(rank), str(item.item_id), item.title or "", score, item.source)
    console.print(table)
    if history and not {"unknown_items", "no_history"} & set(answer.degraded):
        for column in predicted_columns(recommender):
            likely = recommender.next_categories(history, column, k=SHOWN_CATEGORIES)
            told = ", ".join(f"{value} {share:.0%}" for value, share in likely)
            console.print(f"next {column}: {told}", highlight=False, markup=False)
    if answer.degraded:
        console.print(f"degraded: {', '.join(answer.degraded)}", style="yellow")
    console.print(f"bundle {answer.bundle_version[:12]}", style="dim")

"""What a ranker of several tasks predicts: a behaviour each, and among what it is known."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """One thing to predict of a user and an item."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """Letters, digits and _: formulas of serving use it."""
    events: tuple[str, ...] = ()
    """Behaviours any of which makes the label 1; empty: the dataset's target behaviours."""
    among: str = ""
    """The task is known only where the label of this one is 1 (buys among clicks); empty: of
    everything that was shown."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"task {self.name!r}: a name is made of letters, digits and _")


def check_tasks(tasks: Sequence[TaskConfig]) -> None:
    """Raise ValueError unless names differ and every `among` names a task of everything shown."""
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise ValueError(f"tasks {names} name one twice: each needs a name of its own")
    whole = {task.name for task in tasks if not task.among}
    for task in tasks:
        if task.among and task.among not in whole:
            raise ValueError(
                f"task {task.name} is among {task.among!r}, which is none of {sorted(whole)}: "
                f"name a task that is known of everything shown"
            )

"""Everybody's histories in dense ids beside the parts: encoded once, mapped by every worker.

    encoded-users.arrow    user_id, start, end, at, unknown    one row a user
    encoded-events.arrow   item, timestamp, event              start and end are rows of it

A job that reads one file of events in several processes leaves them there while it works: a worker
that read the file itself would hold all of it, and look up every raw id anew.
"""

from pathlib import Path

import numpy as np
import polars as pl

from features.encode import Histories
from features.store import read_table, to_arrays, write_table
from serving.jobs.population import Population

USERS, EVENTS = "encoded-users.arrow", "encoded-events.arrow"


def write_encoded(population: Population, directory: Path) -> None:
    """Write the histories of `population`; raises OSError where the disk does not take them."""
    histories = population.histories
    users = {
        "user_id": population.users.rechunk().to_arrow(),
        "start": np.asarray(histories.starts, np.int64),
        "end": np.asarray(histories.ends, np.int64),
        "at": np.asarray(population.at, np.int64),
        "unknown": np.asarray(population.unknown, np.int64),
    }
    events = {
        "item": np.asarray(histories.items, np.int32),
        "timestamp": np.asarray(histories.timestamps, np.int64),
        "event": np.asarray(histories.events, np.int16),
    }
    write_table(directory / EVENTS, events)
    write_table(directory / USERS, users)


def remove_encoded(directory: Path) -> None:
    """Remove what `write_encoded` wrote."""
    for name in (USERS, EVENTS):
        (directory / name).unlink(missing_ok=True)


def read_encoded(directory: Path) -> Population:
    """What `write_encoded` wrote, memory-mapped; raises InputError where it is not there."""
    table = read_table(directory / USERS)
    users = pl.Series("user_id", pl.from_arrow(table.column("user_id")))
    columns = to_arrays(table.drop_columns("user_id"))
    events = to_arrays(read_table(directory / EVENTS))
    histories = Histories(
        events["item"], events["timestamp"], events["event"], columns["start"], columns["end"]
    )
    return Population(users, histories, columns["at"], columns["unknown"])

from collections.abc import Callable

import pytest

from features.errors import InputError
from features.store import Dataset
from recsys.training.playlist_tasks import held_out_playlists

COLD = (31, 32)
"""Ids above those that training saw."""


def test_held_out_playlists_are_judged_by_the_songs_that_training_saw(
    make_dataset: Callable[..., Dataset],
) -> None:
    """The last event of each is test; the rest is one playlist, its last song the target."""
    data = make_dataset([[1, 2, COLD[0], 3, 4, 9], [COLD[0], COLD[1], 9], [5, COLD[1], 6, 9]])
    found = held_out_playlists(data, 0, 40)
    lists = [
        found.items[first:last].tolist()
        for first, last in zip(found.starts, found.ends, strict=True)
    ]
    assert sorted(lists) == [[1, 2, 3, 4], [5, 6]]


def test_playlists_of_unknown_songs_alone_are_refused(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[*COLD, 9], [*COLD, *COLD, 9]])
    with pytest.raises(InputError, match="training saw no song of any validation playlist"):
        held_out_playlists(data, 0, 40)

"""The settings refuse what could not work, in the TOML's own words."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from features.config import FeatureConfig, GlobalTime, LastDays, LastSession

READ = TypeAdapter(FeatureConfig).validate_python


def test_the_default_split_is_by_time_and_nothing_is_cut() -> None:
    config = READ({})
    assert isinstance(config.split, GlobalTime)
    assert (config.min_user_events, config.min_item_events) == (1, 1)
    assert config == FeatureConfig()


def test_a_split_is_chosen_by_its_name() -> None:
    assert READ({"split": {"name": "last-days", "test_days": 2}}).split == LastDays(test_days=2)
    assert READ({"split": {"name": "last-session"}}).split == LastSession()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"splt": {}}, "splt"),
        ({"split": {"name": "random"}}, "'global-time', 'last-days', 'session-time', 'leave-one-"),
        ({"split": {"name": "leave-one-out", "test": 0.1}}, "Unexpected keyword argument"),
        ({"split": {"name": "global-time", "test": 0.95}}, "sum to less than 1"),
        ({"split": {"name": "last-days", "test_days": 0}}, "each window needs a length"),
        ({"split": {"name": "last-session", "gap_minutes": -1}}, "must be above 0"),
        ({"events": ["view"], "target_events": ["buy"]}, "nothing of them would be left"),
        ({"min_item_events": 0}, "must be at least 1"),
        ({"tokenizer_size": 100}, "at least 258"),
        ({"duplicates": "last"}, "'keep', 'exact', 'consecutive' or 'first'"),
    ],
)
def test_bad_settings_are_refused(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        READ(table)

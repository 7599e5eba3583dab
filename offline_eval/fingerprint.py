"""The protocol behind a number, as a short hash: equal fingerprints, comparable numbers.

A protocol is a flat mapping of part -> value: data, split, candidates, cut-offs, ties, metric
definitions. Two reports may stand side by side only where all parts agree.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

METRICS_VERSION = 2
"""Raise whenever a definition in this package changes a number."""


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """The first 12 hex digits of the protocol's sha256; the order of the parts does not matter.

    >>> fingerprint({"split": "test", "k": 5}) == fingerprint({"k": 5, "split": "test"})
    True
    """
    text = json.dumps(protocol, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differing_parts(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """One sentence for each part in which two protocols differ, in order of the parts' names.

    >>> differing_parts({"ks": [10], "split": "test"}, {"ks": [20], "split": "test"})
    ['ks: [10] against [20]']
    """
    return [
        f"{part}: {_shown(first, part)} against {_shown(second, part)}"
        for part in sorted(first.keys() | second.keys())
        if _shown(first, part) != _shown(second, part)
    ]


def _shown(protocol: Mapping[str, Any], part: str) -> str:
    return json.dumps(protocol[part], sort_keys=True) if part in protocol else "(absent)"

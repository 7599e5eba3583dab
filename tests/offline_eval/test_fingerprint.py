from offline_eval.fingerprint import differing_parts, fingerprint

PROTOCOL = {"data": "ab12", "split": {"name": "global-time", "days": 7}, "ks": [1, 10]}


def test_every_part_matters_and_their_order_does_not() -> None:
    original = fingerprint(PROTOCOL)
    assert original == fingerprint(dict(reversed(PROTOCOL.items())))
    for part in PROTOCOL:
        assert fingerprint({**PROTOCOL, part: "other"}) != original
    assert fingerprint({**PROTOCOL, "more": 1}) != original


def test_the_differing_parts_are_named() -> None:
    other = {**PROTOCOL, "ks": [1, 20], "ties": "expected"}
    assert differing_parts(PROTOCOL, other) == [
        "ks: [1, 10] against [1, 20]",
        'ties: (absent) against "expected"',
    ]
    assert differing_parts(PROTOCOL, dict(PROTOCOL)) == []

"""What a composite key is worth (hsm-1 §4): theft, loss, and who has known a share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.custody import (
    CompositeCustody,
    CustodyClass,
    CustodyStatement,
    DictionaryAttack,
    Hardware,
    PinPolicy,
    TouchPolicy,
)
from mesh_hsm.errors import FormatError

GENERATED, IMPORTED, SEALED, SOFTWARE, EXPORTABLE, UNKNOWN = CustodyClass


def share(custody: CustodyClass, *known_by: str) -> CustodyStatement:
    return CustodyStatement(custody, Hardware.CLAIMED, "a device", known_by=known_by)


ADDITIVE = {
    "a single share is worth itself": ([SEALED], 1, SEALED, SEALED),
    "n of n: the strongest protects, and is lost first": (
        [SOFTWARE, GENERATED, EXPORTABLE],
        3,
        GENERATED,
        GENERATED,
    ),
    "1 of n: the weakest": ([GENERATED, SOFTWARE], 1, SOFTWARE, GENERATED),
    "2 of 3: the stronger of the two weakest": (
        [GENERATED, IMPORTED, SOFTWARE],
        2,
        IMPORTED,
        GENERATED,
    ),
    "unknown counts as weakest against theft": ([UNKNOWN, EXPORTABLE], 1, UNKNOWN, UNKNOWN),
    "unknown is no comfort against loss": ([UNKNOWN, SOFTWARE], 2, SOFTWARE, UNKNOWN),
}


@pytest.mark.parametrize(("classes", "threshold", "theft", "loss"), ADDITIVE.values(), ids=ADDITIVE)
def test_additive(
    classes: list[CustodyClass], threshold: int, theft: CustodyClass, loss: CustodyClass
) -> None:
    whole = CompositeCustody.additive(tuple(map(share, classes)), threshold)
    assert (whole.theft, whole.loss) == (theft, loss)


@settings(deadline=None)
@given(st.lists(st.sampled_from(CustodyClass), min_size=1, max_size=6), st.data())
def test_theft_means_that_a_thief_of_weaker_things_has_too_few_shares(
    classes: list[CustodyClass], data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(1, len(classes)))
    theft = CompositeCustody.additive(tuple(map(share, classes)), threshold).theft
    weaker = sum(c.weakness > theft.weakness for c in classes)
    as_weak = sum(c.weakness >= theft.weakness for c in classes)
    assert weaker < threshold <= as_weak


@pytest.mark.parametrize("threshold", [-1, 0, 3])
def test_a_threshold_that_no_scheme_has_is_refused(threshold: int) -> None:
    with pytest.raises(FormatError):
        CompositeCustody.additive((share(GENERATED), share(SOFTWARE)), threshold)


@pytest.mark.parametrize("factor", CustodyClass)
@pytest.mark.parametrize("device", CustodyClass)
def test_a_derived_key_is_worth_the_device_share_alone(
    device: CustodyClass, factor: CustodyClass
) -> None:
    whole = CompositeCustody.derived(share(device), share(factor))
    assert whole.theft is device
    assert whole.threshold == 2


def test_json_names_every_share_and_says_whether_the_composite_is_proved() -> None:
    whole = CompositeCustody.additive((share(GENERATED), share(SOFTWARE, "administrator")), 2)
    told = json.loads(json.dumps(whole.to_json()))
    assert told == {
        "theft": "generated",
        "loss": "generated",
        "threshold": 2,
        "composite": "claimed, not proved",
        "shares": [
            {
                "custody": "generated",
                "hardware": "claimed",
                "device": "a device",
                "pin": "none",
                "known_by": [],
            },
            {
                "custody": "software",
                "hardware": "claimed",
                "device": "a device",
                "pin": "none",
                "known_by": ["administrator"],
            },
        ],
    }


def test_json_of_a_statement_leaves_out_what_says_nothing() -> None:
    guard = DictionaryAttack(True, 32, 7200, 86400, lockout_auth_set=False)
    statement = CustodyStatement(
        GENERATED,
        Hardware.SIMULATOR,
        "swtpm",
        firmware="1",
        pin=PinPolicy.ALWAYS,
        touch=TouchPolicy.ALWAYS,
        pcrs=(7,),
        pcr_bank="sha256",
        dictionary_attack=guard,
        notes=("a note",),
    )
    told = statement.to_json()
    assert told["touch"] == "always"
    assert told["dictionary_attack"]["lockout_auth_set"] is False
    assert told["pcrs"] == (7,)
    plain = CustodyStatement(UNKNOWN, Hardware.NONE, "").to_json()
    assert plain.keys() == {"custody", "hardware", "device", "pin", "known_by"}


def test_the_classes_are_ordered_from_the_strongest() -> None:
    assert [c.weakness for c in CustodyClass] == list(range(6))
    assert sorted(CustodyClass, key=lambda c: c.weakness)[0] is GENERATED


@pytest.mark.parametrize("proved", [True, False])
def test_proved_is_said_only_when_it_was(proved: bool) -> None:
    statement = (share(GENERATED), share(SOFTWARE))
    told = CompositeCustody(statement, 2, GENERATED, GENERATED, proved).to_json()
    assert (told["composite"] == "proved") is proved


FULL = CustodyStatement(
    GENERATED,
    Hardware.CLAIMED,
    "a TPM",
    firmware="1.2",
    pin=PinPolicy.ONCE,
    touch=TouchPolicy.ALWAYS,
    pcrs=(0, 7),
    pcr_bank="sha256",
    dictionary_attack=DictionaryAttack(True, 32, 600, 86400, False),
    known_by=("a dealer",),
    notes=("a limit",),
)


@pytest.mark.parametrize("statement", [FULL, share(UNKNOWN)], ids=["full", "short"])
def test_a_statement_of_somebody_else_reads_back(statement: CustodyStatement) -> None:
    value = json.loads(json.dumps(statement.to_json()))
    assert CustodyStatement.from_json(value | {"of a later version": {}}) == statement


MALFORMED = {
    "no object": [],
    "nothing": {},
    "no class": {"custody": None},
    "a class of its own": {"custody": "excellent"},
    "hardware is a list": {"hardware": []},
    "no device": {"device": None},
    "firmware is a number": {"firmware": 0},
    "another PIN policy": {"pin": "sometimes"},
    "touch is no policy": {"touch": True},
    "PCRs are text": {"pcrs": "07"},
    "a PCR is text": {"pcrs": ["7"]},
    "a PCR is true": {"pcrs": [True]},
    "PCR bank is a list": {"pcr_bank": []},
    "dictionary attack is text": {"dictionary_attack": "none"},
    "dictionary attack says less": {"dictionary_attack": {"protected": True}},
    "tries are text": {
        "dictionary_attack": FULL.to_json()["dictionary_attack"] | {"max_tries": ""}
    },
    "protected is text": {
        "dictionary_attack": FULL.to_json()["dictionary_attack"] | {"protected": ""}
    },
    "known by text": {"known_by": "a dealer"},
    "known by numbers": {"known_by": [1]},
    "known by an object": {"known_by": {}},
    "notes are numbers": {"notes": [1]},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_statement_is_refused(change: object) -> None:
    value = FULL.to_json() | change if isinstance(change, dict) and change else change
    with pytest.raises(FormatError):
        CustodyStatement.from_json(value)

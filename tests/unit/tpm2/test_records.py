"""Records, sealed boxes and statements: what is read is checked, what is written is whole."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy
from mesh_hsm.errors import ConflictError, FormatError, NotFoundError, StorageError
from mesh_hsm.provider import Use
from mesh_hsm_tpm2 import statements, templates
from mesh_hsm_tpm2.blobs import KeyFile
from mesh_hsm_tpm2.identity import Identity
from mesh_hsm_tpm2.policies import Policy
from mesh_hsm_tpm2.records import Creation, Record, Records
from mesh_hsm_tpm2.sealing import Box
from mesh_hsm_tpm2.storage_root import Pin
from mesh_hsm_tpm2.structures import Attr, PublicArea, point_octets
from mesh_hsm_tpm2.turns import Turns

POLICY = Policy((7, 16), bytes(range(32)), pin=True)


def area_of(policy: Policy = POLICY, *, imported: bool = False) -> PublicArea:
    area = templates.key("P-384", Use.SIGN, policy, imported=imported)
    return replace(area, unique=point_octets(area.curve.base))


RECORD = Record(
    label="key",
    use=Use.SIGN,
    pin=PinPolicy.ONCE,
    public=area_of().marshal().hex(),
    storage_root="000b" + "11" * 32,
    pcrs=POLICY.pcrs,
    pcr_digest=POLICY.pcr_digest.hex(),
    persistent=0x81400000,
    known_by=("dealer",),
    notes=("a note",),
    creation=Creation("aa", "bb", "cc"),
)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    label=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=64),
    creation=st.sampled_from([None, RECORD.creation]),
    persistent=st.sampled_from([None, 0x81400000]),
)
def test_records_come_back(
    records: Records, label: str, creation: Creation | None, persistent: int | None
) -> None:
    record = replace(RECORD, label=label, creation=creation, persistent=persistent)
    records.save(record)
    assert records.load(label) == record
    assert label in records.labels()
    with pytest.raises(ConflictError):
        records.check_free(label)
    records.remove(label)
    records.check_free(label)
    with pytest.raises(NotFoundError):
        records.load(label)


def test_a_record_knows_its_policy() -> None:
    assert RECORD.policy == POLICY
    assert RECORD.area.policy == POLICY.digest


VALUE = {
    "label": "key",
    "use": "sign",
    "pin": "once",
    "public": RECORD.public,
    "storage_root": RECORD.storage_root,
    "pcrs": [7],
    "pcr_digest": "00" * 32,
    "persistent": None,
    "known_by": [],
    "notes": [],
    "creation": None,
}
BAD_RECORDS = {
    "empty": b"",
    "not an object": b"[]",
    "not UTF-8": b"\xff\xfe",
    "another label": json.dumps({**VALUE, "label": "other"}).encode(),
    "unknown use": json.dumps({**VALUE, "use": "both"}).encode(),
    "unknown PIN policy": json.dumps({**VALUE, "pin": "never"}).encode(),
    "member too many": json.dumps({**VALUE, "more": 1}).encode(),
    "member missing": json.dumps({k: v for k, v in VALUE.items() if k != "creation"}).encode(),
    "no public area": json.dumps({**VALUE, "public": ""}).encode(),
    "odd hexadecimal": json.dumps({**VALUE, "public": "0"}).encode(),
    "number for text": json.dumps({**VALUE, "public": 5}).encode(),
    "odd PCR digest": json.dumps({**VALUE, "pcr_digest": "x"}).encode(),
    "creation of another shape": json.dumps({**VALUE, "creation": {"data": ""}}).encode(),
    "too large": b" " * 70000,
}


def test_the_good_record_is_good(records: Records, tmp_path: Path) -> None:
    (tmp_path / "key.key.json").write_bytes(json.dumps(VALUE).encode())
    assert records.load("key").label == "key"


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_bad_records_are_refused(records: Records, tmp_path: Path, name: str) -> None:
    (tmp_path / "key.key.json").write_bytes(BAD_RECORDS[name])
    with pytest.raises(FormatError):
        records.load("key")


def test_labels_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    records = Records(folder)
    for label in ("..", "../out", "/etc/x", ".", "鍵" * 64, "a" * 64, "%2e%2e"):
        records.save(replace(RECORD, label=label))
        records.save_key_file(label, KeyFile(b"", b"", empty_auth=True))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert len(records.labels()) == 7
    assert len(list(folder.iterdir())) == 14


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError), Records(tmp_path / "file").locked():
        pass


# -- turns ----------------------------------------------------------------------------------------


def test_turns_tell_who_was_here(tmp_path: Path) -> None:
    one, other = Turns(tmp_path / "turns"), Turns(tmp_path / "turns")
    for who, disturbed in ((one, False), (one, False), (other, True), (other, False), (one, True)):
        with who.taken() as said:
            assert said is disturbed
            with who.taken() as again:
                assert not again
    with one.taken():
        one.end()
    with other.taken() as said:
        assert not said  # the other one left nothing
    for turns in (one, other):
        turns.close()
        turns.close()


def test_turns_without_a_folder(tmp_path: Path) -> None:
    """Looking at a TPM makes no folder."""
    turns = Turns(tmp_path / "nowhere" / "turns")
    with turns.taken() as disturbed:
        assert not disturbed
        turns.end()
    assert list(tmp_path.iterdir()) == []


def _count(path: Path, rounds: int) -> None:
    turns = Turns(path)
    for _ in range(rounds):
        with turns.taken():
            value = int((path.parent / "count").read_text())
            (path.parent / "count").write_text(str(value + 1))


def test_turns_exclude_other_processes(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_count, args=(tmp_path / "turns", 50), daemon=True) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "count").read_text() == "150"


# -- sealed boxes ---------------------------------------------------------------------------------

SEALED = KeyFile(templates.sealed().marshal(), b"private", empty_auth=False, sealed=True)
BOX = Box("seed", PinPolicy.ONCE, SEALED)


@given(label=st.text(max_size=80), pin=st.sampled_from(PinPolicy), private=st.binary(max_size=200))
def test_boxes_come_back(label: str, pin: PinPolicy, private: bytes) -> None:
    box = Box(label, pin, replace(SEALED, private=private))
    assert Box.parse(box.to_octets()) == box


BAD_BOXES = {
    "empty": b"",
    "not an object": b"[]",
    "octet added": BOX.to_octets() + b" ",
    "a key that is no sealed secret": Box(
        "seed", PinPolicy.ONCE, replace(SEALED, sealed=False)
    ).to_octets(),
    "unknown PIN policy": BOX.to_octets().replace(b'"once"', b'"never"'),
    "no label": BOX.to_octets().replace(b'"seed"', b"null"),
    "no key": BOX.to_octets().replace(b'"key"', b'"kex"'),
    "another key format": BOX.to_octets().replace(b"TSS2", b"TSS3"),
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_bad_boxes_are_refused(name: str) -> None:
    assert BAD_BOXES[name] != BOX.to_octets()
    with pytest.raises(FormatError):
        Box.parse(BAD_BOXES[name])


# -- what a public area proves --------------------------------------------------------------------

FIXED = templates.GENERATED
CLASSES = {
    "generated": (area_of(), CustodyClass.GENERATED),
    "generated, another policy": (area_of(Policy()), CustodyClass.GENERATED),
    "imported": (area_of(imported=True), CustodyClass.IMPORTED),
    "imported, no policy": (area_of(Policy(), imported=True), CustodyClass.IMPORTED),
    "imported, unknown policy": (
        replace(area_of(imported=True), policy=bytes(32)),
        CustodyClass.EXPORTABLE,
    ),
    "not fixedTPM": (
        replace(area_of(), attributes=FIXED & ~Attr.FIXED_TPM, policy=bytes(32)),
        CustodyClass.EXPORTABLE,
    ),
    "not made inside": (
        replace(area_of(), attributes=FIXED & ~Attr.SENSITIVE_DATA_ORIGIN),
        CustodyClass.IMPORTED,
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_custody_is_what_the_public_area_proves(name: str) -> None:
    area, expected = CLASSES[name]
    assert statements.classify(area.marshal(), RECORD)[0] is expected


def test_what_cannot_be_read_is_unknown() -> None:
    assert statements.classify(b"\x00\x01" + bytes(60), RECORD) == (CustodyClass.UNKNOWN, None)


# -- whose hardware -------------------------------------------------------------------------------


def pin(proof: str, issuer: str | None = "CN=Maker") -> Pin:
    return Pin("000b", None, "000b", proof, issuer)


HARDWARE = {
    "swtpm": (("IBM", "SW   TPM"), pin("certificate"), Hardware.SIMULATOR),
    "reference simulator": (("MSFT", "xCG fTPM"), None, Hardware.SIMULATOR),
    "swtpm in disguise": (
        ("IFX", "SLB9670"),
        pin("certificate", "CN=swtpm-localca"),
        Hardware.SIMULATOR,
    ),
    "certified": (("IFX", "SLB9670"), pin("certificate"), Hardware.ATTESTED),
    "first use": (("IFX", "SLB9670"), pin("first use"), Hardware.CLAIMED),
    "not met yet": (("IFX", "SLB9670"), None, Hardware.CLAIMED),
    "endorsement locked": (("IFX", "SLB9670"), pin("absent", None), Hardware.CLAIMED),
}


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware_is_believed_as_far_as_proved(name: str) -> None:
    (manufacturer, model), known, expected = HARDWARE[name]
    assert Identity(manufacturer, model, "1.2.3.4", (1, 2, 3, 4)).hardware(known) is expected


WEAK = {
    ("STM", (71, 12, 0, 0)): True,
    ("STM", (71, 16, 0, 0)): False,
    ("STM", (73, 8, 17568, 6659)): True,
    ("STM", (73, 20, 0, 0)): False,
    ("STM", (74, 16, 0, 0)): True,
    ("STM", (74, 64, 0, 0)): False,
    ("IFX", (73, 0, 0, 0)): False,
    ("INTC", (11, 8, 65, 3590)): True,
    ("INTC", (11, 8, 70, 0)): False,
    ("INTC", (11, 22, 0, 1)): True,
    ("INTC", (12, 0, 45, 0)): False,
    ("INTC", (500, 5, 0, 0)): False,
    ("NTC", (7, 2, 3, 1)): True,
    ("NTC", (7, 2, 4, 0)): False,
    ("NTC", (1, 3, 2, 8)): True,
    ("NTC", (1, 3, 2, 20)): False,
    ("IBM", (8217, 4131, 22, 13878)): False,
}


@pytest.mark.parametrize("firmware", WEAK)
def test_known_weaknesses(firmware: tuple[str, tuple[int, ...]]) -> None:
    manufacturer, version = firmware
    warnings = Identity(manufacturer, "model", "x", version).warnings
    assert bool(warnings) is WEAK[firmware]
    assert all("CVE-" in sentence for sentence in warnings)

"""Octets of the TPM world: public areas, policies, DER and key files. No TPM is needed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tpm2_pytss import TPM2_ECC, TPML_PCR_SELECTION, TPMT_PUBLIC
from tpm2_pytss.tsskey import TSSPrivKey, _parent_ecc_template

from mesh_hsm.curves import curve
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm_tpm2 import asn1, policies, templates
from mesh_hsm_tpm2.blobs import OWNER, KeyFile
from mesh_hsm_tpm2.policies import Policy, pcr_selection
from mesh_hsm_tpm2.structures import (
    CURVE_IDS,
    Alg,
    Attr,
    AuthValue,
    PublicArea,
    Reader,
    point_octets,
    sized,
)

NO_POLICY = Policy()
WITH_PCR = Policy((7,), hashlib.sha256(b"pcr").digest(), pin=True)


def filled(area: PublicArea) -> PublicArea:
    return replace(area, unique=point_octets(area.curve.base))


AREAS = {
    "storage root": filled(templates.STORAGE_ROOT),
    "sealed": replace(templates.sealed(), unique=(bytes(32),)),
    **{
        f"{name} {use} {bool(policy.pcrs)} {imported}": filled(
            templates.key(name, use, policy, imported=imported)
        )
        for name in CURVE_IDS
        for use in Use
        for policy in (NO_POLICY, WITH_PCR)
        for imported in (False, True)
    },
}


@pytest.mark.parametrize("name", AREAS)
def test_public_areas_are_what_the_tss_reads(name: str) -> None:
    """tpm2-pytss parses our octets to the same octets and computes the same name."""
    area = AREAS[name]
    theirs, used = TPMT_PUBLIC.unmarshal(area.marshal())
    assert used == len(area.marshal())
    assert theirs.marshal() == area.marshal()
    assert bytes(theirs.get_name()) == area.name
    assert PublicArea.parse(area.marshal()) == area


def test_templates_unfilled_are_readable_too() -> None:
    for area in AREAS.values():
        empty = replace(area, unique=())
        TPMT_PUBLIC.unmarshal(empty.marshal())


def test_the_storage_root_is_what_key_file_readers_make() -> None:
    """tpm2-pytss makes the same primary for a key file whose parent is the owner hierarchy."""
    assert templates.STORAGE_ROOT.marshal() == _parent_ecc_template.marshal()


def test_points_of_public_areas() -> None:
    for name in CURVE_IDS:
        area = AREAS[f"{name} {Use.SIGN} False False"]
        assert area.point == curve(name).base
        x, y = area.unique
        with pytest.raises(InvalidPointError):
            _ = replace(area, unique=(x, y[:-1] + bytes([y[-1] ^ 1]))).point
    with pytest.raises(FormatError):
        _ = AREAS["sealed"].point


def _with_rsa(octets: bytes) -> bytes:
    return b"\x00\x01" + octets[2:]


SIGNING = AREAS[f"P-384 {Use.SIGN} True False"].marshal()
BAD_AREAS = {
    "empty": b"",
    "one octet": b"\0",
    "truncated": SIGNING[:-1],
    "trailing octet": SIGNING + b"\0",
    "RSA": _with_rsa(SIGNING),
    "name algorithm SHA-1": SIGNING[:2] + b"\x00\x04" + SIGNING[4:],
    "unknown curve": SIGNING.replace(b"\x00\x18\x00\x0c\x00\x04", b"\x00\x18\x00\x0c\x00\x20"),
    "unknown hash": SIGNING.replace(b"\x00\x18\x00\x0c", b"\x00\x18\x00\x99"),
    "another scheme": SIGNING.replace(b"\x00\x18\x00\x0c", b"\x00\x1a\x00\x0c"),
    "policy beyond the end": SIGNING[:8] + b"\xff\xff" + SIGNING[10:],
    "AES-256 storage": AREAS["storage root"].marshal().replace(b"\x00\x80", b"\x01\x00", 1),
}


@pytest.mark.parametrize("name", BAD_AREAS)
def test_bad_public_areas_are_refused(name: str) -> None:
    assert BAD_AREAS[name] not in {area.marshal() for area in AREAS.values()}
    with pytest.raises(FormatError):
        PublicArea.parse(BAD_AREAS[name])


@given(st.binary(max_size=200))
def test_public_areas_parse_to_themselves_or_not_at_all(octets: bytes) -> None:
    try:
        area = PublicArea.parse(octets)
    except FormatError:
        return
    assert area.marshal() == octets


@pytest.mark.parametrize("name", AREAS)
@given(data=st.data())
def test_altered_public_areas_never_pass_for_the_same(name: str, data: st.DataObject) -> None:
    octets = bytearray(AREAS[name].marshal())
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    try:
        area = PublicArea.parse(bytes(octets))
    except FormatError:
        return
    assert area != AREAS[name]


def test_templates_keep_the_rules_of_the_profile() -> None:
    """hsm-1 §10, attribute by attribute."""
    for name, area in AREAS.items():
        if name == "storage root":
            continue
        assert not area.attributes & (Attr.NO_DA | Attr.ADMIN_WITH_POLICY | Attr.RESTRICTED)
        assert bool(area.policy) != bool(area.attributes & Attr.USER_WITH_AUTH)
        if area.algorithm is not None:
            both = Attr.SIGN | Attr.DECRYPT
            assert area.attributes & both in (Attr.SIGN, Attr.DECRYPT)
            wanted = Attr(0) if name.endswith("True") else templates.GENERATED
            assert area.attributes & templates.GENERATED == wanted
            hashes = {"P-256": Alg.SHA256, "P-384": Alg.SHA384, "P-521": Alg.SHA512}
            signs = area.attributes & Attr.SIGN
            assert area.scheme_hash == (hashes[area.algorithm] if signs else None)


@pytest.mark.parametrize("algorithm", ["X25519", "X448", "Ed25519", "Ed448", "P-257", ""])
def test_curves_that_no_tpm_has(algorithm: str) -> None:
    with pytest.raises(UnsupportedError):
        templates.key(algorithm, Use.SIGN, NO_POLICY)


def test_curve_numbers_are_the_tcgs() -> None:
    assert list(CURVE_IDS.values()) == [
        TPM2_ECC.NIST_P256,
        TPM2_ECC.NIST_P384,
        TPM2_ECC.NIST_P521,
    ]


# -- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pcrs", [(0,), (7,), (23,), (0, 7, 8, 16, 23), tuple(range(24))])
def test_pcr_selections_are_what_the_tss_writes(pcrs: tuple[int, ...]) -> None:
    theirs = TPML_PCR_SELECTION.parse("sha256:" + ",".join(map(str, pcrs)))
    assert pcr_selection(pcrs) == theirs.marshal()


@pytest.mark.parametrize("pcrs", [(24,), (-1,), (7, 1000)])
def test_pcrs_that_do_not_exist(pcrs: tuple[int, ...]) -> None:
    with pytest.raises(FormatError):
        pcr_selection(pcrs)


def test_every_part_of_a_policy_counts() -> None:
    other = hashlib.sha256(b"other").digest()
    digests = {
        WITH_PCR.digest,
        replace(WITH_PCR, pin=False).digest,
        replace(WITH_PCR, pcrs=(8,)).digest,
        replace(WITH_PCR, pcr_digest=other).digest,
        NO_POLICY.digest,
    }
    assert len(digests) == 5
    assert Policy(pin=True).digest == b"" == NO_POLICY.digest
    assert Policy(pin=True).steps == ()
    assert [code for code, _ in WITH_PCR.steps] == [0x17F, 0x16B]


def test_pcr_digests_keep_their_order() -> None:
    assert policies.pcr_digest([b"a", b"b"]) == hashlib.sha256(b"ab").digest()


# -- DER and key files ----------------------------------------------------------------------------


@given(st.integers(0, 255), st.binary(max_size=70000 // 2))
def test_der_elements(tag: int, content: bytes) -> None:
    assert asn1.elements(asn1.tlv(tag, content) * 2) == [(tag, content)] * 2


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, OWNER, 0x81000001, 2**64])
def test_der_integers(value: int) -> None:
    ((tag, content),) = asn1.elements(asn1.integer(value))
    assert tag == asn1.INTEGER
    assert int.from_bytes(content, "big", signed=True) == value


BAD_DER = {
    "lone tag": b"\x30",
    "truncated": b"\x04\x05abcd",
    "indefinite": b"\x30\x80\x00\x00",
    "overlong": b"\x04\x81\x04abcd",
    "length beyond": b"\x04\x82\xff\xffabc",
    "no length octets": b"\x04\x82",
}


@pytest.mark.parametrize("name", BAD_DER)
def test_bad_der_is_refused(name: str) -> None:
    with pytest.raises(FormatError):
        asn1.elements(BAD_DER[name])


keys = st.builds(
    KeyFile,
    public=st.sampled_from([area.marshal() for area in AREAS.values()]),
    private=st.binary(max_size=300),
    empty_auth=st.booleans(),
    parent=st.sampled_from([OWNER, 0x81000001]),
    policy=st.sampled_from([(), WITH_PCR.steps, replace(WITH_PCR, pin=False).steps]),
    sealed=st.booleans(),
)


@given(keys)
def test_key_files_come_back(key: KeyFile) -> None:
    assert KeyFile.from_pem(key.to_pem()) == key


@given(keys.filter(lambda key: not key.policy and not key.sealed))
def test_key_files_are_what_tpm2_pytss_writes(key: KeyFile) -> None:
    """Octet by octet, for the keys that it can hold."""
    theirs = TSSPrivKey.from_pem(key.to_pem())
    assert theirs.to_pem() == key.to_pem()
    assert theirs.public.publicArea.marshal() == key.public
    assert (theirs.empty_auth, theirs.parent) == (key.empty_auth, key.parent)


KEY = KeyFile(SIGNING, b"private", empty_auth=False, policy=WITH_PCR.steps)
PEM = KEY.to_pem()
DER = base64.b64decode(b"".join(PEM.splitlines()[1:-1]))


def armoured(der: bytes) -> bytes:
    return b"\n".join((PEM.splitlines()[0], base64.b64encode(der), PEM.splitlines()[-1], b""))


BAD_KEY_FILES = {
    "empty": b"",
    "no PEM": b"hello",
    "another label": PEM.replace(b"TSS2", b"OTHER"),
    "truncated": PEM[: len(PEM) // 2],
    "no base64": PEM.replace(b"M", b"*", 3),
    "not ASCII": PEM + b"\xff",
    "long lines": armoured(DER),
    "trailing octets": armoured(DER + b"\0\0"),
    "no sequence": armoured(asn1.tlv(asn1.OCTETS, DER)),
    "empty sequence": armoured(asn1.tlv(asn1.SEQUENCE, b"")),
    "no private part": armoured(asn1.tlv(asn1.SEQUENCE, asn1.elements(DER)[0][1][:-11])),
    "two text lines": PEM + PEM,
    "another object": PEM.replace(b"Z4EFCgED", b"Z4EFCgEE"),
}


@pytest.mark.parametrize("name", BAD_KEY_FILES)
def test_bad_key_files_are_refused(name: str) -> None:
    assert BAD_KEY_FILES[name] != PEM
    with pytest.raises(FormatError):
        KeyFile.from_pem(BAD_KEY_FILES[name])


def _rebuilt(**parts: bytes) -> bytes:
    order = ("oid", "auth", "policy", "parent", "public", "private")
    names = dict(zip(order, asn1.elements(asn1.elements(DER)[0][1]), strict=True))
    body = b"".join(parts.get(name, asn1.tlv(*names[name])) for name in order)
    text = base64.b64encode(asn1.tlv(asn1.SEQUENCE, body)).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(
        ("-----BEGIN TSS2 PRIVATE KEY-----", *lines, "-----END TSS2 PRIVATE KEY-----", "")
    ).encode()


ODD_PARTS = {
    "a policy of another shape": {
        "policy": asn1.tlv(0xA1, asn1.tlv(0x30, asn1.tlv(0x30, asn1.tlv(0xA0, b""))))
    },
    "a policy with text in it": {"policy": asn1.tlv(0xA1, asn1.tlv(0x30, b"\x0c\x01a"))},
    "an unknown option": {"policy": asn1.tlv(0xA9, asn1.tlv(0x04, b""))},
    "TRUE as 1": {"auth": asn1.tlv(0xA0, b"\x01\x01\x01")},
    "a public area longer than said": {"public": asn1.tlv(0x04, sized(SIGNING) + b"\0")},
    "a private part shorter than said": {"private": asn1.tlv(0x04, b"\x00\x09short")},
}


@pytest.mark.parametrize("name", ODD_PARTS)
def test_odd_parts_of_key_files_are_refused(name: str) -> None:
    """A file that cannot be written back as it is, is not half understood."""
    assert KeyFile.from_pem(_rebuilt()) == KEY
    with pytest.raises(FormatError):
        KeyFile.from_pem(_rebuilt(**ODD_PARTS[name]))


# -- small things ---------------------------------------------------------------------------------


def test_readers_end() -> None:
    reader = Reader(b"\x00\x02ab\x00")
    assert reader.sized() == b"ab"
    with pytest.raises(FormatError):
        reader.u16()


def test_auth_values_are_not_shown() -> None:
    pin = AuthValue.of_pin(b"1234 secret")
    assert "1234" not in f"{pin!r} {pin!s}"
    assert pin.octets == b"1234 secret"
    assert not AuthValue()
    with pytest.raises(FormatError) as refused:
        AuthValue.of_pin(b"x" * 33)
    assert "xxx" not in str(refused.value)

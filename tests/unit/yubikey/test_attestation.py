"""Attestations: real ones, good ones, and every way in which one can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from independent.piv_certificates import (
    F9_NAME,
    FROM,
    SERIAL,
    SIMULATOR,
    TO,
    VALUES,
    Authority,
    attest,
    authority,
    ec_key,
    named,
    roca_key,
    rsa_key,
)

from mesh_hsm.curves import ED25519, P256, P384, X25519
from mesh_hsm.custody import Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import (
    CannotVerifyError,
    FormatError,
    MeshHsmError,
    VerificationError,
)
from mesh_hsm_yubikey import attestation, roots
from mesh_hsm_yubikey.attestation import Attestation, verify
from mesh_hsm_yubikey.chain import UnknownRootError
from mesh_hsm_yubikey.roots import Roots

VECTORS = Path(__file__).parents[2] / "vectors" / "yubikey"
AT = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = authority("an organisation's root")
F9 = authority(F9_NAME, ROOT, rsa_key(1), path_length=0)
KEY = ec_key(9, "P-384").public_key()


def real(serial: int, slot: str) -> bytes:
    pem = (VECTORS / f"{serial}-{slot}.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Case:
    """One chain as it is presented."""

    slot: bytes
    f9: bytes
    trusted: Roots | None

    def verify(self, at: datetime = AT) -> Attestation:
        return verify(self.slot, self.f9, self.trusted, at=at)


def case(
    slot: bytes | None = None,
    f9: Authority = F9,
    *,
    anchors: tuple[Authority, ...] = (ROOT,),
    intermediates: tuple[Authority, ...] = (),
) -> Case:
    trusted = Roots(
        tuple(one.certificate for one in anchors), tuple(one.certificate for one in intermediates)
    )
    return Case(slot if slot is not None else attest(f9, KEY), f9.der, trusted)


# -- what verifies -------------------------------------------------------------------------------


def test_a_real_fips_key() -> None:
    found = verify(real(25515137, "9c"), real(25515137, "f9"), at=AT)
    assert found == Attestation(
        slot="9c",
        public=found.public,
        firmware=(5, 4, 3),
        serial=25515137,
        pin_policy=PinPolicy.ALWAYS,
        touch_policy=TouchPolicy.NONE,
        form_factor=0x83,
        fips=True,
        cspn=False,
        root="Yubico PIV Root CA Serial 263751",
        hardware=Hardware.ATTESTED,
    )
    assert found.algorithm == "P-384"
    assert f"{found.public.x:x}".startswith("97b52ff63e4f570e273b430c14181ecb")


def test_a_real_key_that_wants_a_touch() -> None:
    found = verify(real(13078782, "9c"), real(13078782, "f9"))
    assert (found.algorithm, found.firmware, found.serial) == ("P-256", (5, 2, 6), 13078782)
    assert (found.pin_policy, found.touch_policy) == (PinPolicy.ALWAYS, TouchPolicy.ALWAYS)
    assert (found.form_factor, found.fips, found.hardware) == (3, False, Hardware.ATTESTED)


def test_no_octet_of_a_real_attestation_can_be_changed() -> None:
    good, f9 = real(25515137, "9c"), real(25515137, "f9")
    for at in range(len(good)):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises((FormatError, VerificationError)):
            verify(bad, f9, at=AT)
    # The count of unused bits, which the signature leaves open.
    signature = len(good) - 256
    with pytest.raises(FormatError):
        verify(good[: signature - 1] + b"\x01" + good[signature:], f9, at=AT)


def test_two_real_devices_do_not_speak_for_each_other() -> None:
    with pytest.raises(VerificationError, match="not signed by the key of slot F9"):
        verify(real(25515137, "9c"), real(13078782, "f9"), at=AT)


@pytest.mark.parametrize("f9_key", [rsa_key(1), ec_key(1), ec_key(2, "P-384")])
@pytest.mark.parametrize("root_key", [rsa_key(), ec_key(3, "P-384")])
def test_keys_of_every_kind_under_authorities_of_every_kind(f9_key, root_key) -> None:
    root = authority("a root", key=root_key)
    f9 = authority("our own F9", root, f9_key, values={"11": b"\x02\x01\x01"})
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    montgomery = x25519.X25519PrivateKey.generate().public_key()
    for public, curve in (
        (ec_key(9).public_key(), P256),
        (ec_key(9, "P-384").public_key(), P384),
        (edwards, ED25519),
        (montgomery, X25519),
    ):
        found = case(attest(f9, public, "95"), f9, anchors=(root,)).verify()
        assert found.public.curve is curve
        assert (found.slot, found.serial, found.firmware) == ("95", SERIAL, (5, 7, 1))
        assert (found.cspn, found.fips, found.hardware) == (True, False, Hardware.CLAIMED)
    assert found.public.agreement_octets() == montgomery.public_bytes_raw()


def test_a_chain_by_way_of_intermediates() -> None:
    one = authority("one", ROOT, rsa_key(2), path_length=2, signs_certificates=True)
    two = authority("two", one, rsa_key(3), path_length=1)
    f9 = authority(F9_NAME, two, rsa_key(1), path_length=0)
    assert case(f9=f9, intermediates=(two, one)).verify().root == "an organisation's root"


def test_what_a_certificate_leaves_out_is_not_made_up() -> None:
    few = {number: VALUES[number] for number in ("3", "8")}
    found = case(attest(F9, KEY, values=few)).verify()
    assert (found.serial, found.form_factor, found.fips) == (None, None, False)


def test_the_form_factor_can_say_that_it_is_fips() -> None:
    found = with_value("9", "83").verify()
    assert (found.form_factor, found.fips) == (0x83, True)


def test_f9_itself_can_say_that_it_is_fips() -> None:
    f9 = authority(F9_NAME, ROOT, rsa_key(1), values={"10": b"\x02\x01\x07"})
    assert case(f9=f9).verify().fips


def test_the_time_is_now_if_none_is_told() -> None:
    ends = datetime.now(UTC) - timedelta(days=1)
    f9 = authority(F9_NAME, ROOT, rsa_key(1), valid=(FROM, ends))
    ours = case(f9=f9)
    ours.verify(ends - timedelta(days=1))
    with pytest.raises(VerificationError, match="has expired"):
        verify(ours.slot, ours.f9, ours.trusted)


# -- whose word it is ----------------------------------------------------------------------------


def simulated() -> Case:
    root = authority(SIMULATOR)
    return case(f9=authority(F9_NAME, root, rsa_key(1)), anchors=(root,))


def test_a_simulator_is_refused_unless_its_root_is_given() -> None:
    ours = simulated()
    with pytest.raises(UnknownRootError, match="a simulator's") as caught:
        verify(ours.slot, ours.f9, at=AT)
    assert caught.value.simulator
    assert caught.value.hint
    assert ours.verify().hardware is Hardware.SIMULATOR


def test_an_unknown_root_is_named() -> None:
    with pytest.raises(UnknownRootError, match="an organisation's root") as caught:
        verify(case().slot, F9.der, at=AT)
    assert not caught.value.simulator
    assert caught.value.issuer == "CN=an organisation's root"


@pytest.fixture
def genuine(monkeypatch: pytest.MonkeyPatch) -> Authority:
    """A root of which we hold the key, passing for one of Yubico's."""
    mark = roots.fingerprint(ROOT.certificate)
    monkeypatch.setitem(roots.YUBICO_ROOTS, mark, ("ours", "ours.pem"))
    return ROOT


def test_the_f9_of_a_yubikey_4_is_no_authority_by_its_word(genuine: Authority) -> None:
    f9 = authority(F9_NAME, genuine, rsa_key(1), ca=None)
    assert case(f9=f9).verify().hardware is Hardware.ATTESTED


def test_under_other_roots_f9_has_to_be_an_authority() -> None:
    with pytest.raises(VerificationError, match="may not issue"):
        case(f9=authority(F9_NAME, ROOT, rsa_key(1), ca=None)).verify()


def test_another_certificate_of_yubicos_does_not_pass_for_f9(genuine: Authority) -> None:
    with pytest.raises(VerificationError, match="not one that Yubico made"):
        case(f9=authority("Yubico U2F EE Serial 1", genuine, rsa_key(1), ca=None)).verify()


def test_an_attested_key_cannot_attest(genuine: Authority) -> None:
    """Whoever holds a YubiKey signs what he likes with its slots, certificates included."""
    f9 = authority(F9_NAME, genuine, rsa_key(1), ca=None)
    mine = ec_key(5)
    of_mine = attest(f9, mine.public_key(), "9a")
    claimed = x509.load_der_x509_certificate(of_mine)
    as_f9 = Authority(claimed.subject, mine, claimed)
    forged = attest(as_f9, KEY)
    with pytest.raises(UnknownRootError):
        Case(forged, of_mine, case().trusted).verify()
    with pytest.raises(VerificationError, match="may not issue"):
        case(forged, as_f9, intermediates=(f9,)).verify()


# -- what does not -------------------------------------------------------------------------------


def without(number: str) -> dict[str, bytes]:
    return {one: value for one, value in VALUES.items() if one != number}


def with_value(number: str, value: str) -> Case:
    return case(attest(F9, KEY, values=VALUES | {number: bytes.fromhex(value)}))


def altered() -> Case:
    """Extension .8 changed after F9 signed: PIN never instead of once."""
    good = attest(F9, KEY)
    mark = bytes.fromhex("060a2b0601040182c40a0308") + bytes.fromhex("04020201")
    assert good.count(mark) == 1
    return case(good.replace(mark, mark[:-2] + b"\x01\x01"))


def swapped() -> Case:
    """The public key exchanged after F9 signed."""
    good, mine = attest(F9, KEY), ec_key(6, "P-384").public_key()
    old, new = (
        key.public_numbers().x.to_bytes(48, "big") + key.public_numbers().y.to_bytes(48, "big")
        for key in (KEY, mine)
    )
    assert good.count(old) == 1
    return case(good.replace(old, new))


def deep(length: int) -> Case:
    """So many intermediates."""
    chain = [ROOT]
    for number in range(length):
        chain.append(authority(f"level {number}", chain[-1], rsa_key(2)))
    f9 = authority(F9_NAME, chain[-1], rsa_key(1))
    return case(f9=f9, intermediates=tuple(chain[1:]))


def between(**how: object) -> Case:
    middle = authority("between", ROOT, rsa_key(2), **how)
    return case(f9=authority(F9_NAME, middle, rsa_key(1)), intermediates=(middle,))


def small_order() -> Case:
    public = x25519.X25519PublicKey.from_public_bytes(bytes(32))
    return case(attest(F9, public, "9d"))


def twisted() -> Case:
    """u = 2 is on the twist: the key of no device."""
    public = x25519.X25519PublicKey.from_public_bytes((2).to_bytes(32, "little"))
    return case(attest(F9, public, "9d"))


def sha1() -> Case:
    """Signed by F9 in truth, with the hash that collides."""
    sha256, other = (bytes.fromhex("2a864886f70d01010" + digit) for digit in ("b", "5"))
    renamed = attest(F9, KEY).replace(sha256, other)
    signed = x509.load_der_x509_certificate(renamed).tbs_certificate_bytes
    signature = rsa_key(1).sign(signed, padding.PKCS1v15(), hashes.SHA1())
    return case(renamed[: -len(signature)] + signature)


def twice() -> Case:
    """The form factor's extension renamed to a second serial number."""
    good, form, serial = attest(F9, KEY), *(bytes.fromhex("82c40a03" + n) for n in ("09", "07"))
    assert good.count(form) == 1
    return case(good.replace(form, serial))


OLD = (FROM, datetime(2020, 1, 1, tzinfo=UTC))
LATE = (datetime(2040, 1, 1, tzinfo=UTC), TO)
ORGANISED = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "somebody"),
        *named("YubiKey PIV Attestation 9c"),
    ]
)
TWO_NAMES = x509.Name([*named("YubiKey PIV Attestation 9c"), *named("more")])

HOSTILE: dict[str, tuple[Callable[[], Case], type[MeshHsmError], str]] = {
    "wrong root of the same name": (
        lambda: case(anchors=(authority("an organisation's root", key=rsa_key(8)),)),
        VerificationError,
        "no certificate of an organisation's root verifies",
    ),
    "expired F9": (
        lambda: case(f9=authority(F9_NAME, ROOT, rsa_key(1), valid=OLD)),
        VerificationError,
        "slot F9 has expired",
    ),
    "F9 of the future": (
        lambda: case(f9=authority(F9_NAME, ROOT, rsa_key(1), valid=LATE)),
        VerificationError,
        "slot F9 is not valid yet",
    ),
    "expired attestation": (
        lambda: case(attest(F9, KEY, valid=OLD)),
        VerificationError,
        "the attestation has expired",
    ),
    "expired root": (
        lambda: case(
            f9=authority(F9_NAME, authority("r", valid=OLD), rsa_key(1)),
            anchors=(authority("r", valid=OLD),),
        ),
        VerificationError,
        "r has expired",
    ),
    "expired intermediate": (lambda: between(valid=OLD), VerificationError, "between has expired"),
    "an intermediate that is no authority": (
        lambda: between(ca=False),
        VerificationError,
        "between may not issue",
    ),
    "an intermediate without constraints": (
        lambda: between(ca=None),
        VerificationError,
        "between may not issue",
    ),
    "an intermediate that may not sign certificates": (
        lambda: between(signs_certificates=False),
        VerificationError,
        "between may not issue",
    ),
    "an intermediate of no length": (
        lambda: between(path_length=0),
        VerificationError,
        "may not have so many",
    ),
    "an endless chain": (lambda: deep(5), VerificationError, "too long"),
    "F9 that is no authority": (
        lambda: case(f9=authority(F9_NAME, ROOT, rsa_key(1), ca=False)),
        VerificationError,
        "slot F9 may not issue",
    ),
    "F9 of 1024 bits": (
        lambda: case(f9=authority(F9_NAME, ROOT, rsa_key(1, 1024))),
        VerificationError,
        "not signed by the key of slot F9",
    ),
    "F9 with a key of Infineon's": (
        lambda: case(f9=authority(F9_NAME, ROOT, roca_key())),
        VerificationError,
        "ROCA",
    ),
    "F9 with an Edwards key": (
        lambda: case(f9=authority(F9_NAME, ROOT, ed25519.Ed25519PrivateKey.generate())),
        VerificationError,
        "not signed by the key of slot F9",
    ),
    "F9 with a critical extension": (
        lambda: case(
            f9=authority(F9_NAME, ROOT, rsa_key(1), values={"1.2.3": b"\5\0"}, critical="1.2.3")
        ),
        VerificationError,
        "critical extension",
    ),
    "signed with SHA-1": (
        sha1,
        VerificationError,
        "not signed by the key of slot F9",
    ),
    "signed with SHA-3": (
        lambda: case(attest(F9, KEY, digest=hashes.SHA3_256())),
        VerificationError,
        "not signed by the key of slot F9",
    ),
    "signed by another key": (
        lambda: case(attest(F9, KEY, signed_by=rsa_key(7))),
        VerificationError,
        "not signed by the key of slot F9",
    ),
    "issued by somebody else": (
        lambda: case(attest(F9, KEY, issuer=named("somebody"))),
        VerificationError,
        "not signed by the key of slot F9",
    ),
    "an attestation that is an authority": (
        lambda: case(attest(F9, KEY, ca=True)),
        VerificationError,
        "claims to be a certificate authority",
    ),
    "a critical extension": (
        lambda: case(
            attest(F9, KEY, values=VALUES | {"1.2.3": b"\5\0"}, critical="1.2.3"),
        ),
        VerificationError,
        "critical extension",
    ),
    "policies altered": (altered, VerificationError, "not signed by the key of slot F9"),
    "key swapped": (swapped, VerificationError, "not signed by the key of slot F9"),
    "slot F9 itself": (lambda: case(attest(F9, KEY, "f9")), VerificationError, "name a slot"),
    "slot in capitals": (lambda: case(attest(F9, KEY, "9C")), VerificationError, "name a slot"),
    "no such slot": (lambda: case(attest(F9, KEY, "96")), VerificationError, "name a slot"),
    "no slot": (
        lambda: case(attest(F9, KEY, subject=named("9c"))),
        VerificationError,
        "name a slot",
    ),
    "a name and more": (
        lambda: case(attest(F9, KEY, subject=ORGANISED)),
        VerificationError,
        "name a slot",
    ),
    "two names": (
        lambda: case(attest(F9, KEY, subject=TWO_NAMES)),
        VerificationError,
        "name a slot",
    ),
    "no firmware": (lambda: case(attest(F9, KEY, values=without("3"))), FormatError, "firmware"),
    "no policies": (lambda: case(attest(F9, KEY, values=without("8"))), FormatError, "policy"),
    "no firmware digits": (lambda: with_value("3", "0507"), FormatError, "3 octets"),
    "firmware and more": (lambda: with_value("3", "05070100"), FormatError, "3 octets"),
    "firmware wrapped": (lambda: with_value("3", "0403050701"), FormatError, "3 octets"),
    "serial and more": (lambda: with_value("7", "02040133224f00"), FormatError, "no INTEGER"),
    "serial truncated": (lambda: with_value("7", "0204013322"), FormatError, "no INTEGER"),
    "serial empty": (lambda: with_value("7", "0200"), FormatError, "no INTEGER"),
    "serial of another type": (lambda: with_value("7", "04040133224f"), FormatError, "no INTEGER"),
    "serial negative": (lambda: with_value("7", "0204ff33224f"), FormatError, "out of range"),
    "serial of 33 bits": (lambda: with_value("7", "02050100000000"), FormatError, "out of range"),
    "serial of 48 bits": (lambda: with_value("7", "0206000000000001"), FormatError, "too long"),
    "policies and more": (lambda: with_value("8", "020100"), FormatError, "2 octets"),
    "one policy": (lambda: with_value("8", "02"), FormatError, "2 octets"),
    "policies that say default": (lambda: with_value("8", "0000"), FormatError, "unknown"),
    "an unknown PIN policy": (lambda: with_value("8", "0601"), FormatError, "unknown"),
    "an unknown touch policy": (lambda: with_value("8", "0204"), FormatError, "unknown"),
    "a fingerprint": (lambda: with_value("8", "0401"), CannotVerifyError, "fingerprint"),
    "form factor and more": (lambda: with_value("9", "0300"), FormatError, "1 octet"),
    "form factor empty": (lambda: with_value("9", ""), FormatError, "1 octet"),
    "an RSA key": (
        lambda: case(attest(F9, rsa_key(5).public_key())),
        CannotVerifyError,
        "none of the curves",
    ),
    "a key on P-521": (
        lambda: case(attest(F9, ec_key(5, "P-521").public_key())),
        CannotVerifyError,
        "none of the curves",
    ),
    "a key of small order": (small_order, FormatError, "no public key"),
    "a key on the twist": (twisted, FormatError, "no public key"),
    "nothing": (lambda: replace(case(), slot=b""), FormatError, "the attestation is not a read"),
    "no F9": (lambda: replace(case(), f9=b""), FormatError, "slot F9 is not a read"),
    "an F9 object instead of its certificate": (
        lambda: replace(case(), f9=b"\x70\x82" + len(F9.der).to_bytes(2, "big") + F9.der),
        FormatError,
        "slot F9 is not a read",
    ),
    "trailing octets": (
        lambda: replace(case(), slot=case().slot + b"\0"),
        FormatError,
        "not a read",
    ),
    "truncated": (lambda: replace(case(), slot=case().slot[:-1]), FormatError, "not a read"),
    "far too long": (lambda: replace(case(), slot=bytes(16_385)), FormatError, "longer than"),
    "PEM": (lambda: replace(case(), f9=F9.pem), FormatError, "not a read"),
    "an extension twice": (twice, FormatError, "not a read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    build, error, words = HOSTILE[name]
    ours = build()
    with pytest.raises(error, match=words) as caught:
        ours.verify()
    assert type(caught.value) in (error, UnknownRootError)


# -- extension values ----------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(0, 1))
def test_every_serial_number_is_read(serial: int, zeros: int) -> None:
    size = serial.bit_length() // 8 + 1
    value = bytes(min(zeros, 5 - size)) + serial.to_bytes(size, "big")
    assert attestation.parse_serial(bytes([2, len(value)]) + value) == serial


@given(st.binary(max_size=8))
def test_no_octets_surprise_the_parsers(octets: bytes) -> None:
    parsers = (
        attestation.parse_firmware,
        attestation.parse_serial,
        attestation.parse_policies,
        attestation.parse_form_factor,
    )
    for parse, size in zip(parsers, (3, None, 2, 1), strict=True):
        try:
            parse(octets)
        except (FormatError, CannotVerifyError):
            continue
        assert size is None or len(octets) == size


def test_each_policy_is_read() -> None:
    pins = (PinPolicy.NONE, PinPolicy.ONCE, PinPolicy.ALWAYS)
    touches = (TouchPolicy.NONE, TouchPolicy.ALWAYS, TouchPolicy.CACHED)
    for pin in range(1, 4):
        for touch in range(1, 4):
            expected = pins[pin - 1], touches[touch - 1]
            assert attestation.parse_policies(bytes([pin, touch])) == expected


@given(st.binary(max_size=900))
def test_no_octets_surprise_the_verifier(octets: bytes) -> None:
    for slot, f9 in ((octets, F9.der), (case().slot, octets)):
        with pytest.raises(FormatError):
            verify(slot, f9, at=AT)

"""Unmodified yubikit drives the device: what a host really sends, and what it makes of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x25519

from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey, attestation_root

yubikit = pytest.importorskip("yubikit", reason="yubikey-manager is not installed")
from yubikit.core import TRANSPORT, InvalidPinError, NotSupportedError  # noqa: E402
from yubikit.core.smartcard import ApduError, SmartCardConnection  # noqa: E402
from yubikit.management import ManagementSession  # noqa: E402
from yubikit.piv import (  # noqa: E402
    DEFAULT_MANAGEMENT_KEY,
    KEY_TYPE,
    MANAGEMENT_KEY_TYPE,
    PIN_POLICY,
    SLOT,
    TOUCH_POLICY,
    PivSession,
)

FIRMWARES = [(4, 3, 5), (5, 4, 3), (5, 7, 1)]
TDES, AES256 = MANAGEMENT_KEY_TYPE.TDES, MANAGEMENT_KEY_TYPE.AES256


class Connection(SmartCardConnection):
    """The shortest way from yubikit to a device; over NFC it sends short, chained APDUs."""

    def __init__(self, device: VirtualYubiKey, transport: TRANSPORT = TRANSPORT.USB) -> None:
        self._device, self._transport = device, transport

    @property
    def transport(self) -> TRANSPORT:
        return self._transport

    def close(self) -> None:
        self._device.reset()

    def send_and_receive(self, apdu: bytes) -> tuple[bytes, int]:
        answer = self._device.transmit(apdu)
        return answer[:-2], int.from_bytes(answer[-2:], "big")


@pytest.fixture(params=FIRMWARES, ids=str)
def old_and_new(request: pytest.FixtureRequest) -> VirtualYubiKey:
    return VirtualYubiKey(firmware=request.param)


@pytest.fixture(params=[TRANSPORT.USB, TRANSPORT.NFC], ids=["USB", "NFC"])
def session(request: pytest.FixtureRequest, device: VirtualYubiKey) -> PivSession:
    session = PivSession(Connection(device, request.param))
    session.authenticate(DEFAULT_MANAGEMENT_KEY)
    session.verify_pin("123456")
    return session


def test_device_information(old_and_new: VirtualYubiKey) -> None:
    info = ManagementSession(Connection(old_and_new)).read_device_info()
    assert (info.serial, tuple(info.version)) == (30_000_001, old_and_new.firmware)
    assert not info.is_locked
    assert not info.is_fips


def test_what_every_firmware_does(old_and_new: VirtualYubiKey) -> None:
    session = PivSession(Connection(old_and_new))
    session.authenticate(DEFAULT_MANAGEMENT_KEY)
    public: Any = session.generate_key(SLOT.KEY_MANAGEMENT, KEY_TYPE.ECCP256)
    session.verify_pin("123456")
    peer = ec.generate_private_key(ec.SECP256R1())
    secret = session.calculate_secret(SLOT.KEY_MANAGEMENT, peer.public_key())
    assert secret == peer.exchange(ec.ECDH(), public)
    signature = session.sign(SLOT.KEY_MANAGEMENT, KEY_TYPE.ECCP256, b"x", hashes.SHA256())
    public.verify(signature, b"x", ec.ECDSA(hashes.SHA256()))
    assert session.attest_key(SLOT.KEY_MANAGEMENT).public_key() == public
    session.reset()
    assert session.get_pin_attempts() == 3
    with pytest.raises(ApduError):
        session.attest_key(SLOT.KEY_MANAGEMENT)


def test_an_old_one_says_what_it_cannot_do() -> None:
    session = PivSession(Connection(VirtualYubiKey(firmware=(4, 3, 5))))
    assert session.management_key_type is TDES
    for call in (session.get_pin_metadata, session.get_serial):
        with pytest.raises(NotSupportedError):
            call()


def test_agreement_with_leading_zeros(session: PivSession) -> None:
    public: Any = session.generate_key(SLOT.KEY_MANAGEMENT, KEY_TYPE.X25519)
    peer = x25519.X25519PrivateKey.generate()
    secret = session.calculate_secret(SLOT.KEY_MANAGEMENT, peer.public_key())
    assert secret == peer.exchange(public)


def test_sha256_on_p384(session: PivSession) -> None:
    public: Any = session.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP384)
    signature = session.sign(SLOT.AUTHENTICATION, KEY_TYPE.ECCP384, b"x", hashes.SHA256())
    public.verify(signature, b"x", ec.ECDSA(hashes.SHA256()))


def test_ed25519(session: PivSession) -> None:
    public: Any = session.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ED25519)
    public.verify(session.sign(SLOT.AUTHENTICATION, KEY_TYPE.ED25519, b"message", None), b"message")


def test_imported_rsa_signs_and_decrypts(session: PivSession, rsa_key: rsa.RSAPrivateKey) -> None:
    assert session.put_key(SLOT.AUTHENTICATION, rsa_key) is KEY_TYPE.RSA2048
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    signature = session.sign(SLOT.AUTHENTICATION, KEY_TYPE.RSA2048, b"x", hashes.SHA256(), scheme)
    rsa_key.public_key().verify(signature, b"x", scheme, hashes.SHA256())
    encrypted = rsa_key.public_key().encrypt(b"secret", padding.PKCS1v15())
    assert session.decrypt(SLOT.AUTHENTICATION, encrypted, padding.PKCS1v15()) == b"secret"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
        x25519.X25519PrivateKey.generate,
    ],
)
def test_import_and_metadata(session: PivSession, make: Callable[[], Any]) -> None:
    key = make()
    session.put_key(SLOT.RETIRED1, key, PIN_POLICY.ALWAYS, TOUCH_POLICY.CACHED)
    metadata = session.get_slot_metadata(SLOT.RETIRED1)
    assert metadata.public_key == key.public_key()
    assert not metadata.generated
    assert metadata.pin_policy is PIN_POLICY.ALWAYS
    assert metadata.touch_policy is TOUCH_POLICY.CACHED


def test_move_and_delete(session: PivSession) -> None:
    public = session.generate_key(SLOT.SIGNATURE, KEY_TYPE.ECCP256)
    session.move_key(SLOT.SIGNATURE, SLOT.RETIRED20)
    assert session.get_slot_metadata(SLOT.RETIRED20).public_key == public
    session.delete_key(SLOT.RETIRED20)
    with pytest.raises(ApduError, match="6a88"):
        session.get_slot_metadata(SLOT.RETIRED20)


@pytest.mark.parametrize("compress", [True, False])
def test_certificates_and_objects(session: PivSession, compress: bool) -> None:
    session.put_certificate(SLOT.AUTHENTICATION, attestation_root(), compress)
    assert session.get_certificate(SLOT.AUTHENTICATION) == attestation_root()
    session.delete_certificate(SLOT.AUTHENTICATION)
    with pytest.raises(ApduError, match="6a82"):
        session.get_certificate(SLOT.AUTHENTICATION)
    session.put_object(0x5FC10D, bytes(3_000))
    assert session.get_object(0x5FC10D) == bytes(3_000)
    assert session.get_object(0x7E)


def test_management_keys(session: PivSession) -> None:
    for kind, key in ((AES256, bytes(range(32))), (TDES, bytes(range(24)))):
        session.set_management_key(kind, key)
        session.authenticate(key)
        assert session.get_management_key_metadata().key_type is kind
    with pytest.raises(ApduError, match="6982"):
        session.authenticate(bytes(24))


def test_pins(session: PivSession) -> None:
    with pytest.raises(InvalidPinError) as wrong:
        session.verify_pin("000000")
    assert wrong.value.attempts_remaining == 2
    session.change_pin("123456", "654321")
    session.change_puk("12345678", "87654321")
    session.unblock_pin("87654321", "111111")
    session.verify_pin("111111")
    session.set_pin_attempts(4, 5)
    pin, puk = session.get_pin_metadata(), session.get_puk_metadata()
    assert (pin.total_attempts, puk.total_attempts) == (4, 5)
    assert pin.default_value
    assert puk.default_value


def test_factory_reset(session: PivSession) -> None:
    session.generate_key(SLOT.SIGNATURE, KEY_TYPE.ECCP256)
    session.set_management_key(AES256, bytes(32))
    session.reset()
    session.authenticate(DEFAULT_MANAGEMENT_KEY)
    with pytest.raises(ApduError, match="6a88"):
        session.get_slot_metadata(SLOT.SIGNATURE)
    assert session.get_slot_metadata(SLOT.ATTESTATION).generated
    with pytest.raises(NotSupportedError):
        session.get_bio_metadata()

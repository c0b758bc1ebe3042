"""A device whose keys live in an HSM joins a Mesh, and does there what any device does.

X448 for encryption and authentication, P-384 for the derived signature; step by step as
``mesh-hsm device init``, ``connect`` and ``activate`` do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from mesh_hsm import dare
from mesh_hsm.curves import X448, SecretScalar
from mesh_hsm.custody import CustodyClass, Hardware
from mesh_hsm.errors import DecryptionError, DeviceError, VerificationError
from mesh_hsm.mesh import (
    Activated,
    BaseKeys,
    Composite,
    CompositeKeys,
    Connected,
    ConnectionRequest,
    OneTimeKey,
    ProfileMaster,
    Signed,
    accept,
    activate,
    connect,
    create_profile_master,
    create_request,
    open_device,
    open_request,
    verify_connection,
)
from mesh_hsm.mesh.device_keys import plain_decryptor
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.udf import fingerprint
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11.token import Pkcs11Token

from .conftest import AGREE, SIGN, Counted, Hsm, answers

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SPECS = {
    "profile": KeySpec("Ed448", Use.SIGN, "laptop-profile"),
    "encryption": KeySpec("X448", Use.ENCRYPT, "laptop-encrypt"),
    "signature": KeySpec("P-384", Use.SIGN, "laptop-sign"),
    "authentication": KeySpec("X448", Use.AUTHENTICATE, "laptop-authenticate"),
}


class Device:
    """A laptop: four keys on its token, a one-time key sealed by it, a request."""

    def __init__(self, hsm: Hsm) -> None:
        self.token = hsm.open()
        self.keys = BaseKeys(**{name: self.token.generate(spec) for name, spec in SPECS.items()})
        once = OneTimeKey.draw()
        self.sealed_once = self.token.seal("laptop-once", once.secret)
        self.request = create_request(self.keys, once.public, now=NOW)

    @property
    def udf(self) -> str:
        return self.request.value.device.value.udf

    def activate(self, response: bytes, master_udf: str) -> Activated:
        return activate(
            response,
            request=self.request.envelope,
            keys=self.keys,
            once=OneTimeKey(self.token.unseal(self.sealed_once)),
            confirm_master_udf=master_udf,
            pins=None,
            srk_name="",
            now=NOW,
        )


class Office:
    """An administrator, with keys in a token of their own."""

    def __init__(self, hsm: Hsm) -> None:
        made = hsm.rig.add_token("office")
        token = hsm.open(answers(made.pin), uri=made.uri)
        master = token.generate(KeySpec("P-384", Use.SIGN, "master"))
        self.administrator = token.generate(KeySpec("Ed448", Use.SIGN, "administrator"))
        escrow = SecretScalar.random(X448).public()
        self.profile: Signed[ProfileMaster] = create_profile_master(
            master, [self.administrator.public], [escrow], now=NOW
        )

    def connect(self, request: Signed[ConnectionRequest]) -> Connected:
        return connect(
            request.envelope,
            confirm_udf=request.value.device.value.udf,
            master=self.profile,
            administrator=self.administrator,
            now=NOW,
        )


@dataclass
class Joined:
    """The device in its Mesh, with combined keys."""

    device: Device
    office: Office
    connected: Connected
    activated: Activated
    keys: CompositeKeys


@pytest.fixture
def joined(hsm: Hsm) -> Joined:
    office = Office(hsm)  # first: it adds a token
    device = Device(hsm)
    connected = office.connect(device.request)
    activated = device.activate(connected.response.text, office.profile.value.udf)
    keys = open_device(activated.connection.value, activated.seed, device.keys, proved=True)
    return Joined(device, office, connected, activated, keys)


def test_the_connection_is_accepted_as_proved(joined: Joined) -> None:
    """Both sides show the same witness, and anybody can verify what came out of it."""
    accepted = accept(
        joined.activated.connection.text,
        issued=joined.connected.connection,
        master=joined.office.profile,
        device=joined.device.request.value.device,
        now=NOW,
    )
    assert accepted.composite is Composite.PROVED
    assert joined.activated.witness == joined.connected.witness
    verified = verify_connection(
        joined.activated.connection.text,
        master=joined.office.profile,
        device=joined.device.request.value.device,
        now=NOW,
    )
    assert verified.composite is Composite.PROVED
    curves = {use: verified.connection.value.combined(use).public.curve.name for use in Use}
    assert curves == {Use.ENCRYPT: "X448", Use.SIGN: "P-384", Use.AUTHENTICATE: "X448"}


def test_what_the_device_does_then(joined: Joined, counted: Counted) -> None:
    """Decrypt, authenticate and sign, by nothing but the calls that each of them needs."""
    keys, connection = joined.keys, joined.activated.connection.value
    sealed = dare.seal(
        b"for this device", recipients=[dare.Recipient(connection.encryption.public)]
    )
    assert dare.unseal(sealed, keys=[keys.encryption]).payload == b"for this device"
    assert counted(lambda: dare.unseal(sealed, keys=[keys.encryption])) == AGREE

    peer = SecretScalar.random(X448)
    expected = peer.times(connection.authentication.public)
    assert keys.authentication.agree(peer.public()) == expected
    assert counted(lambda: keys.authentication.agree(peer.public())) == 2 * AGREE

    signed = dare.seal(b"by this device", signers=[keys.signature])
    trusted = {fingerprint(connection.signature.public).octets: connection.signature.public}
    assert dare.unseal(signed, trusted=trusted).payload == b"by this device"
    assert counted(lambda: dare.seal(b"another", signers=[keys.signature])) == SIGN


def test_neither_half_decrypts_alone(joined: Joined, hsm: Hsm) -> None:
    public = joined.activated.connection.value.encryption.public
    sealed = dare.seal(b"x", recipients=[dare.Recipient(public)])
    other = hsm.open().generate(KeySpec("X448", Use.ENCRYPT, "another"))
    base = joined.device.keys
    with pytest.raises(VerificationError):
        open_device(
            joined.activated.connection.value,
            joined.activated.seed,
            BaseKeys(base.profile, other, base.signature, base.authentication),
        )
    with pytest.raises(DecryptionError):
        dare.unseal(sealed, keys=[plain_decryptor(base.encryption)])


def test_another_day(joined: Joined, hsm: Hsm) -> None:
    """Another process: the keys by their URIs, the seed from the token that sealed it."""
    device, connection = joined.device, joined.activated.connection.value
    sealed_seed = device.token.seal("laptop-seed", joined.activated.seed)
    uris = {name: str(getattr(device.keys, name).uri) for name in SPECS}
    hsm.close()
    token = hsm.open()
    base = BaseKeys(**{name: token.key(Uri.parse(uri)) for name, uri in uris.items()})
    keys = open_device(connection, token.unseal(sealed_seed), base, proved=True)
    sealed = dare.seal(b"x", recipients=[dare.Recipient(connection.encryption.public)])
    assert dare.unseal(sealed, keys=[keys.encryption]).payload == b"x"


def test_statements_say_what_it_is(joined: Joined) -> None:
    """Made in a simulator, known by nobody; of a sum, its strongest share counts."""
    request = open_request(joined.device.request.envelope).value
    assert len(request.custody) == 4
    for statement in request.custody.values():
        assert statement["custody"] == "generated"
        assert statement["hardware"] == "simulator"
        assert statement["known_by"] == []
    custody = joined.keys.encryption.custody()
    assert custody.proved
    assert custody.theft is CustodyClass.GENERATED
    assert custody.shares[0].hardware is Hardware.SIMULATOR
    assert custody.shares[1].known_by
    assert joined.keys.signature.custody().theft is CustodyClass.GENERATED


def test_the_one_time_key_opens_on_this_token_alone(hsm: Hsm) -> None:
    made = hsm.rig.add_token("another")
    device = Device(hsm)
    assert len(device.token.unseal(device.sealed_once)) == 56
    other: Pkcs11Token = hsm.open(answers(made.pin), uri=made.uri)
    other.seal("so that it has a sealing key", b"x")
    with pytest.raises(DeviceError, match="another token"):
        other.unseal(device.sealed_once)
    altered = device.sealed_once[:-1] + bytes([device.sealed_once[-1] ^ 1])
    with pytest.raises(DeviceError, match="altered"):
        device.token.unseal(altered)

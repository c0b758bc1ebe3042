"""What passes on the bus: how many commands, and neither PIN nor agreed point."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from tpm2_pytss import ESAPI

from mesh_hsm.curves import P384, Point, SecretScalar
from mesh_hsm.custody import PinPolicy
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm_tpm2.token import Tpm2Token

from .conftest import NEW_PIN, PIN, Open, answers

AGREE, SIGN = Command.ECDH_ZGEN, Command.SIGN
POLICY_PCR, POLICY_AUTH = Command.POLICY_PCR, Command.POLICY_AUTH_VALUE
START_AUTH_SESSION = Command.START_AUTH_SESSION.to_bytes(4, "big")
TPM_RC_RETRY = bytes.fromhex("00000922")
WARM = {
    "no PIN": (PinPolicy.NONE, (), []),
    "PIN": (PinPolicy.ONCE, (), []),
    "PIN always": (PinPolicy.ALWAYS, (), [Command.GET_CAPABILITY]),
    "PCR": (PinPolicy.NONE, (7,), [POLICY_PCR]),
    "PIN and PCR": (PinPolicy.ONCE, (7,), [POLICY_PCR, POLICY_AUTH]),
}


@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
@pytest.mark.parametrize("kind", WARM)
def test_commands_of_a_warm_use(tap: Tap, token: Tpm2Token, use: Use, kind: str) -> None:
    pin, pcrs, before = WARM[kind]
    key = token.generate(KeySpec("P-384", use, "warm", pin, pcrs))
    work = {Use.ENCRYPT: lambda: key.agree(P384.base), Use.SIGN: lambda: key.sign(bytes(48))}[use]
    work()
    work()
    tap.clear()
    work()
    assert tap.commands == [*before, SIGN if use is Use.SIGN else AGREE]


def test_commands_of_a_cold_use(tap: Tap, open_token: Open) -> None:
    with open_token() as token:
        uri = token.generate(KeySpec("P-384", Use.ENCRYPT, "cold", PinPolicy.ONCE)).uri
    tap.clear()
    with open_token() as token:
        token.key(uri).agree(P384.base)
        assert tap.commands == [
            Command.GET_CAPABILITY,  # who is it?
            Command.GET_CAPABILITY,  # how many tries are left?
            Command.CREATE_PRIMARY,
            Command.START_AUTH_SESSION,
            Command.LOAD,
            AGREE,
            AGREE,
        ]
        # The first use of a counted PIN after an orderly shutdown notes that in the TPM's memory.
        assert tap.responses[-2][6:10] == TPM_RC_RETRY


def test_nothing_secret_passes(tap: Tap, open_token: Open) -> None:
    """PINs, sealed secrets, imported scalars, foreign points and agreed points are encrypted."""
    scalar, peer = SecretScalar.random(P384), SecretScalar.random(P384)
    secret = hashlib.sha256(b"a seed").digest()
    digest = hashlib.sha384(b"a document").digest()
    token = open_token(answers(PIN, PIN))
    spec = KeySpec("P-384", Use.ENCRYPT, "agree", PinPolicy.ONCE)
    agreed = [
        token.generate(spec).agree(peer.public()),
        token.generate(KeySpec("P-384", Use.ENCRYPT, "pcr", PinPolicy.ONCE, (7,))).agree(
            peer.public()
        ),
        token.import_scalar(
            KeySpec("P-384", Use.ENCRYPT, "imported", PinPolicy.ONCE), scalar.value, ()
        ).agree(peer.public()),
    ]
    token.generate(KeySpec("P-384", Use.SIGN, "sign", PinPolicy.ONCE)).sign(digest)
    assert token.unseal(token.seal("seed", secret, PinPolicy.ONCE)) == secret
    other = open_token(answers(PIN, NEW_PIN))
    other.change_pin(token.info.uri.with_attribute("key", "agree"))

    wire = tap.octets
    for point in [*agreed, peer.public()]:
        assert isinstance(point, Point)
        for coordinate in (point.x, point.y):
            assert coordinate.to_bytes(48, "big") not in wire
    hidden = {"PIN": PIN, "new PIN": NEW_PIN, "secret": secret, "digest": digest}
    hidden["scalar"] = P384.scalar_octets(scalar.value)
    for name, octets in hidden.items():
        assert octets not in wire, name
    # Every session is salted to a key of this TPM: tpmKey and encryptedSalt are there.
    sessions = [sent for sent in tap.requests if sent[6:10] == START_AUTH_SESSION]
    assert len(sessions) >= 4
    for sent in sessions:
        salted_to, nonce = sent[10:14], int.from_bytes(sent[18:20], "big")
        assert salted_to[0] == 0x80
        assert int.from_bytes(sent[20 + nonce : 22 + nonce], "big") > 64
    # A password session proves nothing but that a hierarchy has no password.
    password = bytes.fromhex("40000009")
    by_password = {Command(sent[9] | sent[8] << 8) for sent in tap.requests if password in sent}
    assert by_password == {Command.CREATE_PRIMARY}


def test_the_tap_sees_what_is_not_encrypted(tap: Tap, token: Tpm2Token) -> None:
    """Otherwise the test above proves nothing: public keys do pass in the clear at creation."""
    key = token.generate(KeySpec("P-384", Use.ENCRYPT, "seen"))
    key.agree(P384.base)
    assert key.public.x.to_bytes(48, "big") in tap.octets


def test_short_numbers_of_a_signature_are_padded(
    token: Tpm2Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some TPMs leave leading zeros out of r and s; here they are cut off one that has them."""
    key = token.generate(KeySpec("P-256", Use.SIGN, "key"))
    real, cut = ESAPI.sign, []

    def sign(self, *arguments, **named):
        answer = real(self, *arguments, **named)
        ecdsa = answer.signature.ecdsa
        numbers = [bytes(ecdsa.signatureR), bytes(ecdsa.signatureS)]
        cut.extend(number for number in numbers if number[0] == 0)
        r, s = (number.lstrip(b"\0") for number in numbers)
        short = SimpleNamespace(signatureR=r, signatureS=s)
        return SimpleNamespace(signature=SimpleNamespace(ecdsa=short))

    monkeypatch.setattr(ESAPI, "sign", sign)
    while not cut:
        assert len(key.sign(bytes(32))) == 64

"""Keys whose shares live in several devices at once, and what each of them is asked (DESIGN §8).

A TPM and an HSM, two HSM tokens and a share in memory, two tokens of one module and of two modules
in one process. Every count is of a warm use: PIN given, key found.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from interposer import Interposer, Rv

from mesh_hsm import dare
from mesh_hsm.curves import P384, Curve, SecretScalar, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy
from mesh_hsm.errors import (
    AccessError,
    DecryptionError,
    DeviceError,
    LockedOutError,
    MeshHsmError,
    VerificationError,
    WrongSecretError,
)
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, NoSecrets, SecretKind
from mesh_hsm.testing.softhsm import HsmToken, Softhsm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm.threshold import CompositeKey, ScalarShare, combine
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11.token import Pkcs11Token
from mesh_hsm_tpm2.provider import Tpm2Provider
from mesh_hsm_tpm2.token import Tpm2Token

from .conftest import AGREE, Hsm, answers, slot_of

PLAINTEXT = bytes(range(256)) * 700  # several chunks
IN_MEMORY = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "this process")


def in_hsm(token: Pkcs11Token, algorithm: str = "P-384", use: Use = Use.ENCRYPT) -> DeviceKey:
    return token.generate(KeySpec(algorithm, use, f"{algorithm} share"))


def in_memory(on: Curve = P384, use: Use = Use.ENCRYPT) -> ScalarShare:
    return ScalarShare(SecretScalar.random(on), use, label="memory", custody=IN_MEMORY)


def composite(*shares: DeviceKey) -> CompositeKey:
    return CompositeKey(combine([s.public for s in shares]), shares[0].use, shares)


def encrypted(key: CompositeKey) -> bytes:
    """A file for this key and nobody else."""
    sink = BytesIO()
    dare.encode(BytesIO(PLAINTEXT), sink, recipients=[dare.Recipient(key.public)])
    return sink.getvalue()


def decrypted(key: CompositeKey, envelope: bytes) -> bytes:
    sink = BytesIO()
    dare.decode(BytesIO(envelope), sink, keys=[key])
    return sink.getvalue()


def refused(key: CompositeKey, envelope: bytes, error: type[MeshHsmError]) -> MeshHsmError:
    """The error; not one octet was released before it."""
    sink = BytesIO()
    with pytest.raises(error) as caught:
        dare.decode(BytesIO(envelope), sink, keys=[key])
    assert sink.getvalue() == b""
    return caught.value


@pytest.fixture
def tpm(tap: Tap, tmp_path: Path) -> Iterator[Tpm2Token]:
    pin = FixedSecrets({SecretKind.PIN: b"the TPM's PIN", SecretKind.NEW_PIN: b"the TPM's PIN"})
    token = Tpm2Provider(tmp_path / "tpm-records").open(Uri.parse("tpm2:"), pin)
    assert isinstance(token, Tpm2Token)
    yield token
    token.close()


def second_token(hsm: Hsm) -> tuple[HsmToken, Pkcs11Token]:
    """Another token of the same module. It must be the first thing that a test asks for."""
    made = hsm.rig.add_token("second")
    return made, hsm.open(answers(made.pin), uri=made.uri)


@pytest.fixture
def other_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hsm]:
    """A second SoftHSM with tokens of its own, loaded beside the first."""
    with Softhsm("elsewhere") as rig:
        folder = tmp_path / "other"
        with Interposer(rig.module, folder / "module", beside=True) as interposer:
            with monkeypatch.context() as patched:
                patched.setenv("SOFTHSM2_CONF", str(rig.conf))  # read when it is initialised
                patched.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
                hsm = Hsm(rig, interposer, folder / "records")
                hsm.open()
            yield hsm
            hsm.close()


# -- one call for each share -----------------------------------------------------------------------


def test_a_share_in_a_tpm_and_one_in_an_hsm(tap: Tap, tpm: Tpm2Token, hsm: Hsm) -> None:
    """One command to the TPM, three calls to the HSM's module."""
    share = tpm.generate(KeySpec("P-384", Use.ENCRYPT, "share", PinPolicy.ONCE))
    key = composite(share, in_hsm(hsm.open()))
    envelope = encrypted(key)
    assert decrypted(key, envelope) == PLAINTEXT
    tap.clear()
    with hsm.interposer.counted() as calls:
        assert decrypted(key, envelope) == PLAINTEXT
    assert tap.commands == [Command.ECDH_ZGEN]
    assert calls == AGREE
    custody = key.custody()
    assert custody.theft is custody.loss is CustodyClass.GENERATED
    assert {one.hardware for one in custody.shares} == {Hardware.SIMULATOR}
    for alone in (share, key._shares[1]):
        refused(composite(alone), envelope, DecryptionError)


@pytest.mark.parametrize("algorithm", ["P-384", "X448"])
def test_two_tokens_of_one_module_and_a_share_in_memory(hsm: Hsm, algorithm: str) -> None:
    _, second = second_token(hsm)
    key = composite(
        in_hsm(hsm.open(), algorithm), in_hsm(second, algorithm), in_memory(curve(algorithm))
    )
    envelope = encrypted(key)
    assert decrypted(key, envelope) == PLAINTEXT
    with hsm.interposer.counted() as calls:
        assert decrypted(key, envelope) == PLAINTEXT
    assert calls == 2 * AGREE
    statements = key.custody().shares
    assert [one.custody for one in statements] == [
        CustodyClass.GENERATED,
        CustodyClass.GENERATED,
        CustodyClass.SOFTWARE,
    ]
    assert statements[0].device != statements[1].device


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "P-521", "X25519", "X448"])
def test_one_token_and_a_share_in_memory(hsm: Hsm, algorithm: str) -> None:
    key = composite(in_hsm(hsm.open(), algorithm), in_memory(curve(algorithm)))
    envelope = encrypted(key)
    assert decrypted(key, envelope) == PLAINTEXT
    with hsm.interposer.counted() as calls:
        assert decrypted(key, envelope) == PLAINTEXT
    assert calls == AGREE


def test_two_keys_of_one_token(hsm: Hsm) -> None:
    """A share in each of two tokens is the point of it; but two in one token work as well."""
    token = hsm.open()
    other = token.generate(KeySpec("P-384", Use.ENCRYPT, "other"))
    key = composite(in_hsm(token), other)
    envelope = encrypted(key)
    assert decrypted(key, envelope) == PLAINTEXT
    with hsm.interposer.counted() as calls:
        assert decrypted(key, envelope) == PLAINTEXT
    assert calls == 2 * AGREE


def test_two_modules_in_one_process(hsm: Hsm, other_module: Hsm) -> None:
    key = composite(in_hsm(hsm.open()), in_hsm(other_module.opened[0]))
    envelope = encrypted(key)
    assert decrypted(key, envelope) == PLAINTEXT
    with hsm.interposer.counted() as here, other_module.interposer.counted() as there:
        assert decrypted(key, envelope) == PLAINTEXT
    assert here == there == AGREE
    hsm.close()  # ends nothing in the other
    with other_module.interposer.counted() as there:
        key._shares[1].agree(P384.base)
    assert there == AGREE


# -- certain results -------------------------------------------------------------------------------


@pytest.mark.parametrize("blinded", [False, True], ids=["plain", "blinded"])
@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "P-521", "X25519", "X448"])
def test_recovery_costs_two_agreements(hsm: Hsm, algorithm: str, blinded: bool) -> None:
    """The full point, from a device that gives only x (hsm-1 §9)."""
    peer = SecretScalar.random(curve(algorithm))
    key = composite(
        in_hsm(hsm.open(), algorithm, Use.AUTHENTICATE),
        in_memory(curve(algorithm), Use.AUTHENTICATE),
    )
    S = peer.public()
    assert key.agree(S, blinded=blinded) == peer.times(key.public)
    with hsm.interposer.counted() as calls:
        assert key.agree(S, blinded=blinded) == peer.times(key.public)
    assert calls == 2 * AGREE


@pytest.mark.parametrize("blinded", [False, True], ids=["plain", "blinded"])
def test_recovery_with_a_tpm(tap: Tap, tpm: Tpm2Token, hsm: Hsm, blinded: bool) -> None:
    """A TPM gives the point itself: one command, and two only to find it lying."""
    share = tpm.generate(KeySpec("P-384", Use.AUTHENTICATE, "share", PinPolicy.ONCE))
    key = composite(share, in_hsm(hsm.open(), use=Use.AUTHENTICATE))
    peer = SecretScalar.random(P384)
    key.agree(peer.public(), blinded=blinded)
    tap.clear()
    with hsm.interposer.counted() as calls:
        assert key.agree(peer.public(), blinded=blinded) == peer.times(key.public)
    assert tap.commands == (2 if blinded else 1) * [Command.ECDH_ZGEN]
    assert calls == 2 * AGREE


# -- what goes wrong -------------------------------------------------------------------------------


def test_shares_of_another_key(hsm: Hsm) -> None:
    """Said before any device is asked."""
    token = hsm.open()
    share, other = in_hsm(token), token.generate(KeySpec("P-384", Use.ENCRYPT, "other"))
    memory = in_memory()
    key, another = composite(share, memory), composite(other, memory)
    with hsm.interposer.counted() as calls:
        with pytest.raises(VerificationError, match="do not add up"):
            CompositeKey(key.public, Use.ENCRYPT, [other, memory])
        refused(another, encrypted(key), DecryptionError)
    assert calls == []


def test_a_token_that_answers_with_another_key(hsm: Hsm) -> None:
    """Its public key is claimed for it: nothing opens, and recovery names who it was."""
    token = hsm.open()
    share, other = in_hsm(token), token.generate(KeySpec("P-384", Use.ENCRYPT, "other"))
    memory = in_memory()
    envelope = encrypted(composite(share, memory))
    other.public = share.public
    impostor = composite(other, memory)
    refused(impostor, envelope, DecryptionError)
    for blinded in (False, True):
        with pytest.raises(DeviceError, match="do not belong together") as caught:
            impostor.agree(P384.base.multiply(7), blinded=blinded)
        assert caught.value.uri == str(other.uri)


def test_a_missing_token(hsm: Hsm) -> None:
    """The one that is gone is named; put back, it serves again."""
    made, second = second_token(hsm)
    key = composite(in_hsm(hsm.open()), in_hsm(second))
    envelope = encrypted(key)
    assert decrypted(key, envelope) == PLAINTEXT
    slot = slot_of(second)
    for code in (Rv.DEVICE_REMOVED, Rv.TOKEN_NOT_PRESENT, Rv.SESSION_HANDLE_INVALID):
        hsm.interposer.remove(slot, code)
        error = refused(key, envelope, DeviceError)
        assert made.serial in (error.uri or "")
        hsm.interposer.insert(slot)
        assert decrypted(key, envelope) == PLAINTEXT


def test_a_locked_pin(hsm: Hsm) -> None:
    """No PIN is sent, and the other share is of no use alone."""
    made, second = second_token(hsm)
    key = composite(in_hsm(hsm.open()), in_hsm(second))
    envelope = encrypted(key)
    uri = key._shares[1].uri
    second.close()
    hsm.interposer.set_tries(3, used=3)
    locked = hsm.open(answers(made.pin), uri=made.uri)
    key = composite(key._shares[0], locked.key(uri))
    with hsm.interposer.counted() as calls:
        error = refused(key, envelope, LockedOutError)
    assert "C_Login" not in calls
    assert made.serial in (error.uri or "")


def test_a_wrong_pin_and_none(hsm: Hsm) -> None:
    made, second = second_token(hsm)
    key = composite(in_hsm(hsm.open()), in_hsm(second))
    envelope, uri = encrypted(key), key._shares[1].uri
    second.close()
    for secrets, error in ((answers("0000-0000"), WrongSecretError), (NoSecrets(), AccessError)):
        again = hsm.open(secrets, uri=made.uri)
        refused(composite(key._shares[0], again.key(uri)), envelope, error)
        again.close()

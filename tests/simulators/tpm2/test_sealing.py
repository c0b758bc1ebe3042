"""Secrets sealed under the storage root: with and without PIN, and nothing left behind."""

from __future__ import annotations

import json

import pytest
from tpm2_pytss import ESAPI

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import DeviceError, LastTryError, SecretRequiredError, WrongSecretError
from mesh_hsm.secret_source import NoSecrets, SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm_tpm2.sealing import Box

from .conftest import PIN, Open, answers


@pytest.mark.parametrize("pin", PinPolicy)
@pytest.mark.parametrize("secret", [b"", b"\0", b"\0" * 128, b"a seed of thirty-two octets, yes."])
def test_sealed_and_unsealed(swtpm: Swtpm, open_token: Open, secret: bytes, pin: PinPolicy) -> None:
    with open_token() as token:
        blob = token.seal("seed", secret, pin)
        assert token.unseal(blob) == secret
    swtpm.restart()
    assert open_token().unseal(blob) == secret
    with ESAPI(swtpm.tcti) as esapi:
        _, answer = esapi.get_capability(1, 0x81000000, 64)
        assert len(answer.data.handles) == 0


def test_a_sealed_secrets_pin_is_counted(open_token: Open) -> None:
    with open_token() as token:
        blob = token.seal("seed", b"secret", PinPolicy.ONCE)
    with pytest.raises(SecretRequiredError):
        open_token(NoSecrets()).unseal(blob)
    token = open_token(answers(b"wrong"))
    for left in (4, 3, 2, 1):
        with pytest.raises(WrongSecretError) as wrong:
            token.unseal(blob)
        assert wrong.value.attempts_remaining == left
    with pytest.raises(LastTryError):
        token.unseal(blob)
    assert open_token(answers(PIN, last_try=True)).unseal(blob) == b"secret"


def test_a_sealed_secrets_pin_is_remembered_as_its_policy_says(open_token: Open) -> None:
    for policy, asked in ((PinPolicy.ONCE, 1), (PinPolicy.ALWAYS, 3)):
        with open_token() as token:
            blobs = [token.seal("seed", b"secret", policy) for _ in range(2)]
        secrets = Asked({SecretKind.PIN: PIN})
        token = open_token(secrets)
        for _ in range(3):
            token.unseal(blobs[0])
        assert len(secrets.requests) == asked
        token.unseal(blobs[1])  # another secret, though of the same label
        assert len(secrets.requests) == asked + 1


def test_a_blob_that_says_it_has_no_pin_does_not_open(open_token: Open) -> None:
    """The TPM holds the PIN; what the blob says decides only who is asked."""
    token = open_token()
    blob = token.seal("seed", b"secret", PinPolicy.ONCE)
    value = json.loads(blob)
    bare = json.dumps({**value, "pin": "none"}, indent=1).encode()
    with pytest.raises(WrongSecretError):
        token.unseal(bare)


def test_a_blob_cannot_be_made_to_look_empty(open_token: Open) -> None:
    """The mark of an empty secret is under the TPM's own integrity check."""
    token = open_token()
    nothing, something = Box.parse(token.seal("a", b"")), Box.parse(token.seal("a", b"something"))
    public = json.loads(nothing.to_octets())["key"]
    assert public != json.loads(something.to_octets())["key"]
    swapped = Box(
        "a",
        PinPolicy.NONE,
        type(something.key)(
            nothing.key.public, something.key.private, empty_auth=True, sealed=True
        ),
    )
    with pytest.raises(DeviceError):
        token.unseal(swapped.to_octets())

"""Shares from outside: wrapped by us or by an administrator far away, and kept in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CC,
    TPM2_SE,
    TPM2B_DATA,
    TPMT_SYM_DEF_OBJECT,
    TSS2_Exception,
)

from mesh_hsm.curves import P384, Curve, SecretScalar, curve
from mesh_hsm.custody import CustodyClass, PinPolicy
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    MeshHsmError,
    VerificationError,
    WrongSecretError,
)
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm_tpm2 import importing, sessions
from mesh_hsm_tpm2.creating import read_pcrs
from mesh_hsm_tpm2.policies import Policy
from mesh_hsm_tpm2.records import Records
from mesh_hsm_tpm2.structures import PublicArea, sized
from mesh_hsm_tpm2.wrapping import WrappedShare, _outer_wrap, wrap_share

from .conftest import PIN, Open, answers
from .test_policies import KINDS, raw

DEALT = b"told by telephone"


def share_of(on: Curve = P384) -> SecretScalar:
    return SecretScalar.random(on)


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
@pytest.mark.parametrize("kind", KINDS)
def test_a_remote_share_never_enters_our_memory(
    swtpm: Swtpm, open_token: Open, algorithm: str, use: Use, kind: str
) -> None:
    """Wrapped with nothing but the storage key's public area; it works as the scalar does."""
    pin, pcrs = KINDS[kind]
    spec = KeySpec(algorithm, use, "share", pin, pcrs)
    scalar = share_of(curve(algorithm))
    token = open_token()
    with ESAPI(swtpm.tcti) as esapi:
        digest = read_pcrs(esapi, pcrs) if pcrs else b""
    wrapped = wrap_share(token.storage_key(), scalar.value, spec, pcr_digest=digest)
    sent = WrappedShare.from_json(json.dumps(wrapped.to_json()).encode())
    key = token.import_wrapped(spec, sent, ("administrator",))
    assert key.public == scalar.public()
    if use is Use.ENCRYPT:
        peer = share_of(key.public.curve)
        assert key.agree(peer.public()) == peer.times(key.public)
    else:
        key.sign(bytes({"P-256": 32, "P-384": 48, "P-521": 64}[algorithm]))
    statement = key.custody()
    assert statement.custody is CustodyClass.IMPORTED
    assert statement.known_by == ("administrator",)
    assert "parent: unattested" in statement.notes


def test_small_scalars_are_padded(open_token: Open) -> None:
    """One with leading zeros is as long on the wire as any other."""
    token = open_token()
    for scalar in (1, 2, P384.order - 1):
        spec = KeySpec("P-384", Use.ENCRYPT, f"share {scalar % 7}")
        key = token.import_scalar(spec, scalar, ())
        assert key.agree(P384.base) == key.public == P384.base.multiply(scalar)


def test_the_dealers_pin_is_changed_at_once(open_token: Open, records: Path) -> None:
    """The owner's new PIN works, the dealer's does not, and no blob with it was written."""
    spec = KeySpec("P-384", Use.ENCRYPT, "share", PinPolicy.ONCE)
    secrets = Asked({SecretKind.PIN: DEALT, SecretKind.NEW_PIN: PIN})
    token = open_token(secrets)
    wrapped = wrap_share(token.storage_key(), 4711, spec, initial_auth=DEALT)
    key = token.import_wrapped(spec, wrapped, ("dealer",))
    assert key.agree(P384.base) == key.public
    assert [request.kind for request in secrets.requests] == [SecretKind.NEW_PIN, SecretKind.PIN]
    assert "as the dealer set it" in secrets.requests[1].subject
    with pytest.raises(WrongSecretError):
        open_token(answers(DEALT)).key(key.uri).agree(P384.base)
    again = open_token(answers(PIN)).key(key.uri)
    assert again.agree(P384.base) == key.public


def test_a_wrong_dealers_pin_is_told(open_token: Open, records: Path) -> None:
    """Nothing is kept."""
    spec = KeySpec("P-384", Use.ENCRYPT, "share", PinPolicy.ONCE)
    token = open_token(answers(b"wrong", PIN))
    wrapped = wrap_share(token.storage_key(), 4711, spec, initial_auth=DEALT)
    with pytest.raises(WrongSecretError):
        token.import_wrapped(spec, wrapped, ())
    assert list(token.keys()) == []
    assert sorted(path.name for path in records.iterdir()) == [
        ".lock",
        ".turns",
        "storage-root.json",
    ]


def test_the_dealers_pin_of_a_key_without_pin_is_removed(open_token: Open) -> None:
    spec = KeySpec("P-384", Use.ENCRYPT, "share")
    token = open_token(answers(DEALT))
    wrapped = wrap_share(token.storage_key(), 4711, spec, initial_auth=DEALT)
    key = token.import_wrapped(spec, wrapped, ("dealer",))
    assert key.agree(P384.base) == key.public


def flip(octets: bytes) -> bytes:
    return octets[:-1] + bytes([octets[-1] ^ 1])


ALTERED = {
    "ciphertext": (lambda w: replace(w, duplicate=flip(w.duplicate)), DeviceError),
    "seed": (lambda w: replace(w, seed=flip(w.seed)), MeshHsmError),
    "point": (lambda w: replace(w, public=flip(w.public)), MeshHsmError),
    "no public area": (lambda w: replace(w, public=b""), FormatError),
    "parent": (lambda w: replace(w, parent=flip(w.parent)), VerificationError),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_share_is_refused(tap: Tap, open_token: Open, what: str) -> None:
    alter, error = ALTERED[what]
    spec = KeySpec("P-384", Use.ENCRYPT, "share")
    token = open_token()
    wrapped = wrap_share(token.storage_key(), 4711, spec)
    with pytest.raises(error):
        token.import_wrapped(spec, alter(wrapped), ())
    assert list(token.keys()) == []
    token.import_wrapped(spec, wrapped, ())  # and the label is free


OTHER_KINDS = {
    "another use": KeySpec("P-384", Use.SIGN, "share"),
    "another curve": KeySpec("P-256", Use.ENCRYPT, "share"),
    "with PCRs": KeySpec("P-384", Use.ENCRYPT, "share", pcrs=(7,)),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_share_of_another_kind_is_not_imported(tap: Tap, open_token: Open, kind: str) -> None:
    """What the dealer chose has to be what the owner asked for, before the TPM sees it."""
    token = open_token()
    wrapped = wrap_share(token.storage_key(), 4711, KeySpec("P-384", Use.ENCRYPT, "share"))
    tap.clear()
    with pytest.raises(VerificationError):
        token.import_wrapped(OTHER_KINDS[kind], wrapped, ())
    assert 0x156 not in tap.commands


def test_a_share_that_could_leave_again_is_not_imported(open_token: Open) -> None:
    """A dealer's template with a policy of his own may hold a Duplicate branch."""
    spec = KeySpec("P-384", Use.ENCRYPT, "share")
    token = open_token()
    wrapped = wrap_share(token.storage_key(), 4711, spec)
    area = replace(PublicArea.parse(wrapped.public), policy=bytes(32))
    with pytest.raises(VerificationError):
        token.import_wrapped(spec, replace(wrapped, public=area.marshal()), ())


def test_a_share_for_another_tpm_is_refused(swtpm: Swtpm, open_token: Open, tmp_path: Path) -> None:
    spec = KeySpec("P-384", Use.ENCRYPT, "share")
    with open_token() as token:
        wrapped = wrap_share(token.storage_key(), 4711, spec)
    swtpm.exchange_state()
    with pytest.raises(VerificationError, match="another TPM"):
        open_token(folder=tmp_path / "other").import_wrapped(spec, wrapped, ())


TPM_RC_POLICY_FAIL = 0x99D


def duplicate(esapi: ESAPI, key: ESYS_TR, policy: Policy, *, with_command_code: bool) -> bytes:
    """TPM2_Duplicate to no parent: the private part in the clear, if the key's policy allows."""
    session = esapi.start_auth_session(
        tpm_key=ESYS_TR.NONE,
        bind=ESYS_TR.NONE,
        session_type=TPM2_SE.POLICY,
        symmetric=None,
        auth_hash=TPM2_ALG.SHA256,
    )
    with sessions.flushed(esapi, sessions.protect(esapi, session, sessions.PLAIN)):
        sessions.run_policy(esapi, session, policy)
        if with_command_code:
            esapi.policy_command_code(session, TPM2_CC.Duplicate)
        symmetric = TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL)
        _, left, _ = esapi.duplicate(
            key, ESYS_TR.RH_NULL, TPM2B_DATA(), symmetric, session1=session
        )
        return bytes(left.buffer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_command_code", [False, True])
def test_an_imported_key_cannot_leave(
    swtpm: Swtpm, open_token: Open, records: Path, kind: str, with_command_code: bool
) -> None:
    """Its policy has no Duplicate branch, so the TPM lets nothing out (hsm-1 §10)."""
    pin, pcrs = KINDS[kind]
    with open_token() as token:
        token.import_scalar(KeySpec("P-256", Use.ENCRYPT, "share", pin, pcrs), 4711, ())
    policy = Records(records).load("share").policy
    policy = replace(policy, pin=policy.pin and bool(policy.pcrs))
    with raw(swtpm, records, "share") as (esapi, _, key):
        esapi.tr_set_auth(key, PIN if pin is not PinPolicy.NONE else b"")
        with pytest.raises(TSS2_Exception) as refused:
            duplicate(esapi, key, policy, with_command_code=with_command_code)
        assert refused.value.rc == TPM_RC_POLICY_FAIL


def test_a_key_with_a_duplicate_branch_leaves(
    swtpm: Swtpm, open_token: Open, records: Path
) -> None:
    """What the test above would look like if it failed; and such a key is called exportable."""
    branch = hashlib.sha256(
        bytes(32) + b"\x00\x00\x01\x6c" + TPM2_CC.Duplicate.to_bytes(4, "big")
    ).digest()
    spec = KeySpec("P-256", Use.ENCRYPT, "share")
    with open_token() as token:
        key = token.import_scalar(spec, 4711, ())
        template = replace(Records(records).load("share").area, policy=branch)
        wrapped = wrap_as(token.storage_key(), 4711, template)
        with mock.patch.object(importing, "_compare"):
            key = token.import_wrapped(replace(spec, label="loose"), wrapped, ())
        assert key.custody().custody is CustodyClass.EXPORTABLE
    with raw(swtpm, records, "loose") as (esapi, _, handle):
        left = duplicate(esapi, handle, Policy(), with_command_code=True)
    assert (4711).to_bytes(32, "big") in left


def wrap_as(storage_key: bytes, scalar: int, area: PublicArea) -> WrappedShare:
    """A dealer's wrap with a public area of his own."""
    on = area.curve
    sensitive = b"\x00\x23" + sized(b"", b"", on.scalar_octets(scalar))
    parent = PublicArea.parse(storage_key)
    private, seed = _outer_wrap(parent, area.name, sized(sensitive))
    return WrappedShare(area.marshal(), private, seed, parent.name, False)


def test_commands_of_an_import(tap: Tap, open_token: Open) -> None:
    """The auth value is changed before the key exists anywhere but in the TPM."""
    token = open_token()
    token.generate(KeySpec("P-256", Use.SIGN, "first"))
    tap.clear()
    token.import_scalar(KeySpec("P-384", Use.ENCRYPT, "share", PinPolicy.ONCE), 4711, ())
    change_auth = 0x150
    once = list(dict.fromkeys(tap.commands))  # TPM2_ObjectChangeAuth is asked to be repeated
    assert once[-4:] == [0x156, Command.LOAD, change_auth, Command.FLUSH_CONTEXT]

"""Whose TPM is it: endorsement certificate, first use, storage root, owner password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, ESYS_TR, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMT_PUBLIC

from mesh_hsm.curves import P256
from mesh_hsm.custody import Hardware
from mesh_hsm.errors import (
    FormatError,
    SecretRequiredError,
    VerificationError,
    WrongSecretError,
)
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm_tpm2 import templates
from mesh_hsm_tpm2.storage_root import PERSISTENT_SRK, Pin

from .conftest import Open

OWNER = b"owner password"
START_AUTH_SESSION = Command.START_AUTH_SESSION.to_bytes(4, "big")
TPM_RH_NULL = 0x40000007
SPEC = KeySpec("P-256", Use.ENCRYPT, "key")


@pytest.fixture
def swtpm() -> Iterator[Swtpm]:
    """One with an endorsement certificate."""
    with Swtpm(ek_certificate=True) as rig:
        yield rig


@pytest.fixture
def roots(records: Path) -> Path:
    folder = records / "ek-roots"
    folder.mkdir(parents=True)
    return folder


def trust(rig: Swtpm, roots: Path) -> None:
    for path in rig.authority.glob("*cert.pem"):
        (roots / path.name).write_bytes(path.read_bytes())


def pin(records: Path) -> Pin:
    found = Pin.load(records)
    assert found is not None
    return found


def persist(rig: Swtpm, template: TPM2B_PUBLIC | str) -> None:
    with ESAPI(rig.tcti) as esapi:
        root, *_ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), template)
        esapi.evict_control(ESYS_TR.OWNER, root, PERSISTENT_SRK)
        esapi.flush_context(root)


def srk_template() -> TPM2B_PUBLIC:
    area, _ = TPMT_PUBLIC.unmarshal(templates.STORAGE_ROOT.marshal())
    return TPM2B_PUBLIC(publicArea=area)


def test_a_certified_tpm(swtpm: Swtpm, open_token: Open, records: Path, roots: Path) -> None:
    trust(swtpm, roots)
    token = open_token()
    statement = token.generate(SPEC).custody()
    assert any("certified by" in note and "swtpm-localca" in note for note in statement.notes)
    assert statement.hardware is Hardware.SIMULATOR
    assert pin(records).proof == "certificate"
    assert open_token().info.serial == pin(records).endorsement


def test_first_use_is_said(open_token: Open, records: Path) -> None:
    """No roots: the certificate's issuer is noted and believed no further."""
    statement = open_token().generate(SPEC).custody()
    assert "the TPM's endorsement key was taken on trust at first use" in statement.notes
    assert pin(records).proof == "first use"
    assert "swtpm-localca" in (pin(records).issuer or "")


@pytest.mark.parametrize(
    "wrong", ["another authority", "leaf's issuer missing", "not a certificate"]
)
def test_a_certificate_that_leads_nowhere(
    swtpm: Swtpm, open_token: Open, records: Path, roots: Path, wrong: str
) -> None:
    """``VerificationError``, and nothing is pinned."""
    if wrong == "another authority":
        with Swtpm(ek_certificate=True) as other:
            trust(other, roots)
    elif wrong == "leaf's issuer missing":
        root = swtpm.authority / "swtpm-localca-rootca-cert.pem"
        (roots / root.name).write_bytes(root.read_bytes())
    else:
        (roots / "root.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(VerificationError):
        open_token().generate(SPEC)
    assert Pin.load(records) is None


def test_a_tpm_without_certificate_where_one_is_asked_for(
    swtpm: Swtpm, open_token: Open, roots: Path, tap: Tap
) -> None:
    trust(swtpm, roots)
    not_found = 0x18B
    read_public = (0x169).to_bytes(4, "big")
    tap.verdict = lambda request: not_found if request[6:10] == read_public else None
    with pytest.raises(VerificationError, match="no endorsement certificate"):
        open_token().generate(SPEC)


def test_another_tpms_certificate(swtpm: Swtpm, open_token: Open, roots: Path) -> None:
    """A certificate of the right authority in the wrong TPM."""
    trust(swtpm, roots)
    with ESAPI(swtpm.tcti) as esapi:
        esapi.change_eps(ESYS_TR.RH_PLATFORM)  # new endorsement keys under the old certificates
    with pytest.raises(VerificationError, match="belongs to another TPM"):
        open_token().generate(SPEC)


def test_a_damaged_pin_is_refused(open_token: Open, records: Path) -> None:
    """Never silently pinned anew."""
    with open_token() as token:
        uri = token.generate(SPEC).uri
    for damage in (b"", b"{}", b"[]", b"\xff"):
        (records / "storage-root.json").write_bytes(damage)
        with pytest.raises(FormatError):
            open_token().key(uri).agree(P256.base)


def test_an_exchanged_pin_is_noticed(open_token: Open, records: Path) -> None:
    with open_token() as token:
        uri = token.generate(SPEC).uri
    path = records / "storage-root.json"
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps({**value, "storage_root": "000b" + "00" * 32}))
    with pytest.raises(VerificationError):
        open_token().key(uri).agree(P256.base)


def test_the_tcgs_persistent_root_is_used(
    swtpm: Swtpm, tap: Tap, open_token: Open, records: Path
) -> None:
    """Where the TCG's handle holds the TCG's key, key files name it as parent."""
    persist(swtpm, srk_template())
    with open_token() as token:
        key = token.generate(SPEC)
        assert key.agree(P256.base) == key.public
    assert pin(records).handle == PERSISTENT_SRK
    tap.clear()
    token = open_token()
    assert token.key(key.uri).agree(P256.base) == key.public
    assert Command.CREATE_PRIMARY not in tap.commands
    with ESAPI(swtpm.tcti) as esapi:  # evicted: the same primary is made again
        esapi.evict_control(ESYS_TR.OWNER, esapi.tr_from_tpmpublic(PERSISTENT_SRK), PERSISTENT_SRK)
    token.close()
    assert open_token().key(key.uri).agree(P256.base) == key.public


@pytest.mark.parametrize("template", ["rsa2048", "ecc256", "ecc384"])
def test_another_key_at_the_tcgs_handle_is_not_used(
    swtpm: Swtpm, open_token: Open, records: Path, template: str
) -> None:
    """Windows keeps an RSA key there, other tools one without noDA."""
    persist(swtpm, template)
    with open_token() as token:
        assert token.generate(SPEC).agree(P256.base)
    assert pin(records).handle is None


@pytest.mark.parametrize("persistent", [False, True])
def test_an_owner_password_is_asked_for(
    swtpm: Swtpm, tap: Tap, open_token: Open, persistent: bool
) -> None:
    """Only where it is needed; proved by HMAC, in a session salted to the EK; never kept."""
    spec = KeySpec("P-256", Use.ENCRYPT, "key", persistent=persistent)
    swtpm.set_owner_password(OWNER)
    with pytest.raises(SecretRequiredError):
        open_token(FixedSecrets({})).generate(spec)
    with pytest.raises(WrongSecretError) as wrong:
        open_token(FixedSecrets({SecretKind.OWNER_AUTH: b"wrong"})).generate(spec)
    assert wrong.value.attempts_remaining is None
    for _ in range(2):
        secrets = Asked({SecretKind.OWNER_AUTH: OWNER})
        with open_token(secrets) as token:
            key = next(iter(token.keys()), None) or token.generate(spec)
            assert key.agree(P256.base) == key.public
            if persistent:
                token.delete(key.uri)
        assert {request.kind for request in secrets.requests} == {SecretKind.OWNER_AUTH}
    assert OWNER not in tap.octets


def test_an_owner_password_is_not_shown_to_another_tpm(swtpm: Swtpm, open_token: Open) -> None:
    with open_token() as token:
        uri = token.generate(SPEC).uri
    swtpm.exchange_state()
    swtpm.set_owner_password(OWNER)
    secrets = Asked({SecretKind.OWNER_AUTH: OWNER})
    with pytest.raises(VerificationError, match="another endorsement key"):
        open_token(secrets).key(uri).agree(P256.base)
    assert secrets.requests == []


def test_an_endorsement_password_leaves_the_ek_unknown(
    swtpm: Swtpm, tap: Tap, open_token: Open, records: Path
) -> None:
    """Said in the statement; sessions are salted to the pinned storage root all the same.

    Nobody who listens can try owner passwords on what he heard: that session is salted, too.
    """
    with ESAPI(swtpm.tcti) as esapi:
        esapi.hierarchy_change_auth(ESYS_TR.RH_ENDORSEMENT, b"privacy")
    swtpm.set_owner_password(OWNER)
    token = open_token(FixedSecrets({SecretKind.OWNER_AUTH: OWNER}))
    key = token.generate(SPEC)
    assert key.agree(P256.base) == key.public
    assert pin(records).proof == "absent"
    assert any("could not be used" in note for note in key.custody().notes)
    started = [sent for sent in tap.requests if sent[6:10] == START_AUTH_SESSION]
    salted_to = [int.from_bytes(sent[10:14], "big") for sent in started]
    assert len(salted_to) >= 2
    assert TPM_RH_NULL not in salted_to

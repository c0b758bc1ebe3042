"""What mesh_hsm writes the second implementation reads, and the other way, with random numbers."""

from __future__ import annotations

import secrets
from hashlib import sha512
from io import BytesIO

import pytest
from hsm1_answers import SOFTWARE, own_key
from hsm1_fixed import AGREEING, AUTHORITY, NIST, SIGNING, FixedSigner, own, secret
from independent import answers, envelope, making, proof, rules, signing
from independent.groups import GROUPS
from independent.refusal import Refused

from mesh_hsm import dare
from mesh_hsm.curves import Point, SecretScalar, curve
from mesh_hsm.mesh.contribution import combine_public
from mesh_hsm.provider import Use
from mesh_hsm.threshold import prove, verify_proof
from mesh_hsm.threshold.recovery import recover_blinded, recover_plain
from mesh_hsm.threshold.scalar_share import ScalarShare
from mesh_hsm.udf import derive_key, fingerprint, udf_of

USES = {Use.ENCRYPT: "Encryption", Use.AUTHENTICATE: "Authentication", Use.SIGN: "Signature"}
ROUNDS = 3


def drawn() -> str:
    """A name that nobody has used, so that what follows from it is random."""
    return secrets.token_hex(16)


def foreign(P: Point) -> tuple[int, int]:
    """A point as the second implementation has it."""
    return P.x, P.y


def content() -> bytes:
    return secrets.token_bytes(secrets.randbelow(3000))


@pytest.mark.parametrize("armor", [False, True], ids=["binary", "text"])
@pytest.mark.parametrize("on", AGREEING)
def test_written_by_mesh_hsm(on: str, armor: bool) -> None:
    for signs in SIGNING:
        name, data = drawn(), content()
        signer, key = FixedSigner(signs, name), own(on, name)
        sink = BytesIO()
        dare.encode(
            BytesIO(data),
            sink,
            recipients=[dare.Recipient(secret(on, name).public())],
            signers=[signer],
            armor=armor,
        )
        mine = answers.own_key(on, bytes.fromhex(key["private"]))
        trusted = envelope.Key(signs, signer.public.encode())
        assert envelope.open_envelope(sink.getvalue(), [mine], [trusted]) == data


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
@pytest.mark.parametrize("on", AGREEING)
def test_written_by_the_other(on: str, binary: bool) -> None:
    group = GROUPS[on]
    for _ in range(ROUNDS):
        name, data, seed = drawn(), content(), secrets.token_bytes(32)
        public = secret(on, name).public()
        e = 1 + secrets.randbelow(group.n - 1)
        entry = making.recipient(on, public.encode(), e, seed)
        signers = [signer(one, name) for one in NIST]
        octets = making.make(data, seed, secrets.token_bytes(32), [entry], signers, binary=binary)
        trusted = [curve(crv).decode(octets_) for crv, octets_, _ in signers]
        sink = BytesIO()
        report = dare.decode(
            BytesIO(octets),
            sink,
            keys=[own_key(own(on, name))],
            trusted={fingerprint(one).octets: one for one in trusted},
        )
        assert sink.getvalue() == data
        assert [one.kid for one in report.signers] == [udf_of(one) for one in trusted]


def signer(on: str, name: str) -> making.Signer:
    """ECDSA by the second implementation's own arithmetic."""
    group, x = GROUPS[on], secret(on, name).value
    public = group.encode(group.multiply(x, group.base))
    k = 1 + secrets.randbelow(group.n - 1)
    return on, public, lambda M: signing.ecdsa(on, x, k, M)


@pytest.mark.parametrize("pair", [("P-384", "P-384"), ("P-256", "X448"), ("X25519", "P-521")])
def test_wrapped_twice(pair: tuple[str, str]) -> None:
    names, data = (drawn(), drawn()), content()
    publics = [secret(on, name).public() for on, name in zip(pair, names, strict=True)]
    keys = [own(on, name) for on, name in zip(pair, names, strict=True)]
    sealed = BytesIO()
    dare.encode(BytesIO(data), sealed, recipients=[dare.DoubleRecipient(*publics)])
    theirs = [
        answers.own_key(on, bytes.fromhex(k["private"])) for on, k in zip(pair, keys, strict=True)
    ]
    assert envelope.open_envelope(sealed.getvalue(), theirs) == data

    seed, salt = secrets.token_bytes(32), secrets.token_bytes(32)
    sides = [
        (on, public.encode(), 1 + secrets.randbelow(GROUPS[on].n - 1))
        for on, public in zip(pair, publics, strict=True)
    ]
    entry = making.double_recipient(sides[0], sides[1], seed)
    octets = making.make(data, seed, salt, [entry], [], binary=True)
    sink = BytesIO()
    both = dare.DoubleDecryptor(*(own_key(key) for key in keys))
    dare.decode(BytesIO(octets), sink, keys=[both])
    assert sink.getvalue() == data


@pytest.mark.parametrize(
    ("on", "use"),
    [(on, use) for on in AGREEING for use in Use if use is not Use.SIGN or on in NIST],
)
def test_proofs_and_contributions(on: str, use: Use) -> None:
    profile, seed, name = content(), b"\x01\x03" + secrets.token_bytes(32), drawn()
    y, X = derive_key(seed, name, curve(on)), secret(on, name).public()
    assert rules.contribution(seed, name, on) == y
    factor = SecretScalar(curve(on), y)
    Z, digest = combine_public(X, factor, use), sha512(profile).digest()
    assert rules.combined(on, USES[use], foreign(X), y) == foreign(Z)

    statement = (on, USES[use], foreign(X), foreign(Z))
    made = prove(factor, X, Z, use, digest, AUTHORITY)
    proof.verify(*statement, made, profile, AUTHORITY)
    with pytest.raises(Refused):
        proof.verify(*statement, made, profile + b"x", AUTHORITY)
    k = 1 + secrets.randbelow(GROUPS[on].n - 1)
    theirs = proof.prove(*statement, y, k, profile, AUTHORITY)
    verify_proof(theirs, X, Z, use, digest, AUTHORITY)


@pytest.mark.parametrize("on", AGREEING)
def test_recovered_points(on: str) -> None:
    group = GROUPS[on]
    for _ in range(ROUNDS):
        x, S = secret(on, drawn()), secret(on, drawn()).public()
        share = ScalarShare(x, Use.ENCRYPT, label="share", custody=SOFTWARE)
        xS = group.agree(x.value, foreign(S))
        assert foreign(recover_plain(share, S)) == xS
        assert foreign(recover_blinded(share, S)) == xS

"""Private-key operations against other implementations, and what each costs in commands.

The counts are those of the reference page; a change of one is a change for everybody who waits.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from slots_bench import FIRMWARES, SlotsBench, named, spec

from mesh_hsm import dare
from mesh_hsm.curves import P256, P384, X25519, Point, SecretScalar, XOnly, clamp, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy
from mesh_hsm.errors import DeviceError, FormatError, NotFoundError
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.tpm_wire import Command as TpmCommand
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm.threshold import CompositeKey, ScalarShare, combine
from mesh_hsm.threshold.recovery import recover_blinded, recover_plain
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2.provider import Tpm2Provider

SELECT, READ_CONFIG = 0xA4, 0x1D
AGREES = {"P-256": FIRMWARES, "P-384": FIRMWARES, "X25519": FIRMWARES[:1]}
EACH_THAT_AGREES = [(f, name) for name, firmwares in AGREES.items() for f in firmwares]
PLAINTEXT = bytes(range(256)) * 300


def ids(value: object) -> str:
    return named(value) if isinstance(value, tuple) else str(value)


def in_library(S: Point):
    if S.curve is X25519:
        return x25519.X25519PublicKey.from_public_bytes(S.agreement_octets())
    group = {P256: ec.SECP256R1(), P384: ec.SECP384R1()}[S.curve]
    return ec.EllipticCurvePublicNumbers(S.x, S.y, group).public_key()


def other_side(on) -> tuple[Point, object]:
    """A peer's public key, and what gives the same secret without any code of ours."""
    if on is X25519:
        peer = x25519.X25519PrivateKey.generate()
        return X25519.decode_x(peer.public_key().public_bytes_raw()), peer.exchange
    peer = ec.generate_private_key({P256: ec.SECP256R1(), P384: ec.SECP384R1()}[on])
    numbers = peer.public_key().public_numbers()
    return on.point(numbers.x, numbers.y), lambda public: peer.exchange(ec.ECDH(), public)


# -- one key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("firmware", "algorithm"), EACH_THAT_AGREES, ids=ids)
def test_agreement_is_another_librarys(new_bench, firmware, algorithm: str) -> None:
    on = curve(algorithm)
    with new_bench(firmware).open() as token:
        key = token.generate(spec("agrees", algorithm, Use.ENCRYPT))
        for _ in range(4):
            S, exchange = other_side(on)
            answer = key.agree(S)
            assert isinstance(answer, XOnly)
            assert answer.octets() == exchange(in_library(key.public))
            assert S.curve is on


@pytest.mark.parametrize(("firmware", "algorithm"), EACH_THAT_AGREES, ids=ids)
def test_an_imported_share_agrees_as_its_scalar_says(new_bench, firmware, algorithm: str) -> None:
    """Compared with ``mesh_hsm.curves``' own multiplication of a scalar that is no secret."""
    on = curve(algorithm)
    scalar = of_sign(-1) if on is X25519 else 0x1234567
    with new_bench(firmware).open() as token:
        key = token.import_scalar(
            spec("share", algorithm, Use.ENCRYPT, allow_exportable=True), scalar, ("me",)
        )
        S = on.base.multiply(99)
        assert key.agree(S).octets() == S.multiply(scalar).agreement_octets()
        assert key.public == on.base.multiply(scalar)


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "X25519"])
def test_secrets_with_leading_zeros_keep_them(bench: SlotsBench, algorithm: str) -> None:
    """A peer is looked for whose secret begins with a zero octet (of X25519: ends with one)."""
    on = curve(algorithm)
    scalar = of_sign(1) if on is X25519 else 0xABCDEF01
    with bench.open() as token:
        key = token.import_scalar(spec("share", algorithm, Use.ENCRYPT), scalar, ("me",))
        S = X = on.base.multiply(scalar)
        peer = on.base
        zero = 0 if on is not X25519 else -1
        while S.agreement_octets()[zero]:
            S, peer = S + X, peer + on.base
        assert key.agree(peer).octets() == S.agreement_octets()
        assert len(key.agree(peer).octets()) == on.field_size


@pytest.mark.parametrize("firmware", FIRMWARES, ids=named)
@pytest.mark.parametrize(("algorithm", "hashed"), [("P-256", SHA256()), ("P-384", SHA384())])
def test_ecdsa_is_verified_by_another_library(new_bench, firmware, algorithm, hashed) -> None:
    on = curve(algorithm)
    with new_bench(firmware).open() as token:
        key = token.generate(spec("signs", algorithm))
        for first in (0x00, 0xFF):  # a digest with leading zeros is not cut
            digest = bytes([first]) * hashed.digest_size
            signature = key.sign(digest)
            assert len(signature) == 2 * on.field_size
            r, s = (
                int.from_bytes(half, "big")
                for half in (signature[: on.field_size], signature[on.field_size :])
            )
            in_library(key.public).verify(
                encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashed))
            )


@pytest.mark.parametrize("size", [0, 1, 32, 300])
def test_ed25519_is_verified_by_another_library(bench: SlotsBench, size: int) -> None:
    with bench.open() as token:
        key = token.generate(spec("signs", "Ed25519"))
        message = bytes(size)
        public = ed25519.Ed25519PublicKey.from_public_bytes(key.public.encode())
        public.verify(key.sign(message), message)


def test_a_key_whose_slot_holds_another_by_now(bench: SlotsBench) -> None:
    """Also where the other one is ours and was used in this very hold."""
    with bench.open() as token:
        old = token.generate(spec("old", "P-256", Use.ENCRYPT))
        old.agree(P256.base)
        token.delete(old.uri)
        new = token.generate(spec("new", "P-256", Use.ENCRYPT))
        assert new.uri == old.uri
        new.agree(P256.base)
        with pytest.raises(NotFoundError, match="does not hold this key any more"):
            old.agree(P256.base)
        bench.state.keys.clear()
        bench.card.release()
        with pytest.raises(NotFoundError):
            new.custody()


def test_a_key_of_ours_that_was_replaced_where_the_firmware_does_not_tell(new_bench) -> None:
    """Below 5.3 an imported key is believed; one that the card made in its place is seen."""
    bench = new_bench(FIRMWARES[2])
    with bench.open() as token:
        key = token.import_scalar(
            spec("share", "P-256", Use.ENCRYPT, allow_exportable=True), 77, ("me",)
        )
        assert key.custody().custody is CustodyClass.UNKNOWN
        other = token.generate(spec("other", "P-256", Use.ENCRYPT))
        slot = {"share": 0x9D, "other": 0x82}
        bench.state.keys[slot["share"]] = bench.state.keys[slot["other"]]
        bench.card.release()
        with pytest.raises(NotFoundError):
            key.agree(P256.base)
        assert [one.label for one in token.keys()] == ["other"]  # noqa: SIM118  no dictionary
        del other


# -- shares ----------------------------------------------------------------------------------------

IN_MEMORY = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "this process")


def in_memory(on, use: Use = Use.ENCRYPT) -> ScalarShare:
    return ScalarShare(SecretScalar.random(on), use, label="memory", custody=IN_MEMORY)


def composite(*shares: DeviceKey) -> CompositeKey:
    return CompositeKey(combine([one.public for one in shares]), shares[0].use, shares)


def encrypted(key: CompositeKey) -> bytes:
    sink = BytesIO()
    dare.encode(BytesIO(PLAINTEXT), sink, recipients=[dare.Recipient(key.public)])
    return sink.getvalue()


def decrypted(key: CompositeKey, envelope: bytes) -> bytes:
    sink = BytesIO()
    dare.decode(BytesIO(envelope), sink, keys=[key])
    return sink.getvalue()


def of_sign(sigma: int) -> int:
    """A scalar whose clamped form is its negative, or is not. Small ones have none."""
    scalars = (pow(5, k, X25519.order) for k in range(200, 300))
    for scalar in scalars:
        with suppress(FormatError):
            if clamp(X25519, scalar).sigma == sigma:
                return scalar
    raise AssertionError(sigma)


@pytest.mark.parametrize("sigma", [1, -1])
@pytest.mark.parametrize("blinded", [False, True], ids=["plain", "blinded"])
def test_an_imported_x25519_share_of_either_sign(bench: SlotsBench, sigma: int, blinded) -> None:
    """The card has the clamped scalar, which may be the negative of the share (threshold §10)."""
    with bench.open() as token:
        share = token.import_scalar(
            spec("share", "X25519", Use.AUTHENTICATE), of_sign(sigma), ("dealer",)
        )
        assert share.public == X25519.base.multiply(of_sign(sigma))
        key = composite(share, in_memory(X25519, Use.AUTHENTICATE))
        peer = SecretScalar.random(X25519)
        bench.device.trace.clear()
        assert key.agree(peer.public(), blinded=blinded) == peer.times(key.public)
        assert bench.instructions().count(Ins.AUTHENTICATE) == 2


@pytest.mark.parametrize("sigma", [1, -1])
def test_a_file_for_an_imported_x25519_share_of_either_sign(bench: SlotsBench, sigma: int) -> None:
    with bench.open() as token:
        share = token.import_scalar(
            spec("share", "X25519", Use.ENCRYPT), of_sign(sigma), ("dealer",)
        )
        key = composite(share, in_memory(X25519))
        assert decrypted(key, encrypted(key)) == PLAINTEXT


@pytest.mark.parametrize("firmware", FIRMWARES, ids=named)
@pytest.mark.parametrize("recover", [recover_plain, recover_blinded])
def test_the_full_point_is_recovered_on_p384(new_bench, firmware, recover) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        share = token.generate(spec("share", "P-384", Use.AUTHENTICATE, PinPolicy.ONCE))
        peer = SecretScalar.random(P384)
        assert recover(share, peer.public()) == peer.times(share.public)
        bench.device.trace.clear()
        assert recover(share, peer.public()) == peer.times(share.public)
        assert bench.instructions() == [Ins.AUTHENTICATE] * 2


def test_a_file_for_a_yubikey_a_tpm_and_software(
    bench: SlotsBench, swtpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One agreement of each device: candidates for the YubiKey's sign. For a peer: two."""
    pin = FixedSecrets({SecretKind.PIN: b"the TPM's PIN", SecretKind.NEW_PIN: b"the TPM's PIN"})
    with swtpm.tapped() as tap:
        monkeypatch.setenv("MESH_HSM_TPM2_TCTI", swtpm.tap_tcti)
        with bench.open() as token, Tpm2Provider(tmp_path).open(Uri.parse("tpm2:"), pin) as tpm:
            for use in (Use.ENCRYPT, Use.AUTHENTICATE):
                key = composite(
                    token.generate(spec(f"{use}", "P-384", use, PinPolicy.ONCE)),
                    tpm.generate(KeySpec("P-384", use, f"{use}", PinPolicy.ONCE)),
                    in_memory(P384, use),
                )
                peer = SecretScalar.random(P384)
                envelope = encrypted(key)

                def once(key=key, use=use, peer=peer, envelope=envelope) -> None:
                    if use is Use.ENCRYPT:
                        assert decrypted(key, envelope) == PLAINTEXT
                    else:
                        assert key.agree(peer.public()) == peer.times(key.public)

                once()  # PINs given, keys found
                bench.device.trace.clear()
                tap.clear()
                once()
                expected = 1 if use is Use.ENCRYPT else 2
                assert bench.instructions() == [Ins.AUTHENTICATE] * expected
                assert tap.commands == [TpmCommand.ECDH_ZGEN]


def test_a_file_needs_every_share(bench: SlotsBench) -> None:
    """A card that is gone is named; put back, it serves again."""
    with bench.open() as token:
        share = token.generate(spec("share", "P-384", Use.ENCRYPT, PinPolicy.ONCE))
        key = composite(share, in_memory(P384))
        envelope = encrypted(key)
        assert decrypted(key, envelope) == PLAINTEXT
        bench.device.remove()
        with pytest.raises((DeviceError, NotFoundError)) as caught:
            decrypted(key, envelope)
        assert str(bench.device.serial) in (caught.value.uri or str(caught.value))
        bench.device.insert()
        assert decrypted(key, envelope) == PLAINTEXT


# -- what it costs ---------------------------------------------------------------------------------

COSTS = {
    # open, find, list two, agree (first, warm, cold), sign (first, warm, cold), make, take, delete
    (5, 7, 1): (8, 2, 3, 15, 1, 9, 9, 2, 9, 23, 23, 22),
    (5, 4, 3): (8, 2, 3, 15, 1, 9, 9, 2, 9, 23, 23, 23),
    (4, 3, 5): (6, 3, 5, 14, 1, 9, 9, 2, 9, 23, 26, 27),
}
COLD = [SELECT, READ_CONFIG, SELECT, Ins.VERSION]


@pytest.mark.parametrize("firmware", FIRMWARES, ids=named)
def test_commands_of_each_operation(new_bench, firmware) -> None:
    """Cold: the reader was given up. First: the PIN is asked for, the reader given up meanwhile."""
    bench = new_bench(firmware)

    def sent(work, *, cold: bool = False) -> list[int]:
        if cold:
            bench.card.release()
        bench.device.trace.clear()
        work()
        return bench.instructions()

    with bench.open() as token:
        agrees = token.generate(spec("agrees", "P-384", Use.ENCRYPT, PinPolicy.ONCE)).uri
        signs = token.generate(spec("signs", "P-384", Use.SIGN, PinPolicy.ALWAYS)).uri
    opening = sent(bench.open)
    token = bench.opened[-1]
    found = [sent(lambda: token.key(agrees)), sent(token.keys)]
    agreeing, signing = token.key(agrees), token.key(signs)
    used = []
    for use in (lambda: agreeing.agree(P384.base), lambda: signing.sign(bytes(48))):
        used += [sent(use, cold=True), sent(use), sent(use, cold=True)]
    assert used[1] == [Ins.AUTHENTICATE]
    assert used[4] == [Ins.VERIFY, Ins.AUTHENTICATE]
    assert all(one[:4] == COLD for one in (opening, used[0], used[2], used[5]))
    taken = spec("taken", "P-384", Use.ENCRYPT, allow_exportable=True)
    changed = [
        sent(lambda: token.generate(spec("made", "P-384", Use.ENCRYPT)), cold=True),
        sent(lambda: token.import_scalar(taken, 77, ("me",)), cold=True),
        sent(lambda: token.delete(agrees), cold=True),
    ]
    assert tuple(map(len, [opening, *found, *used, *changed])) == COSTS[firmware]


def test_commands_of_a_move(bench: SlotsBench) -> None:
    with bench.open() as token:
        uri = token.generate(spec()).uri
        bench.card.release()
        bench.device.trace.clear()
        token.move(uri, "95")
    assert bench.device.apdus == 20
    assert bench.device.operations[0x9C, "move"] == 1

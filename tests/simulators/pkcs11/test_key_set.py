"""A key dealt to three SoftHSM tokens: what any two open, what they are asked, what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from interposer import Rv

from mesh_hsm.custody import CustodyClass, Hardware
from mesh_hsm.errors import AccessError, DeviceError, VerificationError, WrongSecretError
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.testing.softhsm import HsmToken
from mesh_hsm.threshold import pair_key
from mesh_hsm.threshold.two_of_three import PAIRS, PLACES, places_in
from mesh_hsm_pkcs11.token import Pkcs11Token
from tests.three_tokens import PLAINTEXT, deal_to, decrypted

from .conftest import AGREE, Hsm, answers, slot_of

A, B_AB, B_BC, C_AC, C_BC = PLACES
Three = tuple[list[HsmToken], list[Pkcs11Token]]


@pytest.fixture
def three(hsm: Hsm) -> Three:
    """Tokens of anna, ben and carla, each with a PIN of its own."""
    made = [hsm.rig.token, hsm.rig.add_token("ben"), hsm.rig.add_token("carla")]
    return made, [hsm.open(answers(one.pin), uri=one.uri) for one in made]


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "X25519"])
def test_any_two_decrypt_and_nobody_alone(
    hsm: Hsm, three: Three, tmp_path: Path, algorithm: str
) -> None:
    with deal_to(tmp_path / "mesh", algorithm, three[1]) as bench:
        bench.check_any_two_decrypt()
        bench.check_nobody_else_does()
        bench.check_the_other_implementation_decrypts()
        bench.check_custody()
        envelope = bench.encrypted()
        for pair in PAIRS:
            key = bench.key(pair)
            with hsm.interposer.counted() as calls:
                assert decrypted(key, envelope) == PLAINTEXT
            assert calls == 2 * AGREE  # one agreement of each token
        custody = bench.value.custody()
        assert custody.theft is custody.loss is CustodyClass.IMPORTED
        assert {share.hardware for share in custody.shares} == {Hardware.SIMULATOR}


def test_on_a_machine_that_has_no_records(hsm: Hsm, three: Three, tmp_path: Path) -> None:
    """The public record and two tokens suffice, wherever the parts were imported."""
    made, tokens = three
    with deal_to(tmp_path / "mesh", "X25519", tokens) as bench:
        away = [hsm.open(answers(one.pin), uri=one.uri, records=tmp_path / "new") for one in made]
        found = {}
        for place in PLACES:
            listed = away["ABC".index(place.holder)].keys()
            (found[place],) = (k for k in listed if k.public.x == bench.held[place].public.x)
        envelope = bench.encrypted()
        for pair in PAIRS:
            keys = {place: found[place] for place in places_in(pair)}
            key = pair_key(bench.value.public, bench.value.points(), keys)
            assert decrypted(key, envelope) == PLAINTEXT


def test_a_token_is_lost(hsm: Hsm, three: Three, tmp_path: Path) -> None:
    """Any one: the other two go on, and pairs with it name it."""
    made, tokens = three
    with deal_to(tmp_path / "mesh", "X25519", tokens) as bench:
        envelope = bench.encrypted()
        for holder, one, token in zip("ABC", made, tokens, strict=True):
            hsm.interposer.remove(slot_of(token), Rv.DEVICE_REMOVED)
            for pair in PAIRS:
                if holder not in pair:
                    assert decrypted(bench.key(pair), envelope) == PLAINTEXT
                    continue
                with pytest.raises(DeviceError) as caught:
                    decrypted(bench.key(pair), envelope)
                assert one.serial in (caught.value.uri or "")
            hsm.interposer.insert(slot_of(token))


def test_the_token_of_another_key_set(hsm: Hsm, three: Three, tmp_path: Path) -> None:
    """Its parts have the same places and labels: refused before a device is asked."""
    _, tokens = three
    with (
        deal_to(tmp_path / "mesh", "X25519", tokens) as bench,
        deal_to(tmp_path / "other", "X25519", tokens, "other") as other,
    ):
        keys = {A: bench.held[A], B_AB: other.held[B_AB]}
        with hsm.interposer.counted() as calls, pytest.raises(VerificationError) as caught:
            pair_key(bench.value.public, bench.value.points(), keys)
        assert calls == []
        assert caught.value.uri == str(other.held[B_AB].uri)


def test_a_wrong_pin_and_none(hsm: Hsm, three: Three, tmp_path: Path) -> None:
    made, tokens = three
    with deal_to(tmp_path / "mesh", "X25519", tokens) as bench:
        envelope, uri = bench.encrypted(), bench.held[C_BC].uri
        tokens[2].close()
        for secrets, error in (
            (answers(made[1].pin), WrongSecretError),  # ben's, on carla's token
            (NoSecrets(), AccessError),
        ):
            with hsm.open(secrets, uri=made[2].uri) as again:
                keys = {B_BC: bench.held[B_BC], C_BC: again.key(uri)}
                key = pair_key(bench.value.public, bench.value.points(), keys)
                with pytest.raises(error):
                    decrypted(key, envelope)
        tokens[2] = hsm.open(answers(made[2].pin), uri=made[2].uri)

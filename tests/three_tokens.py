"""A 2-of-3 key set on any three tokens, of any kinds: open this to try it on yet another device.

    with deal_to(folder, "P-384", [anna, ben, carla]) as bench:
        bench.check_any_two_decrypt()

Every check crosses over to the second implementation (``tests/independent``): what it encrypts the
tokens open, and it opens what was encrypted to the key set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import combinations
from pathlib import Path

import pytest
from independent import envelope as another
from independent import making
from independent.groups import GROUPS

from mesh_hsm import dare
from mesh_hsm.curves import curve
from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy
from mesh_hsm.errors import DecryptionError, FormatError
from mesh_hsm.mesh import AdministratorKeySet, Signed, create_key_set, create_profile_master
from mesh_hsm.mesh.key_set import dealer_text
from mesh_hsm.provider import DeviceKey, Imports, KeySpec, Token, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.threshold import CompositeKey, Dealt, Place, combine, deal, pair_key
from mesh_hsm.threshold.two_of_three import HOLDERS, PAIRS, PLACES, places_in, places_of
from mesh_hsm.uri import Uri
from mesh_hsm_software import SoftwareProvider

PLAINTEXT = bytes(range(256)) * 300
PHRASE = b"correct horse battery staple"
_STORE = FixedSecrets({SecretKind.PASSPHRASE: PHRASE, SecretKind.NEW_PASSPHRASE: PHRASE})


@dataclass(frozen=True)
class KeySetBench:
    """A key set whose parts are in three tokens. ``dealt`` is what its dealer should forget."""

    signed: Signed[AdministratorKeySet]
    dealt: Dealt
    held: dict[Place, DeviceKey]

    @property
    def value(self) -> AdministratorKeySet:
        return self.signed.value

    def key(self, pair: str) -> CompositeKey:
        """The whole key, from the tokens of two."""
        keys = {place: self.held[place] for place in places_in(pair)}
        return pair_key(self.value.public, self.value.points(), keys)

    def encrypted(self) -> bytes:
        sink = BytesIO()
        dare.encode(BytesIO(PLAINTEXT), sink, recipients=[dare.Recipient(self.value.public)])
        return sink.getvalue()

    # -- checks ----------------------------------------------------------------------------------

    def check_any_two_decrypt(self) -> None:
        for envelope in (self.encrypted(), self.encrypted_elsewhere()):
            for pair in PAIRS:
                assert decrypted(self.key(pair), envelope) == PLAINTEXT

    def check_nobody_else_does(self) -> None:
        """Each part by itself, all that one holds, and parts of different pairs."""
        envelope = self.encrypted()
        good = [{self.held[place].public.x for place in places_in(pair)} for pair in PAIRS]
        alone = [places_of(holder) for holder in HOLDERS]
        mixed = [chosen for count in (1, 2) for chosen in combinations(PLACES, count)]
        for chosen in {*alone, *mixed}:
            shares = [self.held[place] for place in chosen]
            xs = {share.public.x for share in shares}
            if xs in good or len(xs) < len(shares):
                continue
            assert not list(opened(shares, self.value, envelope))
            with pytest.raises(FormatError):
                pair_key(
                    self.value.public,
                    self.value.points(),
                    dict(zip(chosen, shares, strict=True)),
                )

    def check_the_other_implementation_decrypts(self) -> None:
        """With k = a + (k - a), multiplied by another hand."""
        group = GROUPS[self.value.public.curve.name]
        one, other = (self.dealt.parts[place].value for place in places_in("AB"))
        k, public = (one + other) % group.n, self.value.public
        key = another.Key(group.name, public.encode(), lambda S: group.multiply(k, S))
        assert another.open_envelope(self.encrypted(), [key]) == PLAINTEXT

    def check_custody(self) -> None:
        for place, part in zip(PLACES, self.value.parts, strict=True):
            assert part.custody == self.held[place].custody()
            assert part.custody.known_by == (dealer_text("dora"),)
            assert part.custody.custody is not CustodyClass.GENERATED
        assert self.value.custody().threshold == 2

    def encrypted_elsewhere(self) -> bytes:
        public = self.value.public
        seed, salt = bytes(range(32)), bytes(range(32, 64))
        entry = making.recipient(public.curve.name, public.encode(), 12345678901, seed)
        return making.make(PLAINTEXT, seed, salt, [entry], [], binary=True)


@contextmanager
def deal_to(
    folder: Path, algorithm: str, tokens: Sequence[Token], name: str = "board"
) -> Iterator[KeySetBench]:
    """Import the five parts, vouch for them, and delete them again in the end.

    ``folder``: empty, for the keys of the Mesh that vouches.
    """
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    dealt, held = deal(curve(algorithm)), dict[Place, DeviceKey]()
    try:
        for place, part in dealt.parts.items():
            token = tokens[HOLDERS.index(place.holder)]
            assert isinstance(token, Imports)
            soft = token.info.hardware is Hardware.NONE
            pin = PinPolicy.NONE if soft else PinPolicy.ONCE
            spec = KeySpec(algorithm, Use.ENCRYPT, f"{name}-{place}", pin=pin)
            held[place] = token.import_scalar(spec, part.value, (dealer_text("dora"),))
        with SoftwareProvider(folder).open(Uri.parse("soft:"), _STORE) as store:
            master, administrator = (
                store.generate(KeySpec("P-384", Use.SIGN, label)) for label in ("master", "admin")
            )
            signed = create_key_set(
                dealt,
                held,
                name=name,
                names=("anna", "ben", "carla"),
                dealer="dora",
                master=create_profile_master(master, [administrator.public], [], now=now),
                administrator=administrator,
                now=now,
            )
        yield KeySetBench(signed, dealt, held)
    finally:
        for place, key in held.items():
            # As it is by now: a test may have closed one and opened it anew.
            tokens[HOLDERS.index(place.holder)].delete(key.uri)


def opened(
    shares: Sequence[DeviceKey], value: AdministratorKeySet, envelope: bytes
) -> Iterator[bytes]:
    """What these shares, added under the name of the key set, open: nothing, unless they are it."""
    mixed = CompositeKey(combine([share.public for share in shares]), Use.ENCRYPT, shares)
    mixed.public = value.public
    try:
        yield decrypted(mixed, envelope)
    except DecryptionError:
        return


def decrypted(key: CompositeKey, envelope: bytes) -> bytes:
    sink = BytesIO()
    dare.decode(BytesIO(envelope), sink, keys=[key])
    return sink.getvalue()

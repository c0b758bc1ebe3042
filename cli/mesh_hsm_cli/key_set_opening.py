"""Decrypting with a key set: whose tokens are here, which two are used, who is missing.

Open this file to see when an administrator is asked for a PIN: only once a file names the key set
and two of the three tokens are found. Tokens are searched by the parts' public points, not by
labels, so that any machine finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mesh_hsm.curves import Point
from mesh_hsm.mesh import AdministratorKeySet, peek_key_set
from mesh_hsm.provider import Use
from mesh_hsm.threshold.two_of_three import (
    HOLDERS,
    PAIRS,
    PLACES,
    Place,
    pair_key,
    places_in,
)
from mesh_hsm.uri import Uri
from mesh_hsm_cli.administrator_secrets import secrets_of
from mesh_hsm_cli.find import all_keys
from mesh_hsm_cli.records import filed_key_sets
from mesh_hsm_cli.session import Session

Held = dict[str, dict[Place, Uri]]
"""The keys that are an administrator's parts, by A, B, C: of those whose token is here."""


@dataclass(slots=True)
class LazyKeySet:
    """A key set as a ``Decryptor`` that looks for tokens when a file names it.

    ``missing`` says who else is needed, once too few tokens were found. Nothing is raised then,
    since the file may have other recipients.
    """

    session: Session
    key_set: AdministratorKeySet
    missing: str | None = None

    @property
    def public(self) -> Point:
        """The combined public key."""
        return self.key_set.public

    def agreements(self, S: Point) -> Iterator[bytes]:
        """Ask two tokens, once each."""
        here = tokens_here(self.session, self.key_set)
        pair = self._choose(here)
        if pair is None:
            self.missing = who_is_missing(self.key_set, here)
            return
        names = [self.key_set.name_of(holder) for holder in pair]
        self.session.output.notice(f"{self.key_set.name}: opening with {_listed(names, 'and')}")
        with ExitStack() as opened:
            held = {}
            for place in places_in(pair):
                uri = here[place.holder][place]
                secrets = secrets_of(self.session, self.key_set.name_of(place.holder))
                held[place] = opened.enter_context(self.session.open(uri, secrets)).key(uri)
            key = pair_key(self.public, self.key_set.points(), held)
            candidates = list(key.agreements(S))
        yield from candidates

    def _choose(self, here: Held) -> str | None:
        """The pair to use: those first whose PINs the command line names."""
        able = [pair for pair in PAIRS if here.keys() >= set(pair)]
        given = self.session.secrets.administrators
        return max(
            able,
            key=lambda pair: sum(self.key_set.name_of(holder) in given for holder in pair),
            default=None,
        )


def filed_decryptors(session: Session) -> list[LazyKeySet]:
    """Every key set known here. Whoever vouches for it: decrypting needs no trust."""
    filed = filed_key_sets(session.state)
    return [LazyKeySet(session, peek_key_set(one.envelope)) for one in filed]


def tokens_here(session: Session, key_set: AdministratorKeySet) -> Held:
    """Whose tokens are plugged in, and which keys on them are the parts. Asks for no PIN."""
    points = key_set.points()
    with all_keys(session) as keys:
        tokens: dict[Uri, dict[int, Uri]] = {}
        for token, key in keys:
            if key.use is Use.ENCRYPT and key.public.curve is key_set.public.curve:
                # By x alone: devices differ in the sign that they show on X25519 and X448.
                tokens.setdefault(token.info.uri, {})[key.public.x] = key.uri
    found: Held = {}
    for holder in HOLDERS:
        places = [place for place in PLACES if place.holder == holder]
        for held in tokens.values():
            if all(points[place].x in held for place in places):
                found[holder] = {place: held[points[place].x] for place in places}
    return found


def who_is_missing(key_set: AdministratorKeySet, here: Mapping[str, object]) -> str:
    """One sentence: whose token is here, and whose is needed."""
    present = [key_set.name_of(holder) for holder in HOLDERS if holder in here]
    absent = [key_set.name_of(holder) for holder in HOLDERS if holder not in here]
    if not present:
        return (
            f"{key_set.name} opens with the tokens of two of {_listed(absent, 'and')}: none is here"
        )
    return (
        f"{key_set.name} opens with two tokens: {present[0]}'s is here, "
        f"that of {_listed(absent, 'or')} is needed as well"
    )


def _listed(names: Sequence[str], joint: str) -> str:
    return f" {joint} ".join((", ".join(names[:-1]), names[-1]))

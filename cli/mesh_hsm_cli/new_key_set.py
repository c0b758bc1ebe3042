"""``keyset create``, step by step: three tokens get their parts, or none does (threshold §4).

Open this file to see how long the dealer has the key: from ``deal`` to the end of
``create_key_set``, in memory alone. All three tokens are open by then, so that a failure at the
last one takes back what the others got.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mesh_hsm.curves import curve
from mesh_hsm.errors import ConflictError, FormatError, UnsupportedError
from mesh_hsm.mesh import AdministratorKeySet, Signed, create_key_set
from mesh_hsm.mesh.key_set import check_name, dealer_text
from mesh_hsm.provider import DeviceKey, Imports, KeySpec, Token, Use
from mesh_hsm.threshold.two_of_three import HOLDERS, PLACES, Place, deal, places_of
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli import choices, interrupted
from mesh_hsm_cli.administrator import own_mesh
from mesh_hsm_cli.administrator_secrets import secrets_of
from mesh_hsm_cli.administrators import choose_administrator
from mesh_hsm_cli.find import quoted
from mesh_hsm_cli.key_sets import refuse_name
from mesh_hsm_cli.paths import refuse_existing
from mesh_hsm_cli.records import FiledKeySet, key_set_path
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.trust import needed_keys


@dataclass(frozen=True, slots=True)
class NewKeySet:
    """What was asked for. ``tokens``: an administrator's name and token, for A, B and C.

    ``administrator`` signs the record: one whose device is plugged in, unless it is named.
    """

    name: str
    tokens: tuple[tuple[str, Uri], ...]
    algorithm: str | None
    dealer: str | None
    administrator: str | None
    out: Path


def new_key_set(session: Session, wanted: NewKeySet, now: datetime) -> Signed[AdministratorKeySet]:
    """Deal a key to three tokens, file its public record and write it to ``out``; or leave nothing.

    Raises ``ConflictError`` for one token twice and for names in use, ``UnsupportedError`` for
    tokens that take no key from outside or have no curve in common.
    """
    record, master = own_mesh(session)
    names = tuple(name for name, _ in wanted.tokens)
    for name in (wanted.name, *names):
        check_name(name)
    if len(set(names)) != len(HOLDERS):
        raise FormatError("a key set has three administrators with different names")
    refuse_name(session, wanted.name)
    refuse_existing(wanted.out)
    by = choose_administrator(session, record, wanted.administrator)
    administrator = Uri.parse(by.administrator.uri)
    with _opened(session, wanted) as tokens, session.open(administrator) as store:
        signer = store.key(administrator)
        dealer = wanted.dealer or udf_of(signer.public)
        specs = _specs(tokens, wanted)  # every refusal comes before the first part
        dealt = deal(curve(specs[PLACES[0]].algorithm))
        with Rollback(session.output.notice) as undo:
            held: dict[Place, DeviceKey] = {}
            for holder, token in tokens.items():
                note = interrupted.key_set_note(session.state, token.info.uri)
                interrupted.clear(session, token, note, needed_keys(session))
                undo.new_note(note)
                noted = interrupted.Interrupted(str(token.info.uri))
                for place in places_of(holder):
                    undo.new_key(token, specs[place].label)
                    noted = noted.announce(note, specs[place].label)
                    assert isinstance(token, Imports)  # noqa: S101  _specs has refused any other
                    scalar = dealt.parts[place].value
                    held[place] = token.import_scalar(specs[place], scalar, (dealer_text(dealer),))
            signed = create_key_set(
                dealt,
                held,
                name=wanted.name,
                names=names,
                dealer=dealer,
                master=master,
                administrator=signer,
                now=now,
            )
            path = key_set_path(session.state, signed.value.udf)
            undo.new_file(path)
            FiledKeySet(wanted.name, signed.value.udf, signed.envelope).save(path)
            undo.write_new(wanted.out, signed.text)
    return signed


@contextmanager
def _opened(session: Session, wanted: NewKeySet) -> Iterator[dict[str, Token]]:
    """The three tokens by A, B, C, each with its own administrator's secrets."""
    with ExitStack() as stack:
        tokens: dict[str, Token] = {}
        for holder, (name, uri) in zip(HOLDERS, wanted.tokens, strict=True):
            token = stack.enter_context(session.open(uri, secrets_of(session, name)))
            for other in tokens.values():
                if other.info.uri == token.info.uri:
                    raise ConflictError(
                        f"{token.info.label} cannot be the token of two administrators",
                        hint="each needs one of his own: otherwise who has it has the key",
                        uri=str(token.info.uri),
                    )
            tokens[holder] = token
        for token in tokens.values():
            choices.say_what_it_is(session, token.info)
        yield tokens


def _specs(tokens: Mapping[str, Token], wanted: NewKeySet) -> dict[Place, KeySpec]:
    for token in tokens.values():
        if not isinstance(token, Imports):
            raise UnsupportedError(
                f"{token.info.label} takes no keys from outside", uri=str(token.info.uri)
            )
    algorithm = _algorithm(list(tokens.values()), wanted.algorithm)
    return {
        place: KeySpec(
            algorithm,
            Use.ENCRYPT,
            # The pairs are in the name, so that a person sees which part is which.
            f"{wanted.name}-{place}",
            pin=choices.pin_policy(tokens[place.holder], Use.ENCRYPT, no_pin=False),
        )
        for place in PLACES
    }


def _algorithm(tokens: list[Token], wanted: str | None) -> str:
    """The strongest curve that all three tokens encrypt with, or the one that was asked for."""
    if wanted is not None:
        for token in tokens:
            token.capability(wanted, Use.ENCRYPT)
        return wanted
    common = set(choices.AGREEMENT)
    for token in tokens:
        common &= {
            one.algorithm
            for one in token.capabilities()
            if one.primitive in Use.ENCRYPT.primitives and not one.needs_consent
        }
    for algorithm in choices.AGREEMENT:
        if algorithm in common:
            return algorithm
    raise UnsupportedError(
        "the three tokens have no curve in common to encrypt with",
        hint=f"mesh-hsm token show {quoted(tokens[0].info.uri)}, and of the others",
    )

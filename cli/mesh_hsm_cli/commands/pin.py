"""``mesh-hsm pin``: change what a device asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh_hsm.errors import NotFoundError, UnsupportedError
from mesh_hsm_cli.find import find_key, find_token
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.records import load_device
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import Token
    from mesh_hsm.uri import Uri

command = noun("Change a device's PIN, or set it anew.")


@verb(
    command,
    "change",
    example="mesh-hsm pin change\nmesh-hsm pin change archive\n"
    "mesh-hsm pin change --token build-hsm",
)
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--token", help="A token, by URI or label, whose keys share one PIN.")
@secret_options("pin", "new-pin", "passphrase", "new-passphrase")
@click.pass_obj
def change(session: Session, key: str | None, token: str | None) -> None:
    """Change the PIN of KEY, of a token, or of all keys of this device.

    Where the keys of a token share one PIN it is changed once, for all of them. A key file that
    was copied before keeps its old PIN: a changed PIN recalls no copy.
    """
    if key is not None and token is not None:
        raise click.UsageError("a KEY and --token exclude each other")
    changed: list[str] = []
    with session.state.writing():
        if token is not None:
            with session.open(find_token(session, token)) as opened:
                changed.append(str(_change(session, opened, None)))
        else:
            _change_keys(session, key, changed)
    session.output.result({"changed": changed}, [f"changed the PIN of {uri}" for uri in changed])


@verb(command, "reset", example="mesh-hsm pin reset build-hsm")
@click.argument("token", metavar="TOKEN")
@secret_options("so-pin", "puk", "new-pin")
@click.pass_obj
def reset(session: Session, token: str) -> None:
    """Set a forgotten or blocked PIN anew, by the security officer's. The keys stay.

    TOKEN is a URI, as token list shows it, or a label.
    """
    _reset(session, token)


@verb(command, "unblock", example="mesh-hsm pin unblock alice-admin")
@click.argument("token", metavar="TOKEN")
@secret_options("so-pin", "puk", "new-pin")
@click.pass_obj
def unblock(session: Session, token: str) -> None:
    """Set a forgotten or blocked PIN anew, by the PUK: what pin reset is called on smart cards.

    TOKEN is a URI, as token list shows it, or a label. The keys stay.
    """
    _reset(session, token)


def _reset(session: Session, token: str) -> None:
    from mesh_hsm_cli.erasing import security_officer

    uri = find_token(session, token)
    with session.state.writing():
        security_officer(session, uri).reset_pin(uri, session.secrets)
    session.output.result({"reset": str(uri)}, [f"set a new PIN for {uri}"])


def _change_keys(session: Session, key: str | None, changed: list[str]) -> None:
    """One key, or all of this device; its keys are on one token. Notes what is done."""
    try:
        for name in [key] if key is not None else _own_keys(session):
            with find_key(session, name) as (token, found):
                session.secrets.many_keys = key is None
                done = _change(session, token, found.uri)
                changed.append(str(done))
                if done != found.uri:
                    break
    except Exception:
        if changed:
            session.output.notice(f"changed before it failed: {', '.join(changed)}", loud=True)
        raise


def _change(session: Session, token: Token, key: Uri | None) -> Uri:
    """Change a key's PIN, or the token's if the keys share it; and say which it was."""
    from mesh_hsm.provider import ChangesPin

    if not isinstance(token, ChangesPin):
        raise UnsupportedError(f"{token.info.label} changes no PINs")
    if token.pin_is_shared:
        session.secrets.many_keys = False
        token.change_pin(key or token.info.uri)
        return token.info.uri
    if key is None:
        raise UnsupportedError(
            f"each key of {token.info.label} has a PIN of its own", hint="name a KEY instead"
        )
    token.change_pin(key)
    return key


def _own_keys(session: Session) -> list[str]:
    record = load_device(session.state)
    if record is None:
        raise NotFoundError("this machine is not a device yet", hint="name a KEY, or --token TOKEN")
    return list(record.keys.values())

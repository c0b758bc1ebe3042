"""``key attest``: evidence that a device gives of its key, verified here or made for another."""

from __future__ import annotations

from typing import Any, Final

from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Attests, Token
from mesh_hsm.threshold import Challenge, Verifier
from mesh_hsm_cli.commands.key import describe
from mesh_hsm_cli.find import find_key
from mesh_hsm_cli.paths import input_stream, output_stream
from mesh_hsm_cli.session import Session

_HERE: Final = "mesh-hsm on this machine"
_LARGEST: Final = 4096


def verify_here(session: Session, name: str) -> dict[str, Any]:
    """The key as ``key show`` has it, with the statement that its device has proved."""
    with find_key(session, name) as (token, key):
        device, judge = _attests(token), session.judge(key.uri.scheme)
        question = judge.ask(device.introduce())
        asked = Verifier(_HERE, questions=[question] if question else [])
        evidence = device.attest(key.uri, asked.challenge.octets)
        statement = judge.judge(evidence, key.public, key.use, asked)
        return describe(key) | {"custody": statement.to_json()}


def answer(session: Session, name: str, challenge: str, out: str, *, force: bool) -> str:
    """Write evidence for a verifier, whose name is shown first; returns that name."""
    with input_stream(challenge) as file:
        octets = file.read(_LARGEST)
    verifier = Challenge.parse(octets).verifier_id
    session.output.notice(f"this proves the key to {verifier}, and to nobody else", loud=True)
    with (
        find_key(session, name) as (token, key),
        output_stream(out, force=force, binary=True) as file,
    ):
        file.write(_attests(token).attest(key.uri, octets))
    return verifier


def _attests(token: Token) -> Attests:
    if not isinstance(token, Attests):
        raise UnsupportedError(f"{token.info.label} attests nothing", uri=str(token.info.uri))
    return token

"""GENERAL AUTHENTICATE with the management key 9B, both ways (SP 800-73-4 Part 2 Appendix A.1)."""

from __future__ import annotations

import hmac
import os

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv.names import Operation, Reference, Tag, TouchPolicy
from mesh_hsm.testing.virtual_yubikey.piv.state import Context, Leftover
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status


def authenticate(context: Context, command: Command) -> bytes:
    """Give a witness or a nonce; or look at the answer to the one that was just given.

    ``80 {}`` then ``80 witness, 81 challenge`` is mutual, ``81 {}`` then ``82 response`` single.
    """
    key = context.state.management
    if command.p1 != key.type:
        raise Refused(Status.WRONG_DATA)
    fields = tlv.fields(tlv.unwrap(Tag.DYNAMIC_AUTHENTICATION, command.data))
    if fields.keys() > {Tag.RESPONSE} and not fields[Tag.RESPONSE]:
        del fields[Tag.RESPONSE]  # some hosts name what they expect, as A.1's example does
    fresh = os.urandom(key.block_size)
    before, session = context.session.before, context.session
    match fields:
        case {Tag.WITNESS: b"", **rest} if not rest:
            session.after = Leftover(witness=fresh)
            return _answer(Tag.WITNESS, key.encrypt(fresh))
        case {Tag.CHALLENGE: b"", **rest} if not rest:
            session.after = Leftover(nonce=fresh)
            return _answer(Tag.CHALLENGE, fresh)
        case {Tag.WITNESS: witness, Tag.CHALLENGE: challenge, **rest} if not rest:
            response = key.encrypt(challenge)
            _admit(context, witness, before.witness)
            return _answer(Tag.RESPONSE, response)
        case {Tag.RESPONSE: response, **rest} if not rest:
            expected = None if before.nonce is None else key.encrypt(before.nonce)
            _admit(context, response, expected)
            return b""
        case _:
            raise Refused(Status.WRONG_DATA)


def _admit(context: Context, given: bytes, expected: bytes | None) -> None:
    context.session.management_authenticated = False
    if expected is None or not hmac.compare_digest(given, expected):
        raise Refused(Status.SECURITY_NOT_SATISFIED)
    if context.state.management.touch is not TouchPolicy.NEVER:
        context.require_touch()
    context.session.management_authenticated = True
    context.count(Reference.MANAGEMENT, Operation.AUTHENTICATE)


def _answer(tag: Tag, value: bytes) -> bytes:
    return tlv.encode(Tag.DYNAMIC_AUTHENTICATION, tlv.encode(tag, value))

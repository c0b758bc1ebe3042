"""What passes over the module's boundary: how many calls, never a PIN, and nothing left there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pytest
from interposer import Rv
from pkcs11 import Attribute, ObjectClass

from mesh_hsm.curves import P384
from mesh_hsm.errors import MeshHsmError
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm_pkcs11 import objects
from mesh_hsm_pkcs11.binding import Kind
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.token import Pkcs11Token

from .conftest import AGREE, SIGN, Counted, Hsm, answers

FIND = ["C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal"]
READ = "C_GetAttributeValue"
AGREEING = ["P-256", "P-384", "P-521", "X25519", "X448"]
SIGNING = {"P-256": 32, "P-384": 48, "P-521": 64, "Ed25519": 3, "Ed448": 3}
A_STEP_TOO_MANY = 200


def merged(calls: Collection[str]) -> list[str]:
    """Runs of one call as one: how long they are depends on the machine's slots and mechanisms."""
    return [name for name, _ in groupby(calls)]


@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.AUTHENTICATE])
@pytest.mark.parametrize("algorithm", AGREEING)
def test_calls_of_a_warm_agreement(
    token: Pkcs11Token, counted: Counted, algorithm: str, use: Use
) -> None:
    key = token.generate(KeySpec(algorithm, use, "warm"))
    key.agree(key.public.curve.base)
    for _ in range(3):
        assert counted(lambda: key.agree(key.public.curve.base)) == AGREE


@pytest.mark.parametrize("algorithm", SIGNING)
def test_calls_of_a_warm_signature(token: Pkcs11Token, counted: Counted, algorithm: str) -> None:
    key = token.generate(KeySpec(algorithm, Use.SIGN, "warm"))
    key.sign(bytes(SIGNING[algorithm]))
    for _ in range(3):
        assert counted(lambda: key.sign(bytes(SIGNING[algorithm]))) == SIGN


def test_calls_of_a_cold_use(hsm: Hsm, counted: Counted) -> None:
    """No mechanism is looked up, nothing is looked for twice, the PIN goes once."""
    uri = hsm.open().generate(KeySpec("P-384", Use.ENCRYPT, "cold")).uri
    hsm.close()
    calls = counted(lambda: hsm.open().key(uri).agree(P384.base))
    assert merged(calls) == [
        *("C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo"),  # which token is it?
        *("C_OpenSession", *FIND, READ),  # the public key, before anybody is asked for a PIN
        *("C_GetTokenInfo", "C_Login"),  # how many tries are left?
        *FIND,
        *AGREE,
    ]
    assert counted(hsm.close) == ["C_Logout", "C_CloseSession"]


@pytest.mark.parametrize("number", [1, 5])
def test_calls_of_looking(token: Pkcs11Token, counted: Counted, number: int) -> None:
    """A search and a reading for each key; nothing at all for what is known already."""
    made = [token.generate(KeySpec("P-256", Use.ENCRYPT, f"key {n}")) for n in range(number)]
    key = made[0]
    key.custody()
    calls = counted(token.keys)
    assert merged(calls) == [*FIND, READ]
    assert calls.count(READ) == number
    calls = counted(lambda: token.key(key.uri))
    assert merged(calls) == [*FIND, READ]
    assert calls.count(READ) == 1
    assert counted(key.custody) == [READ]
    assert counted(token.capabilities) == []


@pytest.mark.parametrize("number", [0, 300])
def test_one_key_is_found_without_listing_the_others(
    hsm: Hsm, counted: Counted, number: int
) -> None:
    crowded = hsm.rig.add_token("crowded")
    token = hsm.open(answers(crowded.pin), uri=crowded.uri)
    key = token.generate(KeySpec("P-256", Use.ENCRYPT, "ours"))
    token._connection.run("fill it", lambda session: fill(session, key.public.encode(), number))
    token.close()

    def find() -> None:
        with hsm.open(answers(crowded.pin), uri=crowded.uri) as again:
            key = again.key(token.info.uri.with_attribute("object", "ours"))
            key.agree(key.public)
            key.custody()

    calls = counted(find)
    assert [merged(calls).count(name) for name in FIND] == [2, 2, 2]
    assert calls.count("C_FindObjects") <= 4  # until there are no more
    assert calls.count(READ) == 3  # the public point, the agreed secret, the custody


def fill(session: Session, point: bytes, number: int) -> None:
    for n in range(number):
        session.raw.create_object(
            {
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.KEY_TYPE: Kind.EC,
                Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107"),
                Attribute.EC_POINT: b"\x04\x41" + point,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: False,
                Attribute.LABEL: f"theirs {n}",
                Attribute.ID: n.to_bytes(2, "big"),
            }
        )


# -- secrets ---------------------------------------------------------------------------------------

EVERYTHING = """
import logging, sys
from pathlib import Path
from mesh_hsm.curves import P384
from mesh_hsm.errors import WrongSecretError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
pin, wrong = sys.stdin.readline().encode().split()
records, uri = Path(sys.argv[1]), Uri.parse(sys.argv[2])
secrets = FixedSecrets({SecretKind.PIN: pin, SecretKind.NEW_PIN: pin})
try:
    Pkcs11Provider(records).open(uri, FixedSecrets({SecretKind.PIN: wrong})).generate(
        KeySpec("P-384", Use.ENCRYPT, "agree")
    )
except WrongSecretError as error:
    print(repr(error), error.hint)
with Pkcs11Provider(records).open(uri, secrets) as token:
    agree = token.generate(KeySpec("P-384", Use.ENCRYPT, "agree"))
    sign = token.generate(KeySpec("P-384", Use.SIGN, "sign"))
    agree.agree(P384.base), sign.sign(bytes(48))
    print(token.unseal(token.seal("seed", b"a seed")) == b"a seed")
    token.change_pin(uri)
    print(token, agree, agree.custody(), sign.custody(), token.capabilities(), vars(token))
    token.delete(sign.uri)
"""


def test_no_pin_is_written_anywhere(hsm: Hsm, tmp_path: Path) -> None:
    """Neither into the record of calls, nor into ours, nor into what a program may print or log."""
    log, pin, wrong = tmp_path / "calls", hsm.rig.pin, "31415926-wrong"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", EVERYTHING, str(hsm.records), hsm.rig.uri],
        input=f"{pin} {wrong}\n",
        env=os.environ | hsm.interposer.environment(log=log),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WrongSecretError" in done.stdout
    assert {"C_Login", "C_SetPIN", "C_DeriveKey"} <= set(log.read_text().split())
    files = [path.read_text() for path in [log, *hsm.records.rglob("*")] if path.is_file()]
    assert len(files) >= 4
    for text in [done.stdout, done.stderr, *files]:
        assert pin not in text
        assert wrong not in text


# -- nothing is left in a session ------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[Pkcs11Token, DeviceKey, DeviceKey], object]] = {
    "agree": lambda token, agree, sign: agree.agree(P384.base),
    "sign": lambda token, agree, sign: sign.sign(bytes(48)),
    "unseal": lambda token, agree, sign: token.unseal(token.seal("seed", b"a seed")),
    "custody": lambda token, agree, sign: agree.custody(),
    "keys": lambda token, agree, sign: token.keys(),
}


def session_objects(hsm: Hsm) -> list[objects.Handle]:
    """All objects that live in sessions of this process, whichever."""
    looking = hsm.open()
    wanted = {Attribute.TOKEN: False}
    found = looking._connection.run("look around", lambda session: objects.search(session, wanted))
    looking.close()
    return found


@pytest.mark.parametrize("code", [Rv.DEVICE_ERROR, Rv.GENERAL_ERROR], ids=lambda code: code.name)
@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_secret_stays_in_any_session(
    hsm: Hsm, token: Pkcs11Token, operation: str, after: bool, code: Rv
) -> None:
    """Whichever call fails: refused, or done and not said so. Then the next use works."""
    agree = token.generate(KeySpec("P-384", Use.ENCRYPT, "agree"))
    sign = token.generate(KeySpec("P-384", Use.SIGN, "sign"))
    token.seal("first", b"so that the sealing key is there")

    def work() -> None:
        OPERATIONS[operation](token, agree, sign)

    work()
    for step in range(A_STEP_TOO_MANY):
        fired = hsm.interposer.fired
        with hsm.interposer.failing(step, code, after=after), suppress(MeshHsmError):
            work()
        met = hsm.interposer.fired > fired
        assert session_objects(hsm) == [], f"step {step}"
        work()
        if not met:
            break
    assert 0 < step < A_STEP_TOO_MANY - 1


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
def test_no_trial_key_stays_in_any_session(hsm: Hsm, after: bool) -> None:
    """What finds out what a token can do makes keys and secrets for it, before a login and after.

    The next who asks is told the truth, whatever failed before.
    """
    complete = frozenset(hsm.open().capabilities())
    for step in range(A_STEP_TOO_MANY):
        hsm.close()
        token, fired = hsm.open(), hsm.interposer.fired
        with hsm.interposer.failing(step, Rv.DEVICE_ERROR, after=after), suppress(MeshHsmError):
            token.capabilities()
        assert session_objects(hsm) == [], f"step {step}"
        if hsm.interposer.fired == fired:
            break
        hsm.close()
        assert hsm.open().capabilities() == complete
    assert 0 < step < A_STEP_TOO_MANY - 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("during", ["read", "derive", "find"])
def test_nothing_stays_after_an_interruption(
    hsm: Hsm, token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch, during: str, interruption: type
) -> None:
    """The call is done, and its answer never seen."""
    key = token.generate(KeySpec("P-384", Use.ENCRYPT, "agree"))
    kind = type(token._connection.sessions.module.cryptoki)
    real = getattr(kind, during)

    def interrupted(*arguments: object) -> None:
        real(*arguments)
        raise interruption

    with monkeypatch.context() as patched:
        patched.setattr(kind, during, interrupted)
        with pytest.raises(interruption):
            key.agree(P384.base)
    assert session_objects(hsm) == []
    assert key.agree(P384.base).x == key.public.x

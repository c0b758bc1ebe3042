"""What somebody without a PIN, a broken token, or another part of the program can bring about.

Whoever reaches a token may open a session, and make and destroy public objects in it, without a
PIN (PKCS #11 v3.0 §5.6.1): what a token shows is no more than what was put there last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from ctypes import Array, byref, c_ulong
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from traceback import walk_tb
from typing import Any
from unittest import mock
from urllib.parse import quote

import bare_module as p11
import pytest
from bare_module import BareModule, Template
from interposed_bench import wrapped
from interposer import Rv
from pkcs11.exceptions import DomainParamsInvalid
from softhsm_bench import SofthsmBench

from mesh_hsm.curves import P256, P384, SecretScalar
from mesh_hsm.custody import CustodyClass, PinPolicy
from mesh_hsm.errors import (
    AccessError,
    ConflictError,
    DeviceError,
    NotFoundError,
    UnsupportedError,
    WrongSecretError,
)
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.secret_source import NoSecrets, SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider, sealing, slots, trying
from mesh_hsm_pkcs11.curve_forms import OIDS
from mesh_hsm_pkcs11.templates import Wish
from mesh_hsm_pkcs11.token import Pkcs11Token

from .conftest import Hsm, answers, slot_of

OURS = KeySpec("P-384", Use.ENCRYPT, "ours")
SIGNS = KeySpec("P-384", Use.SIGN, "ours")
DIGEST = bytes(48)
FALSE = b"mesh-hsm\x01w" + bytes(10)
"""The CKA_ID of a sealing key, for all that one can see."""
WRONG = "0000-0000"
CHANGED = "a changed PIN"
ATTRIBUTE_TYPE_INVALID, PIN_EXPIRED = 0x12, 0xA3
PIN_COUNT_LOW = 1 << 16


@dataclass
class Stranger:
    """A session without a PIN, and a pair of its own. What it changed is put right afterwards."""

    hsm: Hsm
    scalar: SecretScalar = field(default_factory=lambda: SecretScalar.random(P384))
    made: list[int] = field(default_factory=list)
    taken: list[Template] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.module: BareModule = self.hsm.bare
        self.session = self.hsm.elsewhere()

    def show(self, label: str, identifier: bytes) -> None:
        """Put the stranger's public key on the token, under somebody else's name."""
        point = wrapped(self.scalar.public().encode())
        self.made.append(self._create(p11.PUBLIC_KEY, label, identifier, {p11.EC_POINT: point}))

    def bring(self, label: str, identifier: bytes) -> None:
        """Put the stranger's private key there, for anybody to use."""
        uses = {p11.DERIVE: True, p11.SENSITIVE: True, p11.EXTRACTABLE: False}
        value = {p11.VALUE: self.scalar.value.to_bytes(48, "big")}
        more: Template = {**uses, **value}
        self.made.append(self._create(p11.PRIVATE_KEY, label, identifier, more))

    def take(self, label: str) -> bytes:
        """Destroy the public key with this label. Its CKA_ID."""
        wanted = {p11.CLASS: p11.PUBLIC_KEY, p11.LABEL: label.encode()}
        (handle,) = self.module.find(self.session, wanted)
        identifier = self.module.read(self.session, handle, p11.ID)
        point = self.module.read(self.session, handle, p11.EC_POINT)
        self.taken.append({p11.LABEL: label.encode(), p11.ID: identifier, p11.EC_POINT: point})
        self.module("C_DestroyObject", self.session, handle)
        return identifier

    def replace(self, label: str) -> None:
        """Put the stranger's public key where the one with this label is."""
        self.show(label, self.take(label))

    def undo(self) -> None:
        """Leave the token as it was."""
        self.session = self.hsm.elsewhere()
        for handle in self.made:
            self.module("C_DestroyObject", self.session, handle)
        for told in self.taken:
            self._create(p11.PUBLIC_KEY, "", b"", told)

    def _create(self, kind: int, label: str, identifier: bytes, more: Template) -> int:
        usual: Template = {
            p11.CLASS: kind,
            p11.KEY_TYPE: p11.EC,
            p11.TOKEN: True,
            p11.PRIVATE: False,
            p11.LABEL: label.encode(),
            p11.ID: identifier,
            p11.EC_PARAMS: OIDS["P-384"],
        }
        return self.module.create(self.session, {**usual, **more})


@pytest.fixture
def stranger(hsm: Hsm) -> Iterator[Callable[[], Stranger]]:
    """Comes when it is called, and nobody is logged in then."""
    came: list[Stranger] = []

    def comes() -> Stranger:
        hsm.open().keys()  # the module is loaded
        hsm.close()
        came.append(Stranger(hsm))
        return came[-1]

    yield comes
    for one in came:
        one.undo()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The records of another machine."""
    return tmp_path / "elsewhere"


def agrees(key: DeviceKey) -> bool:
    peer = SecretScalar.random(key.public.curve)
    return bool(key.agree(peer.public()).x == peer.x_of(key.public).x)


def objects(hsm: Hsm) -> list[tuple[int, bytes]]:
    """Class and CKA_ID of everything on the token."""
    return SofthsmBench(hsm.rig, hsm.interposer, hsm.records)._objects()


def asked(pin: str, new: str = CHANGED) -> Asked:
    return Asked({SecretKind.PIN: pin.encode(), SecretKind.NEW_PIN: new.encode()})


# -- what anybody may put on a token ---------------------------------------------------------------


@pytest.mark.parametrize("named", ["object", "id"])
def test_a_public_key_is_the_one_that_was_made(
    hsm: Hsm, stranger: Callable[[], Stranger], named: str
) -> None:
    """Whatever a stranger put in its place: what is encrypted to it is for nobody else."""
    made = hsm.open().generate(OURS)
    evil = stranger()
    evil.replace("ours")
    token = hsm.open()
    uri = made.uri
    if named == "id":
        uri = Uri.parse(f"{token.info.uri};id={quote(evil.taken[0][p11.ID], safe='')}")
    found = token.key(uri)
    assert found.public == made.public
    assert [key.public for key in list(token.keys())] == [made.public]
    assert agrees(found)


@pytest.mark.parametrize("taken", [False, True], ids=["beside", "instead"])
def test_a_label_is_the_one_of_the_key_that_was_made(
    hsm: Hsm, stranger: Callable[[], Stranger], taken: bool
) -> None:
    """A stranger gives it to a whole pair of its own, beside ours or where ours was."""
    made = hsm.open().generate(OURS)
    evil = stranger()
    if taken:
        evil.take("ours")
    for leave in (evil.show, evil.bring):
        leave("ours", FALSE.replace(b"w", b"e"))
    token = hsm.open()
    if taken:
        with pytest.raises(NotFoundError):
            token.key(made.uri)
    else:
        assert token.key(made.uri).public == made.public


@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
def test_a_key_of_another_machine_is_used_only_if_its_halves_belong_together(
    hsm: Hsm, stranger: Callable[[], Stranger], elsewhere: Path, use: Use
) -> None:
    uri = hsm.open().generate(KeySpec("P-384", use, "ours")).uri
    stranger().replace("ours")
    found = hsm.open(records=elsewhere).key(uri)
    with pytest.raises(DeviceError):
        found.sign(DIGEST) if use is Use.SIGN else found.agree(P384.base)


def test_a_secret_is_sealed_to_the_tokens_own_key(
    hsm: Hsm, stranger: Callable[[], Stranger]
) -> None:
    """A stranger's public key may be called so, and be the first of those that are."""
    first = hsm.open().seal("seed", b"a seed")
    stranger().show("mesh-hsm sealing key", FALSE)
    token = hsm.open()
    sealed = token.seal("seed", b"another seed")
    assert FALSE not in sealed
    assert (token.unseal(first), token.unseal(sealed)) == (b"a seed", b"another seed")


def test_a_secret_is_sealed_to_no_key_that_only_looks_like_the_tokens_own(
    hsm: Hsm, stranger: Callable[[], Stranger]
) -> None:
    """There is none yet; the stranger left a whole pair. One is made that is the token's own."""
    evil = stranger()
    for leave in (evil.show, evil.bring):
        leave("mesh-hsm sealing key", FALSE)
    assert FALSE not in hsm.open().seal("seed", b"a seed")


# -- who is logged in ------------------------------------------------------------------------------


def test_a_login_past_us_proves_no_pin(hsm: Hsm) -> None:
    """Another part of the program is logged in. A wrong PIN is refused, the right one works."""
    uri = hsm.open().generate(SIGNS).uri
    hsm.close()
    bare, session = hsm.bare, hsm.elsewhere()
    bare.login(session, hsm.rig.pin)
    with pytest.raises(WrongSecretError):
        hsm.open(answers(WRONG)).key(uri).sign(DIGEST)
    bare.login(session, hsm.rig.pin)
    hsm.open().key(uri).sign(DIGEST)


def test_a_key_of_another_machine_asks_for_its_pin_each_time(hsm: Hsm, elsewhere: Path) -> None:
    """The token knows that it does, though we have no record of it."""
    uri = hsm.open().generate(replace(SIGNS, pin=PinPolicy.ALWAYS)).uri
    hsm.close()
    secrets = asked(hsm.rig.pin)
    found = hsm.open(secrets, records=elsewhere).key(uri)
    for uses in (1, 2):
        found.sign(DIGEST)
        assert len(secrets.requests) == 1 + uses


# -- a new PIN -------------------------------------------------------------------------------------


@contextmanager
def changed_back(hsm: Hsm) -> Iterator[None]:
    """The token gets its own PIN again."""
    try:
        yield
    finally:
        hsm.interposer.clear()
        hsm.close()
        token = hsm.open(asked(CHANGED, hsm.rig.pin))
        token.change_pin(token.info.uri)


def test_a_pin_change_whose_answer_was_lost_is_not_repeated(hsm: Hsm) -> None:
    """The old PIN is wrong by then, and no try is wasted to find that out."""
    hsm.interposer.set_tries(3)
    secrets = asked(hsm.rig.pin)
    token = hsm.open(secrets)
    with changed_back(hsm):
        hsm.interposer.fail("C_SetPIN", Rv.DEVICE_REMOVED, after=True)
        with (
            hsm.interposer.counted() as calls,
            pytest.raises(DeviceError, match="the old one or the new one"),
        ):
            token.change_pin(token.info.uri)
        assert (calls.count("C_Login"), calls.count("C_SetPIN")) == (1, 1)
        assert not hsm.bare.token_info(slot_of(token)).flags & PIN_COUNT_LOW
        hsm.interposer.remove(slot_of(token))
        hsm.interposer.insert(slot_of(token))
        secrets.wrong = frozenset({SecretKind.PIN})
        with pytest.raises(WrongSecretError):  # of the one that is asked for now
            token.generate(SIGNS)
        assert [request.kind for request in secrets.requests].count(SecretKind.PIN) == 2


def test_an_expired_pin_can_be_changed(hsm: Hsm) -> None:
    """Nothing else can be done with it, and that is said."""
    token = hsm.open(asked(hsm.rig.pin))
    with changed_back(hsm):
        hsm.interposer.always("C_Login", PIN_EXPIRED)
        with pytest.raises(AccessError) as expired:
            token.generate(SIGNS)
        assert f"pin change --token '{token.info.uri}'" in (expired.value.hint or "")
        token.change_pin(token.info.uri)
        hsm.interposer.clear()
        token.delete(token.generate(SIGNS).uri)


# -- broken tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rv", [Rv.DEVICE_ERROR, Rv.FUNCTION_FAILED], ids=lambda rv: rv.name)
def test_a_key_is_made_once_though_the_token_says_that_it_failed(hsm: Hsm, rv: Rv) -> None:
    """A twin of the same CKA_ID could be neither named nor used nor deleted."""
    token = hsm.open()
    token.capability(OURS.algorithm, OURS.use)  # tried, so that the next one is for good
    hsm.interposer.fail("C_GenerateKeyPair", rv, after=True)
    with suppress(DeviceError):
        token.generate(OURS)
    assert hsm.interposer.fired == 1
    there = objects(hsm)
    assert len(there) == len(set(there)) == 2 * len(token.keys())


@contextmanager
def somebodys_key(hsm: Hsm) -> Iterator[None]:
    """A key pair of another program's, without CKA_ID."""
    bare, session = hsm.bare, hsm.elsewhere()
    bare.login(session, hsm.rig.pin)
    stored = {p11.TOKEN: True, p11.LABEL: b"somebody else's"}
    bare.generate(
        session,
        p11.EC_GENERATION,
        {**stored, p11.PRIVATE: False, p11.EC_PARAMS: OIDS["P-384"]},
        {**stored, p11.SIGN: True},
    )
    bare("C_CloseSession", session)
    try:
        yield
    finally:
        hsm.close()
        session = hsm.elsewhere()
        bare.login(session, hsm.rig.pin)
        for handle in bare.find(session, {p11.LABEL: b"somebody else's"}):
            bare("C_DestroyObject", session, handle)


def test_nobody_elses_key_is_destroyed_with_one_that_was_refused(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token gives keys neither the CKA_ID nor the label that it is told."""
    told = trying._ask

    def ask(session: object, wish: object, recipe: object, left_out: object) -> object:
        if wish.token:
            wish = replace(wish, identifier=b"", label="x")
        return told(session, wish, recipe, left_out)

    monkeypatch.setattr(trying, "_ask", ask)
    token = hsm.open()
    with somebodys_key(hsm):
        with pytest.raises(UnsupportedError):
            token.generate(SIGNS)
        assert sorted(objects(hsm)) == [(p11.PUBLIC_KEY, b""), (p11.PRIVATE_KEY, b"")]


def test_a_passing_failure_hides_no_curve(hsm: Hsm) -> None:
    token = hsm.open()
    hsm.interposer.fail("C_DeriveKey", Rv.DEVICE_MEMORY)
    token.capabilities()
    assert hsm.interposer.fired == 1
    for algorithm in ("P-256", "P-384"):
        assert agrees(token.generate(KeySpec(algorithm, Use.ENCRYPT, algorithm)))


def test_what_is_refused_to_strangers_is_tried_again_after_a_login(hsm: Hsm) -> None:
    """By whichever of its errors the token refuses it."""
    token = hsm.open()
    hsm.interposer.always("C_DeriveKey", Rv.FUNCTION_FAILED)
    token.capabilities()
    hsm.interposer.clear()
    assert agrees(token.generate(OURS))


def test_a_pin_is_given_to_no_token_that_another_one_passes_for(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cards without a serial, of one label: neither is opened, erased or given a PIN."""
    look = slots._look

    def without_serial(*arguments: object) -> object:
        found = look(*arguments)
        return replace(found, facts=replace(found.facts, serial=""))

    hsm.rig.add_token(hsm.rig.label)
    monkeypatch.setattr(slots, "_look", without_serial)
    provider = Pkcs11Provider(hsm.records)
    twins = [info.uri for info in provider.tokens() if info.label == hsm.rig.label]
    assert len(set(twins)) == 2
    jobs: list[Callable[[Uri], Token | object]] = [
        lambda uri: provider.open(uri, NoSecrets()),
        lambda uri: provider.initialise(uri, "new", NoSecrets(), erase=True),
        lambda uri: provider.reset_pin(uri, NoSecrets()),
    ]
    for uri in twins:
        for job in jobs:
            with pytest.raises(DeviceError, match="alike"):
                job(uri)
    monkeypatch.undo()


def test_a_pin_is_given_to_no_twin_that_came_while_the_token_was_away(hsm: Hsm) -> None:
    """Which of the two it was before, nobody can tell."""
    look, twin = slots._look, hsm.rig.add_token(hsm.rig.label)

    def without_serial(*arguments: object) -> object:
        found = look(*arguments)
        return replace(found, facts=replace(found.facts, serial=""))

    uri = hsm.open().generate(SIGNS).uri
    bare, own = hsm.bare, hsm.slot
    (other,) = (s for s in bare.slots() if bare.token_info(s).serial.decode() == twin.serial)
    hsm.close()
    hsm.interposer.remove(other)
    with mock.patch.object(slots, "_look", without_serial):
        nameless = Uri.parse(hsm.rig.uri).without("serial")
        key = hsm.open(uri=str(nameless), records=hsm.records).key(uri.without("serial"))
        key.sign(DIGEST)
        hsm.interposer.remove(own)
        for slot in (own, other):
            hsm.interposer.insert(slot)
        with (
            hsm.interposer.counted() as calls,
            pytest.raises(DeviceError, match="alike"),
        ):
            key.sign(DIGEST)
    assert "C_Login" not in calls


# -- modules that answer in their own way ----------------------------------------------------------


@contextmanager
def answering(token: Pkcs11Token, name: str, answer: Callable[..., int]) -> Iterator[None]:
    """The module's function ``name`` is called through ``answer``, which is given it first."""
    functions = token._connection.sessions.module.cryptoki._functions
    with mock.patch.dict(functions, {name: partial(answer, functions[name])}):
        yield


def one_at_a_time(
    real: Callable[..., int], session: object, found: object, _: object, count: object
) -> int:
    """C_FindObjects of a module that gives fewer objects than it may."""
    return real(session, found, c_ulong(1), count)


def stops_at_the_first(
    real: Callable[..., int], session: object, key: object, asked: Any, _: object
) -> int:
    """C_GetAttributeValue of a module that ends at what it does not know: ALWAYS_AUTHENTICATE."""
    for one in asked if isinstance(asked, Array) else [asked._obj]:
        if one.type == p11.ALWAYS_AUTHENTICATE:
            one.size = p11.UNAVAILABLE
            return ATTRIBUTE_TYPE_INVALID
        if value := real(session, key, byref(one), c_ulong(1)):
            return value
    return 0


def test_every_key_is_found_however_few_the_module_gives_at_once(hsm: Hsm) -> None:
    token = hsm.open()
    labels = ["one", "three", "two"]
    for label in labels:
        token.generate(replace(SIGNS, label=label))
    with answering(token, "C_FindObjects", one_at_a_time):
        assert [key.label for key in list(token.keys())] == labels


def test_what_the_module_left_untouched_is_no_answer(hsm: Hsm) -> None:
    token = hsm.open()
    token.keys()
    with answering(token, "C_GetAttributeValue", stops_at_the_first):
        key = token.generate(OURS)
        assert key.custody().custody is CustodyClass.GENERATED


def told_otherwise(wanted: Callable[[Wish], Wish]) -> AbstractContextManager[object]:
    """Keys are made otherwise than the token is told."""
    told = trying._ask
    return mock.patch.object(
        trying,
        "_ask",
        lambda session, wish, *more: told(session, wanted(wish), *more),
    )


def test_a_key_that_the_token_does_not_keep_is_no_key(hsm: Hsm) -> None:
    """It would be gone with the session, and with it whatever is encrypted to it."""
    token = hsm.open()
    with told_otherwise(lambda wish: replace(wish, token=False)), pytest.raises(UnsupportedError):
        token.generate(OURS)
    assert not list(token.keys())


def test_a_curve_that_is_refused_hides_no_other(hsm: Hsm) -> None:
    """P-256 is the first that is tried, and some policies forbid it."""

    def refuse(wish: Wish) -> Wish:
        if wish.curve is P256:
            raise DomainParamsInvalid
        return wish

    with told_otherwise(refuse):
        offered = {one.algorithm for one in hsm.open().capabilities()}
    assert "P-256" not in offered
    assert {"P-384", "X25519", "Ed448"} <= offered


def test_a_record_from_a_copy_destroys_no_key(hsm: Hsm) -> None:
    """The folder was copied while the key was being made, and put back when it was in use."""
    token = hsm.open()
    token.generate(OURS)
    (path,) = hsm.records.rglob("*.key.json")
    record = json.loads(path.read_text())
    then = {"stage": "making", "public": "", "boot": "before"}
    path.write_text(json.dumps({name: then.get(name, told) for name, told in record.items()}))
    token.generate(replace(SIGNS, label="another"))
    assert [key.label for key in list(token.keys())] == ["another", "ours"]
    token.delete(token.info.uri.with_attribute("object", "ours"))


# -- what is left in a traceback -------------------------------------------------------------------


def told_by(error: BaseException | None, secret: object) -> list[str]:
    """The provider's frames below an error, and below its causes, that hold a secret."""
    found = []
    while error is not None:
        for frame, _ in walk_tb(error.__traceback__):
            if "mesh_hsm_pkcs11" in frame.f_code.co_filename:
                held = frame.f_locals.items()
                found += [f"{frame.f_code.co_name}: {n}" for n, told in held if told == secret]
        error = error.__cause__ or error.__context__
    return found


def test_a_wrong_pin_from_a_file_stands_in_no_traceback(hsm: Hsm, tmp_path: Path) -> None:
    uri = hsm.open().generate(SIGNS).uri
    hsm.close()
    file = tmp_path / "pin"
    file.write_text(WRONG)
    file.chmod(0o600)
    key = hsm.open(NoSecrets(), uri=f"{hsm.rig.uri}?pin-source=file:{file}").key(uri)
    for _ in ("sent", "not sent again"):
        with pytest.raises(WrongSecretError) as caught:
            key.sign(DIGEST)
        assert told_by(caught.value, WRONG.encode()) == []


def test_an_agreement_stands_in_no_traceback_of_an_altered_secret(hsm: Hsm) -> None:
    token = hsm.open()
    sealed = bytearray(token.seal("seed", b"a seed"))
    sealed[-1] ^= 1
    agreed: list[bytes] = []
    with mock.patch.object(sealing.Box, "open", autospec=True) as opening:
        opening.side_effect = lambda box, Z, *_: agreed.append(Z)
        token.unseal(bytes(sealed))
    with pytest.raises(DeviceError) as caught:
        token.unseal(bytes(sealed))
    assert told_by(caught.value, agreed[0]) == []


def test_a_scalar_that_is_not_imported_stands_in_no_traceback(hsm: Hsm) -> None:
    token, scalar = hsm.open(), 0x1234567890ABCDEF
    token.generate(OURS)
    with pytest.raises(ConflictError) as caught:
        token.import_scalar(OURS, scalar, ("test",))
    assert told_by(caught.value, scalar) == []

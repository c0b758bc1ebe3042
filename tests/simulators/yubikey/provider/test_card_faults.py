"""A card that refuses, or answers nonsense, at any command: a typed error, and no orphan."""
# ruff: noqa: SIM118  Token.keys is no dictionary's

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from slots_bench import SECRETS, SlotsBench, named, some_certificate, spec, works
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    AccessError,
    DeviceError,
    LockedOutError,
    MeshHsmError,
    NotFoundError,
    UnsupportedError,
)
from mesh_hsm.provider import Use
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm_yubikey.token import YubiKeyToken

WORDS = (0x6982, 0x6983, 0x6A80, 0x6A82, 0x6A84, 0x6A88, 0x6D00, 0x6F00)
SELECT = 0xA4
READ_CONFIG = 0x1D
ASKED = (SELECT, READ_CONFIG, *Ins)


def make(token: YubiKeyToken) -> None:
    token.generate(spec("new", "P-256", Use.ENCRYPT, PinPolicy.ONCE))


def take(token: YubiKeyToken) -> None:
    token.import_scalar(spec("new", "P-256", Use.ENCRYPT, allow_exportable=True), 0xBEEF, ("me",))


def drop(token: YubiKeyToken) -> None:
    token.delete(token.info.uri.with_attribute("slot", "9c"))


def shift(token: YubiKeyToken) -> None:
    token.move(token.info.uri.with_attribute("slot", "9c"), "84")


def use(token: YubiKeyToken) -> None:
    for key in token.keys():
        key.custody()
        works(key)


COMMANDS: dict[str, Callable[[YubiKeyToken], None]] = {
    "generate": make,
    "import": take,
    "delete": drop,
    "move": shift,
    "use": use,
}


def ready(bench: SlotsBench) -> bytes:
    with bench.open() as token:
        token.generate(spec("there", pin=PinPolicy.ALWAYS))
    return bench.device.save()


def run(bench: SlotsBench, command: Callable[[YubiKeyToken], None]) -> MeshHsmError | None:
    """From the opening on. Anything but an error of ours is the test's failure."""
    try:
        with bench.open() as token:
            command(token)
    except MeshHsmError as error:
        return error
    return None


def check(bench: SlotsBench) -> None:
    """What is listed works, everything is accounted for, and the next key leaves no orphan."""
    with bench.open() as token:
        for key in token.keys():
            works(key)
        assert set(bench.privates) <= bench.accounted
        token.generate(spec("last"))
        listed = {key.uri.get("slot") for key in token.keys()}
        spent = {f"{slot:02x}" for slot, _ in bench.directory.spent}
        assert {f"{slot:02x}" for slot in bench.privates} == listed | spent


@pytest.mark.parametrize("firmware", [(5, 7, 1), (4, 3, 5)], ids=named)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_card_that_refuses(new_bench, firmware, name: str) -> None:
    """Each word at the first command of each instruction that is used."""
    bench = new_bench(firmware)
    if name == "move" and firmware < (5, 7, 0):
        pytest.skip("moves nothing")
    saved = ready(bench)
    bench.load(saved)
    assert run(bench, COMMANDS[name]) is None
    used = [ins for ins in ASKED if ins in bench.instructions()]
    refused = 0
    for ins in used:
        for word in WORDS:
            bench.load(saved)
            bench.device.fail_next(ins, word)
            if error := run(bench, COMMANDS[name]):
                refused += 1
                assert error.hint or isinstance(error, AccessError), (ins, word, error)
            bench.device.stop_failing()
            if bench.device.save() != saved:  # else nothing was changed, and all is as it was
                check(bench)
    assert refused > len(used)


@pytest.mark.parametrize("firmware", [(5, 7, 1), (5, 4, 3), (4, 3, 5)], ids=named)
@pytest.mark.parametrize("name", ["generate", "import", "delete"])
def test_a_refusal_at_each_command(new_bench, firmware, name: str) -> None:
    """Whichever it is: not processed and answered with 6F00, or processed and so answered."""
    bench = new_bench(firmware)
    saved = ready(bench)
    bench.load(saved)
    assert run(bench, COMMANDS[name]) is None
    for n, ins in enumerate(bench.instructions()):
        changes = ins in (Ins.GENERATE, Ins.IMPORT, Ins.MOVE, Ins.PUT_DATA)
        for processed in (False, True) if changes else (False,):
            bench.load(saved)
            honest, left = bench.device.transmit, iter([True] * n + [False])

            def refuse(command, honest=honest, left=left, processed=processed) -> bytes:
                if next(left, True):
                    return honest(command)
                if processed:
                    honest(command)
                return b"\x6f\x00"

            bench.device.transmit = refuse
            error = run(bench, COMMANDS[name])
            del bench.device.transmit
            assert error is None or error.hint or isinstance(error, AccessError), (n, error)
            bench.card.release()
            if bench.device.save() != saved:
                check(bench)


@pytest.mark.parametrize(
    ("ins", "word", "error"),
    [
        (Ins.GENERATE, 0x6982, AccessError),
        (Ins.GENERATE, 0x6983, LockedOutError),
        (Ins.GENERATE, 0x6A80, DeviceError),
        (Ins.GENERATE, 0x6A81, UnsupportedError),
        (Ins.GENERATE, 0x6D00, UnsupportedError),
        (Ins.GENERATE, 0x6F00, DeviceError),
        (Ins.PUT_DATA, 0x6A84, DeviceError),
    ],
)
def test_what_a_status_word_means(
    bench: SlotsBench, ins: Ins, word: int, error: type[MeshHsmError]
) -> None:
    with bench.open() as token:
        bench.device.fail_next(ins, word)
        with pytest.raises(error) as caught:
            make(token)
        assert type(caught.value) is error
        assert caught.value.hint
        assert caught.value.uri == str(bench.uri)
        assert token.keys() == []
        make(token)


def test_a_refused_generation_leaves_no_note(bench: SlotsBench) -> None:
    with bench.open() as token:
        for command, ins in ((make, Ins.GENERATE), (take, Ins.IMPORT)):
            bench.device.fail_next(ins, 0x6F00)
            with pytest.raises(DeviceError):
                command(token)
            assert bench.directory.entries == ()


def test_a_refused_move_leaves_no_note(bench: SlotsBench) -> None:
    ready(bench)
    with bench.open() as token:
        before = bench.directory
        bench.device.fail_next(Ins.MOVE, 0x6F00)
        with pytest.raises(DeviceError):
            shift(token)
        assert bench.directory == before
        shift(token)


def test_a_refused_attestation_is_no_empty_slot(new_bench) -> None:
    """Below 5.3 it is how a slot is looked into: what was cut off there is not forgotten."""
    bench = new_bench((4, 3, 5))
    ready(bench)
    with bench.open() as token:
        bench.device.transmit = gone_at(bench, Ins.GENERATE, answered=True)
        with pytest.raises(DeviceError):
            make(token)
        del bench.device.transmit
        bench.replug()
        bench.device.fail_next(Ins.ATTEST, 0x6F00, times=3)
        with pytest.raises(DeviceError):
            make(token)
        bench.device.stop_failing()
    check(bench)


# -- answers that no card should give --------------------------------------------------------------

NONSENSE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "one octet": lambda _: b"\x7f",
    "half": lambda data: data[: len(data) // 2],
    "one octet less": lambda data: data[:-1],
    "one octet more": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "ones": lambda data: b"\xff" * len(data),
    "an endless length": lambda data: data[:1] + b"\x84\xff\xff\xff\xff",
    "another tag": lambda data: b"\x55" + data[1:],
    "the first value's octet": lambda data: data[:2] + b"\xee" + data[3:],
    "the last octet": lambda data: data[:-1] + bytes([data[-1] ^ 0xFF]) if data else data,
    "an empty value": lambda data: data[:1] + b"\0",
}


@contextmanager
def nonsense(bench: SlotsBench, ins: int, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Every answer with data to this instruction is another."""
    honest = bench.device.transmit

    def lie(command: bytes) -> bytes:
        answer = honest(command)
        if command[1] != ins or len(answer) == 2:
            return answer
        return change(answer[:-2]) + answer[-2:]

    bench.device.transmit = lie  # a fault that no simulator has
    try:
        yield
    finally:
        bench.device.transmit = honest


@pytest.mark.parametrize("firmware", [(5, 7, 1), (4, 3, 5)], ids=named)
@pytest.mark.parametrize("change", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_card_that_talks_nonsense(new_bench, firmware, change) -> None:
    """Nothing but our errors comes of it, and the card is consistent once it is honest again."""
    bench = new_bench(firmware)
    saved = ready(bench)
    for name in ("generate", "delete", "use"):
        for ins in (READ_CONFIG, Ins.VERSION, Ins.GET_DATA, Ins.METADATA, Ins.GENERATE, Ins.ATTEST,
                    Ins.AUTHENTICATE):  # fmt: skip
            bench.load(saved)
            with nonsense(bench, ins, change):
                run(bench, COMMANDS[name])
            bench.card.release()
            check(bench)


@pytest.mark.parametrize("algorithm", ["P-256", "X25519"])
@pytest.mark.parametrize("change", NONSENSE.values(), ids=NONSENSE.keys())
def test_an_agreement_that_is_none(bench: SlotsBench, algorithm: str, change) -> None:
    """An x that is one of the curve's is another secret; everything else is refused."""
    with bench.open() as token:
        key = token.generate(spec("agrees", algorithm, Use.ENCRYPT))
        right = key.agree(key.public.curve.base)
        with nonsense(bench, Ins.AUTHENTICATE, change):
            try:
                answer = key.agree(key.public.curve.base)
            except DeviceError:
                return
        assert answer != right
        assert change is NONSENSE["the last octet"]


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "X25519"])
@pytest.mark.parametrize("more", [-1, 1])
def test_an_agreement_of_another_length(bench: SlotsBench, algorithm: str, more: int) -> None:
    with bench.open() as token:
        key = token.generate(spec("agrees", algorithm, Use.ENCRYPT))
        secret = bytes(key.public.curve.field_size + more)
        answer = bytes([0x7C, 2 + len(secret), 0x82, len(secret)]) + secret
        with (
            nonsense(bench, Ins.AUTHENTICATE, lambda _: answer),
            pytest.raises(DeviceError, match=f"has {len(secret)} octets"),
        ):
            key.agree(key.public.curve.base)


def test_a_signature_that_is_none(bench: SlotsBench) -> None:
    with bench.open() as token:
        key = token.generate(spec("signs"))
        for change in NONSENSE.values():
            with nonsense(bench, Ins.AUTHENTICATE, change), pytest.raises(DeviceError):
                key.sign(bytes(32))
        key.sign(bytes(32))


def test_a_signature_with_a_number_beyond_the_field(bench: SlotsBench) -> None:
    """DER that is well formed, with an r of 33 octets."""
    der = bytes.fromhex("30260221") + b"\x7f" * 33 + bytes.fromhex("020101")
    answer = bytes([0x7C, 2 + len(der), 0x82, len(der)]) + der
    with bench.open() as token:
        key = token.generate(spec("signs"))
        with (
            nonsense(bench, Ins.AUTHENTICATE, lambda _: answer),
            pytest.raises(DeviceError, match="unknown form"),
        ):
            key.sign(bytes(32))


@pytest.mark.parametrize("firmware", [(5, 7, 1), (5, 4, 3)], ids=named)
def test_a_card_that_makes_another_key_than_it_was_asked_for(new_bench, firmware) -> None:
    """Without the touch that was asked for: the key is destroyed at once."""
    bench = new_bench(firmware)
    with bench.open() as token:
        metadata = bench.device.transmit

        def lie(command: bytes) -> bytes:
            answer = metadata(command)
            if command[1] == Ins.METADATA and command[3] == SLOT.SIGNATURE:
                return answer.replace(bytes.fromhex("02020201"), bytes.fromhex("02020101"))
            return answer

        bench.device.transmit = lie
        with pytest.raises(DeviceError, match="policy; it was destroyed"):
            token.generate(spec("new", pin=PinPolicy.ONCE))
        bench.device.transmit = metadata
        assert token.keys() == []
        assert set(bench.privates) == {slot for slot, _ in bench.directory.spent}
        check(bench)


@pytest.mark.parametrize("firmware", [(5, 7, 1), (4, 3, 5)], ids=named)
def test_a_slot_that_cannot_be_looked_into(new_bench, firmware) -> None:
    bench = new_bench(firmware)
    ins = Ins.METADATA if firmware >= (5, 3, 0) else Ins.ATTEST
    ready(bench)
    with bench.open() as token:
        (key,) = token.keys()
        bench.device.fail_next(ins, 0x6F00)
        with pytest.raises(DeviceError, match="6F00"):
            token.key(key.uri)
        with nonsense(bench, ins, NONSENSE["half"]), pytest.raises(DeviceError, match="malformed"):
            token.key(key.uri)
        works(token.key(key.uri))


def test_an_attestation_that_is_signed_nonsense(new_bench) -> None:
    """A certificate that can be read, but is none of a slot: below 5.3 it is looked into."""
    bench = new_bench((4, 3, 5))
    ready(bench)
    other = some_certificate().public_bytes(Encoding.DER)
    with bench.open() as token:
        (key,) = token.keys()
        honest = bench.device.transmit

        def lie(command: bytes) -> bytes:
            answer = honest(command)
            return (
                other[:250] + b"\x61\x00"
                if command[1] == Ins.ATTEST
                else (other[250:] + b"\x90\x00" if command[1] == 0xC0 else answer)
            )

        bench.device.transmit = lie
        with pytest.raises(DeviceError, match="9c cannot be read") as caught:
            token.key(key.uri)
        assert caught.value.hint
        del bench.device.transmit


def test_a_card_that_says_it_made_nothing(bench: SlotsBench) -> None:
    with bench.open() as token:
        honest = bench.device.transmit

        def lie(command: bytes) -> bytes:
            if command[1] == Ins.METADATA and command[3] == SLOT.SIGNATURE:
                return b"\x6a\x88"
            return honest(command)

        bench.device.transmit = lie
        with pytest.raises(DeviceError, match="another public key; it was destroyed"):
            token.generate(spec("new"))
        del bench.device.transmit
        assert bench.privates == {}
        assert token.keys() == []


# -- what others put where something of ours was cut off -------------------------------------------


@pytest.mark.parametrize("firmware", [(5, 7, 1), (5, 4, 3), (4, 3, 5)], ids=named)
@pytest.mark.parametrize("other", ["another algorithm", "another policy", "imported", "certified"])
def test_a_key_that_somebody_put_where_a_generation_was_cut_off(new_bench, firmware, other) -> None:
    if firmware < (5, 3, 0) and other == "imported":
        pytest.skip("this firmware tells nobody of it")
    bench = new_bench(firmware)
    ready(bench)
    begun = spec("begun", "P-256", Use.ENCRYPT, PinPolicy.ONCE)
    with bench.open() as token:
        bench.device.transmit = gone_at(bench, Ins.GENERATE)
        with pytest.raises(DeviceError):
            token.generate(begun)
        del bench.device.transmit
    bench.replug()
    (pending,) = (one for one in bench.directory.entries if one.public is None)
    slot = pending.slot
    assert slot not in bench.privates

    def theirs(piv) -> None:
        policies = (PIN_POLICY.ONCE, TOUCH_POLICY.NEVER)
        if other == "another algorithm":
            piv.generate_key(slot, KEY_TYPE.ECCP384, *policies)
        elif other == "another policy":
            piv.generate_key(slot, KEY_TYPE.ECCP256, PIN_POLICY.NEVER, TOUCH_POLICY.NEVER)
        elif other == "imported":
            piv.put_key(slot, generate_private_key(SECP256R1()), *policies)
        else:
            piv.generate_key(slot, KEY_TYPE.ECCP256, *policies)
            piv.put_certificate(slot, some_certificate())

    bench.foreign(theirs)
    private = bench.privates[slot]
    with bench.open() as token:
        uri = token.info.uri.with_attribute("slot", f"{slot:02x}")
        for attempt in (token.delete, token.key):
            with pytest.raises(NotFoundError):
                attempt(uri)
        made = token.generate(begun)
        assert made.uri != uri
        assert bench.privates[slot] == private
        assert slot not in bench.accounted


def gone_at(bench: SlotsBench, ins: int, *, answered: bool = False) -> Callable[[bytes], bytes]:
    """Pulled out before the first command of this instruction, or after its answer."""
    honest = bench.device.transmit

    def transmit(command: bytes) -> bytes:
        if command[1] == ins and answered:
            bench.device.power_loss_after(1, answered=True)
        elif command[1] == ins:
            bench.device.unplug_at(1)
        return honest(command)

    return transmit


def test_a_directory_that_another_program_wrote_over(bench: SlotsBench) -> None:
    """Said, and nothing is changed: whoever wrote there may want it."""
    bench.foreign(lambda piv: piv.put_object(0x5F4D48, b"mine"))
    with pytest.raises(DeviceError, match="cannot be read") as caught:
        bench.open(SECRETS)
    assert "ykman" in (caught.value.hint or "")

"""A YubiKey pulled out at each command of everything that is done with it.

Commands are counted once; then, at each of them, the card goes away before it has processed it,
before it has answered, and after the answer. Plugged in again it is looked into: what it lists
works, what it holds is accounted for, others' keys are as they were, and the same thing done again
succeeds and leaves no orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from slots_bench import FIRMWARES, SlotsBench, named, public_of, some_certificate, spec, works
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

from mesh_hsm.curves import P384, SecretScalar
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import ConflictError, MeshHsmError, NotFoundError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm_yubikey.token import YubiKeyToken

SHARE = SecretScalar(P384, 0xC0FFEE << 300)
MADE, GIVEN, EXTRA = "9c", "9d", "82"  # where the keys lie that are there before


CHANGING = {Ins.PUT_DATA, Ins.GENERATE, Ins.IMPORT, Ins.MOVE}


@dataclass(frozen=True)
class Command:
    """What is done, and the labels that are listed before and after it."""

    do: Callable[[YubiKeyToken], object]
    adds: frozenset[str] = field(default=frozenset())
    drops: frozenset[str] = field(default=frozenset())
    least: tuple[int, int, int] = (4, 3, 5)
    beyond: tuple[int, int, int] = (9, 9, 9)


def key(token: YubiKeyToken, slot: str):
    return token.key(token.info.uri.with_attribute("slot", slot))


def uri(token: YubiKeyToken, slot: str):
    return token.info.uri.with_attribute("slot", slot)


def imported(slot: str | None = None) -> Callable[[YubiKeyToken], object]:
    wanted = spec("new", "P-384", Use.ENCRYPT, slot=slot, allow_exportable=True)
    return lambda token: token.import_scalar(wanted, SHARE.value, ("the dealer",))


NEW = frozenset({"new"})
COMMANDS = {
    "generate": Command(
        lambda t: t.generate(spec("new", "P-384", Use.ENCRYPT, PinPolicy.ONCE)), adds=NEW
    ),
    "generate where a key was overwritten": Command(
        lambda t: t.generate(spec("new", "P-384", slot=EXTRA)), adds=NEW, beyond=(5, 7, 0)
    ),
    "sign": Command(lambda t: works(key(t, MADE))),
    "agree": Command(lambda t: works(key(t, GIVEN))),
    "import": Command(imported("84"), adds=NEW),
    "import where a key was overwritten": Command(imported(EXTRA), adds=NEW, beyond=(5, 7, 0)),
    "delete a key that was made": Command(
        lambda t: t.delete(uri(t, MADE)), drops=frozenset({"made"})
    ),
    "delete a key that was given": Command(
        lambda t: t.delete(uri(t, GIVEN)), drops=frozenset({"given"})
    ),
    "move": Command(lambda t: t.move(uri(t, MADE), "84"), least=(5, 7, 0)),
}
LOSSES: dict[str, Callable[[SlotsBench, int], None]] = {
    "before": lambda bench, n: bench.device.unplug_at(n),
    "unanswered": lambda bench, n: bench.device.power_loss_after(n, answered=False),
    "answered": lambda bench, n: bench.device.power_loss_after(n, answered=True),
}


def settle(bench: SlotsBench) -> dict[SLOT, bytes]:
    """Keys of ours, and what other tools put there; the private keys of the latter."""

    def others(piv) -> None:
        piv.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256, PIN_POLICY.ONCE)
        # Exactly what the provider itself would overwrite a key with, but for who made it.
        junk = (KEY_TYPE.ECCP256, PIN_POLICY.ALWAYS, TOUCH_POLICY.NEVER)
        piv.generate_key(SLOT.CARD_AUTH, *junk)
        piv.put_certificate(SLOT.RETIRED5, some_certificate())

    bench.foreign(others)
    foreign = bench.privates
    with bench.open() as token:
        token.generate(spec("made", "P-384", pin=PinPolicy.ALWAYS, slot=MADE))
        given = spec("given", "P-384", Use.ENCRYPT, PinPolicy.ONCE, GIVEN, allow_exportable=True)
        token.import_scalar(given, 0xABCDEF, ("the dealer",))
        token.generate(spec("extra", "P-256", slot=EXTRA))
        token.delete(uri(token, EXTRA))  # below 5.7 the slot is overwritten and known as spent
    return foreign


def check(bench: SlotsBench, token: YubiKeyToken, foreign: dict[SLOT, bytes]) -> frozenset[str]:
    """Whether the card is consistent; the labels that it lists."""
    listed = token.keys()
    for one in listed:
        works(one)
    held = bench.privates
    assert slots_of(listed) <= held.keys()
    assert {slot: held.get(slot) for slot in foreign} == foreign
    assert held.keys() <= foreign.keys() | bench.accounted
    return frozenset(one.label for one in listed)


def check_no_orphan(
    bench: SlotsBench, token: YubiKeyToken, foreign: dict[SLOT, bytes], cut: object = None
) -> None:
    """Nothing but keys that are listed, keys of others, and what was overwritten on purpose.

    Whatever writes next tidies up what was left, so that a key is made first.
    """
    token.generate(spec("last"))
    listed = slots_of(token.keys())
    spent = dict(bench.directory.spent)
    assert bench.privates.keys() == listed | foreign.keys() | spent.keys(), cut
    assert not spent or bench.firmware < (5, 7, 0), cut
    for slot, public in spent.items():
        assert public_of(bench.state.keys[slot].private) == public, cut
    assert {one.slot for one in bench.directory.entries} == listed, cut


def slots_of(keys: Sequence[DeviceKey]) -> set[SLOT]:
    return {SLOT(int(one.uri.get("slot") or "", 16)) for one in keys}


def cuts(instructions: Sequence[Ins | int]) -> Iterator[tuple[int, str]]:
    """Each command; a loss that comes later in it only where the command changes the card.

    For one that only reads, that is no other than a loss before the next.
    """
    for n, ins in enumerate(instructions, 1):
        yield n, "before"
        if ins in CHANGING or n == len(instructions):
            yield n, "unanswered"
            yield n, "answered"


@pytest.mark.parametrize(
    ("firmware", "name"),
    [(f, name) for f in FIRMWARES for name, c in COMMANDS.items() if c.least <= f < c.beyond],
    ids=lambda value: value if isinstance(value, str) else named(value),
)
def test_pulled_out_at_each_command(new_bench, firmware, name: str) -> None:
    bench, command = new_bench(firmware), COMMANDS[name]
    foreign = settle(bench)
    before, saved = frozenset({"made", "given"}), bench.device.save()
    after = (before | command.adds) - command.drops
    with bench.open() as token:
        bench.card.release()  # so that even the first SELECT is cut off
        bench.device.trace.clear()
        command.do(token)
        instructions = bench.instructions()
        assert check(bench, token, foreign) == after
        check_no_orphan(bench, token, foreign)
    for cut in cuts(instructions):
        bench.load(saved)
        with bench.open() as token:
            bench.card.release()
            n, loss = cut
            LOSSES[loss](bench, n)
            if cut == (len(instructions), "answered"):
                command.do(token)
            else:
                with pytest.raises(MeshHsmError) as caught:
                    command.do(token)
                assert caught.value.hint, cut
                assert str(bench.device.serial) in f"{caught.value} {caught.value.uri}", cut
        bench.replug()
        if bench.device.save() == saved:  # nothing was changed, and all is as it was
            continue
        with bench.open() as token:
            listed = check(bench, token, foreign)
            assert listed in (before, after), cut
            try:
                command.do(token)
            except (ConflictError, NotFoundError):
                assert listed == after, cut  # it says that this has been done
            assert check(bench, token, foreign) == after, cut
            check_no_orphan(bench, token, foreign, cut)

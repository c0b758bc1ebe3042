"""A YubiKey pulled out at each command of everything that is done with it.

Commands are counted once; then, at each of them, the card goes away before it has processed it,
before it has answered, and after the answer. Plugged in again it is looked into: what it lists
works, what it holds is accounted for, others' keys are as they were, and the same thing done again
succeeds and leaves no orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from slots_bench import FIRMWARES, SlotsBench, named, public_of, some_certificate, spec, works
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

from mesh_hsm.curves import P384, SecretScalar
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import ConflictError, MeshHsmError, NotFoundError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.token import YubiKeyToken

SHARE = SecretScalar(P384, 0xC0FFEE << 300)
MADE, GIVEN, EXTRA = "9c", "9d", "82"  # where the keys lie that are there before


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
    "import": Command(imported(), adds=NEW),
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


def done(bench: SlotsBench, command: Command) -> None:
    """Once through, from an open token and a reader that nobody holds."""
    with bench.open() as token:
        bench.card.release()
        bench.device.trace.clear()
        command.do(token)


def check(bench: SlotsBench, foreign: dict[SLOT, bytes]) -> frozenset[str]:
    """Whether the card is consistent; the labels that it lists."""
    with bench.open() as token:
        listed = token.keys()
        for one in listed:
            works(one)
    slots = {SLOT(int(one.uri.get("slot") or "", 16)) for one in listed}
    held = bench.privates
    assert slots <= held.keys()
    assert {slot: held.get(slot) for slot in foreign} == foreign
    assert held.keys() <= foreign.keys() | bench.accounted
    return frozenset(one.label for one in listed)


def check_no_orphan(bench: SlotsBench, foreign: dict[SLOT, bytes]) -> None:
    """Nothing but keys that are listed, keys of others, and what was overwritten on purpose."""
    with bench.open() as token:
        listed = {SLOT(int(one.uri.get("slot") or "", 16)) for one in token.keys()}
    spent = dict(bench.directory.spent)
    assert bench.privates.keys() == listed | foreign.keys() | spent.keys()
    assert not spent or bench.firmware < (5, 7, 0)
    for slot, public in spent.items():
        assert public_of(bench.state.keys[slot].private) == public
    assert {one.slot for one in bench.directory.entries} == listed


def cuts(count: int) -> Iterator[tuple[int, str]]:
    for n in range(1, count + 1):
        yield from ((n, loss) for loss in LOSSES)


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
    done(bench, command)
    count = bench.device.apdus
    assert check(bench, foreign) == after
    check_no_orphan(bench, foreign)
    for n, loss in cuts(count):
        bench.load(saved)
        with bench.open() as token:
            bench.card.release()
            LOSSES[loss](bench, n)
            if (n, loss) == (count, "answered"):
                command.do(token)
            else:
                with pytest.raises(MeshHsmError) as caught:
                    command.do(token)
                assert caught.value.hint, (n, loss)
                assert str(bench.device.serial) in f"{caught.value} {caught.value.uri}", (n, loss)
        bench.replug()
        listed = check(bench, foreign)
        assert listed in (before, after), (n, loss)
        try:
            done(bench, command)
        except (ConflictError, NotFoundError):
            assert listed == after, (n, loss)  # it says that this has been done
        assert check(bench, foreign) == after, (n, loss)
        with bench.open() as token:  # whatever writes next tidies up what is left
            done(bench, Command(lambda t: t.generate(spec("last"))))
        check_no_orphan(bench, foreign)

"""PIN policy by slot and key type, and the order in which a key is looked at (section 14.5)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from simulators.yubikey.device.host import MANAGEMENT, OK, PIN, WRONG, Host, rsa_secret

from mesh_hsm.curves import P256
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

DEFAULT, NEVER, ONCE, ALWAYS = 0, 1, 2, 3
SLOTS = [0x9A, 0x9C, 0x9D, 0x9E, 0x82, 0x95]
POINT = b"\x04" + P256.base.x.to_bytes(32, "big") + P256.base.y.to_bytes(32, "big")


def use(host: Host, slot: int, kind: Algorithm) -> int:
    if kind is Algorithm.X25519:
        return host.agree(slot, kind, b"\x09" + bytes(31))[1]
    return host.sign(slot, kind)[1]


@pytest.mark.parametrize("slot", SLOTS, ids=hex)
@pytest.mark.parametrize("policy", [DEFAULT, NEVER, ONCE, ALWAYS])
@pytest.mark.parametrize(
    "kind", [Algorithm.P256, Algorithm.P384, Algorithm.ED25519, Algorithm.X25519, Algorithm.RSA2048]
)
def test_policies(
    manager: Host, slot: int, policy: int, kind: Algorithm, rsa_key: rsa.RSAPrivateKey
) -> None:
    if kind is Algorithm.RSA2048:
        policies = bytes([0xAA, 1, policy]) if policy else b""
        assert manager.status(Ins.IMPORT, kind, slot, rsa_secret(rsa_key) + policies) == OK
    else:
        manager.generate(slot, kind, policy)
    resolved = policy or {0x9C: ALWAYS, 0x9E: NEVER}.get(slot, ONCE)
    without = use(manager, slot, kind)
    manager.verify()
    uses = [use(manager, slot, kind) for _ in range(2)]
    assert (without, *uses) == {
        NEVER: (OK, OK, OK),
        ONCE: (0x6982, OK, OK),
        ALWAYS: (0x6982, OK, 0x6982),
    }[resolved]


BETWEEN = {
    "GET VERSION": lambda host: host.ok(Ins.VERSION),
    "asking for the state": lambda host: host.ok(Ins.VERIFY, 0, 0x80),
    "a wrong input": lambda host: host.use(0x9C, Algorithm.P256, 0x81, bytes(33)),
    "an unknown instruction": lambda host: host.send(0x01),
    "another application": lambda host: (host.select(MANAGEMENT), host.select()),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_always_means_the_command_just_before(manager: Host, between: object) -> None:
    assert callable(between)
    manager.generate(0x9C, Algorithm.P256)
    manager.verify()
    between(manager)
    assert manager.sign(0x9C, Algorithm.P256)[1] == 0x6982
    manager.verify()
    assert manager.sign(0x9C, Algorithm.P256)[1] == OK


def test_earlier_blocks_of_the_same_chain_do_not_count(
    manager: Host, rsa_key: rsa.RSAPrivateKey
) -> None:
    manager.extended = False
    assert manager.status(Ins.IMPORT, Algorithm.RSA2048, 0x9C, rsa_secret(rsa_key)) == OK
    manager.verify()
    assert manager.sign(0x9C, Algorithm.RSA2048)[1] == OK  # two blocks there, two parts back


def test_a_wrong_pin_ends_once(manager: Host) -> None:
    manager.generate(0x9A, Algorithm.P256)
    manager.verify(PIN)
    manager.verify(WRONG)
    assert manager.sign(0x9A, Algorithm.P256)[1] == 0x6982


def test_a_reset_ends_everything(manager: Host) -> None:
    manager.generate(0x9A, Algorithm.P256)
    manager.verify()
    manager.device.reset()
    manager.select()
    assert manager.sign(0x9A, Algorithm.P256)[1] == 0x6982
    assert manager.put(0x5FC10D, b"") == 0x6982


def test_a_moved_key_keeps_its_policy(manager: Host) -> None:
    manager.generate(0x9C, Algorithm.P256)
    assert manager.status(Ins.MOVE, 0x9E, 0x9C) == OK
    manager.verify()
    assert [manager.sign(0x9E, Algorithm.P256)[1] for _ in range(2)] == [OK, 0x6982]


def test_the_order_of_checks(manager: Host) -> None:
    manager.generate(0x9A, Algorithm.P256, ONCE, touch=2)
    manager.device.touch = "never"
    bad = bytes(33)
    assert manager.sign(0x81, Algorithm.P256, bad)[1] == 0x6B00
    assert manager.sign(0x82, Algorithm.P256, bad)[1] == 0x6A80
    assert manager.sign(0x9A, Algorithm.P384, bad)[1] == 0x6A80
    assert manager.sign(0xF9, Algorithm.P256)[1] == 0x6A80
    assert manager.sign(0x9A, Algorithm.P256, bad)[1] == 0x6982
    assert manager.device.clock.now == 0  # nobody waited for a touch
    manager.verify()
    assert manager.sign(0x9A, Algorithm.P256, bad)[1] == 0x6982
    assert manager.device.clock.now == 15
    manager.device.touch = "automatic"
    assert manager.sign(0x9A, Algorithm.P256, bad)[1] == 0x6A80
    assert manager.sign(0x9A, Algorithm.P256)[1] == OK

"""Touch: at once, late, never, by somebody else; all on the simulator's clock (section 14.7)."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from simulators.yubikey.device.host import OK, Host

from mesh_hsm.testing.virtual_yubikey import Removed, after
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm

ALWAYS, CACHED = 2, 3
PATIENCE = 10.0  # real seconds before a test gives up


@pytest.fixture
def key(manager: Host) -> Host:
    """9D wants a touch each time, 9E now and then; neither wants a PIN."""
    manager.generate(0x9D, Algorithm.P256, 1, ALWAYS)
    manager.generate(0x9E, Algorithm.P256, 1, CACHED)
    return manager


def sign(host: Host, slot: int = 0x9D) -> int:
    return host.sign(slot, Algorithm.P256)[1]


def started(host: Host) -> Future[int]:
    """A signature in another thread, once the card is waiting for its touch."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(sign, host)
    assert host.device.touch_wanted.wait(PATIENCE)
    assert host.device.waiting_for_touch
    pool.shutdown(wait=False)
    return future


def test_automatic_takes_no_time(key: Host) -> None:
    assert sign(key) == OK
    assert key.device.clock.now == 0
    assert not key.device.waiting_for_touch


def test_never_takes_the_timeout(key: Host) -> None:
    key.device.touch = "never"
    assert sign(key) == 0x6982
    assert key.device.clock.now == 15
    key.device.touch_timeout = 5
    assert sign(key) == 0x6982
    assert key.device.clock.now == 20


@pytest.mark.parametrize(("seconds", "status"), [(0, OK), (14.9, OK), (15, 0x6982), (99, 0x6982)])
def test_after(key: Host, seconds: float, status: int) -> None:
    key.device.touch = after(seconds)
    assert sign(key) == status
    assert key.device.clock.now == min(seconds, 15)


@pytest.mark.parametrize(("seconds", "status"), [(0, OK), (14, OK), (15, 0x6982), (16, 0x6982)])
def test_cached(key: Host, seconds: float, status: int) -> None:
    assert sign(key, 0x9E) == OK
    key.device.touch = "never"
    key.device.clock.advance(seconds)
    assert sign(key, 0x9E) == status


def test_always_is_not_served_by_an_earlier_touch(key: Host) -> None:
    assert sign(key) == OK
    key.device.touch = "never"
    assert sign(key) == 0x6982


def test_a_use_without_touch_does_not_lengthen_the_cache(key: Host) -> None:
    assert sign(key, 0x9E) == OK
    key.device.touch = "never"
    key.device.clock.advance(10)
    assert sign(key, 0x9E) == OK
    key.device.clock.advance(10)
    assert sign(key, 0x9E) == 0x6982


def test_power_loss_forgets_the_touch_and_a_reset_does_not(key: Host) -> None:
    assert sign(key, 0x9E) == OK
    key.device.touch = "never"
    key.device.reset()
    key.select()
    assert sign(key, 0x9E) == OK
    key.device.remove()
    key.device.insert()
    key.select()
    assert sign(key, 0x9E) == 0x6982


@pytest.mark.parametrize(("answer", "status"), [(True, OK), (False, 0x6982)])
def test_a_callback_says_whether_it_touched(key: Host, answer: bool, status: int) -> None:
    seen = []

    def finger() -> bool:
        seen.append(key.device.waiting_for_touch)
        return answer

    key.device.touch = finger
    assert sign(key) == status
    assert seen == [True]


def test_a_callback_that_takes_too_long(key: Host) -> None:
    def finger() -> bool:
        key.device.clock.advance(15)
        return True

    key.device.touch = finger
    assert sign(key) == 0x6982


def test_an_event_is_waited_for_and_serves_once(key: Host) -> None:
    key.device.touch = finger = threading.Event()
    future = started(key)
    finger.set()
    assert future.result(PATIENCE) == OK
    assert not finger.is_set()
    assert key.device.touch is finger


def test_the_clock_ends_a_wait(key: Host) -> None:
    key.device.touch = threading.Event()
    future = started(key)
    key.device.clock.advance(15)
    assert future.result(PATIENCE) == 0x6982
    assert key.device.touch_timeout == 15


def test_a_reset_ends_a_wait(key: Host) -> None:
    key.device.touch = threading.Event()
    future = started(key)
    key.device.reset()
    assert future.result(PATIENCE) == 0x6982
    key.select()
    key.device.touch = "automatic"
    assert sign(key) == OK


def test_pulling_the_plug_ends_a_wait(key: Host) -> None:
    key.device.touch = threading.Event()
    future = started(key)
    key.device.remove()
    with pytest.raises(Removed):
        future.result(PATIENCE)
    assert key.device.trace[-1].status is None


def test_a_callback_may_pull_the_plug(key: Host) -> None:
    key.device.touch = lambda: key.device.remove() is None
    with pytest.raises(Removed):
        sign(key)


def test_no_touch_where_the_plug_is_out(key: Host) -> None:
    """Also when it is pulled between the start of a command and its wait."""
    sensor = key.device._sensor
    sensor.interrupt()
    for finger in ("automatic", after(1), threading.Event(), lambda: True):
        key.device.touch = finger  # type: ignore[assignment]
        assert sign(key) == 0x6982
    sensor.resume()

"""A test and its YubiKey in one process: yubikit over PC/SC, threads, and what is left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from smartcard.Exceptions import CardConnectionException
from ykman.device import list_all_devices
from ykman.pcsc import ScardYubiKeyDevice, list_devices, list_readers
from ykman.piv import get_pivman_data, get_pivman_protected_data
from yubikit.core.smartcard import ApduError, SmartCardConnection
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY, InvalidPinError, PivSession

from mesh_hsm.errors import ConflictError, DeviceError, NotFoundError
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_process import PcscProcess, in_process
from mesh_hsm.testing.virtual_yubikey.rig import PIN, YubiKeyRig


@pytest.fixture
def found(virtual_yubikey: YubiKeyRig) -> ScardYubiKeyDevice:
    (one,) = list_devices()
    assert isinstance(one, ScardYubiKeyDevice)
    return one


@pytest.fixture
def piv(found: ScardYubiKeyDevice) -> Iterator[PivSession]:
    with found.open_connection(SmartCardConnection) as connection:
        yield PivSession(connection)


def test_a_personalised_device_is_as_ykman_would_leave_it(
    virtual_yubikey: YubiKeyRig, piv: PivSession
) -> None:
    assert get_pivman_data(piv).has_stored_key
    with pytest.raises(InvalidPinError):
        piv.verify_pin("123456")
    piv.verify_pin(virtual_yubikey.pin)
    assert get_pivman_protected_data(piv).key == virtual_yubikey.management_key
    piv.authenticate(virtual_yubikey.management_key)
    piv.change_puk(virtual_yubikey.puk, "00000000")
    assert not piv.get_management_key_metadata().default_value
    assert virtual_yubikey.device.apdus < 20  # none of them were the rig's


@pytest.mark.parametrize("firmware", [(4, 3, 0), (5, 3, 0), (5, 4, 3)])
def test_older_firmware_is_personalised_as_well(
    virtual_yubikey: YubiKeyRig, firmware: tuple[int, int, int]
) -> None:
    key = virtual_yubikey.add(firmware=firmware)
    device = next(one for one in list_devices() if one.fingerprint == key.reader)
    with device.open_connection(SmartCardConnection) as connection:
        piv = PivSession(connection)
        assert piv.version == firmware
        piv.verify_pin(key.pin)
        piv.authenticate(get_pivman_protected_data(piv).key)
        piv.generate_key(SLOT.SIGNATURE, KEY_TYPE.ECCP256)


def test_a_factory_device_is_as_it_leaves_the_factory(factory_yubikey: YubiKeyRig) -> None:
    new = factory_yubikey.device
    assert new.save() == VirtualYubiKey(new.serial).save()
    (device,) = list_devices()
    with device.open_connection(SmartCardConnection) as connection:
        piv = PivSession(connection)
        assert piv.get_pin_metadata().default_value
        piv.verify_pin(factory_yubikey.pin)
        piv.authenticate(factory_yubikey.management_key)
    assert factory_yubikey.add(factory=False).pin == PIN


def test_a_second_connection_is_refused(found: ScardYubiKeyDevice, piv: PivSession) -> None:
    with pytest.raises(CardConnectionException, match="Sharing violation"):
        found.open_connection(SmartCardConnection)


def test_the_pin_is_forgotten_when_the_connection_closes(found: ScardYubiKeyDevice) -> None:
    for _ in range(2):
        with found.open_connection(SmartCardConnection) as connection:
            piv = PivSession(connection)
            with pytest.raises(ApduError, match="6982"):
                piv.get_object(0x5FC109)
            piv.verify_pin(PIN)
            assert piv.get_object(0x5FC109)


def test_shared_connections_see_one_another_s_resets(
    virtual_yubikey: YubiKeyRig, found: ScardYubiKeyDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YKMAN_NO_EXLUSIVE", "1")
    first = found.open_connection(SmartCardConnection)
    with found.open_connection(SmartCardConnection) as second:
        PivSession(first).verify_pin(PIN)
        first.close()
        with pytest.raises(CardConnectionException, match="Card was reset"):
            second.send_and_receive(b"\0\x20\0\x80")


def test_a_device_that_is_removed_in_mid_operation(
    virtual_yubikey: YubiKeyRig, found: ScardYubiKeyDevice
) -> None:
    device = virtual_yubikey.device
    connection = found.open_connection(SmartCardConnection)
    piv = PivSession(connection)
    piv.authenticate(virtual_yubikey.management_key)
    key = piv.generate_key(SLOT.CARD_AUTH, KEY_TYPE.ECCP256, PIN_POLICY.NEVER, TOUCH_POLICY.ALWAYS)
    device.touch = threading.Event()
    with ThreadPoolExecutor() as pool:
        secret = pool.submit(piv.calculate_secret, SLOT.CARD_AUTH, key)
        assert device.touch_wanted.wait(30)
        # Others see the readers meanwhile, in this process and in another one.
        assert len(list_readers()) == 1
        virtual_yubikey.unplug(virtual_yubikey.first)
        with pytest.raises(CardConnectionException, match=r"removed|unavailable"):
            secret.result(30)
    assert list_readers() == []
    device.insert()
    connection.close()


def test_a_device_comes_back(virtual_yubikey: YubiKeyRig, found: ScardYubiKeyDevice) -> None:
    with found.open_connection(SmartCardConnection) as connection:
        virtual_yubikey.device.remove()
        with pytest.raises(CardConnectionException, match="Card was removed"):
            connection.send_and_receive(b"\0\x20\0\x80")
        virtual_yubikey.device.insert()
        with pytest.raises(CardConnectionException, match="Card was removed"):
            connection.send_and_receive(b"\0\x20\0\x80")
    ((_, info),) = list_all_devices()
    assert info.serial == virtual_yubikey.first.serial


def test_threads_do_not_wait_for_one_another_for_ever(virtual_yubikey: YubiKeyRig) -> None:
    # pyscard holds the interpreter's lock in SCardFreeMemory: with a service in a thread of this
    # process this would never end.
    with ThreadPoolExecutor(8) as pool:
        listed = pool.map(lambda _: len(list_readers()), range(400))
        assert set(listed) == {1}


def test_a_rig_says_what_it_holds_and_gives_it_back(virtual_yubikey: YubiKeyRig) -> None:
    second = virtual_yubikey.add()
    assert (second.uri, virtual_yubikey.uri) == (
        "yubikey:serial=30000002",
        "yubikey:serial=30000001",
    )
    assert repr(virtual_yubikey) == "YubiKeyRig([30000001, 30000002])"
    for secret in (PIN, virtual_yubikey.puk, virtual_yubikey.management_key.hex()):
        assert secret not in repr(second)
    with pytest.raises(ConflictError, match="30000002 is plugged in already"):
        virtual_yubikey.add(30_000_002)
    virtual_yubikey.unplug(second)
    with pytest.raises(NotFoundError, match="30000002 is not plugged in"):
        virtual_yubikey.unplug(second)
    assert virtual_yubikey.add().serial == second.serial
    for _ in range(14):
        virtual_yubikey.add()
    with pytest.raises(ConflictError, match="16 readers"):
        virtual_yubikey.add()
    assert len(list_readers()) == 16
    virtual_yubikey.close()
    assert list_readers() == []
    assert not virtual_yubikey.folder.exists()


def test_ykman_s_pkill_reaches_nobody_and_others_do(virtual_yubikey: YubiKeyRig) -> None:
    def pkill(*arguments: str) -> int:
        return subprocess.run(["pkill", *arguments], env=virtual_yubikey.environment).returncode

    assert pkill("-9", "scdaemon") == pkill("-HUP", "yubikey-agent") == 1
    with subprocess.Popen(["sleep", "600"]) as running:
        assert pkill("--parent", "1", "-f", "no such program at all") == 1
        running.kill()


def test_a_process_has_one_service(virtual_yubikey: YubiKeyRig) -> None:
    service = in_process()
    assert in_process() is service
    before = set(threading.enumerate())
    virtual_yubikey.unplug(virtual_yubikey.add())
    for each in set(threading.enumerate()) - before:
        each.join(30)
        assert not each.is_alive()
    with pytest.raises(ConflictError, match="already"):
        service.add(virtual_yubikey.device)
    with pytest.raises(NotFoundError):
        service.remove(VirtualYubiKey(30_000_077))


def test_a_service_ends_with_whoever_started_it() -> None:
    device = VirtualYubiKey()
    with PcscProcess() as service:
        service.add(device)
        folder = service._folder
        assert service.clients() == 0
    assert not folder.exists()
    device.remove()  # tells nobody


def test_an_error_in_the_device_ends_its_connection(
    virtual_yubikey: YubiKeyRig, found: ScardYubiKeyDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(command: bytes) -> bytes:
        raise ZeroDivisionError

    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    connection = found.open_connection(SmartCardConnection)
    monkeypatch.setattr(virtual_yubikey.device, "transmit", broken)
    with pytest.raises(CardConnectionException, match="removed"):
        connection.send_and_receive(b"\0\x20\0\x80")
    assert seen == [ZeroDivisionError]


USED = """
from smartcard.pcsc.PCSCExceptions import EstablishContextException
from smartcard.System import readers
try:
    readers()
except EstablishContextException:
    pass
from mesh_hsm.errors import DeviceError
from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process
try:
    in_process()
except DeviceError as error:
    print(error, "|", error.hint)
"""


def test_a_process_that_has_looked_for_cards_is_told_so(tmp_path: object) -> None:
    environment = {"PCSCLITE_CSOCK_NAME": f"{tmp_path}/nobody"}
    done = subprocess.run(
        [sys.executable, "-c", USED], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("this process has used another PC/SC service already | start")


def test_a_service_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DeviceError, match="has not started"):
        PcscProcess()

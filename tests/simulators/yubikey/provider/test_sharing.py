"""Which YubiKey is meant, who has it in hand, and for how long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from slots_bench import PIN, SECRETS, SERIALS, SlotsBench, spec, works
from smartcard.Exceptions import CardConnectionException
from smartcard.pcsc.PCSCCardConnection import PCSCCardConnection
from smartcard.pcsc.PCSCExceptions import EstablishContextException
from smartcard.scard import SCARD_E_NO_SERVICE

from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import DeviceError, NotFoundError, ProviderUnavailableError
from mesh_hsm.provider import Use
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import card, finding, holders, readers
from mesh_hsm_yubikey.readers import HeldError

SAME_NAME = "Yubico YubiKey CCID (virtual)"

HOLDER = """
import sys
from mesh_hsm_yubikey.readers import CardConnection, yubikeys
(reader,) = (one for one in yubikeys() if str(one) == sys.argv[1])
connection = CardConnection(reader)
print("held", flush=True)
sys.stdin.read()
connection.close()
"""

USER = """
import sys
from pathlib import Path
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey.provider import YubiKeyProvider
uri = Uri.parse(sys.argv[1])
with YubiKeyProvider(Path(sys.argv[2])).open(
    uri.without("slot"), FixedSecrets({SecretKind.PIN: sys.argv[3].encode()})
) as token:
    token.key(uri).sign(bytes(32))
print("signed", flush=True)
"""


@contextmanager
def held_by_a_child(bench: SlotsBench) -> Iterator[int]:
    """Another process connects to the card; its number."""
    bench.card.release()
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, bench.reader],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        yield child.pid
    finally:
        child.communicate()


def used_by_a_child(uri: Uri, folder: Path) -> None:
    """Another process opens the token and signs."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", USER, str(uri), str(folder), PIN.decode()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.returncode) == ("signed\n", 0), ran.stderr


# -- which one -------------------------------------------------------------------------------------


def test_the_one_that_is_named_and_no_other(new_bench) -> None:
    benches = [new_bench() for _ in range(3)]
    keys = {}
    for number, bench in enumerate(benches):
        with bench.open() as token:
            keys[number] = token.generate(spec(f"key {number}"))
    for number in (2, 0, 1):
        bench = benches[number]
        for other in benches:
            other.device.trace.clear()
        with bench.open() as token:
            (key,) = token.keys()
            assert key.label == f"key {number}"
            key.sign(bytes(32))
            for other in benches:
                if other is not bench:
                    with pytest.raises(NotFoundError):
                        token.key(keys[benches.index(other)].uri)
        # Of the others, who they are is asked, and PIV is never even selected.
        for other in benches:
            assert other is bench or other.device.apdus <= 2


def test_two_that_claim_one_number(new_bench) -> None:
    """One of them is there for the PIN of the other: neither gets it."""
    bench = new_bench()
    with bench.open() as token:
        key = token.generate(spec(pin=PinPolicy.ALWAYS))
    liar = VirtualYubiKey(bench.device.serial)
    in_process().add(liar)
    try:
        with pytest.raises(DeviceError, match="one of them lies") as caught, bench.open() as token:
            token.key(key.uri).sign(bytes(32))
        assert "only the one that you know" in (caught.value.hint or "")
    finally:
        in_process().remove(liar)
    with bench.open() as token:
        token.key(key.uri).sign(bytes(32))


def test_one_that_is_not_plugged_in(bench: SlotsBench) -> None:
    absent = Uri("yubikey", (("serial", str(next(SERIALS))),))
    with pytest.raises(NotFoundError, match="plugged in") as caught:
        bench.provider.open(absent, SECRETS)
    assert "token list" in (caught.value.hint or "")
    assert caught.value.uri == str(absent)


def test_one_that_was_pulled_out(bench: SlotsBench) -> None:
    """A reader without a card may be its: that is said, and not that it is unknown."""
    with bench.open() as token:
        key = token.generate(spec())
        bench.device.remove()
        with pytest.raises(DeviceError, match="no card") as caught:
            key.sign(bytes(32))
        assert caught.value.hint
        bench.device.insert()
        key.sign(bytes(32))
        bench.service.remove(bench.device)
        with pytest.raises(NotFoundError):
            key.sign(bytes(32))
        bench.service.add(bench.device)
        key.sign(bytes(32))


def test_one_that_hides_its_serial_number(bench: SlotsBench, new_bench) -> None:
    """It is never taken for another, and not in the way of one."""
    shy = new_bench()
    shy.card.release()
    honest = shy.device.transmit

    def without_serial(command: bytes) -> bytes:
        answer = honest(command)
        if command[1] != 0x1D:
            return answer
        before, _, after = answer[1:].partition(bytes.fromhex("0204") + shy_serial)
        return bytes([len(before + after) - 2]) + before + after

    shy_serial = shy.device.serial.to_bytes(4, "big")
    shy.device.transmit = without_serial
    with pytest.raises(NotFoundError):
        shy.open()
    assert shy.device.serial not in finding.serials()
    assert {info.serial for info in bench.provider.tokens()} == {str(bench.device.serial)}
    with bench.open() as token:
        works(token.generate(spec()))
    shy.device.transmit = honest


def test_another_one_in_the_same_port(new_bench) -> None:
    """Readers are named after ports: a name says nothing of which card is in it."""
    first = new_bench(reader=SAME_NAME)
    with first.open() as token:
        key = token.generate(spec())
        first.card.release()
        first.service.remove(first.device)
        second = new_bench(reader=SAME_NAME)
        assert second.reader == first.reader
        with second.open() as other:
            other.generate(spec())
        second.card.release()
        second.service.remove(second.device)
        first.service.add(first.device)
        key.sign(bytes(32))  # takes the reader, and keeps it
        first.service.remove(first.device)
        second.service.add(second.device)
        with second.open() as other:  # though this process had that reader in hand
            works(other.keys()[0])
            with pytest.raises(NotFoundError):
                key.sign(bytes(32))
            works(other.keys()[0])
        second.card.release()
        second.service.remove(second.device)
        first.service.add(first.device)
        key.sign(bytes(32))
        second.service.add(second.device)


@pytest.mark.parametrize(
    "text",
    ["yubikey:", "yubikey:serial=", "yubikey:serial=x", "yubikey:serial=1;who=me",
     "yubikey:serial=12345678901", "yubikey:serial=-1", "tpm2:"],
)  # fmt: skip
def test_what_names_none(bench: SlotsBench, text: str) -> None:
    bench.device.trace.clear()
    with pytest.raises(NotFoundError):
        bench.provider.open(Uri.parse(text), SECRETS)
    assert bench.device.apdus == 0


def test_a_token_knows_its_own_keys_only(bench: SlotsBench) -> None:
    with bench.open() as token:
        for uri in (token.info.uri, Uri.parse("yubikey:serial=1;slot=9c")):
            with pytest.raises(NotFoundError):
                token.key(uri)


# -- who has it ------------------------------------------------------------------------------------


def test_held_by_another_process(bench: SlotsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PATIENCE", 0.0)
    with bench.open() as token:
        key = token.generate(spec())
        with held_by_a_child(bench) as child:
            with pytest.raises(HeldError, match="held by another program") as caught:
                key.sign(bytes(32))
            assert f"(PID {child})" in (caught.value.hint or "")
            assert str(os.getpid()) not in (caught.value.hint or "")
            assert bench.provider.tokens() == []
            assert any(str(one) == str(caught.value) for one in finding.each())
        key.sign(bytes(32))


def test_held_is_what_is_said_even_beside_one_that_is_broken(
    new_bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that is waited for."""
    monkeypatch.setattr(readers, "PATIENCE", 0.0)
    broken, bench = new_bench(), new_bench()
    with bench.open() as token:
        key = token.generate(spec())
        bench.card.release()
        broken.card.release()
        monkeypatch.setattr(broken.device, "transmit", lambda _: b"\x6f\x00")
        with held_by_a_child(bench), pytest.raises(HeldError):
            key.sign(bytes(32))


def test_another_process_that_lets_go_is_waited_for(
    bench: SlotsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()
    honest = finding._reach

    def reach(serial: int, uri: str):
        try:
            return honest(serial, uri)
        except HeldError:
            refused.set()
            raise

    monkeypatch.setattr(finding, "_reach", reach)
    with bench.open() as token, ThreadPoolExecutor(1) as pool:
        key = token.generate(spec())
        with held_by_a_child(bench):
            signing = pool.submit(key.sign, bytes(32))
            assert refused.wait(30)
        assert signing.result()


def test_the_reader_is_given_up_after_a_while(
    bench: SlotsBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process gets it while the token is open here, and so do we afterwards."""
    monkeypatch.setattr(card, "LINGER", 0.05)
    with bench.open() as token:
        key = token.generate(spec(pin=PinPolicy.ONCE))
        key.sign(bytes(32))
        used_by_a_child(key.uri, tmp_path)
        key.sign(bytes(32))


def test_the_reader_is_kept_from_one_operation_to_the_next(bench: SlotsBench) -> None:
    with bench.open() as token:
        key = token.generate(spec())
        assert readers.is_ours(bench.reader)
        bench.device.trace.clear()
        key.sign(bytes(32))
        assert bench.device.apdus == 2  # what the slot holds, and the signature
    assert not readers.is_ours(bench.reader)


def test_tokens_are_listed_that_we_hold_ourselves(new_bench) -> None:
    benches = [new_bench() for _ in range(2)]
    with benches[0].open() as token:
        key = token.generate(spec())
        assert readers.is_ours(benches[0].reader)
        found = {info.serial for info in benches[0].provider.tokens()}
        assert found == {str(bench.device.serial) for bench in benches}
        key.sign(bytes(32))


def test_a_card_that_is_gone_after_it_was_listed(
    bench: SlotsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.card.release()
    monkeypatch.setattr(finding, "serials", lambda: [bench.device.serial, 30_099_999])
    assert [info.serial for info in bench.provider.tokens()] == [str(bench.device.serial)]


def test_a_card_that_talks_nonsense_is_not_in_the_way(new_bench) -> None:
    """The one that may be meant and does not answer is named; another one is found beside it."""
    sane, mad = new_bench(), new_bench()
    mad.card.release()
    honest = mad.device.transmit
    mad.device.transmit = lambda command: honest(command)[:-2][:3] + b"\x90\x00"
    with sane.open() as token:
        works(token.generate(spec()))
    with pytest.raises(DeviceError, match=r"malformed|cannot") as caught:
        mad.open()
    assert caught.value.hint
    mad.device.transmit = honest


def test_a_card_without_piv(bench: SlotsBench) -> None:
    """The connection that was made to find that out is ended."""
    bench.card.release()
    honest = bench.device.transmit
    bench.device.transmit = lambda command: (
        b"\x6a\x82" if command[5:10] == bytes.fromhex("A000000308") else honest(command)
    )
    with pytest.raises(DeviceError):
        bench.open()
    assert not readers.is_ours(bench.reader)
    bench.device.transmit = honest
    bench.open()


# -- threads and processes of ours -----------------------------------------------------------------


def test_two_tokens_and_eight_threads(new_bench) -> None:
    """One security state on each card: PIN-always keys are served one after another."""
    benches = [new_bench() for _ in range(2)]
    keys = []
    for bench in benches:
        one, other = bench.open(), bench.open()
        keys.append(one.generate(spec("signs", pin=PinPolicy.ALWAYS)))
        agreeing = other.generate(spec("agrees", "P-256", Use.ENCRYPT, PinPolicy.ONCE))
        keys.append(agreeing)
    start = threading.Barrier(8)

    def use(number: int) -> None:
        start.wait()
        for _ in range(6):
            works(keys[number % len(keys)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    for bench in benches:
        assert bench.device.operations[0x9C, "sign"] == 12
        assert bench.device.operations[0x9D, "agree"] == 12
        assert bench.state.pin.left == 3


def test_a_card_that_waits_for_a_touch_is_not_in_the_way_of_another(new_bench) -> None:
    """It is in hand while it says nothing; whoever looks for another one is not kept waiting."""
    waiting, other = new_bench(), new_bench()
    finger = threading.Event()
    with waiting.open() as token, ThreadPoolExecutor(1) as pool:
        key = token.generate(spec(touch=TouchPolicy.ALWAYS))
        waiting.device.touch = finger
        signing = pool.submit(key.sign, bytes(32))
        assert waiting.device.touch_wanted.wait(30)
        other.card.release()
        with other.open() as free:
            works(free.generate(spec()))
        assert readers.is_ours(waiting.reader)
        assert not signing.done()
        finger.set()
        signing.result()


def test_an_interrupted_operation_gives_the_reader_up(bench: SlotsBench) -> None:
    """The card may be waiting still: the next operation begins anew."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with bench.open() as token:
        key = token.generate(spec())
        with pytest.raises(KeyboardInterrupt):
            bench.card.run("be interrupted", interrupted)
        assert not readers.is_ours(bench.reader)
        key.sign(bytes(32))


def _in_a_fork(uri: str, folder: str, line) -> None:
    try:
        bench_card = card.card_of(int(Uri.parse(uri).get("serial") or ""))
        key = _IN_PARENT[uri]
        key.sign(bytes(32))
        line.send(("signed", bench_card._pid == os.getpid()))
    except BaseException as error:
        line.send((repr(error), False))


_IN_PARENT: dict[str, object] = {}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(
    bench: SlotsBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until its parent lets go, signs, and takes nothing from the parent."""
    with bench.open() as token:
        key = token.generate(spec(pin=PinPolicy.ONCE))
        key.sign(bytes(32))
        assert readers.is_ours(bench.reader)
        _IN_PARENT[str(key.uri)] = key
        here, there = get_context("fork").Pipe()
        child = get_context("fork").Process(
            target=_in_a_fork, args=(str(key.uri), str(tmp_path), there)
        )
        child.start()
        there.close()
        assert here.poll(30)
        assert here.recv() == ("signed", True)
        child.join()
        key.sign(bytes(32))
    _IN_PARENT.clear()


# -- the service -----------------------------------------------------------------------------------


def test_no_service(monkeypatch: pytest.MonkeyPatch, bench: SlotsBench) -> None:
    """What libpcsclite says then cannot be had while the service of the tests runs."""
    bench.card.release()

    def absent() -> None:
        raise EstablishContextException(SCARD_E_NO_SERVICE)

    monkeypatch.setattr(readers.System, "readers", absent)
    for attempt in (bench.provider.tokens, bench.open):
        with pytest.raises(ProviderUnavailableError, match="PC/SC") as caught:
            attempt()
        assert "pcscd" in (caught.value.hint or "")


def test_a_reader_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, bench: SlotsBench
) -> None:
    bench.card.release()
    monkeypatch.setattr(PCSCCardConnection, "connect", _unreachable)
    with pytest.raises(DeviceError, match="cannot be reached") as caught:
        bench.open()
    assert "doctor" in (caught.value.hint or "")


def _unreachable(self, **_: object) -> None:
    raise CardConnectionException("not reached", hresult=SCARD_E_NO_SERVICE)


def test_other_readers_are_left_alone(bench: SlotsBench, new_bench) -> None:
    other = new_bench()
    other.card.release()
    other.service.remove(other.device)
    other.device.reader_name = "Some bank's card reader"
    other.service.add(other.device)
    other.device.trace.clear()
    assert other.device.serial not in finding.serials()
    assert other.device.apdus == 0


# -- who else has a card ---------------------------------------------------------------------------


def test_processes_that_may_hold_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /proc of our own, as no test may start GnuPG's daemon."""
    processes = {
        "11": ("scdaemon", ""),
        "12": ("firefox", "7f00 r-xp /usr/lib/libpcsclite.so.1.0.0\n"),
        "13": ("bash", "7f00 r-xp /usr/lib/libc.so.6\n"),
        "16": ("\udcff\x1b", "7f00 r-xp /home/\udcff/libpcsclite.so.1\n"),
        "14": ("pcscd", "7f00 r-xp /usr/lib/libpcsclite.so.1\n"),
        str(os.getpid()): ("python", "libpcsclite"),
    }
    for number, (name, maps) in processes.items():
        folder = tmp_path / number
        folder.mkdir()
        (folder / "comm").write_bytes(os.fsencode(name + "\n"))
        (folder / "maps").write_bytes(os.fsencode(maps))
    (tmp_path / "15").mkdir()  # gone before it could be looked at
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(holders, "Path", lambda _: tmp_path)
    assert holders.other_processes() == [
        "scdaemon (PID 11)",
        "firefox (PID 12)",
        "\\xff\x1b (PID 16)",
    ]
    monkeypatch.setattr(holders, "Path", lambda _: tmp_path / "self")
    assert holders.other_processes() == []
    assert readers.held("reader").hint == "end what uses it"

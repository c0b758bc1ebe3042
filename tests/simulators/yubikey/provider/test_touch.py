"""A person is told to touch the YubiKey while it waits for that, and at no other time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from own_yubikey import PIN, Own, Person, padded

from mesh_hsm.curves import P256, X25519
from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import AccessError, DeviceError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import AwaitsTouch, FixedSecrets, SecretKind
from mesh_hsm.testing.virtual_yubikey.piv.management_key import KeyType, ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm.testing.virtual_yubikey.piv.names import TouchPolicy as CardTouch
from mesh_hsm_yubikey import touch
from mesh_hsm_yubikey.readers import LETTING_GO

DIGEST = bytes(32)
PATIENCE = 20.0
"""Seconds after which a test that waits for a thread has failed."""


class Watcher(Person):
    """A person who also looks at a display; ``touches`` when it says so."""

    def __init__(self, own: Own, *, touches: bool = True, **how) -> None:
        super().__init__(own, **how)
        self.finger = threading.Event()
        self.shown, self.gone = threading.Event(), threading.Event()
        self.touches = touches
        self.subjects: list[str] = []
        self.was_waiting: list[bool] = []
        self.stood: list[bool] = []

    @contextmanager
    def awaiting_touch(self, subject: str) -> Iterator[None]:
        self.subjects.append(subject)
        self.was_waiting.append(self.own.device.waiting_for_touch)
        try:
            self.shown.set()
            if self.touches:
                self.finger.set()
            yield
        finally:
            self.gone.set()


def late(watcher: Watcher, then) -> None:
    """The card waits until the prompt stands there; then something else than a touch happens."""

    def finger() -> bool:
        assert watcher.shown.wait(PATIENCE)
        watcher.stood.append(not watcher.gone.is_set())
        then()
        return False

    watcher.own.device.touch = finger


@pytest.fixture
def watcher(own: Own) -> Watcher:
    one = Watcher(own)
    own.device.touch = one.finger
    return one


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is so slow that a card which does not wait would seem to."""
    monkeypatch.setattr(touch, "DELAY", PATIENCE)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Whoever started the tests in the background may have had SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_watcher_is_one_whom_the_provider_tells(watcher: Watcher) -> None:
    assert isinstance(watcher, AwaitsTouch)
    assert not isinstance(FixedSecrets({}), AwaitsTouch)


@pytest.mark.parametrize(
    ("algorithm", "use"), [("P-256", Use.SIGN), ("P-256", Use.ENCRYPT), ("X25519", Use.ENCRYPT)]
)
def test_the_prompt_stands_while_the_card_waits_and_goes_when_it_is_touched(
    own: Own, watcher: Watcher, algorithm: str, use: Use
) -> None:
    key = own.make(PinPolicy.ONCE, TouchPolicy.ALWAYS, watcher, algorithm=algorithm, use=use)
    if use is Use.SIGN:
        key.sign(DIGEST)
    else:
        key.agree({"P-256": P256, "X25519": X25519}[algorithm].base)
    doing = "sign" if use is Use.SIGN else "agree"
    assert watcher.subjects == [f"YubiKey {own.device.serial} to {doing} with key"]
    assert watcher.was_waiting == [True]
    assert watcher.gone.is_set()
    assert watcher.kinds == [SecretKind.PIN]


def test_always_means_each_time(own: Own, watcher: Watcher) -> None:
    key = own.make(touch=TouchPolicy.ALWAYS, person=watcher)
    key.sign(DIGEST)
    key.sign(DIGEST)
    assert watcher.was_waiting == [True, True]


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("policy", list(TouchPolicy))
def test_no_prompt_where_the_card_does_not_wait(own: Own, policy: TouchPolicy) -> None:
    watcher = Watcher(own)
    own.device.touch = "automatic"
    own.make(touch=policy, person=watcher).sign(DIGEST)
    assert not watcher.subjects


@pytest.mark.usefixtures("unhurried")
def test_a_cached_touch_counts_for_fifteen_seconds(own: Own) -> None:
    watcher = Watcher(own)
    key = own.make(touch=TouchPolicy.CACHED, person=watcher)
    own.device.touch = "automatic"
    key.sign(DIGEST)
    own.device.touch = "never"
    own.device.clock.advance(14)
    key.sign(DIGEST)
    own.device.clock.advance(2)
    with pytest.raises(AccessError, match="nobody touched") as caught:
        key.sign(DIGEST)
    assert "blinks" in (caught.value.hint or "")
    assert not watcher.subjects


def test_a_cached_touch_that_has_run_out_is_prompted_for(own: Own, watcher: Watcher) -> None:
    key = own.make(touch=TouchPolicy.CACHED, person=watcher)
    own.device.touch = "automatic"
    key.sign(DIGEST)
    own.device.clock.advance(16)
    own.device.touch = watcher.finger
    key.sign(DIGEST)
    assert watcher.was_waiting == [True]


def test_the_prompt_goes_when_nobody_touched_in_time(own: Own) -> None:
    watcher = Watcher(own, touches=False)
    key = own.make(PinPolicy.ONCE, TouchPolicy.ALWAYS, watcher)
    late(watcher, lambda: None)
    with pytest.raises(AccessError, match="nobody touched"):
        key.sign(DIGEST)
    assert watcher.stood == [True]
    assert watcher.gone.is_set()
    own.device.touch = "automatic"
    key.sign(DIGEST)  # the reader is still ours, the PIN still proved
    assert own.sent(Ins.VERIFY) == [padded(PIN)]


def test_the_prompt_goes_when_the_yubikey_is_pulled_out(own: Own) -> None:
    watcher = Watcher(own, touches=False)
    key = own.make(touch=TouchPolicy.ALWAYS, person=watcher)
    late(watcher, own.device.remove)
    with pytest.raises(DeviceError, match="went away"):
        key.sign(DIGEST)
    assert watcher.stood == [True]
    assert watcher.gone.is_set()
    own.device.insert()
    own.device.touch = "automatic"
    key.sign(DIGEST)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_wait_ends_at_once_and_gives_the_card_up_once_it_can(own: Own) -> None:
    watcher = Watcher(own, touches=False)
    key = own.make(PinPolicy.ONCE, TouchPolicy.ALWAYS, watcher)
    ended = threading.Event()

    def finger() -> bool:
        assert watcher.shown.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return not ended.wait(PATIENCE)

    own.device.touch = finger
    with pytest.raises(KeyboardInterrupt):
        key.sign(DIGEST)
    assert own.device.waiting_for_touch  # nobody waited for that to end
    assert watcher.gone.is_set()
    ended.set()
    for thread in threading.enumerate():
        if thread.name == LETTING_GO:
            thread.join(PATIENCE)
    assert own.is_free()
    own.device.touch = "automatic"
    key.sign(DIGEST)


_SIGNER = """
import signal
import sys
from pathlib import Path
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey.provider import YubiKeyProvider
signal.signal(signal.SIGINT, signal.default_int_handler)
uri = Uri.parse(sys.argv[1])
with YubiKeyProvider(Path("/nonexistent")).open(uri.without("slot"), NoSecrets()) as token:
    try:
        token.key(uri).sign(bytes(32))
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_program_that_is_interrupted_while_the_card_waits_ends_at_once(own: Own) -> None:
    key = own.make(touch=TouchPolicy.ALWAYS)
    own.forget()
    ended = threading.Event()
    own.device.touch = lambda: not ended.wait(PATIENCE)
    child = subprocess.Popen(
        [sys.executable, "-c", _SIGNER, str(key.uri)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert own.device.touch_wanted.wait(PATIENCE)
    child.send_signal(signal.SIGINT)
    said, complained = child.communicate(timeout=PATIENCE)
    assert own.device.waiting_for_touch
    ended.set()
    assert (said, complained, child.returncode) == ("interrupted\n", "", 0)


def test_nobody_need_look_at_a_display(own: Own) -> None:
    key = own.make(touch=TouchPolicy.ALWAYS, person=own.person())
    own.device.touch = "automatic"
    key.sign(DIGEST)
    own.device.touch = "never"
    with pytest.raises(AccessError, match="nobody touched"):
        key.sign(DIGEST)


def test_a_pin_that_is_missing_is_not_called_a_missing_touch(own: Own) -> None:
    """Both are 6982: a key without touch policy was refused for another reason."""
    key = own.make(PinPolicy.ONCE)
    own.device.fail_next(Ins.AUTHENTICATE, 0x6982)
    with pytest.raises(AccessError) as caught:
        key.sign(DIGEST)
    assert "touched" not in str(caught.value)


def test_a_management_key_that_wants_a_touch_is_prompted_for(own: Own, watcher: Watcher) -> None:
    own.state.management = ManagementKey(
        KeyType.AES256, own.state.management.value, CardTouch.ALWAYS
    )
    with own.open(watcher) as token:
        token.generate(KeySpec("P-256", Use.SIGN, "key"))
    assert watcher.subjects == [f"YubiKey {own.device.serial} to change what it holds"]
    assert watcher.was_waiting == [True]
    assert watcher.gone.is_set()


def test_the_command_line_says_it_without_a_terminal_and_in_json(own: Own) -> None:
    """It is touched only once the notice was read from stderr."""
    own.trust()
    key = own.make(PinPolicy.ONCE, TouchPolicy.ALWAYS)
    own.forget()
    state = own.records.parent.parent
    state.chmod(0o700)
    finger = own.device.touch = threading.Event()
    command = [sys.executable, "-m", "mesh_hsm_cli.main", "key", "attest", str(key.uri)]
    child = subprocess.Popen(
        [*command, "--json", "--pin-env", "YUBIKEY_PIN"],
        env=os.environ | {"MESH_HSM_HOME": str(state), "YUBIKEY_PIN": PIN.decode()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    subject = f"YubiKey {own.device.serial} to sign with key"
    for line in child.stderr:
        if line == json.dumps({"notice": f"Touch {subject}"}) + "\n":
            break
    assert own.device.waiting_for_touch
    finger.set()
    said, complained = child.communicate(timeout=PATIENCE)
    assert (complained, child.returncode) == ("", 0)
    assert json.loads(said)["key"]["custody"]["touch"] == "always"

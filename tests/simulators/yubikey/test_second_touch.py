"""Where one answer will not do, the second touch is announced together with its reason."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh_hsm.curves import Point, SecretScalar, curve
from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig
from mesh_hsm.threshold import recover_blinded, recover_plain
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import YubiKeyProvider

LONG_ENOUGH = 20.0


class Person(FixedSecrets):
    """Touches the YubiKey once told to, and remembers the words."""

    __slots__ = ("said", "told")

    @contextmanager
    def awaiting_touch(self, subject: str) -> Iterator[None]:
        self.said.append(subject)
        self.told.set()
        yield
        self.told.clear()


@pytest.mark.parametrize("recover", [recover_plain, recover_blinded])
@pytest.mark.parametrize("algorithm", ["P-384", "X25519"])
def test_a_second_touch_says_why(
    virtual_yubikey: YubiKeyRig,
    tmp_path: Path,
    recover: Callable[[DeviceKey, Point], Point],
    algorithm: str,
) -> None:
    person = Person({SecretKind.PIN: virtual_yubikey.pin.encode()})
    object.__setattr__(person, "said", [])
    object.__setattr__(person, "told", threading.Event())
    provider, uri = YubiKeyProvider(tmp_path), Uri.parse(virtual_yubikey.uri)
    spec = KeySpec(
        algorithm, Use.AUTHENTICATE, "card", pin=PinPolicy.ONCE, touch=TouchPolicy.ALWAYS
    )
    e = SecretScalar.random(curve(algorithm))
    with provider.open(uri, person) as token:
        key = token.generate(spec)
        virtual_yubikey.device.touch = lambda: person.told.wait(LONG_ENOUGH)
        assert recover(key, e.public()) == e.times(key.public)
    first, second = person.said
    assert first == "YubiKey 30000001 to agree with card"
    assert second.startswith(f"{first}, a second time: its first answer leaves two points")

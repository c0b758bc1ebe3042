"""A key dealt to three YubiKeys: any two of them decrypt, one does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh_hsm.provider import Token
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.virtual_yubikey import Operation
from mesh_hsm.testing.virtual_yubikey.rig import PluggedIn, YubiKeyRig
from mesh_hsm.threshold.two_of_three import PAIRS
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import YubiKeyProvider
from tests.three_tokens import PLAINTEXT, deal_to, decrypted


@pytest.fixture
def plugged(virtual_yubikey: YubiKeyRig) -> list[PluggedIn]:
    return [virtual_yubikey.first, virtual_yubikey.add(), virtual_yubikey.add()]


@pytest.fixture
def tokens(plugged: list[PluggedIn], tmp_path: Path) -> Iterator[list[Token]]:
    with ExitStack() as opened:
        yield [
            opened.enter_context(
                YubiKeyProvider(tmp_path / str(one.serial)).open(
                    Uri.parse(one.uri), FixedSecrets({SecretKind.PIN: one.pin.encode()})
                )
            )
            for one in plugged
        ]


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "X25519"])
def test_any_two_decrypt_and_nobody_alone(
    plugged: list[PluggedIn], tokens: list[Token], tmp_path: Path, algorithm: str
) -> None:
    with deal_to(tmp_path / "mesh", algorithm, tokens) as bench:
        bench.check_any_two_decrypt()
        bench.check_nobody_else_does()
        bench.check_the_other_implementation_decrypts()
        bench.check_custody()
        envelope = bench.encrypted()
        for pair in PAIRS:
            before = [_agreements(one) for one in plugged]
            assert decrypted(bench.key(pair), envelope) == PLAINTEXT
            asked = [_agreements(one) - n for one, n in zip(plugged, before, strict=True)]
            # One use of each card, and so one touch: candidates are tried on the wrapped key.
            assert sorted(asked) == [0, 1, 1]


def _agreements(one: PluggedIn) -> int:
    return sum(n for (_, what), n in one.device.operations.items() if what == Operation.AGREE)

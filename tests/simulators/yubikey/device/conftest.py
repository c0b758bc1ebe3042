"""A device of its own for each test, and hosts that hold it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from simulators.yubikey.device.host import OK, Host

from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey


@pytest.fixture
def device() -> VirtualYubiKey:
    return VirtualYubiKey()


@pytest.fixture
def host(device: VirtualYubiKey) -> Host:
    """PIV is selected, nobody has authenticated."""
    return Host(device)


@pytest.fixture
def manager(host: Host) -> Host:
    """The management key was authenticated."""
    assert host.manage() == OK
    return host


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)

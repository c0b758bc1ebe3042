"""The device's own record: what it does not unlearn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesh_hsm.errors import VerificationError
from mesh_hsm.mesh import open_pins
from mesh_hsm.mesh.signed import seal_object


def test_pins_say_what_the_device_has_seen(mesh: Any, device: Any, activated: Any) -> None:
    pins = open_pins(activated.pins.envelope, device.keys.profile.public).value
    assert pins.device_udf == device.udf
    assert (pins.master_udf, pins.master_version) == (mesh.udf, 1)
    assert pins.profile_master_digest == mesh.profile.digest
    assert pins.profile_device_digest == device.request.value.device.digest
    assert pins.counter == 0


def test_the_counter_and_an_empty_srk_are_kept(mesh: Any, device: Any, connected: Any) -> None:
    activated = device.activate(
        connected.response.envelope, confirm_master_udf=mesh.udf, counter=7, srk_name=""
    )
    pins = open_pins(activated.pins.text, device.keys.profile.public).value
    assert (pins.counter, pins.srk_name) == (7, "")


def test_pins_by_another_device_are_not_believed(
    mesh: Any, device: Any, other_device: Any, connected: Any, activated: Any
) -> None:
    forged = seal_object(
        activated.pins.value, other_device.keys.profile, connected.connection.value.created
    )
    with pytest.raises(VerificationError, match="not signed by whom"):
        device.activate(connected.response.envelope, pins=forged, confirm_master_udf=mesh.udf)


def test_another_storage_root_key(mesh: Any, device: Any, activated: Any) -> None:
    response = mesh.connect(device).response.envelope
    with pytest.raises(VerificationError, match="storage root key") as caught:
        device.activate(response, pins=activated.pins.envelope, srk_name="000b" + 32 * "a5")
    assert "anew" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "changes", [{"device_udf": "MAAA-AAAA"}, {"profile_device_digest": bytes(64)}]
)
def test_pins_of_another_device(
    mesh: Any, device: Any, activated: Any, changes: dict[str, Any]
) -> None:
    response = mesh.connect(device).response.envelope
    record = replace(activated.pins.value, **changes)
    pins = seal_object(record, device.keys.profile, activated.connection.value.created)
    with pytest.raises(VerificationError, match="another device"):
        device.activate(response, pins=pins)


def test_confirmation_is_checked_beside_pins(
    mesh: Any, stranger: Any, device: Any, activated: Any
) -> None:
    response = mesh.connect(device).response.envelope
    with pytest.raises(VerificationError, match="confirmed UDF"):
        device.activate(response, pins=activated.pins.envelope, confirm_master_udf=stranger.udf)

"""What is plugged in: the tokens of a module, as they describe themselves without a login.

Open this file for how CK_SLOT_INFO and CK_TOKEN_INFO become facts that a URI can be matched with.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pkcs11 import Slot, SlotFlag, TokenFlag
from pkcs11.exceptions import PKCS11Error, TokenNotPresent

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import DeviceError
from mesh_hsm_pkcs11.errors import is_uninitialised
from mesh_hsm_pkcs11.module import Module
from mesh_hsm_pkcs11.naming import TokenFacts, field
from mesh_hsm_pkcs11.structures import TokenInfo

# Programs that report what hardware reports; some even CKF_HW_SLOT (hsm-1 §4).
_SIMULATORS: Final = (
    ("SoftHSM project", "SoftHSM"),
    ("Mozilla Foundation", "NSS"),
    ("IBM", "SW   TPM"),
    ("IBM", "Soft"),
    ("Kryoptic", ""),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A token in a slot of a module. ``flags`` are as they were when it was looked at."""

    module: Module
    slot: Slot
    facts: TokenFacts
    flags: TokenFlag
    hardware: Hardware
    firmware: str
    shortest_pin: int
    longest_pin: int

    @property
    def name(self) -> str:
        """What tells it from every other token of its module, in whichever slot it is."""
        facts = self.facts
        if not facts.initialised:
            return f"slot {facts.slot_id}"
        return "\0".join((facts.label, facts.manufacturer, facts.model, facts.serial))


def present(module: Module) -> list[Found]:
    """Every token there is now. One that fails while it is asked is not there."""
    with module.turn():
        epoch = module.epoch
        try:
            slots = module.slots()
        except PKCS11Error as error:
            if not is_uninitialised(error):
                raise
            module.lost(epoch)
            with module.turn():
                slots = module.slots()
        found = []
        for slot in slots:
            with suppress(PKCS11Error):
                found.append(_look(module, slot))
        return [one for one in found if not _keeps_nothing(one.flags)]


def _keeps_nothing(flags: TokenFlag) -> bool:
    """Whether it only computes, as NSS's "Generic Crypto Services": nothing is stored there."""
    login = TokenFlag.LOGIN_REQUIRED | TokenFlag.USER_PIN_INITIALIZED
    return bool(flags & TokenFlag.WRITE_PROTECTED) and not flags & login


def find_again(wanted: Found) -> Found:
    """The same token, perhaps in another slot by now. Raises ``TokenNotPresent``."""
    fitting = [found for found in present(wanted.module) if found.name == wanted.name]
    if len(fitting) > 1:
        raise DeviceError("two tokens call themselves alike now, serial included: unplug one")
    if not fitting:
        raise TokenNotPresent
    return fitting[0]


def _look(module: Module, slot: Slot) -> Found:
    info = module.cryptoki.token_info(slot.slot_id)
    flags = TokenFlag(info.flags)
    manufacturer, model = field(bytes(info.manufacturer)), field(bytes(info.model))
    facts = TokenFacts(
        label=field(bytes(info.label)),
        manufacturer=manufacturer,
        model=model,
        serial=field(bytes(info.serial)),
        slot_id=slot.slot_id,
        slot_description=slot.slot_description,
        slot_manufacturer=slot.manufacturer_id,
        library_manufacturer=module.manufacturer,
        library_description=module.description,
        library_version=module.version,
        initialised=bool(flags & TokenFlag.TOKEN_INITIALIZED),
    )
    return Found(
        module,
        slot,
        facts,
        flags,
        _hardware(bool(slot.flags & SlotFlag.HW_SLOT), manufacturer, model),
        _firmware(info),
        shortest_pin=info.shortest_pin,
        longest_pin=info.longest_pin,
    )


def _hardware(claimed: bool, manufacturer: str, model: str) -> Hardware:
    """A module that does not even claim hardware has none; of those that do, some are known."""
    known = any(manufacturer.startswith(m) and model.startswith(n) for m, n in _SIMULATORS)
    return Hardware.CLAIMED if claimed and not known else Hardware.SIMULATOR


def _firmware(info: TokenInfo) -> str:
    return f"{info.firmware.major}.{info.firmware.minor}"

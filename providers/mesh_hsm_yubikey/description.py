"""What is known of a YubiKey without a PIN: its serial number, label, firmware; is it hardware?

Open this file to see how a simulator is told from the real thing: by who signed the certificate of
its attestation key (hsm-1 §4). That it is *not* signed by a simulator's root proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from yubikit.core import BadResponseError
from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import SLOT, PivSession

from mesh_hsm.custody import Hardware
from mesh_hsm.provider import TokenInfo
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import catalogue, factory, roots
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.device import Device
from mesh_hsm_yubikey.directory import Directory


@dataclass(frozen=True, slots=True)
class Described:
    """A YubiKey, for the contract and for us."""

    info: TokenInfo
    device: Device


def of(card: Card) -> Described:
    """Ask it. Raises what ``Card.run`` raises."""

    def describe(hold: Hold) -> Described:
        device, piv = hold.device, hold.piv
        directory = catalogue.read(piv) or Directory()
        info = TokenInfo(
            uri=Uri.parse(card.uri),
            label=directory.label or card.subject,
            manufacturer="Yubico",
            model=device.model,
            serial=str(card.serial),
            firmware=device.firmware_text,
            hardware=_hardware(piv),
            initialised=not factory.is_new(piv),
        )
        return Described(info, device)

    return card.run("describe itself", describe)


def f9_certificate(piv: PivSession) -> x509.Certificate | None:
    """The certificate of the attestation key; None where somebody deleted or replaced it."""
    try:
        return piv.get_certificate(SLOT.ATTESTATION)
    except ApduError as error:
        if error.sw != SW.FILE_NOT_FOUND:
            raise
    except BadResponseError:
        pass
    return None


def _hardware(piv: PivSession) -> Hardware:
    certificate = f9_certificate(piv)
    if certificate is not None and roots.is_simulator(certificate.issuer):
        return Hardware.SIMULATOR
    return Hardware.CLAIMED

"""What ``doctor`` says of YubiKeys. Open this file for the codes; none is ever reused.

Each has a section in docs/reference/doctor.md. Nothing is changed, and no PIN is sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from yubikit.piv import PivSession

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import MeshHsmError, ProviderUnavailableError
from mesh_hsm.provider import Finding, Severity, Use
from mesh_hsm_yubikey import catalogue, description, factory, finding, firmware, management, slots
from mesh_hsm_yubikey.card import Card, card_of, release_all
from mesh_hsm_yubikey.directory import Directory
from mesh_hsm_yubikey.login import puk_attempts


def of_everything() -> Iterator[Finding]:
    """Every YubiKey that is plugged in, and the service that leads to them."""
    release_all()
    try:
        reached = list(_each())
    except ProviderUnavailableError as error:
        yield Finding("YUBIKEY001", Severity.NOTE, str(error), error.hint or "start pcscd")
        return
    for one in reached:
        if isinstance(one, MeshHsmError):
            yield Finding("YUBIKEY002", Severity.WARNING, str(one), one.hint or "plug it in again")
        elif one is None:
            yield Finding(
                "YUBIKEY003",
                Severity.WARNING,
                "a YubiKey hides its serial number, and is not used",
                "ykman otp settings shows it again; keys are never put on just any YubiKey",
            )
        else:
            yield from _of_card(card_of(one))


def _each() -> Iterator[int | MeshHsmError | None]:
    for one in finding.each():
        if isinstance(one, MeshHsmError):
            yield one
            continue
        one.connection.close()
        yield one.device.serial


def _of_card(card: Card) -> Iterator[Finding]:
    try:
        described = description.of(card)
        yield from card.run("be examined", lambda hold: list(_of_piv(hold.piv, card)))
    except MeshHsmError as error:
        yield Finding("YUBIKEY002", Severity.WARNING, str(error), error.hint or "plug it in again")
        return
    finally:
        card.release()
    if described.info.hardware is Hardware.SIMULATOR:
        yield Finding(
            "YUBIKEY012",
            Severity.NOTE,
            f"{card.subject} is a simulator: it protects no key",
            "a real one, for keys that matter",
        )
    device = described.device
    concerns = [
        *firmware.concerns(device.firmware, "P-384", Use.SIGN, form_factor=device.form_factor),
        *firmware.concerns(device.firmware, "RSA-2048", Use.SIGN, form_factor=device.form_factor),
    ]
    for concern in dict.fromkeys(concerns):  # some concern both
        yield Finding(
            "YUBIKEY009",
            Severity.WARNING,
            f"{card.subject}, firmware {device.firmware_text}: {concern}",
            "a YubiKey with firmware 5.7.2 or later; firmware cannot be updated",
        )


def _of_piv(piv: PivSession, card: Card) -> Iterator[Finding]:
    codes = dict(zip(factory.SECRETS, ("YUBIKEY004", "YUBIKEY005", "YUBIKEY006"), strict=True))
    for name in factory.still_factory(piv):
        yield Finding(
            codes[name],
            Severity.WARNING,
            f"{card.subject} still has its factory {name}, which everybody knows",
            f"mesh-hsm token init '{card.uri}' --label NAME, or ykman piv access",
        )
    yield from _of_tries(piv.get_pin_attempts(), puk_attempts(piv), card)
    if management.is_protected(piv):
        yield Finding(
            "YUBIKEY010",
            Severity.NOTE,
            f"whoever has {card.subject} and its PIN can also replace its keys",
            "nothing: the PIN protects the management key, so that there is one secret to keep",
        )
    directory = catalogue.read(piv) or Directory()
    for entry in directory.entries:
        if not catalogue.is_true(piv, entry):
            yield Finding(
                "YUBIKEY011",
                Severity.WARNING,
                f"{card.subject} lists {entry.label} in slot {slots.name(entry.slot)}, which does "
                "not hold it: something was cut off, or another program took the slot",
                "the next mesh-hsm key generate, import or delete on it tidies up",
            )


def _of_tries(pin: int | None, puk: int | None, card: Card) -> Iterator[Finding]:
    erase = f"mesh-hsm token init '{card.uri}' --label NAME --erase: its keys are lost"
    unblock = f"mesh-hsm pin unblock '{card.uri}' sets a new PIN with the PUK"
    keep = "keep the PIN: without PIN and PUK the YubiKey can only be erased"
    for kind, left, other, code, severity, way_out in (
        ("PIN", pin, puk, "YUBIKEY007", Severity.ERROR, unblock),
        ("PUK", puk, pin, "YUBIKEY008", Severity.WARNING, keep),
    ):
        if left == 0:
            remedy = erase if other == 0 else way_out
            yield Finding(code, severity, f"the {kind} of {card.subject} is blocked", remedy)
        elif left == 1:
            said = f"one try is left for the {kind} of {card.subject}"
            yield Finding(code, Severity.WARNING, said, way_out)

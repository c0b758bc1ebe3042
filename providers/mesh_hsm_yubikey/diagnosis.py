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
        yield _finding("001", Severity.NOTE, str(error), error.hint or "start pcscd")
        return
    for one in reached:
        if isinstance(one, MeshHsmError):
            yield _finding("002", Severity.WARNING, str(one), one.hint or "plug it in again")
        elif one is None:
            yield _finding(
                "003",
                Severity.WARNING,
                "a YubiKey hides its serial number, and is not used",
                "ykman config otp, or another YubiKey: keys are never put on just any",
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
        yield _finding("002", Severity.WARNING, str(error), error.hint or "plug it in again")
        return
    finally:
        card.release()
    if described.info.hardware is Hardware.SIMULATOR:
        yield _finding(
            "012",
            Severity.NOTE,
            f"{card.subject} is a simulator: it protects no key",
            "a real one, for keys that matter",
        )
    device = described.device
    concerns = [
        *firmware.concerns(device.firmware, "P-384", Use.SIGN, form_factor=device.form_factor),
        *firmware.concerns(device.firmware, "RSA-2048", Use.SIGN, form_factor=device.form_factor),
    ]
    for concern in concerns:
        yield _finding(
            "009",
            Severity.WARNING,
            f"{card.subject}, firmware {device.firmware_text}: {concern}",
            "a YubiKey with firmware 5.7.2 or later; firmware cannot be updated",
        )


def _of_piv(piv: PivSession, card: Card) -> Iterator[Finding]:
    codes = dict(zip(factory.SECRETS, ("004", "005", "006"), strict=True))
    for name in factory.still_factory(piv):
        yield _finding(
            codes[name],
            Severity.WARNING,
            f"{card.subject} still has its factory {name}, which everybody knows",
            f"mesh-hsm token init '{card.uri}' --label NAME, or ykman piv access",
        )
    yield from _of_tries("PIN", piv.get_pin_attempts(), "007", card)
    yield from _of_tries("PUK", puk_attempts(piv), "008", card)
    if management.is_protected(piv):
        yield _finding(
            "010",
            Severity.NOTE,
            f"whoever has {card.subject} and its PIN can also replace its keys",
            "nothing: the PIN protects the management key, so that there is one secret to keep",
        )
    directory = catalogue.read(piv) or Directory()
    for entry in directory.entries:
        if not catalogue.is_true(piv, entry):
            yield _finding(
                "011",
                Severity.WARNING,
                f"{card.subject} lists {entry.label} in slot {slots.name(entry.slot)}, which does "
                "not hold it: something was cut off, or another program took the slot",
                "the next mesh-hsm key generate, import or delete there tidies up",
            )


def _of_tries(kind: str, left: int | None, code: str, card: Card) -> Iterator[Finding]:
    way_out = f"mesh-hsm pin unblock '{card.uri}' sets a new PIN with the PUK"
    if kind == "PUK":
        way_out = "keep the PIN: without PIN and PUK the YubiKey can only be erased"
    if left == 0:
        severity = Severity.ERROR if kind == "PIN" else Severity.WARNING
        yield _finding(code, severity, f"the {kind} of {card.subject} is blocked", way_out)
    elif left == 1:
        yield _finding(
            code, Severity.WARNING, f"one try is left for the {kind} of {card.subject}", way_out
        )


def _finding(code: str, severity: Severity, problem: str, remedy: str) -> Finding:
    return Finding(f"YUBIKEY{code}", severity, problem, remedy)

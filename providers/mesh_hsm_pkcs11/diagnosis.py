"""What ``doctor`` finds wrong with PKCS #11. Open this file for modules, PKCS11001 to PKCS11013.

``token_diagnosis`` has what is said of a token. Each code has a section in
docs/reference/doctor.md. Nothing is changed, nobody is asked anything, and nothing is logged in to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pkcs11 import SlotFlag
from pkcs11.exceptions import PKCS11Error

from mesh_hsm.errors import AccessError, MeshHsmError, ProviderUnavailableError
from mesh_hsm.provider import Finding, Severity
from mesh_hsm_pkcs11 import discovery, loading, naming, slots, softhsm_conf, token_diagnosis
from mesh_hsm_pkcs11.discovery import CONFIGURATION, VARIABLE, Origin, Source
from mesh_hsm_pkcs11.errors import explained, name
from mesh_hsm_pkcs11.module import Module
from mesh_hsm_pkcs11.slots import Found

_PLUG_IN = "plug in the reader or the device, and see that its daemon runs (pcscd, for cards)"


def of_everything(records: Path) -> Iterator[Finding]:
    """Everything there is to say. Never raises: what fails is a finding, too."""
    try:
        sources = discovery.modules(None, records)
    except MeshHsmError as error:
        code = "PKCS11002" if isinstance(error, AccessError) else "PKCS11001"
        severity = Severity.ERROR if _is_named(records) else Severity.WARNING
        yield Finding(code, severity, str(error), error.hint or "correct what names the modules")
        return
    if not sources and not _is_named(records):
        yield Finding(
            "PKCS11009",
            Severity.NOTE,
            "no PKCS #11 module is known here: no HSM and no smart card is looked for",
            f"if there is one, install its module, or name it: {VARIABLE}=/…/libname.so",
        )
    empty: dict[tuple[str, Severity], list[str]] = {}
    tokens: list[Found] = []
    for source in sources:
        yield from _guarded(f"the module {source.path}", _of_source(source, tokens, empty))
    yield from _of_empty(empty)
    names = naming.token_uris([one.facts for one in tokens])
    # One name for two of them: one token, which two modules reach.
    for uri, found in dict(zip(names, tokens, strict=True)).items():
        beside = any(one.facts.initialised for one in tokens if one.module is found.module)
        findings = token_diagnosis.of_token(found, uri, records, beside=beside)
        yield from _guarded(token_diagnosis.subject(found), findings)


def _is_named(records: Path) -> bool:
    """Whether the user said which modules to ask, be it none; else p11-kit does."""
    return VARIABLE in os.environ or os.path.lexists(records / CONFIGURATION)


def _guarded(subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except MeshHsmError as error:
        remedy = error.hint or "plug it in anew, and run mesh-hsm doctor again"
        problem = f"{subject} cannot be looked at: {error}"
        yield Finding("PKCS11012", Severity.WARNING, problem, remedy)
    except Exception as error:  # whatever a module's answer makes of the binding
        problem = f"{subject} gives an answer that is none ({type(error).__name__})"
        remedy = "update the module; if that does not help, tell its maker, or us"
        yield Finding("PKCS11012", Severity.WARNING, problem, remedy)


def _of_source(
    source: Source, tokens: list[Found], empty: dict[tuple[str, Severity], list[str]]
) -> Iterator[Finding]:
    """What is wrong with one module. Its tokens go into ``tokens``, its name, if none, ``empty``.

    What p11-kit lists is somebody else's choice: it stops nothing here.
    """
    named = source.origin is not Origin.P11_KIT
    if source.obstacle is not None:
        yield _of_obstacle(source)
        return
    try:
        module = Module.load(source.path, source.reserved)
    except ProviderUnavailableError as error:
        severity = Severity.ERROR if named else Severity.NOTE
        found = loading.trouble(source.path)
        if found is not None:
            yield Finding(found.code, severity, found.problem, found.remedy)
        else:
            yield Finding("PKCS11007", severity, str(error), error.hint or "reinstall it")
        return
    with explained("list its slots"):
        present = slots.present(module)
        with module.turn():
            every = module.slots(also_empty=True)
    tokens += present
    failing = [
        (slot.slot_id, failure)
        for slot in every
        if slot.flags & SlotFlag.TOKEN_PRESENT and (failure := _failure(module, slot.slot_id))
    ]
    for slot_id, failure in failing:
        yield Finding(
            "PKCS11012",
            Severity.WARNING,
            f"the token in slot {slot_id} of {source.name} does not describe itself ({failure})",
            "plug it in anew; if that does not help, its maker's tools may",
        )
    if not present and not failing:
        code = "PKCS11011" if every else "PKCS11010"
        severity = Severity.WARNING if named else Severity.NOTE
        empty.setdefault((code, severity), []).append(source.name)
    if softhsm_conf.is_softhsm(source.path) and (closed := softhsm_conf.closed_tokens()):
        yield Finding(
            "PKCS11013",
            Severity.WARNING if named else Severity.NOTE,
            f"{len(closed)} tokens of {source.name} are closed to you, and not shown: "
            f"{', '.join(map(str, closed[:3]))}",
            'if they are yours, become their owner again: sudo chown -R "$USER" FOLDER',
        )


def _failure(module: Module, slot_id: int) -> str | None:
    with module.turn():
        try:
            module.cryptoki.token_info(slot_id)
        except PKCS11Error as error:
            return name(error)
    return None


def _of_obstacle(source: Source) -> Finding:
    try:
        discovery.refuse_if_others_may_write(source.path)
    except AccessError as error:
        problem = f"{source.name} is not used: {error}"
        remedy = error.hint or "see who may write there"
        return Finding("PKCS11002", Severity.WARNING, problem, remedy)
    why, _, remedy = str(source.obstacle).partition("; ")
    return Finding("PKCS11008", Severity.NOTE, f"{source.name} is not used: {why}", remedy)


def _of_empty(empty: dict[tuple[str, Severity], list[str]]) -> Iterator[Finding]:
    for (code, severity), names in empty.items():
        seen = "no reader and no device is seen" if code == "PKCS11010" else "every slot is empty"
        yield Finding(code, severity, f"{seen}: {', '.join(names)}", _PLUG_IN)

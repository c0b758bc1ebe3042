"""``mesh-hsm dare``: files that your devices can open, and nobody else."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from mesh_hsm.errors import DecryptionError
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm_cli.administrator_secrets import admin_pin_options
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, printable
from mesh_hsm_cli.paths import STANDARD, input_stream, output_stream, read_object
from mesh_hsm_cli.progress import watched
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.curves import Point
    from mesh_hsm.dare import Decryptor, Report
    from mesh_hsm_cli.key_set_opening import LazyKeySet

command = noun("Files: encode, decode, verify, look inside.")


@verb(
    command,
    "encode",
    example="mesh-hsm dare encode letter.pdf -r laptop\n"
    "tar c photos | mesh-hsm dare encode - -r laptop -o photos.tar.dare",
)
@click.argument("file")
@click.option(
    "-r",
    "--recipient",
    "recipients",
    multiple=True,
    metavar="WHO",
    help="A connected device or a key set: label, beginning of its UDF, or its file.",
)
@click.option("-o", "--out", help="Where the envelope goes; - is standard output. [FILE.dare]")
@click.option("--sign", "sign", multiple=True, metavar="KEY", help="Sign, too: 'device' or a key.")
@click.option("--armor", is_flag=True, help="Text form, for mail and the terminal.")
@click.option("--interop", is_flag=True, help="The newest published form: weaker, read by others.")
@click.option(
    "--no-escrow-recipient", is_flag=True, help="The backup shall not be able to open it."
)
@click.option("--force", is_flag=True, help="Replace an existing output file.")
@secret_options("pin", "passphrase")
@click.pass_obj
def encode(
    session: Session,
    file: str,
    recipients: tuple[str, ...],
    out: str | None,
    sign: tuple[str, ...],
    armor: bool,
    interop: bool,
    no_escrow_recipient: bool,
    force: bool,
) -> None:
    """Encrypt FILE to devices and key sets, sign it, or both. - reads standard input.

    The Mesh's escrow key is a recipient too, so that the backup opens what a lost device cannot.
    """
    from mesh_hsm import dare
    from mesh_hsm_cli.key_sets import addressee
    from mesh_hsm_cli.trust import signers

    if not recipients and not sign:
        raise click.UsageError("name whom it is for (-r WHO) or who signs it (--sign KEY)")
    out = out or (STANDARD if file == STANDARD else f"{file}.dare")
    _only_one_voice(session, out)
    now = datetime.now(UTC)
    known = [addressee(session, name, now) for name in recipients]
    to = {one.public for one in known}
    escrow = {key for one in known for key in one.master.value.escrow_encryption}
    if known and not no_escrow_recipient:
        if not escrow:
            session.output.notice("this Mesh has no escrow key: a lost device opens nothing again")
        if escrow and any(one.needs_two for one in known):
            session.output.notice(
                "the backup opens it without any administrator; --no-escrow-recipient prevents that"
            )
        to |= escrow
    with ExitStack() as opened:
        found = opened.enter_context(signers(session, sign, now))
        source = opened.enter_context(input_stream(file))
        sink = opened.enter_context(output_stream(out, force=force, binary=not armor))
        report = dare.encode(
            opened.enter_context(watched(source, session.output.as_json)),
            sink,
            recipients=[dare.Recipient(public) for public in sorted(to, key=_by_udf)],
            signers=found,
            dialect=dare.PUBLISHED if interop else dare.HSM1,
            armor=armor,
            size=_size(source),
        )
    _say(session, report, out)


@verb(
    command,
    "decode",
    example="mesh-hsm dare decode letter.pdf.dare -o letter.pdf\n"
    "mesh-hsm dare decode letter.pdf.dare -o letter.pdf --backup mesh-backup.json",
)
@click.argument("file")
@click.option("-o", "--out", default=STANDARD, help="Where the content goes. [standard output]")
@click.option("--backup", type=click.Path(path_type=Path), help="Open with the offline backup.")
@click.option(
    "--keyset",
    "key_sets",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of a key set that is not known here; two of its tokens open.",
)
@click.option(
    "--allow-unauthenticated",
    is_flag=True,
    help="Open published-form content that anybody can have altered.",
)
@click.option(
    "--signer", "trusting", multiple=True, metavar="KEY", help="A key here whose signatures count."
)
@click.option(
    "--allow-unknown-signer", is_flag=True, help="Open although its author cannot be checked here."
)
@click.option("--force", is_flag=True, help="Replace an existing output file.")
@secret_options("pin", "passphrase")
@admin_pin_options
@click.pass_obj
def decode(
    session: Session,
    file: str,
    out: str,
    backup: Path | None,
    key_sets: tuple[Path, ...],
    allow_unauthenticated: bool,
    trusting: tuple[str, ...],
    allow_unknown_signer: bool,
    force: bool,
) -> None:
    """Open FILE with this device, a key set or the backup. - reads standard input.

    A key set needs the tokens of two of its administrators; they are looked for when a file names
    it. Nothing is written before everything has been checked.
    """
    from mesh_hsm import dare
    from mesh_hsm_cli.trust import trusted_keys

    _only_one_voice(session, out)
    with ExitStack() as opened:
        source = opened.enter_context(input_stream(file))
        keys = _backup_keys(session, backup) if backup else _device_keys(session)
        together = [] if backup else _key_sets(session, key_sets)
        sink = opened.enter_context(output_stream(out, force=force, binary=False))
        try:
            report = dare.decode(
                opened.enter_context(watched(source, session.output.as_json)),
                sink,
                keys=[*keys, *together],  # a device of one's own comes first
                trusted=trusted_keys(session, datetime.now(UTC), trusting),
                allow_unauthenticated=allow_unauthenticated,
                allow_unknown_signers=allow_unknown_signer,
            )
        except DecryptionError as error:
            missing = [one.missing for one in together if one.missing]
            if not missing:
                raise
            hint = "plug them in; mesh-hsm token list shows what is"
            raise DecryptionError("; ".join(missing), hint=hint) from error
    _say(session, report, out)


@verb(command, "verify", example="mesh-hsm dare verify contract.pdf.dare")
@click.argument("file")
@click.option(
    "--signer", "trusting", multiple=True, metavar="KEY", help="A key here whose signatures count."
)
@click.pass_obj
def verify(session: Session, file: str, trusting: tuple[str, ...]) -> None:
    """Check the signatures of FILE against the keys known here. Needs no private key."""
    from mesh_hsm import dare
    from mesh_hsm_cli.trust import trusted_keys

    with input_stream(file) as source:
        report = dare.verify(source, trusted_keys(session, datetime.now(UTC), trusting))
    session.output.result({"report": report.to_json()}, _lines(report))


@verb(command, "info", example="mesh-hsm dare info letter.pdf.dare")
@click.argument("file")
@click.pass_obj
def info(session: Session, file: str) -> None:
    """Show what FILE says of itself. Needs no key, and vouches for nothing."""
    from mesh_hsm import dare

    with input_stream(file) as source:
        report = dare.inspect(source)
    session.output.result({"report": report.to_json()}, _lines(report))


def _only_one_voice(session: Session, out: str) -> None:
    if session.output.as_json and out == STANDARD:
        raise click.UsageError("--json and the content cannot share standard output: add -o FILE")


def _backup_keys(session: Session, path: Path) -> list[Decryptor]:
    from mesh_hsm.mesh import open_backup
    from mesh_hsm.mesh.backup import LABEL
    from mesh_hsm.passphrase_file import SealedFile

    request = SecretRequest(SecretKind.BACKUP_PASSPHRASE, str(path))
    data = read_object(path)
    SealedFile.parse(data, LABEL)  # nobody is asked for the passphrase of something else
    return [open_backup(data, session.secrets.secret(request)).escrow_key()]


def _device_keys(session: Session) -> list[Decryptor]:
    from mesh_hsm_cli.own_device import LazyDecryptor
    from mesh_hsm_cli.trust import activated_device

    device = activated_device(session, datetime.now(UTC))
    return [LazyDecryptor(session, device)] if device else []


def _key_sets(session: Session, files: tuple[Path, ...]) -> list[LazyKeySet]:
    from mesh_hsm.mesh import peek_key_set
    from mesh_hsm_cli.key_set_opening import LazyKeySet, filed_decryptors

    named = [LazyKeySet(session, peek_key_set(read_object(path))) for path in files]
    filed = filed_decryptors(session)
    return list({one.public: one for one in (*filed, *named)}.values())


def _size(source: BinaryIO) -> int | None:
    """The octets that are left in a regular file; None for a pipe."""
    import os
    import stat

    status = os.fstat(source.fileno())
    return max(0, status.st_size - source.tell()) if stat.S_ISREG(status.st_mode) else None


def _by_udf(public: Point) -> str:
    from mesh_hsm.udf import udf_of

    return udf_of(public)


def _say(session: Session, report: Report, out: str) -> None:
    if out == STANDARD:
        for warning in report.warnings:
            session.output.notice(warning, loud=True)
        return
    session.output.result(
        {"file": out, "report": report.to_json()},
        [*fields([("file", out)]), *_lines(report)],
    )


def _lines(report: Report) -> list[str]:
    shown: dict[str, Any] = report.to_json()
    signers = [("signer", f"{one['kid']} ({one['status']})") for one in shown.get("signers", [])]
    later = [
        ("countersigner", f"{one['kid']} ({one['status']})")
        for one in shown.get("countersigners", [])
    ]
    lines = fields(
        [
            ("form", f"{shown['form']}, {shown['enc']}{', text' if shown['armored'] else ''}"),
            ("authenticated", "yes" if shown["authenticated"] else "no"),
            ("envelope", shown.get("envelope_id")),
            ("content type", shown.get("cty")),
            ("file name", shown.get("filename")),
            ("created", shown.get("created")),
            *(("recipient", kid) for kid in shown.get("recipients", [])),
            *signers,
            *later,
            ("opened by", shown.get("opened_by")),
            ("not protected", ", ".join(shown.get("unprotected", []))),
        ]
    )
    return lines + [f"warning: {printable(warning)}" for warning in shown.get("warnings", [])]

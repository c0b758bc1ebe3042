"""What a person is told when a command fails, and the exit code that a script gets.

Open this file when an error reads badly. Expected failures are one line and a hint. Unexpected
ones name their place in our code and no value: a message from a library may quote a secret.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import click

from mesh_hsm.errors import MeshHsmError, StorageError
from mesh_hsm_cli.output import report, report_error

EXIT_USAGE = 2
EXIT_UNEXPECTED = 70

_NOT_OUR_FAULT = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EISDIR,
    errno.ESTALE,
}


def explain(error: Exception, *, as_json: bool) -> int:
    """Print the error on stderr and return the exit code."""
    if isinstance(error, click.UsageError):
        return _explain_usage(error, as_json=as_json)
    if isinstance(error, OSError) and error.errno in _NOT_OUR_FAULT:
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        error = StorageError(f"{os.strerror(error.errno)}{where}")
    if isinstance(error, MeshHsmError):
        report_error(error, as_json=as_json)
        return error.exit_code
    report(
        type(error).__name__,
        f"unexpected {type(error).__name__} in {_place(error)}",
        EXIT_UNEXPECTED,
        as_json=as_json,
        hint="this is a fault of mesh-hsm: run it again with MESH_HSM_DEBUG=1 and report what it "
        "prints to the maintainers",
    )
    return EXIT_UNEXPECTED


def trace(error: BaseException) -> Iterator[str]:
    """The stack of an error and its causes: places and types, messages only where they are ours."""
    import traceback

    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from trace(cause)
        yield "which led to:\n"
    yield from traceback.format_tb(error.__traceback__)
    ours = isinstance(error, MeshHsmError | click.ClickException)
    yield f"{type(error).__name__}{f': {error}' if ours else ''}\n"


def _explain_usage(error: click.UsageError, *, as_json: bool) -> int:
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError" and not as_json:
        error.show()
    else:
        hint = f"{context.command_path} --help" if context else None
        report("UsageError", error.format_message(), EXIT_USAGE, as_json=as_json, hint=hint)
    return EXIT_USAGE


def _place(error: Exception) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "mesh_hsm" in frame.filename] or list(frames)
    return f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "start-up"

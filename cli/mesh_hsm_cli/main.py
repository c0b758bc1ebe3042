"""Where ``mesh-hsm`` begins: its nouns, and how an error becomes one line and an exit code.

Open this file to add a noun or a signal; ``failures`` has the exit codes of errors.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from mesh_hsm import __version__
from mesh_hsm_cli import failures
from mesh_hsm_cli.lazy import CONTEXT, LazyGroup, ReaderGoneError
from mesh_hsm_cli.output import close_stdout_quietly
from mesh_hsm_cli.session import Session

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_HUNG_UP = 129
EXIT_TERMINATED = 143

NOUNS = {
    "mesh": "Your personal Mesh: create it, back it up, show it.",
    "admin": "Administrators: whose keys may connect devices to your Mesh.",
    "device": "Devices: provision this machine, connect others to your Mesh.",
    "keyset": "Keys that two of three administrators use together.",
    "dare": "Files: encode, decode, verify, look inside.",
    "key": "Keys on your devices, and who holds them.",
    "pin": "Change a device's PIN, or set it anew.",
    "token": "Devices that hold keys: TPM, HSM, software store.",
    "provider": "Kinds of device that are installed.",
    "testing": "Throw-away devices for your own tests.",
    "doctor": "Look for problems, change nothing.",
    "completion": "Completion for your shell.",
}


@click.group(cls=LazyGroup, nouns=NOUNS, context_settings=CONTEXT)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Keys of the Mathematical Mesh, held by your hardware.

    \b
    Example:
      mesh-hsm device init --name laptop
      mesh-hsm key list
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; the console script's entry point."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold PINs, seeds and shares
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, _terminate)
    session = Session()
    # Until the command line is parsed; then the option itself decides.
    session.output.as_json = "--json" in (sys.argv if arguments is None else arguments)
    try:
        code = cli.main(args=arguments, prog_name="mesh-hsm", obj=session, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except (ReaderGoneError, BrokenPipeError):
        close_stdout_quietly()
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if "MESH_HSM_DEBUG" in os.environ:
            click.echo("".join(failures.trace(error)), err=True, nl=False)
        return failures.explain(error, as_json=session.output.as_json)
    return code if isinstance(code, int) else 0  # ctx.exit(code) ends here


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that half-written files are removed on the way out


if __name__ == "__main__":
    sys.exit(main())

"""Makes the JSON files beside it: `python tests/vectors/hsm-1/make.py [--check]`.

The answers are mesh_hsm's; `verified` says that tests/independent, which shares no code with it,
gives the same. Nothing is left to chance, so a second run gives the same octets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import hsm1_altered  # noqa: E402
import hsm1_answers  # noqa: E402
import hsm1_cases  # noqa: E402
import hsm1_connections  # noqa: E402
import hsm1_envelopes  # noqa: E402
import hsm1_mesh  # noqa: E402
import hsm1_proofs  # noqa: E402
from hsm1_fixed import Case  # noqa: E402
from independent import answers as independent  # noqa: E402

FILES: dict[str, tuple[str, Callable[[], list[Case]]]] = {
    "keys": ("hsm-1 §1", hsm1_cases.keys),
    "derivations": ("hsm-1 §2, §6.3", hsm1_envelopes.derivations),
    "envelopes": ("hsm-1 §2, §3, §6.3", hsm1_envelopes.envelopes),
    "refused": ("hsm-1 §2, §3", hsm1_altered.altered),
    "signatures": ("hsm-1 §3, §6.5; threshold §7", hsm1_cases.signatures),
    "proofs": ("hsm-1 §5", hsm1_proofs.proofs),
    "mesh": ("hsm-1 §6.2, §7", hsm1_mesh.mesh),
    "connections": ("hsm-1 §5, §6.3, §7", hsm1_connections.connections),
    "recovery": ("hsm-1 §9; threshold §6(b)", hsm1_cases.recoveries),
    "tpm": ("hsm-1 §10", hsm1_cases.tpm),
}


def record(case: Case, source: str) -> dict[str, Any]:
    """A case with its answer, by both implementations."""
    expected = hsm1_answers.answer(case.kind, case.inputs)
    if expected.get("error") != case.failure:
        raise AssertionError(f"{case.kind}, {case.name}: {expected}, not {case.failure}")
    second = independent.answer(case.kind, case.inputs)
    if second != expected:
        print(f"DISAGREE {case.kind}, {case.name}: {expected} / {second}", file=sys.stderr)
    return {
        "name": case.name,
        "kind": case.kind,
        "source": source,
        "inputs": case.inputs,
        "expected": expected,
        "verified": second == expected,
        "note": case.note,
    }


def made(name: str) -> str:
    """The content of one file."""
    source, cases = FILES[name]
    records = [record(case, source) for case in cases()]
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with --check say which of them would change."""
    changed = []
    for name in [one for one in arguments if one in FILES] or FILES:
        path, text = HERE / f"{name}.json", made(name)
        if not path.exists() or path.read_text() != text:
            changed.append(name)
            if "--check" not in arguments:
                path.write_text(text)
    print("changed:", ", ".join(changed) or "none")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

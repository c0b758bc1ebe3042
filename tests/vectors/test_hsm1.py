"""The published test data of hsm-1, answered by mesh_hsm and by a second implementation.

Random cross-checks of the two are in test_hsm1_crossed.py.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import hsm1_answers
import make
import pytest
from independent import answers as independent

HERE = Path(__file__).parent / "hsm-1"
Record = dict[str, Any]
RECORDS: dict[str, list[Record]] = {
    name: json.loads((HERE / f"{name}.json").read_text()) for name in make.FILES
}
every_record = pytest.mark.parametrize(
    "record",
    [
        pytest.param(record, id=f"{name}: {record['kind']}, {record['name']}")
        for name, records in RECORDS.items()
        for record in records
    ],
)


@every_record
def test_mesh_hsm_gives_the_published_octets(record: Record) -> None:
    assert hsm1_answers.answer(record["kind"], record["inputs"]) == record["expected"]


@every_record
def test_the_second_implementation_gives_them_too(record: Record) -> None:
    assert record["verified"]
    assert independent.answer(record["kind"], record["inputs"]) == record["expected"]


@pytest.mark.parametrize("name", make.FILES)
def test_the_script_makes_these_records(name: str) -> None:
    source, cases = make.FILES[name]
    cases_now = [(one.name, one.kind, one.inputs, one.note, source) for one in cases()]
    members = ("name", "kind", "inputs", "note", "source")
    assert cases_now == [tuple(record[member] for member in members) for record in RECORDS[name]]


def test_every_kind_has_records_that_are_accepted() -> None:
    accepted = {
        record["kind"]
        for records in RECORDS.values()
        for record in records
        if "error" not in record["expected"]
    }
    assert accepted == set(hsm1_answers.KINDS)


def test_a_record_is_found_by_its_name() -> None:
    names = [(r["kind"], r["name"]) for records in RECORDS.values() for r in records]
    assert len(set(names)) == len(names)


def test_the_second_implementation_shares_no_code_with_the_first() -> None:
    folder = Path(independent.__file__).parent
    imported = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    assert imported <= {
        "__future__",
        "base64",
        "collections",
        "cryptography",
        "dataclasses",
        "datetime",
        "functools",
        "hashlib",
        "hmac",
        "json",
        "pathlib",
        "re",
        "subprocess",
        "typing",
    }

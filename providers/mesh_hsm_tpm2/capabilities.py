"""What this TPM can do, asked of it. Open this file for how curves and commands are found."""

from __future__ import annotations

from tpm2_pytss import ESAPI, TPM2_CAP

from mesh_hsm.custody import CustodyClass
from mesh_hsm.provider import Capability, Primitive
from mesh_hsm_tpm2 import templates
from mesh_hsm_tpm2.structures import CURVE_IDS, Alg

_ZGEN, _SIGN, _IMPORT = 0x154, 0x15D, 0x156  # TPM_CC
_MOST = 256


def read(esapi: ESAPI) -> frozenset[Capability]:
    """Three commands: curves, algorithms, commands. A TPM has no Montgomery or Edwards keys."""
    _, answer = esapi.get_capability(TPM2_CAP.ECC_CURVES, 0, _MOST)
    curves = {int(item) for item in answer.data.eccCurves}
    _, answer = esapi.get_capability(TPM2_CAP.ALGS, 0, _MOST)
    algorithms = {int(item.alg) for item in answer.data.algorithms}
    _, answer = esapi.get_capability(TPM2_CAP.COMMANDS, 0, _MOST)
    commands = {int(item) & 0xFFFF for item in answer.data.command}
    classes = [CustodyClass.GENERATED] + [CustodyClass.IMPORTED] * (_IMPORT in commands)
    found: set[Capability] = set()
    for name, number in CURVE_IDS.items():
        primitives = []
        if _ZGEN in commands and Alg.ECDH in algorithms:
            primitives.append(Primitive.AGREE_POINT)
        if _SIGN in commands and {Alg.ECDSA, templates.SCHEME_HASH[name]} <= algorithms:
            primitives.append(Primitive.SIGN)
        if number in curves:
            found |= {Capability(name, primitive, c) for primitive in primitives for c in classes}
    return frozenset(found)

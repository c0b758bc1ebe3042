"""Threshold algebra: what the shares of a key, wherever they live, are worth together.

``CompositeKey`` decrypts and authenticates with a sum of shares, ``DerivedKey`` signs with a factor
beside a device's key, ``prove`` and ``verify_proof`` show that a device's key is inside,
``Verifier`` and ``Challenge`` that a key is at hand. ``deal`` splits a key for two of three.
"""

from mesh_hsm.threshold.additive import combine
from mesh_hsm.threshold.challenge import Challenge, Question, Verifier
from mesh_hsm.threshold.composite import MAX_SHARES, CompositeKey
from mesh_hsm.threshold.derived import DerivedKey, derive_public
from mesh_hsm.threshold.judging import Judges
from mesh_hsm.threshold.possession import prove_possession, verify_possession
from mesh_hsm.threshold.proof import prove, verify_proof
from mesh_hsm.threshold.recovery import recover_blinded, recover_plain
from mesh_hsm.threshold.scalar_share import ScalarShare
from mesh_hsm.threshold.two_of_three import Dealt, PartKey, Place, deal, pair_key

__all__ = [
    "MAX_SHARES",
    "Challenge",
    "CompositeKey",
    "Dealt",
    "DerivedKey",
    "Judges",
    "PartKey",
    "Place",
    "Question",
    "ScalarShare",
    "Verifier",
    "combine",
    "deal",
    "derive_public",
    "pair_key",
    "prove",
    "prove_possession",
    "recover_blinded",
    "recover_plain",
    "verify_possession",
    "verify_proof",
]

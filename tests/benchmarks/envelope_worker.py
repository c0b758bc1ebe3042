"""Encode or decode one file in a process of its own, so that its peak memory can be read.

python envelope_worker.py encode|decode INPUT OUTPUT
"""

import sys
from pathlib import Path

from mesh_hsm.curves import P384, SecretScalar
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare import Recipient, decode, encode
from mesh_hsm.files import atomic_output
from mesh_hsm.provider import Use
from mesh_hsm.threshold import CompositeKey, ScalarShare

KEY = SecretScalar(P384, 0xBE7C4)  # known to all: what is encrypted here is random octets
CUSTODY = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "benchmark")

what, given, made = sys.argv[1:]
with Path(given).open("rb") as source, atomic_output(Path(made)) as sink:
    if what == "encode":
        size = Path(given).stat().st_size
        encode(source, sink, recipients=[Recipient(KEY.public())], size=size)
    else:
        share = ScalarShare(KEY, Use.ENCRYPT, label="benchmark", custody=CUSTODY)
        whole = CompositeKey(share.public, Use.ENCRYPT, [share])
        decode(source, sink, keys=[whole])

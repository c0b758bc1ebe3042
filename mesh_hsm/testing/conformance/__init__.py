"""The provider conformance kit: every promise of ``mesh_hsm.provider``, checked on a real device.

A provider proves itself with a ``Bench`` and three lines::

    class TestMyProvider(ProviderConformance):
        @pytest.fixture
        def bench(self, tmp_path: Path) -> Bench:
            return MyBench(tmp_path)

Tests that a device cannot take part in are skipped and say why.
"""

from mesh_hsm.testing.conformance.agreeing import Agreeing
from mesh_hsm.testing.conformance.bench import Asked, Bench, CountedPin
from mesh_hsm.testing.conformance.capabilities import Capabilities
from mesh_hsm.testing.conformance.concurrency import Concurrency
from mesh_hsm.testing.conformance.faults import Faults
from mesh_hsm.testing.conformance.hygiene import Hygiene
from mesh_hsm.testing.conformance.lifecycle import Lifecycle
from mesh_hsm.testing.conformance.pins import Pins
from mesh_hsm.testing.conformance.powers import Powers
from mesh_hsm.testing.conformance.signing import Signing

__all__ = ["Asked", "Bench", "CountedPin", "ProviderConformance"]


class ProviderConformance(
    Capabilities, Agreeing, Signing, Pins, Lifecycle, Faults, Concurrency, Powers, Hygiene
):
    """All of it. Subclass it in a test module, and override the fixture ``bench``."""

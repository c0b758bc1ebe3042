"""Hardware-backed key custody for the Mathematical Mesh.

A private key is something that multiplies: a device answers ``agree`` and ``sign``
(``mesh_hsm.provider``), and everything else is public algebra (``mesh_hsm.threshold``), envelopes
(``mesh_hsm.dare``) and the Mesh's own objects (``mesh_hsm.mesh``).
"""

__version__ = "0.1.0"

"""For tests of what stands on mesh-hsm: the provider conformance kit, and pytest fixtures.

The fixtures (``swtpm``, ``softhsm_token``, ``virtual_yubikey``) come with the pytest plugin of this
package; the kit is in ``mesh_hsm.testing.conformance``.
"""

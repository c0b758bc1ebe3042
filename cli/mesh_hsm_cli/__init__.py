"""The command line ``mesh-hsm``: thin, one file per noun in ``commands``.

Open ``main`` to see how a command is found and how an error becomes an exit code. Nothing here
knows a provider: they come through ``mesh_hsm.registry``.
"""

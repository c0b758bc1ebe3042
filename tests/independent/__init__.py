"""Opened when a rule of hsm-1 must be checked by something that shares no code with mesh_hsm.

Written from the text of docs/reference/spec alone: own group arithmetic, own framing, own container
reader. AES, HMAC and EdDSA come from `cryptography`. Nothing here is constant-time or meant for use
with a secret that matters.
"""

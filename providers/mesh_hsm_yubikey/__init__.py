"""The YubiKey provider: PIV keys. Open ``attestation`` for what a card proves of itself."""

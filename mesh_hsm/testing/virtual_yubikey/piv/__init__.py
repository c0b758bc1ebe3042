"""The PIV application of the virtual YubiKey; start at ``application``."""

"""Measuring a device profile. Only our own code runs here, in this process, so torch is loaded at import."""

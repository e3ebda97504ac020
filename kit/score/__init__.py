"""The organizer's runs: secret seeds, every pack alike, signed, and going on where they stopped."""

"""Results in the formats of other competitions: read what was published there, write what may be handed in there."""

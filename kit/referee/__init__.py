"""The trusted side of a run: holds the clock, the meters and the hidden labels, and writes the record."""

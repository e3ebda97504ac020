"""The untrusted side of a run: nothing here is believed by the referee."""

"""A race on Codabench: the bundle that an organizer uploads, and the program in it that scores submissions."""

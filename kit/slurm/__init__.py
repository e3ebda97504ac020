"""Runs as jobs of a SLURM cluster: submitting them, and knowing how they ended."""

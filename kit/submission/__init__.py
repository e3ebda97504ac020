"""Submissions: a folder with `submission.py` and `submission.yaml`."""

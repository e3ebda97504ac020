"""What machines are and can do."""

"""Results that were published elsewhere, as they were published: rows of tables, not records."""

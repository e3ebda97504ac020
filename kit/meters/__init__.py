"""What the referee reads while a run goes on."""

"""What records say together: the factors of a speed-up."""

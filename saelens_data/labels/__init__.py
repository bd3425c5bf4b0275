"""Labels: where concepts get their names."""

"""Steps that bring the tables of older versions up to date, in order of their numbers."""

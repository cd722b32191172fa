"""Pure functions of arrays; everything compiled lives here."""

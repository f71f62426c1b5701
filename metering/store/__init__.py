"""The writing side of PostgreSQL, one module per aggregate; the only package that commits."""

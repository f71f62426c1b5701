"""The only package that speaks HTTP to addresses that somebody else chose: which ones, and within which bounds."""

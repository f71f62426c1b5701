"""Queries for customers, the bounds of their months, and their time zones."""

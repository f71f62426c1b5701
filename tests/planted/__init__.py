"""Faults planted in copies of the product, one at a time; the tests named beside each must fail."""

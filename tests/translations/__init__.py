"""Tests of metering/translations."""

"""SQL that reads sums of bills."""

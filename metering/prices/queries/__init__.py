"""SQL that reads the price book page by page."""

"""SQL that writes streams, resolutions and interruptions."""

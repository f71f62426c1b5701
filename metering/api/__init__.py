"""HTTP: translate and answer, decide nothing."""

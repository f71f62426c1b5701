"""Tests of the product. Each folder is a subject's, or a theme's."""

import gc
import sys

# Until the tests are collected: what is made before stays, and to search it for cycles takes a sixth of the time.
gc.disable()

# With this package, jsonschema compiles 38 grammars for "iri" and "iri-reference", formats of no description here.
# That takes two seconds of every process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

"""Keys of invoice lines in the charges export: SQL writes them as `line_key_of` does, for any name of a model."""

from tests.exports.files import parquet_rows
from tests.exports.scene import Scene


def test_every_row_names_a_line_of_its_invoice(shared_scene: Scene) -> None:
    charges, lines = (parquet_rows(shared_scene.service.engine, kind) for kind in ("charges", "invoice-lines"))
    named = {(row["invoice_id"], row["line_key"]) for row in charges if row["row_kind"] != "remainder"}
    assert named == {(row["invoice_id"], row["line_key"]) for row in lines}
    assert "usage/=up%2Fstream/@100%25%2Fmodel%252F" in {line_key for _, line_key in named}

"""The price book and rating: dated rate cards, cancel policies and markups, and usage x rates -> lines.

`rates.py` and `rate_book.py` find the card for a model, `rating.py` turns usage into charge lines, `catalogue.py`
reads the genai-prices package. It knows no streams. Start with `rating.py`.
"""

"""A believable company with its history, for trials, screenshots and measurements.

`market.py` says who buys what, `founding.py` makes the customers and prices through the domain's
own functions, `days.py` works through their days, `books.py` writes the work's rows as the domain
would have, and `rows.py` writes them in bulk. `verify_ledger` finds nothing wrong with any of it.
"""

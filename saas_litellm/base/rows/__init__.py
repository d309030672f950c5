"""Many rows in one go: what calls read, lock and write, its SQL made once for each kind of row.

On PostgreSQL the rows of an INSERT or UPDATE are one parameter, as JSON that the database takes apart:
the statement is the same however many there are, each connection has it parsed and planned once, and
what is written together is one statement. `bulk_create` composes a new one each time and `bulk_update`
one with a CASE for every column; beside a call's own work that is most of what writing its rows costs.
"""

from saas_litellm.base.rows.asking import ask, ask_figures, ask_locked, locked, together
from saas_litellm.base.rows.making import KEYS_AHEAD, new, number
from saas_litellm.base.rows.writing import add, gathered, insert, update

__all__ = [
    "KEYS_AHEAD",
    "add",
    "ask",
    "ask_figures",
    "ask_locked",
    "gathered",
    "insert",
    "locked",
    "new",
    "number",
    "together",
    "update",
]

"""Money's units and the only roundings there are.

1 credit = 10^9 nanocredits, 1 USD = 10^9 nano-USD = 10^15 femto-USD. Amounts are integers
inside, ``Decimal`` at the edges, never float.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

NANO = 10**9
FEMTO = 10**15
FEMTO_PER_NANO = FEMTO // NANO
# SQLite turns an integer beyond 2^63 into a float without a word; every amount stays well inside.
MAX_AMOUNT = 4 * 10**18

_EXACT = Context(prec=60)


class InexactAmount(ValueError):
    """A decimal that the unit cannot hold without rounding, or that is out of range."""


def nano(amount: Decimal | str | int) -> int:
    """Credits to nanocredits, or USD to nano-USD; raises InexactAmount rather than round."""
    return _scaled(amount, 9)


def femto(amount: Decimal | str | int) -> int:
    """USD to femto-USD; raises InexactAmount rather than round."""
    return _scaled(amount, 15)


def from_nano(amount: int) -> Decimal:
    """Nanocredits to credits, or nano-USD to USD: exact, in plain notation."""
    return plain(Decimal(amount).scaleb(-9, _EXACT))


def from_femto(amount: int) -> Decimal:
    """Femto-USD to USD, exact."""
    return plain(Decimal(amount).scaleb(-15, _EXACT))


def plain(value: Decimal) -> Decimal:
    """Drop trailing zeros without falling into exponent notation (1E+3 becomes 1000)."""
    normal = value.normalize(_EXACT)
    exponent = normal.as_tuple().exponent
    return normal.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else normal


def divide_half_even(numerator: int, denominator: int) -> int:
    """Integer quotient, ties to even; denominator > 0. Exact at any size."""
    quotient, remainder = divmod(numerator, denominator)
    doubled = 2 * remainder
    if doubled > denominator or (doubled == denominator and quotient % 2):
        return quotient + 1
    return quotient


def divide_up(numerator: int, denominator: int) -> int:
    """Integer quotient rounded towards +infinity: for holds, which must never be short."""
    return -(-numerator // denominator)


def _scaled(amount: Decimal | str | int, places: int) -> int:
    try:
        exact = Decimal(amount).scaleb(places, _EXACT)
        whole = exact.to_integral_value(ROUND_HALF_EVEN)
    except (InvalidOperation, ValueError) as error:
        raise InexactAmount(f"{amount!r} is not an amount") from error
    if not exact.is_finite() or whole != exact:
        raise InexactAmount(f"{amount} has more than {places} decimal places")
    if abs(whole) > MAX_AMOUNT:
        raise InexactAmount(f"{amount} is out of range")
    return int(whole)

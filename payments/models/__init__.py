"""What is sold, who bought it, and what Stripe said about it.

A *package* is what is for sale. A *payment* is one purchase of one, with the figures of its moment:
it is paid by one PaymentIntent of Stripe's, brings in one lot, and is paid back by *reversals*
(refunds, disputes), each of which Stripe has under an id of its own. A *customer* is what Stripe
calls the owner of a wallet; an *auto top-up* buys a package off-session whenever its wallet runs low.

Stripe holds the truth about money, the ledger about credits: ``settlement`` brings the second in
line with the first, and is the only writer of payments that have begun.
"""

from __future__ import annotations

from payments.models.buying import AutoTopUp, Customer, Package
from payments.models.paying import Payment, Reversal, StripeEvent

__all__ = ["AutoTopUp", "Customer", "Package", "Payment", "Reversal", "StripeEvent"]

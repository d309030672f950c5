"""Limits of any sixty seconds, and of calls in flight: exact across processes with Redis.

A window is sixty seconds kept in buckets of one second; a bucket counts in full until all of it is
older than the window, so a limit is never exceeded in any sixty seconds. What may take long is
counted while it runs as a lease, which ends by itself when its process dies. All rules of one
request are asked in one round trip, and all of them count it or none does.
"""

from saas_litellm.base.limiter.choice import Limiter, limiter
from saas_litellm.base.limiter.rules import Admission, Rule, Standing

__all__ = ["Admission", "Limiter", "Rule", "Standing", "limiter"]

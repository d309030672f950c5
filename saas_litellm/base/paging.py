"""Pages of a long list whose exact length nobody needs."""

from __future__ import annotations

from typing import Any, cast

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

MOST = 10_000


class BoundedPaginator(Paginator[Any]):
    """Counts, and leads, to MOST rows at most: beyond, a filter serves better than a page."""

    @cached_property
    def _counted(self) -> int:
        # Without the order: any MOST + 1 of them will do.
        rows = cast("QuerySet[Any]", self.object_list)
        return rows.order_by()[: MOST + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST)

    @property
    def is_cut(self) -> bool:
        """Whether there are more than its pages show."""
        return self._counted > MOST

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q

from billing.models import Hold, PlanVersion
from billing.pricing import Ending, Plan
from saas_litellm.base.models import AppendOnly
from saas_litellm.base.money import MAX_AMOUNT
from teams.models import Alias, ApiKey, Deployment, Team

# A closed job that cost more than it brought.
LOSING = Q(
    closed_at__isnull=False,
    provider_cost_nano_usd__gt=F("price_nano_usd") - F("refunded_nano_usd"),
)
# From here on a call is slow enough to be looked for.
SLOW_MS = 10_000


class Job(models.Model):
    """One business operation for a team: its caps, and the totals of its calls."""

    class Status(models.TextChoices):
        PENDING = "pending"
        IN_PROGRESS = "in_progress"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"

    OPEN = (Status.PENDING, Status.IN_PROGRESS)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Without an index of its own: job_list begins with it.
    team = models.ForeignKey(Team, models.PROTECT, related_name="jobs", db_index=False)
    api_key = models.ForeignKey(ApiKey, models.PROTECT, null=True, blank=True, related_name="+")
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    hold = models.OneToOneField(Hold, models.PROTECT, null=True, blank=True, related_name="+")
    account_id = models.BigIntegerField(help_text="The wallet this job draws on to its end.")
    job_type = models.CharField(max_length=100)
    user_id = models.CharField(max_length=200, blank=True)
    external_task_id = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.PENDING)
    outcome = models.CharField(max_length=8, blank=True)
    error_message = models.CharField(max_length=2000, blank=True)
    is_waived = models.BooleanField(
        default=False, help_text="An operator failed or cancelled it: nothing of it is charged."
    )
    is_single = models.BooleanField(
        default=False, help_text="Made for one call, with which it ends."
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    last_activity_at = models.DateTimeField()
    # Caps, and what calls in flight have set aside under them.
    max_nanocredits = models.BigIntegerField(null=True, blank=True)
    quote_nanocredits = models.BigIntegerField(
        null=True, blank=True, help_text="A quote's promise: more than this is never charged."
    )
    max_provider_cost_nano_usd = models.BigIntegerField(null=True, blank=True)
    in_flight = models.PositiveIntegerField(default=0)
    held_nanocredits = models.BigIntegerField(default=0)
    held_cost_nano_usd = models.BigIntegerField(default=0)
    counted_tokens = models.BigIntegerField(default=0, help_text="What a package rule counted.")
    # The job's own price (flat, or up to a minimum), apart from that of its calls.
    base_charged_nanocredits = models.BigIntegerField(default=0)
    base_overrun_nanocredits = models.BigIntegerField(default=0)
    base_price_nano_usd = models.BigIntegerField(default=0)
    base_refunded_nanocredits = models.BigIntegerField(default=0)
    base_refunded_nano_usd = models.BigIntegerField(default=0)
    # Totals over finished calls and the job's own price.
    successful_calls = models.PositiveIntegerField(default=0)
    failed_calls = models.PositiveIntegerField(default=0)
    total_tokens = models.BigIntegerField(default=0)
    total_latency_ms = models.BigIntegerField(default=0)
    charged_nanocredits = models.BigIntegerField(default=0)
    overrun_nanocredits = models.BigIntegerField(default=0)
    price_nano_usd = models.BigIntegerField(default=0)
    refunded_nanocredits = models.BigIntegerField(default=0)
    refunded_nano_usd = models.BigIntegerField(default=0)
    provider_cost_nano_usd = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("-created_at", "-id")
        permissions = (
            ("refund_job", "Can refund jobs and calls, up to a limit a day"),
            ("refund_beyond_limit", "Can refund without that limit"),
        )
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    status__in=["pending", "in_progress", "completed", "failed", "cancelled"]
                ),
                name="job_status_known",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "in_progress"], closed_at__isnull=True)
                | Q(status__in=["completed", "failed", "cancelled"], closed_at__isnull=False),
                name="job_closed_has_time",
            ),
            models.CheckConstraint(
                condition=Q(held_nanocredits__gte=0, held_cost_nano_usd__gte=0),
                name="job_held_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(max_nanocredits__isnull=True)
                | Q(max_nanocredits__gte=F("charged_nanocredits") + F("held_nanocredits")),
                name="job_cap_kept",
            ),
            models.CheckConstraint(
                condition=Q(quote_nanocredits__isnull=True)
                | Q(quote_nanocredits__gte=F("charged_nanocredits")),
                name="job_quote_kept",
            ),
            models.CheckConstraint(
                condition=Q(
                    charged_nanocredits__lte=MAX_AMOUNT, provider_cost_nano_usd__lte=MAX_AMOUNT
                ),
                name="job_amounts_within_bounds",
            ),
        ]
        indexes = [
            models.Index(fields=["team", "-created_at", "-id"], name="job_list"),
            # Whether a team ever drew on a wallet.
            models.Index(fields=["team", "account_id"], name="job_wallet"),
            models.Index(
                fields=["last_activity_at"],
                condition=Q(status__in=["pending", "in_progress"]),
                name="job_idle",
            ),
            models.Index(fields=["closed_at"], name="job_closed"),
            models.Index(fields=["team", "job_type", "-closed_at"], name="job_history"),
            # For operators, who look across teams; partial where most jobs need no entry.
            models.Index(fields=["-created_at", "-id"], name="job_newest"),
            models.Index(fields=["job_type", "-created_at", "-id"], name="job_of_type"),
            models.Index(
                fields=["status", "-created_at", "-id"],
                condition=~Q(status="completed"),
                name="job_not_completed",
            ),
            models.Index(
                fields=["user_id", "-created_at", "-id"],
                condition=~Q(user_id=""),
                name="job_of_user",
            ),
            models.Index(
                fields=["external_task_id"], condition=~Q(external_task_id=""), name="job_of_task"
            ),
            models.Index(fields=["-provider_cost_nano_usd", "-id"], name="job_cost"),
            models.Index(fields=["-created_at", "-id"], condition=LOSING, name="job_losing"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN

    def ending(self, *, is_delivered: bool) -> Ending:
        """How a closed job ended, for its price."""
        if self.status == self.Status.COMPLETED:
            return "completed"
        if self.is_waived:
            return "waived"
        return "failed_delivered" if is_delivered else "failed_empty"

    def gives_back(self, plan: Plan, alias: str) -> bool:
        """Whether its end gives the charges of that alias's calls back."""
        has_failed = self.status in {self.Status.FAILED, self.Status.CANCELLED}
        return has_failed and (
            self.is_waived or plan.is_free_if_failed(job_type=self.job_type, alias=alias)
        )

    @property
    def net_nanocredits(self) -> int:
        """What the team paid and did not get back."""
        return self.charged_nanocredits - self.refunded_nanocredits

    @property
    def margin_nano_usd(self) -> int:
        return self.price_nano_usd - self.refunded_nano_usd - self.provider_cost_nano_usd


class StatusChange(AppendOnly):
    """One step of a job's life."""

    job = models.ForeignKey(Job, models.PROTECT, related_name="history")
    from_status = models.CharField(max_length=12, blank=True)
    to_status = models.CharField(max_length=12)
    at = models.DateTimeField()
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=200, blank=True)

    class Meta(AppendOnly.Meta):
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.from_status or 'new'} → {self.to_status}"


class Call(models.Model):
    """One LLM call in a job: what was asked for, set aside, used, charged and what it cost."""

    class Status(models.TextChoices):
        HELD = "held"
        DISPATCHED = "dispatched"
        SETTLED = "settled"
        FAILED = "failed"
        ABANDONED = "abandoned"

    RUNNING = (Status.HELD, Status.DISPATCHED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Without indexes of their own where a longer one begins with them.
    job = models.ForeignKey(Job, models.PROTECT, related_name="calls", db_index=False)
    team = models.ForeignKey(Team, models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey(ApiKey, models.PROTECT, null=True, blank=True, related_name="+")
    alias = models.ForeignKey(Alias, models.PROTECT, related_name="+", db_index=False)
    deployment = models.ForeignKey(
        Deployment, models.PROTECT, null=True, blank=True, related_name="+"
    )
    hold = models.OneToOneField(Hold, models.PROTECT, null=True, blank=True, related_name="+")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.HELD)
    is_stream = models.BooleanField(default=False)
    is_cache_hit = models.BooleanField(
        default=False, help_text="Answered by a kept or joined answer, not by a provider."
    )
    purpose = models.CharField(max_length=200, blank=True)
    call_metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    dispatched_at = models.DateTimeField(null=True, blank=True)
    first_token_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    # The promise: unit prices of the deployment, and the worst case that was held.
    unit_prices = models.JSONField()
    estimated_prompt_tokens = models.PositiveIntegerField()
    max_output_tokens = models.PositiveIntegerField()
    held_nanocredits = models.BigIntegerField()
    held_cost_nano_usd = models.BigIntegerField()
    # The outcome.
    usage = models.JSONField(null=True, blank=True, help_text="jobs.usage.Usage as JSON.")
    usage_source = models.CharField(max_length=8, blank=True)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    total_tokens = models.PositiveBigIntegerField(default=0)
    latency_ms = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    is_output_delivered = models.BooleanField(default=False)
    # Where the rule's count stood, and what this call added to it: a price by tiers needs both.
    quantity_before = models.BigIntegerField(null=True, blank=True)
    quantity = models.BigIntegerField(null=True, blank=True)
    # Volume tiers may give back: then price and charge are negative.
    price_nanocredits = models.BigIntegerField(default=0)
    charged_nanocredits = models.BigIntegerField(default=0)
    overrun_nanocredits = models.BigIntegerField(default=0)
    overrun_reason = models.CharField(max_length=10, blank=True)
    price_nano_usd = models.BigIntegerField(default=0)
    refunded_nanocredits = models.BigIntegerField(default=0)
    refunded_nano_usd = models.BigIntegerField(default=0)
    provider_cost_nano_usd = models.BigIntegerField(default=0)
    saved_nano_usd = models.BigIntegerField(
        default=0, help_text="What a provider would have charged for a cached answer."
    )

    # No column: what its wallet held once it was settled, where that is known.
    balance_nanocredits: int | None = None

    class Meta:
        ordering = ("created_at", "id")
        constraints = [
            models.CheckConstraint(
                condition=Q(overrun_nanocredits__gte=0)
                & Q(price_nanocredits=F("charged_nanocredits") + F("overrun_nanocredits")),
                name="call_price_is_charge_plus_overrun",
            ),
            models.CheckConstraint(
                condition=Q(charged_nanocredits=0) | Q(status="settled"),
                name="call_charged_is_settled",
            ),
            models.CheckConstraint(
                condition=Q(refunded_nanocredits=0)
                | Q(
                    refunded_nanocredits__gt=0,
                    refunded_nanocredits__lte=F("charged_nanocredits"),
                ),
                name="call_refunded_within_charge",
            ),
        ]
        indexes = [
            models.Index(fields=["job", "created_at"], name="call_of_job"),
            models.Index(
                fields=["expires_at"],
                condition=Q(status__in=["held", "dispatched"]),
                name="call_running",
            ),
            models.Index(fields=["finished_at"], name="call_finished"),
            # For operators, as those of jobs.
            models.Index(fields=["-created_at", "-id"], name="call_newest"),
            models.Index(fields=["team", "-created_at", "-id"], name="call_of_team"),
            models.Index(fields=["alias", "-created_at", "-id"], name="call_of_alias"),
            models.Index(
                fields=["status", "-created_at", "-id"],
                condition=~Q(status="settled"),
                name="call_not_settled",
            ),
            models.Index(
                fields=["error_code", "-created_at", "-id"],
                condition=~Q(error_code=""),
                name="call_error",
            ),
            # Its last column: whoever asks for slower ones reads no other row.
            models.Index(
                fields=["-created_at", "-id", "latency_ms"],
                condition=Q(latency_ms__gte=SLOW_MS),
                name="call_slow",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

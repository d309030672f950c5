"""What teams may use: aliases, the groups that grant them, and the deployments behind them."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from saas_litellm.base.models import AppendOnly
from teams.models.limits import RateLimited
from teams.models.slugs import slug_validator

no_address = RegexValidator(
    "://",
    inverse_match=True,
    message="A model is a name: an address belongs in the API base of its credential.",
)


class Alias(RateLimited):
    """The team-facing model name; an organization's own shadows the platform's of that name."""

    class Kind(models.TextChoices):
        CHAT = "chat"
        EMBEDDING = "embedding"
        IMAGE = "image"
        TRANSCRIPTION = "transcription"
        SPEECH = "speech"
        RERANK = "rerank"

    # Paid by the unit: an image, a second of audio, 1,000 characters of speech, a search.
    BY_UNIT = frozenset({Kind.IMAGE, Kind.TRANSCRIPTION, Kind.SPEECH, Kind.RERANK})

    name = models.CharField(max_length=63, validators=[slug_validator])
    organization = models.ForeignKey(
        "teams.Organization",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose teams alone may use it; empty: the platform's.",
    )
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.CHAT)
    description = models.CharField(max_length=300, blank=True)
    is_active = models.BooleanField(default=True)
    default_max_tokens = models.PositiveIntegerField(
        default=1024, help_text="Injected when the caller sends none, so that a hold is a bound."
    )
    max_output_tokens = models.PositiveIntegerField(
        default=32_768, help_text="The most a caller may ask for in one answer."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    cache_ttl_seconds = models.PositiveIntegerField(
        default=0,
        help_text="How long a team's same request gets the same answer again; 0: not at all.",
    )
    context_window_fallback = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose deployments answer when the messages are too long for this one's.",
    )
    content_filter_fallback = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose deployments answer when a content filter refuses here.",
    )

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "aliases"
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(organization=None), name="alias_name_unique"
            ),
            models.UniqueConstraint(
                fields=["name", "organization"], name="alias_name_unique_in_organization"
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=["chat", "embedding", "image", "transcription", "speech", "rerank"]
                ),
                name="alias_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(default_max_tokens__gt=0)
                & Q(max_output_tokens__gte=F("default_max_tokens"))
                & Q(max_output_tokens__lte=10_000_000),
                name="alias_output_limits_sensible",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class AccessGroup(models.Model):
    """A named set of aliases granted to teams; an inactive one grants nothing."""

    name = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    is_active = models.BooleanField(default=True)
    aliases = models.ManyToManyField(Alias, related_name="access_groups", blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class ProviderCredential(models.Model):
    """How to sign in at a provider; the secret is encrypted and never shown again.

    An organization's own shadows the platform's credential of that name in its teams' calls.
    """

    name = models.CharField(max_length=63, validators=[slug_validator])
    organization = models.ForeignKey(
        "teams.Organization", models.PROTECT, null=True, blank=True, related_name="+"
    )
    provider = models.CharField(
        max_length=60,
        blank=True,
        help_text="Whose key it is, as model strings begin: openai, anthropic, azure.",
    )
    secret_ciphertext = models.TextField(editable=False)
    api_base = models.URLField(max_length=500, blank=True)
    extra = models.JSONField(
        default=dict,
        blank=True,
        help_text="Further settings of the provider that are not secret, such as api_version.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(organization=None), name="credential_name_unique"
            ),
            models.UniqueConstraint(
                fields=["name", "organization"], name="credential_name_unique_in_organization"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.organization}" if self.organization_id else self.name


class Deployment(RateLimited):
    """One way to serve an alias: a litellm model string, a credential and a price sheet."""

    alias = models.ForeignKey(Alias, models.PROTECT, related_name="deployments")
    model = models.CharField(
        max_length=200, validators=[no_address], help_text="litellm's model string: provider/model"
    )
    credential = models.ForeignKey(ProviderCredential, models.PROTECT, null=True, blank=True)
    price_key = models.CharField(
        max_length=200, blank=True, help_text="Where its unit prices stand; empty: under the model."
    )
    priority = models.PositiveSmallIntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveSmallIntegerField(
        default=1, help_text="Its share of the calls among those of the same priority."
    )
    timeout_seconds = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="How long to wait for an answer, or for a stream's first words, before the next"
        " deployment is tried; empty: as long as the call may take.",
    )
    is_active = models.BooleanField(default=True)
    image_tokens = models.PositiveIntegerField(
        default=1600,
        help_text="The most prompt tokens one image can cost here, by the provider's documentation.",
    )

    class Meta:
        ordering = ("alias", "priority", "id")
        constraints = [
            # Some providers take one for a model, and would be sent the credential's key there.
            models.CheckConstraint(
                condition=~Q(model__contains="://"),
                name="deployment_model_no_address",
            )
        ]

    def __str__(self) -> str:
        return f"{self.alias} → {self.model}"

    @property
    def effective_price_key(self) -> str:
        return self.price_key or self.model


class DeploymentHealth(models.Model):
    """The circuit breaker of one deployment, shared by all processes.

    It is read in the query that reads the deployment, so that a call looks nowhere else; only a
    failure, and the first success after one, write it.
    """

    deployment = models.OneToOneField(Deployment, models.CASCADE, related_name="health")
    failures = models.PositiveIntegerField(default=0, help_text="One after the other, to now.")
    openings = models.PositiveIntegerField(default=0, help_text="Since it last answered.")
    open_until = models.DateTimeField(null=True, blank=True)
    last_failure_at = models.DateTimeField(null=True, blank=True)
    last_failure = models.CharField(max_length=30, blank=True)

    class Meta:
        verbose_name_plural = "deployment health"

    def __str__(self) -> str:
        return f"{self.deployment}: {self.failures} failures"


class UnitPrice(AppendOnly):
    """One version of a model's unit prices; the newest one in effect counts.

    ``rates`` is `teams.prices.UnitPrices` as JSON, integers in femto-USD per token.
    """

    price_key = models.CharField(max_length=200)
    rates = models.JSONField()
    source = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta(AppendOnly.Meta):
        ordering = ("price_key", "-effective_from", "-id")
        indexes = [
            models.Index(fields=["price_key", "-effective_from", "-id"], name="unit_price_current")
        ]

    def __str__(self) -> str:
        return f"{self.price_key} from {self.effective_from:%Y-%m-%d}"

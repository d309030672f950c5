"""Changing a draft, by whoever saw it as it is."""

from __future__ import annotations

import hashlib
import json

from django.db import transaction

from billing import plan_specs
from billing.models import PlanVersion
from billing.plan_specs import VersionSpec
from billing.refusals import PlanNotReady
from saas_litellm.base import audit
from saas_litellm.base.money import InexactAmount, plain
from saas_litellm.base.refusals import Invalid


def revise(*, version: PlanVersion, spec: VersionSpec, actor: str, opened: str) -> PlanVersion:
    """Put other rules into a draft. ``opened`` is the ``fingerprint`` that the editor began with.

    Saving what is there already changes nothing. Raises PlanNotReady when the version is no draft
    any more, when it changed since ``opened``, or as ``draft`` does; and Invalid as ``draft`` does.
    """
    try:
        with transaction.atomic():
            # Written only to take the row's lock: nobody fixes or edits it meanwhile.
            drafts = PlanVersion.objects.filter(pk=version.pk, fixed_at=None)
            if drafts.update(fixed_at=None) != 1:
                raise PlanNotReady(f"{version} is no draft any more: make a new version from it.")
            version.refresh_from_db()
            before, after = plan_specs.exact(plan_specs.spec_of(version)), plan_specs.exact(spec)
            if before == after:
                return version
            if fingerprint(version) != opened:
                raise PlanNotReady(f"Somebody else changed {version} meanwhile: open it again.")
            drafts.update(**plan_specs.version_columns(spec))
            version.job_rules.all().delete()
            version.call_rules.all().delete()
            version.refresh_from_db()
            plan_specs.write_rules(version, spec)
            was, now = audit.difference(before, after)
            audit.record(
                actor=actor, action="plan.revise", target=f"plan:{version}", before=was, after=now
            )
    except InexactAmount as error:
        raise Invalid(str(error), param="rules") from error
    return version


def fingerprint(version: PlanVersion) -> str:
    """Changes whenever the version's rules do."""
    text = json.dumps(
        plan_specs.exact(plan_specs.spec_of(version)), default=lambda amount: str(plain(amount))
    )
    return hashlib.sha256(text.encode()).hexdigest()

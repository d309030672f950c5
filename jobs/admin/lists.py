"""What the pages of jobs and of calls share."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from jobs.models import Job
from saas_litellm.base.admin import AmountField, PageForm


class RefundForm(PageForm):
    credits = AmountField(required=False, help_text="Empty: all that is left.")
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


class ReasonForm(PageForm):
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


def page_of(job: Job) -> str:
    return reverse("admin:jobs_job_change", args=[job.pk])


def id_of(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None

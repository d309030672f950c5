"""Operators reconcile in the admin and from the command line, as far as they may."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from jobs.models import CostLine, Reconciliation
from teams.models import User
from tests.jobs.reconciling import EXPORTS, GENERIC, called, export, line_of, money, served


def staff(*permissions: str) -> Client:
    """Bob signs in, with these permissions only."""
    bob = User.objects.create_user("bob", password="x" * 20, is_staff=True)
    bob.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="jobs")
    )
    client = Client(enforce_csrf_checks=False)
    client.force_login(bob)
    return client


def upload(client: Client, content: bytes, name: str = "costs.json") -> Any:
    return client.post(
        "/admin/jobs/reconciliation/upload/",
        {"file": SimpleUploadedFile(name, content), "threshold": "1"},
    )


@pytest.mark.django_db
def test_bob_uploads_looks_and_corrects_with_one_click_that_counts_once(
    pages_served: None,
) -> None:
    call = called(served("openai/gpt-4o"), nano_usd=6_000_000)
    bob = staff("view_reconciliation", "add_reconciliation", "add_costline", "view_call")
    assert bob.get("/admin/jobs/reconciliation/").status_code == 200
    assert bob.get("/admin/jobs/reconciliation/upload/").status_code == 200
    answer = upload(bob, export("openai_costs.json"), r"C:\bills\costs.json")
    made = Reconciliation.objects.get()
    assert (made.actor, made.filename) == ("user:bob", "costs.json")
    assert answer.url == f"/admin/jobs/reconciliation/{made.pk}/change/"
    line = made.lines.get(model="gpt-4o")
    page = bob.get(answer.url, {"calls": line.pk}).content.decode()
    assert "Book a correction" in page
    assert "csrfmiddlewaretoken" in page
    assert f"{call.pk}" in page
    before = money()
    path = f"/admin/jobs/reconciliation/lines/{line.pk}/correct/"
    bob.post(path, {"reason": ""})
    assert not CostLine.objects.filter(kind="correction").exists()
    first = bob.post(path, {"reason": "invoice 7"}, follow=True).content.decode()
    assert "Booked a correction of 0.00025 USD" in first
    again = bob.post(path, {"reason": "invoice 7"}, follow=True).content.decode()
    assert "This line has its correction already." in again
    booked = CostLine.objects.get(kind="correction")
    assert (booked.amount_nano_usd, booked.actor) == (250_000, "user:bob")
    assert money() == before


@pytest.mark.django_db
def test_a_bad_file_or_the_same_one_again_is_shown_on_the_form(pages_served: None) -> None:
    bob = staff("view_reconciliation", "add_reconciliation")
    bad = upload(bob, (GENERIC + "2026-01-01,m,x,,1,1\n").encode())
    assert "Line 2, column input_tokens" in bad.content.decode()
    assert not Reconciliation.objects.exists()
    assert upload(bob, export("generic.csv")).status_code == 302
    assert "compared before" in upload(bob, export("generic.csv")).content.decode()
    assert Reconciliation.objects.count() == 1
    wrong = {"file": SimpleUploadedFile("x.csv", b"x"), "threshold": "-1"}
    assert bob.post("/admin/jobs/reconciliation/upload/", wrong).status_code == 200


@pytest.mark.django_db
def test_staff_without_the_permission_may_neither_upload_nor_correct(pages_served: None) -> None:
    line = line_of()
    bob = staff("view_reconciliation")
    assert bob.get("/admin/jobs/reconciliation/upload/").status_code == 403
    assert upload(bob, export("generic.csv")).status_code == 403
    assert (
        bob.post(f"/admin/jobs/reconciliation/lines/{line.pk}/correct/", {"reason": "x"})
    ).status_code == 403
    page = bob.get(f"/admin/jobs/reconciliation/{line.reconciliation_id}/change/")
    assert page.status_code == 200
    assert "Book a correction" not in page.content.decode()
    assert Reconciliation.objects.count() == 1
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_staff_without_any_permission_and_strangers_see_nothing(pages_served: None) -> None:
    line = line_of()
    page = f"/admin/jobs/reconciliation/{line.reconciliation_id}/change/"
    assert staff().get(page).status_code == 403
    assert Client().get(page).status_code == 302
    assert (
        Client()
        .post(f"/admin/jobs/reconciliation/lines/{line.pk}/correct/", {"reason": "x"})
        .url.startswith("/admin/login/")
    )
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_correcting_takes_a_post_with_its_csrf_token(pages_served: None) -> None:
    line = line_of()
    path = f"/admin/jobs/reconciliation/lines/{line.pk}/correct/"
    bob = staff("view_reconciliation", "add_costline")
    assert bob.get(path).status_code == 405
    bob.handler.enforce_csrf_checks = True
    assert bob.post(path, {"reason": "x"}).status_code == 403
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["calls=x", "calls=99999999", "calls=-1", "page=x", "page=9"])
def test_a_made_up_address_shows_the_page(pages_served: None, query: str) -> None:
    line = line_of()
    bob = staff("view_reconciliation")
    page = bob.get(f"/admin/jobs/reconciliation/{line.reconciliation_id}/change/?{query}")
    assert page.status_code == 200


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_the_command_prints_each_line_and_the_calls_behind_a_variance() -> None:
    call = called(served("openai/gpt-4o"), nano_usd=6_000_000)
    printed = run(str(EXPORTS / "openai_costs.json"))
    row = next(line.split() for line in printed.splitlines() if " gpt-4o " in line)
    assert row[:8] == [
        "2026-01-01",
        "gpt-4o",
        "-",
        "1100",
        "0.00625",
        "0.006",
        "0.00025",
        "+4.00",
    ]
    assert f"{call.pk}  alice/chat" in printed
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_the_command_corrects_what_both_sides_know_of() -> None:
    called(served("openai/gpt-4o"), nano_usd=6_000_000)
    answer = json.loads(run(str(EXPORTS / "openai_costs.json"), "--correct", "--json"))
    shown = {line["model"]: line for line in answer["lines"]}
    assert shown["gpt-4o"]["correction"] == "corrected by 0.00025"
    assert shown["web search tool calls"]["correction"] is None
    booked = CostLine.objects.get(kind="correction")
    assert booked.amount_nano_usd == 250_000
    assert booked.actor.startswith("command:")


@pytest.mark.django_db
def test_within_its_threshold_the_command_corrects_nothing() -> None:
    called(served("openai/gpt-4o"), nano_usd=6_000_000)
    printed = run(str(EXPORTS / "openai_costs.json"), "--threshold", "4.0", "--correct")
    assert "corrected" not in printed
    assert Reconciliation.objects.get().threshold_basis_points == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        ("missing.csv",),
        (str(EXPORTS),),
        (str(EXPORTS / "generic.csv"), "--threshold", "x"),
        (str(EXPORTS / "generic.csv"), "--threshold", "0.001"),
        (str(EXPORTS / "generic.csv"), "--threshold", "NaN"),
        (str(EXPORTS / "generic.csv"), "--threshold", "-1"),
    ],
)
def test_the_command_refuses_in_words(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)
    assert not Reconciliation.objects.exists()

"""The pictures of the documentation: `make screenshots`, of a platform that `seed_demo` filled.

Look at them before they are committed: a picture of something wrong documents that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser

from tests import browser
from tests.run import SECRETS, free_port

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
LAPTOP, PHONE = (1280, 800), browser.PHONE
_SERVE = (sys.executable, "-m", "uvicorn", "saas_litellm.asgi:application", "--no-proxy-headers")
_SECONDS_TO_START = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """``of`` is a selector that is brought into view; without it the page's top is taken."""

    name: str
    path: str
    who: str = "owner"
    size: tuple[int, int] = LAPTOP
    is_dark: bool = False
    of: str = ""


def main() -> int:
    """Exit status: 0 when all pictures are there."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        url = f"http://localhost:{port}"
        os.environ.update(
            SECRETS,
            DATABASE_URL=f"sqlite:///{folder}/db.sqlite3",
            REDIS_URL="",
            DEBUG="1",
            SAAS_OPEN_DEMO="1",
            PUBLIC_URL=url,
            DJANGO_SETTINGS_MODULE="saas_litellm.settings",
        )
        for chore in (["migrate", "--verbosity", "0"], ["quickstart"], ["seed_demo"]):
            print(f"{chore[0]} ...", flush=True)
            subprocess.run(
                [sys.executable, "manage.py", *chore],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        server = subprocess.Popen(
            [*_SERVE, "--port", str(port)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(url)
            _take(url)
        finally:
            server.terminate()
            server.wait()
    return 0


def _wait(url: str) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while True:
        try:
            httpx.get(f"{url}/healthz")
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _take(url: str) -> None:
    import django

    django.setup()
    browser.in_chromium(_shoot, url, _pictures(), _cookies())


def _shoot(
    chromium: Browser, url: str, pictures: list[Picture], cookies: dict[str, dict[str, str]]
) -> None:
    for picture in pictures:
        seen = (url, cookies[picture.who], picture.size, picture.is_dark)
        with browser.opened(chromium, *seen) as page:
            page.goto(url + picture.path, wait_until="load")
            if picture.name == "live":
                _work(url)
            # The live view's socket and the menus' scripts are at work by then.
            page.wait_for_timeout(2500)
            if picture.of:
                page.locator(picture.of).first.scroll_into_view_if_needed()
            page.screenshot(path=IMAGES / f"{picture.name}.png")
        print(f"docs/images/{picture.name}.png", flush=True)


def _work(url: str) -> None:
    """Calls to the demo's model, by its open door: the live view has something to show."""
    for number in range(24):
        body = {
            "team_id": "acme-corp",
            "job_type": ("summary", "translation", "letters")[number % 3],
            "messages": [{"role": "user", "content": "A question about the contract. " * number}],
        }
        job = httpx.post(f"{url}/api/jobs/create-and-call", json=body).json()["job_id"]
        httpx.post(f"{url}/api/jobs/{job}/complete", json={"status": "completed"})
        time.sleep(0.2)


def _pictures() -> list[Picture]:
    """Imports where Django is up: this module runs without it."""
    from django.db.models import Count
    from django.urls import reverse

    from billing.models import PlanVersion
    from jobs.models import Job
    from teams.models import Alias, Team

    team = Team.objects.annotate(many=Count("jobs")).order_by("-many").first()
    job = (
        Job.objects.filter(status="completed")
        .annotate(many=Count("calls"))
        .order_by("-many", "-created_at")
        .first()
    )
    version = PlanVersion.objects.exclude(plan__slug="job_based").order_by("-pk").first()
    alias = Alias.objects.exclude(name="demo").first()
    assert team
    assert job
    assert version
    assert alias
    return [
        Picture(name="overview", path="/admin/", size=(1280, 1000)),
        Picture(name="overview-dark-phone", path="/admin/", size=PHONE, is_dark=True),
        Picture(
            name="team", path=reverse("admin:teams_team_change", args=[team.pk]), size=(1280, 1000)
        ),
        Picture(
            name="job", path=reverse("admin:jobs_job_change", args=[job.pk]), size=(1280, 1000)
        ),
        Picture(name="live", path="/admin/live/"),
        Picture(
            name="what-if",
            path=f"/admin/prices/what-if/?version={version.pk}&jobs=all",
            size=(1280, 1000),
        ),
        Picture(name="alias", path=reverse("admin:teams_alias_change", args=[alias.pk])),
        Picture(name="portal", path=f"/portal/{team.slug}/overview/", who="member"),
    ]


def _cookies() -> dict[str, dict[str, str]]:
    from django.conf import settings
    from django.db.models import Count
    from django.test import Client

    from teams import members
    from teams.models import Team, User

    team = Team.objects.annotate(many=Count("jobs")).order_by("-many").first()
    assert team
    link: Any = members.invite(
        team=team, email="mia@example.com", role="manager", actor="screenshots"
    )[1]
    members.accept_anew(token=link.split("/")[-2], password="of nobody, anywhere 1")
    found = {}
    for who, username in (("owner", "owner"), ("member", "mia@example.com")):
        client = Client()
        client.force_login(User.objects.get(username=username))
        name = settings.SESSION_COOKIE_NAME
        found[who] = {name: client.cookies[name].value}
    return found


if __name__ == "__main__":
    sys.exit(main())

from __future__ import annotations

from typing import Any

from django.conf import settings

from saas_litellm import quickstart
from saas_litellm.base.commands import OperatorCommand

_BODY = (
    '{"team_id": "acme-corp", "job_type": "document_analysis",'
    ' "messages": [{"role": "user", "content": "Summarise our contract in one line."}]}'
)


class Command(OperatorCommand):
    help = "Make the demo team, its credits, an owner login and an API key; safe to run again."

    def operate(self, **options: Any) -> None:
        shown = quickstart.set_up()
        url = settings.PUBLIC_URL
        lines = [
            "",
            f"  Admin  {url}/admin/     API docs  {url}/docs",
            f"  Login  {quickstart.OWNER} / {shown.password}   (shown once)"
            if shown.password
            else f"  Login  {quickstart.OWNER}, shown on the first run"
            f" (new password: manage.py changepassword {quickstart.OWNER})",
            f"  Key    {shown.api_key}   (shown once)"
            if shown.api_key
            else f"  Key    shown on the first run (another: manage.py issue_key {quickstart.TEAM})",
            "",
            "  Try it:",
            "",
            f"curl -s {url}/api/jobs/create-and-call -H 'Content-Type: application/json'"
            + (f" -H 'Authorization: Bearer {shown.api_key}'" if shown.api_key else "")
            + f" -d '{_BODY}'",
            "",
        ]
        self.answer(
            "\n".join(lines),
            team=quickstart.TEAM,
            login=quickstart.OWNER,
            password=shown.password,
            api_key=shown.api_key,
            url=url,
        )

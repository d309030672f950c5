"""`manage.py listen`: events in a terminal, and at a receiver without a public address."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from standardwebhooks import Webhook

from saas_litellm.base.events import TYPES
from saas_litellm.base.models import Listener
from tests import factories, work
from tests.conftest import ROOT, database_url, wait_until
from tests.webhooks import making
from tests.webhooks.receiver import Receiver
from webhooks import signing


@pytest.mark.any_database
def test_a_teams_events_are_printed_and_forwarded_signed(
    transactional_db: None, receiver: Receiver
) -> None:
    alice, bob = factories.company(), factories.team(name="bob")
    secret = signing.new_secret()
    command = [sys.executable, "manage.py", "listen", "--team", "alice", "--secret", secret]
    process = subprocess.Popen(
        [*command, "--forward", receiver.url],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url()},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    wait_until(lambda: any("Listening to alice" in line for line in lines), seconds=40)
    job = work.job(alice.team)
    work.job(bob)
    work.close(job)
    wait_until(lambda: len(receiver.got) == 2 and len(lines) == 4)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    for got in receiver.got:
        assert Webhook(secret).verify(got.body, got.headers)["data"]["team_id"] == "alice"
    shown = [json.loads(line.partition("  -> ")[0]) for line in lines[-2:]]
    assert [event["type"] for event in shown] == ["job.created", "job.completed"]
    assert lines[-1].endswith("  -> 200\n")
    assert lines[0] == f"Signing with {secret}\n"
    assert not Listener.objects.exists()


def test_it_refuses_what_there_is_not(db: None, capsys: Any) -> None:
    for arguments in (["--team", "nobody"], ["--types", "job.eaten"]):
        with pytest.raises(CommandError):
            call_command("listen", *arguments)


def test_the_documents_receiver_takes_what_is_sent(couriers: Any, receiver: Receiver) -> None:
    guide = (ROOT / "docs/webhooks.md").read_text()
    (program,) = re.findall(r"```python story-receiver\n(.*?)```", guide, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    _, secret = making.endpoint(receiver.url)
    couriers()
    (sent,) = making.happen("a")
    wait_until(lambda: receiver.got)
    got = receiver.got[0]
    assert names["received"](got.body, got.headers, secret)["id"] == sent


@pytest.mark.any_database
def test_the_documents_name_every_type() -> None:
    guide = (ROOT / "docs/webhooks.md").read_text()
    assert {name for name in TYPES if f"`{name}`" not in guide} == set()

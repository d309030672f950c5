"""The Python client as others get it: its wheel, its README's programs, its examples."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm_client import Client, __version__
from tests import factories
from tests.conftest import ROOT, Live, free_port, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

PACKAGE = ROOT / "clients/python"
PROGRAMS = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def as_alice(live: Live, alice: Company, monkeypatch: pytest.MonkeyPatch) -> Company:
    monkeypatch.setenv("SAAS_BASE_URL", live.url)
    monkeypatch.setenv("SAAS_API_KEY", alice.key)
    monkeypatch.setenv("SAAS_TEAM_ID", "alice")
    return alice


def test_the_readmes_programs_run(as_alice: Company, capsys: pytest.CaptureFixture[str]) -> None:
    """On the demo model, which answers anything, with an object or a tool where one is asked for."""
    factories.serve(as_alice.team, alias="demo", model="demo/echo")
    as_alice.team.default_alias = factories.Alias.objects.get(name="demo")
    as_alice.team.save()
    for program in PROGRAMS:
        exec(compile(program, "README.md", "exec", dont_inherit=True), {"__name__": "__main__"})
    shown = capsys.readouterr().out
    assert "built-in demo model" in shown
    assert "title='demo' risks=[]" in shown
    assert "model_not_allowed 403 req_" in shown
    assert len(PROGRAMS) == 9
    assert {job.status for job in Job.objects.all()} == {"completed"}
    assert verification.verify() == []


def test_the_wheel_is_installed_and_imported_elsewhere(tmp_path: Path) -> None:
    """Offline: it brings no dependency along, and asks for two."""

    def run(*command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            list(map(str, command)),
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(
        *(sys.executable, "-m", "build", "--no-isolation", "--wheel"),
        *("--outdir", tmp_path, PACKAGE),
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"saas_litellm_client-{__version__}-py3-none-any.whl"
    uv = Path(sys.executable).parent / "uv"
    run(uv, "venv", "--offline", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install = ("--offline", "--no-deps", "--no-index", "--python", python, wheel)
    run(uv, "pip", "install", *install)
    program = (
        "import importlib.metadata, json, pathlib, saas_litellm_client as client\n"
        "here = pathlib.Path(client.__file__).parent\n"
        "print(json.dumps([str(here), (here / 'py.typed').exists(), client.__version__,"
        " importlib.metadata.requires('saas-litellm-client')]))"
    )
    site = sysconfig.get_paths()["purelib"]
    place, is_typed, version, needs = json.loads(run(python, "-c", program, PYTHONPATH=site))
    assert Path(place).is_relative_to(tmp_path)
    assert (is_typed, version) == (True, __version__)
    assert [re.split(r"[<>=]", need)[0] for need in needs] == ["httpx", "pydantic"]


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, PACKAGE / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_agent_runs_from_the_command_line(
    as_alice: Company, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["agent_loop.py", "Who", "pays?"])
    runpy.run_path(str(PACKAGE / "examples/agent_loop.py"), run_name="__main__")
    assert capsys.readouterr().out == "Hello from afar\n"


def test_the_agent_answers_and_stops_at_its_cap(
    as_alice: Company, provider: ProviderServer
) -> None:
    agent = example("agent_loop")
    asks = [
        Reply(tool={"name": "FindClause", "input": given}, finish_reason="tool_calls")
        for given in ({"subject": "rent"}, {"wrong": 1}, {"subject": "repairs"})
    ]
    provider.script(*asks, Reply(text="Both."))
    with Client() as client:
        assert agent.run(client, "Who pays?", max_credits=Decimal(5)) == "Both."
        told = [m["content"] for m in provider.requests[-1].json["messages"] if m["role"] == "tool"]
        assert told[0] == agent.CLAUSES["rent"]
        assert told[1] == "The arguments do not fit: Field required"
        # Enough for one call's worst case, and a little more than it then costs.
        provider.script(*asks)
        said = agent.run(client, "Who pays?", max_credits=Decimal("0.13"))
    assert said == f"Not finished. {agent.CLAUSES['rent']}"
    full, partial = Job.objects.order_by("created_at")
    assert (full.outcome, full.metadata) == ("full", {"result": "Both."})
    assert (partial.outcome, partial.status) == ("partial", "completed")
    assert partial.metadata == {"result": [agent.CLAUSES["rent"]]}
    assert partial.charged_nanocredits <= partial.max_nanocredits
    assert verification.verify() == []


@pytest.fixture(params=["fastapi_backend:app", "django_backend:application"])
def backend(request: pytest.FixtureRequest, as_alice: Company) -> Iterator[str]:
    """The address of an example's back end, a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", request.param, "--port", str(port)]
    removed = ("DJANGO_SETTINGS_MODULE", "SECRET_KEY")
    process = subprocess.Popen(
        command,
        cwd=PACKAGE / "examples",
        env={
            **{name: value for name, value in os.environ.items() if name not in removed},
            "PYTHONPATH": str(PACKAGE / "src"),
        },
    )
    url = f"http://127.0.0.1:{port}/answers"
    try:
        wait_until(lambda: _answers(url), seconds=30)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.post(url, json={}, timeout=5).status_code in {400, 422}
    except httpx.HTTPError:
        return False


def test_a_back_end_streams_to_the_browser(
    backend: str, alice: Company, provider: ProviderServer
) -> None:
    ask = {"question": "Who pays?"}
    shown = httpx.post(backend, json=ask, timeout=30)
    assert shown.headers["Content-Type"].startswith("text/event-stream")
    events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", shown.text)
    told = [json.loads(data) for name, data in events if name == "text"]
    assert "".join(one["text"] for one in told) == "Hello from afar "
    assert events[-1] == ("done", '{"credits": "0.016"}')

    provider.script(Reply(text="word " * 200, frame_delay=0.05))
    with httpx.stream("POST", backend, json=ask, timeout=30) as left:
        next(left.iter_text())
    wait_until(lambda: provider.requests[-1].is_abandoned)
    wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
    wait_until(lambda: Job.objects.order_by("created_at").last().status == "cancelled")

    provider.default = Reply(status=400)
    assert "event: failed" in httpx.post(backend, json=ask, timeout=30).text
    assert verification.verify() == []

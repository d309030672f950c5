"""What a machine that watches is told: metrics, traces and log lines of a served platform."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from saas_litellm.base import clock
from saas_litellm.base.models import LedgerCheck
from saas_litellm.observing import requests
from tests import factories
from tests.conftest import ROOT, Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

TOKEN = {"Authorization": "Bearer of-the-watcher"}
SECRET = "a secret that nobody else may read"
ASK = {"model": "chat", "messages": [{"role": "user", "content": SECRET}]}


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer) -> Company:
    return factories.company(model="openai/x", api_base=provider.openai_base)


def ask(live: Live, alice: Company, *, is_stream: bool = False, **headers: str) -> httpx.Response:
    with live.client({"Authorization": f"Bearer {alice.key}", **headers}) as client:
        return client.post("/v1/chat/completions", json={**ASK, "stream": is_stream})


def figures(live: Live) -> dict[str, float]:
    """Sample by sample: its name, and its labels in braces."""
    answer = httpx.get(f"{live.url}/metrics", headers=TOKEN)
    assert answer.status_code == 200, answer.text
    return {
        sample.name + (str(sorted(sample.labels.values())) if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.any_database
def test_metrics_are_for_whoever_has_the_token(spawned: Any) -> None:
    closed: Live = spawned()
    assert httpx.get(f"{closed.url}/metrics").status_code == 404
    live: Live = spawned(METRICS_TOKEN="of-the-watcher")
    assert httpx.get(f"{live.url}/metrics").status_code == 401
    wrong = {"Authorization": "Bearer of-nobody"}
    assert httpx.get(f"{live.url}/metrics", headers=wrong).status_code == 401
    assert httpx.get(f"{live.url}/metrics", headers=TOKEN).status_code == 200


def test_what_is_counted_is_what_happened(
    spawned: Any, alice: Company, provider: ProviderServer
) -> None:
    live: Live = spawned(METRICS_TOKEN="of-the-watcher", CALL_RETRIES="0")
    assert ask(live, alice).status_code == 200
    assert ask(live, alice, is_stream=True).text.endswith("data: [DONE]\n\n")
    provider.script(Reply(status=500))
    assert ask(live, alice).status_code == 502
    assert httpx.get(f"{live.url}/v1/models").status_code == 401
    found = figures(live)
    assert found["saas_calls_total['chat', 'ok']"] == 2
    assert found["saas_calls_total['chat', 'provider_error']"] == 1
    assert found["saas_attempts_total['ok', 'openai']"] == 2
    assert found["saas_tokens_total['chat', 'prompt']"] == 200
    assert found["saas_tokens_total['chat', 'output']"] == 40
    # A hundred tokens at 10 USD a million and twenty at 30, twice.
    assert found["saas_provider_cost_usd_total"] == pytest.approx(0.0032)
    assert found["saas_charged_credits_total"] == pytest.approx(0.032)
    assert found["saas_first_chunk_seconds_count"] == 1
    assert found["saas_call_seconds_count['plain']"] == 2
    assert found["saas_calls_in_flight"] == 0
    assert found["saas_http_requests_total['2xx', 'POST', 'v1']"] == 2
    assert found["saas_http_requests_total['5xx', 'POST', 'v1']"] == 1
    assert found["saas_http_requests_total['4xx', 'GET', 'v1']"] == 1
    assert found["saas_holds_open"] == 0
    assert found["saas_sweeper_lag_seconds"] == 0


@pytest.mark.any_database
def test_processes_of_a_machine_answer_for_each_other(
    spawned: Any, alice: Company, tmp_path: Path
) -> None:
    shared = {"METRICS_TOKEN": "of-the-watcher", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    one: Live = spawned(**shared)
    two: Live = spawned(**shared)
    for live, times in ((one, 2), (two, 3)):
        for _ in range(times):
            assert ask(live, alice).status_code == 200
    for live in (one, two):
        assert figures(live)["saas_calls_total['chat', 'ok']"] == 5


@pytest.mark.any_database
def test_a_label_is_never_what_somebody_typed() -> None:
    paths = ["/v1/x", "/api", "/nowhere/1", "/", "", "//x", "/admin/teams/", "*"]
    assert [requests.area_of(path) for path in paths] == [
        "v1",
        "api",
        "other",
        "other",
        "other",
        "other",
        "admin",
        "other",
    ]


# --- Traces --------------------------------------------------------------------------------------


class Collector:
    """Takes traces as an OpenTelemetry collector does: OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        seen = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()


@pytest.mark.any_database
def test_a_trace_leads_from_the_callers_own_to_the_attempt(
    spawned: Any, alice: Company, collector: Collector
) -> None:
    live: Live = spawned(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50")
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = ask(live, alice, is_stream=True, traceparent=f"00-{trace}-{caller}-01")
    assert answer.status_code == 200
    wait_until(lambda: len({span.name for span in collector.spans()} & NAMES) == 3)
    spans = {span.name: span for span in collector.spans() if span.name in NAMES}
    request, call, attempt = (spans[name] for name in ("POST v1", "call", "attempt"))
    assert {span.trace_id.hex() for span in spans.values()} == {trace}
    assert request.parent_span_id.hex() == caller
    assert (call.parent_span_id, attempt.parent_span_id) == (request.span_id, call.span_id)
    about = {pair.key: pair.value for pair in call.attributes}
    assert about["call.id"].string_value == answer.headers["X-Call-Id"]
    assert about["outcome"].string_value == "ok"
    assert about["tokens"].int_value == 120
    assert SECRET.encode() not in b"".join(collector.bodies)
    assert alice.key.encode() not in b"".join(collector.bodies)


NAMES = {"POST v1", "call", "attempt"}


# --- Log lines -----------------------------------------------------------------------------------


@pytest.mark.any_database
def test_each_line_is_an_object_with_the_ids_it_belongs_to(
    alice: Company, provider: ProviderServer, spawned: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    live: Live = spawned(is_fresh=True, log=log.open("wb"), LOG_FORMAT="json")
    provider.script(Reply(garbage=True), Reply(garbage=True))
    refused = ask(live, alice)
    assert refused.status_code == 502
    wait_until(lambda: b"POST /v1" in log.read_bytes())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line["time"]) for line in lines)
    (access,) = [line for line in lines if "POST /v1" in line["message"]]
    assert re.fullmatch(r"POST /v1/chat/completions 502 in \d+ ms", access["message"])
    assert access["request_id"] == refused.headers["X-Request-Id"]
    assert SECRET not in log.read_text()


@pytest.mark.any_database
def test_a_line_says_whose_it_is_in_both_styles() -> None:
    script = (
        "import os, logging, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'saas_litellm.settings'; django.setup()\n"
        "from saas_litellm.base.telemetry import context\n"
        "context.bind(request_id='req_1'); context.bind(call_id=7)\n"
        "logging.getLogger('x').warning('hm %s', 1)\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('x').exception('no')\n"
    )
    said = {}
    for style in ("json", "text"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "LOG_FORMAT": style},
            capture_output=True,
            text=True,
            check=True,
        )
        said[style] = done.stderr
    first, second = map(json.loads, said["json"].splitlines())
    assert (first["message"], first["request_id"], first["call_id"]) == ("hm 1", "req_1", "7")
    assert "ZeroDivisionError" in second["exc_info"]
    assert "WARNING x: hm 1 request_id=req_1 call_id=7" in said["text"]


@pytest.mark.any_database
def test_a_line_has_nothing_that_litellm_marks_it_with() -> None:
    script = (
        "import os, logging, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'saas_litellm.settings'; django.setup()\n"
        "from jobs import gateway; gateway.warm_up()\n"
        "import sys; assert 'litellm' in sys.modules\n"
        "logging.getLogger('x').warning('hm')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stderr.splitlines()[-1])) == {"time", "level", "logger", "message"}


@pytest.mark.any_database
def test_a_host_header_of_a_stranger_is_one_line(
    spawned: Any, transactional_db: None, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    live: Live = spawned(log=log.open("wb"), LOG_FORMAT="json", ALLOWED_HOSTS="127.0.0.1")
    with live.client({"Host": "of-a-scanner"}) as client:
        assert client.get("/admin/").status_code in {400, 422}
    wait_until(lambda: b"of-a-scanner" in log.read_bytes())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (line,) = [line for line in lines if "of-a-scanner" in str(line)]
    assert line["level"] == "WARNING"
    assert "exc_info" not in line
    assert {line["level"] for line in lines} <= {"INFO", "WARNING"}


# --- What reads the metrics ----------------------------------------------------------------------

MONITORING = ROOT / "deploy/monitoring"
MONITORING_PAGE = (ROOT / "docs/monitoring.md").read_text()
NAMED = re.compile(r"saas_[a-z_]+")
SUFFIXES = re.compile(r"_(bucket|count|sum)$")


def test_dashboard_rules_and_documents_name_the_metrics_there_are(
    spawned: Any, alice: Company, provider: ProviderServer
) -> None:
    live: Live = spawned(METRICS_TOKEN="of-the-watcher")
    ask(live, alice, is_stream=True)
    LedgerCheck.objects.create(started_at=clock.now(), seconds=1, findings=0)
    text = httpx.get(f"{live.url}/metrics", headers=TOKEN).text
    there = {SUFFIXES.sub("", sample) for sample in re.findall(r"^(saas_\w+)", text, re.MULTILINE)}
    there = {name for name in there if not name.endswith("_created")}
    documented = set(re.findall(r"^\| `(saas_\w+)`", MONITORING_PAGE, re.MULTILINE))
    # A pool is PostgreSQL's; what was never counted shows no sample.
    quiet = {
        "saas_database_pool",
        "saas_sweeps_total",
        "saas_worker_age_seconds",
        "saas_limiter_fallbacks_total",
    }
    assert there - quiet == documented - quiet
    for file in MONITORING.iterdir():
        named = {SUFFIXES.sub("", name) for name in NAMED.findall(file.read_text())}
        assert named <= documented, file.name


@pytest.mark.any_database
def test_the_rules_and_the_dashboard_are_well_formed() -> None:
    rules = yaml.safe_load((MONITORING / "alert-rules.yml").read_text())["groups"][0]["rules"]
    assert all({"alert", "expr", "labels", "annotations"} <= set(rule) for rule in rules)
    assert all({"summary", "what_to_do"} <= set(rule["annotations"]) for rule in rules)
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(panels) > 10

"""Every management command of the project, from its own argument parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser

from teams.prices import RATE_NAMES
from tests.reference.tables import code, prose, table

PACKAGES = ("saas_litellm", "teams", "billing", "jobs", "webhooks", "payments")
# What Django gives every command.
COMMON = {"help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color",
           "force_color", "skip_checks", "json"}  # fmt: skip

# What an argument of that name is in every command, where the command has nothing to add.
_USUAL = {
    "team": "the team's id",
    "organization": "the organization's id",
    "slug": "its id: lower-case letters, digits, `-` and `_`",
    "name": "what people call it",
    "plan": "the plan's id",
    "reason": "why; kept in the books or the audit log",
    "user": "a user name",
    "username": "the name to sign in with",
    "credits": "an exact number of credits",
    "since": "ISO date or time, UTC",
    "until": "ISO date or time, UTC; not included",
    "job_type": "only this job type",
    "default_alias": "for calls that name no model",
    "expires_in_days": "days from now; without it, never",
    "prefix": "what the key begins with",
    "number": "the version's number",
    "file": "a path",
    "email": "an address",
    "paid_usd": "what was paid for it",
    "alias": "only this alias",
    "job": "a job's id",
    "call": "a call's id",
    "policy": "what is kept of its calls",
    "retention_days": "for how many days",
}


def ours() -> dict[str, BaseCommand]:
    found = sorted(
        (name, app) for name, app in get_commands().items() if str(app).startswith(PACKAGES)
    )
    return {name: load_command_class(str(app), name) for name, app in found}


def parser(name: str) -> CommandParser:
    return ours()[name].create_parser("manage.py", name)


def page() -> str:
    sections = [_section(name, command) for name, command in ours().items()]
    return (
        "# Commands\n\n"
        "`manage.py COMMAND` stands for `python manage.py COMMAND` with the platform's Python, which `make run`"
        " puts in `.venv/bin/`. `--help` says the same. Every command but `worker` takes `--json` and then"
        " answers with one JSON object; each exits non-zero when it refuses, and says why. An actor"
        " `command:USER` stands in the audit log.\n\n" + "\n".join(sections)
    )


def _section(name: str, command: BaseCommand) -> str:
    made = command.create_parser("manage.py", name)
    lines = [f"## {name}\n", prose(command.help) + "\n"]
    lines += _arguments(made)
    for act, under in _acts(made):
        lines.append(f"### {name} {act}\n")
        lines.append(prose(_help_of(made, act)) + "\n")
        lines += _arguments(under)
    return "\n".join(lines)


def _arguments(of: argparse.ArgumentParser) -> Iterator[str]:
    rows = [
        [_spelled(action), _meaning(action)]
        for action in of._actions
        if action.dest not in COMMON and not isinstance(action, argparse._SubParsersAction)
    ]
    if rows:
        yield table(["argument", "meaning"], rows)


def _acts(of: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _help_of(of: argparse.ArgumentParser, act: str) -> str:
    (group,) = (a for a in of._actions if isinstance(a, argparse._SubParsersAction))
    return next((c.help or "" for c in group._choices_actions if c.dest == act), "")


def _spelled(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest).upper()
    if not action.option_strings:
        return code(value)
    named = ", ".join(action.option_strings)
    return code(named if action.nargs == 0 else f"{named} {value}")


def _rate(name: str) -> str:
    return "USD per million tokens" if name in RATE_NAMES else ""


def _meaning(action: argparse.Action) -> str:
    told = [prose(action.help or _USUAL.get(action.dest) or _rate(action.dest)).rstrip(".")]
    if action.choices:
        told.append("one of " + ", ".join(code(choice) for choice in action.choices))
    if action.default not in (None, "", False, [], argparse.SUPPRESS):
        told.append(f"default {code(action.default)}")
    if action.required and action.option_strings:
        told.append("required")
    if action.nargs in ("*", "+"):
        told.append("one or more" if action.nargs == "+" else "any number")
    return "; ".join(filter(None, told))

"""The list of actions, and the source that records them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

from audit.actions import ACTIONS, UnknownAction, sentence


def recorded() -> Iterator[tuple[str, str]]:
    """Yield each action that our own source names in a call of record() or denied(), and where."""
    for config in apps.get_app_configs():
        folder = Path(config.path)
        if not folder.is_relative_to(settings.BASE_DIR) or ".venv" in folder.parts:
            continue
        for path in sorted(folder.rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(call, ast.Call)
                    and getattr(call.func, "id", getattr(call.func, "attr", ""))
                    in {"record", "denied"}
                    and call.args
                    and isinstance(call.args[0], ast.Constant)
                ):
                    yield str(call.args[0].value), f"{path.name}:{call.lineno}"


def test_every_action_is_a_noun_and_a_past_participle_with_a_sentence():
    for action in ACTIONS:
        noun, _, verb = action.partition(".")
        assert noun.isidentifier(), action
        assert verb.isidentifier(), action
        assert sentence(action)[0].islower(), action
        assert not sentence(action).endswith("."), action


def test_an_action_that_is_not_listed_has_no_sentence():
    with pytest.raises(UnknownAction):
        sentence("contact.hugged")


def test_the_source_records_listed_actions_only():
    found = list(recorded())

    assert len(found) > 20
    assert [(action, where) for action, where in found if action not in ACTIONS] == []

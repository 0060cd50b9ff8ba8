"""The house rule: models and verb modules use only the apps below theirs, and each module is one idea."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps

ROOT = Path(__file__).resolve().parent.parent

#: Bottom layer first: the order in which a message comes into being.
LAYERS = [
    "phi",
    "audit",
    "accounts",
    "files",
    "contacts",
    "consent",
    "builder",
    "campaigns",
    "portal",
    "delivery",
    "journeys",
    "reports",
    "api",
]
#: On top of all of them.
OUTER_APPS = ["demo", "hipaamail"]
#: Files of an app that sit on top of every app and may import any.
OUTER_FILES = {"urls.py", "tasks.py"}
#: Functions that import by name.
BY_NAME = {"import_module", "import_string", "get_model", "__import__"}
#: Names that say nothing of what a module does.
SAYS_NOTHING = {
    "utils",
    "util",
    "helpers",
    "services",
    "managers",
    "common",
    "misc",
    "selectors",
    "signals",
}
#: Lines from which on a module is two ideas.
LONGEST = 400


def modules(app: str) -> list[Path]:
    """Return the Python files of an app; none when it does not exist yet."""
    return sorted((ROOT / app).rglob("*.py"))


def is_outer(path: Path) -> bool:
    """Say whether a file may import any app: views, urls, tasks, management commands."""
    return (
        path.name in OUTER_FILES or path.stem.split("_")[0] == "views" or "management" in path.parts
    )


def imports_of(path: Path) -> Iterator[str]:
    """Yield the first name of every import in a file: in functions, under TYPE_CHECKING and by name too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if name in BY_NAME and texts and isinstance(texts[0], str):
                yield texts[0].partition(".")[0]


def too_high(app: str, name: str) -> bool:
    """Say whether `app` may not import `name`."""
    return name in OUTER_APPS or name in LAYERS[LAYERS.index(app) + 1 :]


def test_no_app_imports_from_a_layer_above_it():
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for app in LAYERS
        for path in modules(app)
        if not is_outer(path)
        for name in imports_of(path)
        if too_high(app, name)
    ]

    assert broken == []


def test_outer_files_import_no_wiring_and_nobody_imports_the_demo():
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for app in [*LAYERS, "demo"]
        for path in modules(app)
        for name in imports_of(path)
        if name == "hipaamail" or (name == "demo" and app != "demo")
    ]

    assert broken == []


def test_imports_are_absolute():
    relative = [
        str(path.relative_to(ROOT))
        for app in [*LAYERS, *OUTER_APPS]
        for path in modules(app)
        if "." in imports_of(path)
    ]

    assert relative == []


def test_no_foreign_key_points_at_a_layer_above_it():
    broken = [
        f"{model._meta.label}.{field.name} -> {field.related_model._meta.label}"
        for app in LAYERS
        if apps.is_installed(app)
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
        for field in model._meta.get_fields()
        if field.concrete and field.is_relation
        if too_high(app, field.related_model._meta.app_label)
    ]

    assert broken == []


def test_phi_and_audit_hold_ids_of_organizations_and_users_and_no_keys_to_them():
    keys = [
        f"{model._meta.label}.{field.name}"
        for app in ("phi", "audit")
        for model in apps.get_app_config(app).get_models()
        for field in model._meta.get_fields()
        if field.concrete and field.is_relation and field.related_model._meta.app_label != app
    ]

    assert keys == []


def test_every_app_of_ours_is_in_the_list():
    ours = {c.name.partition(".")[0] for c in apps.get_app_configs() if Path(c.path).parent == ROOT}

    assert ours <= {*LAYERS, *OUTER_APPS}


def test_every_module_says_what_it_does_in_its_name_and_first_line():
    every = [path for app in [*LAYERS, *OUTER_APPS] for path in modules(app)]
    nameless = [str(p.relative_to(ROOT)) for p in every if p.stem in SAYS_NOTHING]
    silent = [
        str(path.relative_to(ROOT))
        for path in every
        if path.stat().st_size and "migrations" not in path.parts
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert nameless == []
    assert silent == []


def test_no_module_is_two_ideas():
    long = {
        str(path.relative_to(ROOT)): lines
        for app in [*LAYERS, *OUTER_APPS]
        for path in modules(app)
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }

    assert long == {}


# --- the test itself


@pytest.mark.parametrize(
    "text",
    [
        "import campaigns",
        "import campaigns.models as m",
        "from campaigns.models import Campaign",
        "def f():\n    from campaigns import launch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import campaigns",
        "apps.get_model('campaigns', 'Campaign')",
        "get_model('campaigns.Campaign')",
        "importlib.import_module('campaigns.launch')",
        "import_string('campaigns.launch.send')",
    ],
)
def test_every_way_of_importing_is_seen(tmp_path, text):
    path = tmp_path / "module.py"
    path.write_text(text)

    assert "campaigns" in set(imports_of(path))
    assert too_high("contacts", "campaigns")
    assert not too_high("delivery", "campaigns")

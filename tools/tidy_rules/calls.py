"""Calls and imports that have a better one, each with the replacement named."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.tidy_rules.tree import Finding, Source, Tree, dotted, imported_names

CLOCK = "take a base.clock.Clock"
BANNED_CALLS = {
    "datetime.datetime.now": CLOCK,
    "datetime.datetime.utcnow": CLOCK,
    "datetime.datetime.today": CLOCK,
    "datetime.date.today": CLOCK,
    "time.time": CLOCK,
    "asyncio.create_task": "use asyncio.TaskGroup, which awaits what it started",
    "asyncio.ensure_future": "use asyncio.TaskGroup, which awaits what it started",
    "asyncio.get_event_loop": "use asyncio.get_running_loop",
    "print": "log through base.log, or take the console of app/cli",
    "eval": "parse the text with a grammar of ours",
    "exec": "call a function",
    "os.system": "use asyncio.create_subprocess_exec with a list of arguments",
}
BANNED_IMPORTS = {
    "pickle": "store JSON through msgspec: unpickling runs code",
    "marshal": "store JSON through msgspec: it is safe and readable",
    "shelve": "store JSON through msgspec: unpickling runs code",
}
# What import-linter cannot name because the rest of the package is pure.
PURE_BANNED_IMPORTS = {
    "urllib.request": "await a port; the adapter belongs in outside/",
    "urllib.error": "await a port; the adapter belongs in outside/",
}
PURE_ROOMS = tuple(
    f"src/tindra/{room}/" for room in ("base", "wire", "model", "core", "features", "sync")
)


def check_calls(tree: Tree) -> Iterator[Finding]:
    """Banned calls and imports in the product."""
    for source in tree.python("src/tindra/"):
        yield from _check_banned_calls(source)
        yield from _check_banned_imports(source)


def _check_banned_calls(source: Source) -> Iterator[Finding]:
    if source.tree is None:
        return
    names = imported_names(source.nodes)
    for node in source.nodes:
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            root, dot, rest = name.partition(".")
            full = names.get(root, root) + dot + rest
            if full in BANNED_CALLS:
                yield Finding(source.path, node.lineno, f"call of {full}", BANNED_CALLS[full])


def _check_banned_imports(source: Source) -> Iterator[Finding]:
    banned = dict(BANNED_IMPORTS)
    if source.path.startswith(PURE_ROOMS):
        banned |= PURE_BANNED_IMPORTS
    for node in source.nodes:
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            if module in banned:
                yield Finding(
                    source.path, getattr(node, "lineno", 1), f"import of {module}", banned[module]
                )

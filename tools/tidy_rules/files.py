"""What may be in the repository at all, and the lists that must be complete."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator

from tools.tidy_rules.tree import TEXT_SUFFIXES, Finding, Source, Tree

FILE_BYTES_MAX = 500_000
FRAGMENT_KINDS = ("feature", "fix", "change", "ops", "doc")
FEATURES = "src/tindra/features/"
FEATURE_KIT = "objects"
"""The one module there that is no feature: docs/decisions/0008-small-types-are-no-engine.md."""

_HOSTS = ("pypi" + ".org", "files.python" + "hosted", "registry.npm" + "js", "deb.debian" + ".org")
_LOCAL = re.compile(
    r"(?<![\w.:/-])/(?:work|farm)/|/root/\.|(?<![\w.])/tmp/[a-z]+/|"
    + "|".join(map(re.escape, _HOSTS))
)
_FRAGMENT = re.compile(rf"changes/(?:README\.md|[0-9]+\.(?:{'|'.join(FRAGMENT_KINDS)})\.md)")
# Where the name of the package and the name of the module differ.
_MODULE_OF = {
    "pyyaml": "yaml",
    "pytest_randomly": "pytest_randomly",
    "import_linter": "importlinter",
}
_OTHER_ENVIRONMENTS = "tests/compat/clients/"
"""Programs that run beside ours, with packages that we must not depend on."""
_ALWAYS_THERE = frozenset(
    {"tindra", "tests", "tools", "bench", "grimp"}
)  # grimp comes with import-linter


def check_files(tree: Tree) -> Iterator[Finding]:
    """Files that are too large or name one machine, unparseable Python, and lists with gaps."""
    for source in tree.sources:
        if len(source.data) > FILE_BYTES_MAX:
            what = f"file of {len(source.data) // 1000} KB, at most {FILE_BYTES_MAX // 1000}"
            yield Finding(
                source.path, 1, what, "make it when it is needed, or keep it outside the repository"
            )
        if source.suffix in TEXT_SUFFIXES:
            yield from _check_local_words(source)
        if source.is_python and source.tree is None:
            yield Finding(source.path, 1, "not Python", "mend the syntax")
        if source.path.startswith("changes/") and not _FRAGMENT.fullmatch(source.path):
            instead = f"name it changes/<issue>.<kind>.md, kind one of {', '.join(FRAGMENT_KINDS)}"
            yield Finding(source.path, 1, "not the name of a change fragment", instead)
    yield from _check_features(tree)
    yield from _check_dependencies(tree)


def _check_local_words(source: Source) -> Iterator[Finding]:
    for line, text in enumerate(source.lines, 1):
        if match := _LOCAL.search(text):
            what = f"'{match[0]}' belongs to one machine or registry"
            yield Finding(source.path, line, what, "use a path inside the repository, or a setting")


def _check_features(tree: Tree) -> Iterator[Finding]:
    """Each module of features/ must be reached from features.ALL."""
    init = tree.by_path.get(f"{FEATURES}__init__.py")
    if init is None or init.tree is None:
        return
    present: dict[str, str] = {}
    for source in tree.python(FEATURES):
        first = source.path.removeprefix(FEATURES).partition("/")[0].removesuffix(".py")
        if not first.startswith("_") and first != FEATURE_KIT:
            present.setdefault(first, source.path)
    listed = _listed_features(init.tree)
    if listed is None:
        return
    for name, path in sorted(present.items()):
        if name not in listed:
            yield Finding(
                path,
                1,
                f"the feature {name} is not in features.ALL",
                f"add its line to {init.path}",
            )


def _listed_features(module: ast.Module) -> set[str] | None:
    """The first folder or module behind each name in ALL; None where there is no ALL yet."""
    origin: dict[str, str] = {}
    for node in ast.walk(module):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("tindra.features")
        ):
            inside = node.module.removeprefix("tindra.features").lstrip(".").partition(".")[0]
            for alias in node.names:
                origin[alias.asname or alias.name] = inside or alias.name
    for statement in module.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if any(isinstance(target, ast.Name) and target.id == "ALL" for target in targets):
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
            names = (
                [node.id for node in ast.walk(value) if isinstance(node, ast.Name)] if value else []
            )
            return {origin[name] for name in names if name in origin}
    return None


def _check_dependencies(tree: Tree) -> Iterator[Finding]:
    """Every third-party import is declared; only the product is held to the product's own list."""
    project = tomllib.loads(tree.text("pyproject.toml"))
    if "project" not in project:
        return
    product = _modules(project["project"].get("dependencies", []))
    for extra in project["project"].get("optional-dependencies", {}).values():
        product |= _modules(extra)
    develop = product | _modules(project.get("dependency-groups", {}).get("dev", []))
    beside = {other.name.removesuffix(".py") for other in tree.python("tests/", "tools/", "bench/")}
    for source in tree.python("src/", "tests/", "tools/", "bench/"):
        if source.path.startswith(_OTHER_ENVIRONMENTS):
            continue
        allowed = product if source.path.startswith("src/") else develop
        for line, module in _imports(source):
            known = (
                module in sys.stdlib_module_names or module in _ALWAYS_THERE or module in allowed
            )
            if not known and (source.path.startswith("src/") or module not in beside):
                where = "dependencies" if source.path.startswith("src/") else "the dev group"
                instead = f"add it to {where} in pyproject.toml with a line in docs/decisions/0002"
                yield Finding(
                    source.path, line, f"import of {module}, which is not declared", instead
                )


def _modules(requirements: list[str]) -> set[str]:
    names = {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("-", "_")
        for requirement in requirements
    }
    return {_MODULE_OF.get(name, name) for name in names}


def _imports(source: Source) -> Iterator[tuple[int, str]]:
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]

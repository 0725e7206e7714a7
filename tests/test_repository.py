"""Rules about the repository itself: layout, direction of imports, file sizes, and what must never be in it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "avjepa"

TOP_LEVEL = {
    *("avjepa", "projects", "tools", "configs", "data", "tests", ".ci"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("setup.cfg", "pyproject.toml", "ruff.toml", "constraints.txt", "Makefile", ".gitignore"),
}
MAX_LINES = 400

# What each part of avjepa may import from avjepa. `conventions`, `errors`, `files` and `processes` are open to all.
ORDER = ("geometry", "sensors", "bev", "jepa", "probes", "mapping", "reports")
COMMON = {"conventions", "errors", "files", "processes"}
MAY_IMPORT = {
    **{part: {*ORDER[: i + 1]} | COMMON for i, part in enumerate(ORDER)},
    "city": {"city", "geometry"} | COMMON,
    "engine": {*ORDER, "city", "engine"} | COMMON,
    "fleet_engines": COMMON,
    "fleet": {"fleet_engines", "cli"} | COMMON,
    **dict.fromkeys(("__init__", "cli", *COMMON), COMMON),
}

# The OpenMMLab packages, and what may be imported of them outside avjepa/engine.
FRAMEWORK = {"mmengine", "mmcv", "mmdet", "mmdet3d"}
FRAMEWORK_ALLOWED = {
    "avjepa": (),
    "tools": ("mmengine.config", "mmengine.dist", "mmengine.runner"),
    "configs": ("mmengine",),
}


# ------------------------------------------------------------------------------------------------------------- layout
def test_top_level_holds_only_the_fixed_names():
    extra = {path.parts[0] for path in repository_files()} - TOP_LEVEL
    assert not extra, f"move into one of the fixed folders, or add to .gitignore: {sorted(extra)}"


def test_package_readme_lists_every_file_once():
    readme = PACKAGE / "README.md"
    listed = Counter(re.findall(r"^- `([^`]+\.py)` - \S", readme.read_text(encoding="utf-8"), flags=re.MULTILINE))
    in_tree = {str(path.relative_to("avjepa")) for path in python_files("avjepa") if path.name != "__init__.py"}
    problems = [
        *(f"no line for {name}: add  - `{name}` - what it does" for name in sorted(in_tree - set(listed))),
        *(f"a line for {name}, which does not exist: remove it" for name in sorted(set(listed) - in_tree)),
        *(f"{count} lines for {name}: keep one" for name, count in listed.items() if count > 1),
    ]
    assert not problems, report("avjepa/README.md", problems)


def test_every_package_folder_has_an_init_file():
    folders = {path.parent for path in python_files("avjepa")}
    missing = sorted(f"{folder}/__init__.py" for folder in folders if not (ROOT / folder / "__init__.py").exists())
    assert not missing, report("without these files setuptools leaves the folder out of the package; add them", missing)


def test_no_python_file_is_too_long():
    sizes = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in python_files()}
    long = [f"{path}: {lines} lines" for path, lines in sizes.items() if lines > MAX_LINES]
    assert not long, report(f"more than {MAX_LINES} lines; split by stage", long)


# ------------------------------------------------------------------------------------------------------------ imports
def test_imports_go_one_way():
    problems = []
    for path in python_files("avjepa"):
        part = path.parts[1].removesuffix(".py")
        if part not in MAY_IMPORT:
            problems.append(f"{path}: avjepa/{part} has no place in the order; see MAY_IMPORT in {Path(__file__).name}")
            continue
        for line, module in imported_modules(path):
            target = avjepa_part(module)
            if target and target not in MAY_IMPORT[part]:
                problems.append(f"{path}:{line} imports {module}; {part} may import only {sorted(MAY_IMPORT[part])}")
    assert not problems, report("move the code, or pass the object in as an argument", problems)


def test_only_the_engine_imports_the_framework():
    problems = []
    for path in python_files(*FRAMEWORK_ALLOWED):
        if path.parts[:2] == ("avjepa", "engine"):
            continue
        allowed = FRAMEWORK_ALLOWED[path.parts[0]]
        for line, module in imported_modules(path):
            inside = any(f"{module}.".startswith(f"{name}.") for name in allowed)
            if module.split(".")[0] in FRAMEWORK and not inside:
                problems.append(f"{path}:{line} imports {module}")
    assert not problems, report("only avjepa/engine wraps the framework; move this there", problems)


def test_everything_but_the_engine_imports_without_the_framework():
    modules = [module_name(path) for path in python_files("avjepa") if path.parts[1] != "engine"]
    script = f"""
import importlib, sys, traceback

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(FRAMEWORK)!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked by this test")

sys.meta_path.insert(0, Blocker())
failed = []
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except Exception:
        failed.append(f"{{name}}: {{traceback.format_exc(limit=-2)}}")
sys.exit("\\n".join(failed) or 0)
"""
    done = run_python("-W", "ignore", "-c", script)
    assert done.returncode == 0, f"these must import without {sorted(FRAMEWORK)}:\n{done.stderr}"


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import in a file, those inside functions too."""
    package = path.parent.parts
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            # `from avjepa import jepa` imports avjepa.jepa: a whole package is named by its members.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "avjepa" else [module]
            yield from ((node.lineno, name) for name in names)


def avjepa_part(module: str) -> str | None:
    """The part of avjepa that a module name belongs to; None for other packages and for avjepa's own attributes."""
    package, _, rest = module.partition(".")
    part = rest.split(".")[0]
    exists = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
    return part if package == "avjepa" and part and exists else None


# -------------------------------------------------------------------------------------------------------------- tools
def tool_files() -> list[str]:
    """The command line tools, by file name."""
    return sorted(path.name for path in (ROOT / "tools").glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("name", tool_files())
def test_tool_help_shows_an_example(name: str):
    done = run_python("-W", "ignore", f"tools/{name}", "--help")
    assert done.returncode == 0, f"tools/{name} --help ended with {done.returncode}:\n{done.stderr}"
    examples = re.findall(rf"^\s*(?:\w+=\S+ )*(?:python|torchrun)\b.* tools/{name}\b.*$", done.stdout, re.MULTILINE)
    assert examples, (
        f"tools/{name} --help shows no line like  python tools/{name} ...; use an epilog with raw formatting"
    )


# --------------------------------------------------------------------------------------------- what must never be here
def test_no_absolute_machine_paths():
    folders = "|".join(["work", "root"])  # joined here, so that this file does not match itself
    pattern = re.compile(rf"(?<![\w.~-])/({folders})/".encode())
    found = [
        f"{path}:{number}: {line.strip()[:80].decode(errors='replace')}"
        for path in repository_files()
        for number, line in enumerate((ROOT / path).read_bytes().splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, report("use a path relative to the repository, an argument, or AVJEPA_NUSCENES", found)


def test_nothing_unpickles():
    problems = []
    for path in python_files("avjepa", "tools"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "cPickle", "dill", "cloudpickle"):
                problems.append(f"{path}:{node.lineno}: from {node.module} import ...")
            elif isinstance(node, ast.Call):
                problems += (f"{path}:{node.lineno}: {what}" for what in unpickling(node))
    assert not problems, report(
        "a pickle can run any code when it is loaded; use npz, JSON or weights_only=True", problems
    )


def unpickling(call: ast.Call) -> Iterator[str]:
    """What in a call can load a pickle."""
    name = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if re.fullmatch(r"(pickle|cPickle|dill|cloudpickle|joblib)\.(load|loads|Unpickler)", name):
        yield f"{name}(...)"
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "torch.load(...) without weights_only=True"
    elif keywords.get("weights_only") == "False":
        yield f"{name}(..., weights_only=False)"
    if keywords.get("allow_pickle") == "True":
        yield f"{name}(..., allow_pickle=True)"


# ------------------------------------------------------------------------------------------------------------ helpers
def repository_files() -> list[Path]:
    """Files that are tracked or would be, relative to the root: everything that git does not ignore."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of its files")
    names = filter(None, done.stdout.decode().split("\0"))
    return sorted(path for path in map(Path, names) if (ROOT / path).is_file())


def python_files(*folders: str) -> list[Path]:
    """Python files below the folders, or all of them."""
    return [path for path in repository_files() if path.suffix == ".py" and (not folders or path.parts[0] in folders)]


def parse(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    """Name under which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python in the repository root."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def report(mend: str, findings: list[str]) -> str:
    """A failure message: what to do, then where."""
    return "\n  ".join([mend, *findings])

"""Workflows: the make targets and scripts that they run exist, every action is pinned, no job has more rights than it says."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def read(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_the_five_workflows_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "deploy", "docs", "release", "train"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_rights_are_least_and_runs_do_not_pile_up(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {} and "group" in workflow["concurrency"]
    for job in workflow["jobs"].values():
        if "uses" in job:  # another workflow, which has limits of its own
            assert job["permissions"] == {"contents": "read"}
            continue
        assert job["timeout-minutes"] <= 360
        if any("checkout" in step.get("uses", "") for step in job["steps"]):
            assert job["permissions"]["contents"] in ("read", "write")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_with_their_version_beside(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    own = [f"./{workflow.relative_to(ROOT)}" for workflow in WORKFLOWS]
    assert used and all(
        re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", line)
        for line in used
        if line.partition(" ")[0] not in own
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_targets_and_scripts_exist_and_nothing_foreign_is_pasted_into_commands(path: Path) -> None:
    for step in steps(read(path)):
        command = step.get("run", "")
        assert "${{" not in command
        for line in re.findall(r"\bmake ([^|>&\n]*)", command):
            words = [word for word in line.split() if "=" not in word and not word.startswith('"')]
            assert set(words) <= TARGETS, line
        for script in re.findall(r"\bpython3? (\S+\.py)", command):
            assert (ROOT / script).is_file(), script


def test_ci_runs_what_the_readme_says_in_a_clone() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```bash\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert first is not None
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert all(command in run for command in first[1].strip().splitlines())
    clone = next(number for number, line in enumerate(run) if "git clone" in line)
    assert clone < run.index("make quickstart")


def dry_run(*words: str, path: str = os.environ["PATH"]) -> str:
    """What make would run in an environment that does not exist yet."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment |= {"PATH": path}
    line = ["make", "--dry-run", *words, "VENV=/nonexistent/venv"]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_quickstart_installs_what_training_needs_and_the_tests_add_the_rest() -> None:
    quickstart, tests = dry_run("quickstart"), dry_run("test")
    assert '-c requirements.txt -e ".[train]"' in quickstart
    assert "export" not in quickstart and "docs" not in quickstart
    first, second = re.findall(r'-c requirements\.txt -e "\.\[(.*)\]"', tests)
    assert first == "train" and {"export", "serve", "parquet", "dev"} < set(second.split(","))
    said = quickstart.index("Installing")
    assert "GiB" in quickstart[said:].splitlines()[0] and said < quickstart.index("venv /nonexistent/venv")


def test_the_cpu_build_comes_first_where_it_is_asked_for() -> None:
    index = "https://download.example.org/cpu"
    installs = re.findall(r"pip install .*", dry_run("quickstart", f"TORCH_INDEX={index}"))
    assert f"--index-url {index} torch==" in installs[0] and ".[train]" in installs[1]


def test_uv_installs_where_it_is_there(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    planned = dry_run("quickstart", path=f"{tmp_path}:{os.environ['PATH']}")
    assert f"{uv} venv" in planned and f"{uv} pip install" in planned
    assert f"{uv} " not in dry_run("quickstart", path="/usr/bin:/bin")


def test_production_waits_for_the_canary() -> None:
    jobs = read(ROOT / ".github/workflows/deploy.yml")["jobs"]
    assert jobs["promote"]["needs"] == "canary" and jobs["promote"]["environment"] == "production"
    for name, stage in (("canary", "canary"), ("promote", "production")):
        commands = [step["run"] for step in jobs[name]["steps"] if "run" in step]
        assert commands[-1] == f"make deploy STAGE={stage}"


def test_the_recipes_that_changed(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    def commit(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / f"configs/{name}.yaml").write_text(text)
        git("add", ".")
        git("commit", "-m", "a")

    (tmp_path / "configs").mkdir()
    git("init")
    commit(same="train: {}", changed="train: {}")
    commit(changed="train: {epochs: 1}", added="train: {}", added_finish="train: {}", sweep="method: bayes")
    line = [sys.executable, ROOT / "scripts/list_recipes.py"]
    done = subprocess.run([*line, "HEAD^"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["configs/added.yaml", "configs/changed.yaml"]
    done = subprocess.run([*line, "0" * 40], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cannot be compared" in done.stderr


@pytest.mark.parametrize(
    "asked",
    ['x"]; touch $(id)', "configs/nothing.yaml", "configs/../pyproject.toml", "/etc/passwd", "configs"],
)
def test_a_recipe_that_a_person_types_is_one_of_those_there_are(asked: str) -> None:
    line = [sys.executable, ROOT / "scripts/list_recipes.py", "--recipe"]
    done = subprocess.run([*line, asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "no recipe" in done.stderr and not done.stdout
    good = subprocess.run([*line, "configs/field.yaml"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(good.stdout) == ["configs/field.yaml"]


def test_the_job_summary_of_a_measured_bundle(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from write_job_summary import confusion
    finally:
        sys.path.pop(0)
    table = confusion(["glass", "metal"], [[7, 1], [0, 9]])
    assert table[2:] == ["| **glass** | **7** | 1 |", "| **metal** | 0 | **9** |"]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/write_job_summary.py", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "not a trained model" in done.stderr


@pytest.mark.parametrize("good", [True, False])
def test_the_smoke_test_of_a_function(good: bool, tmp_path: Path) -> None:
    """A stand-in for the AWS command line, which names a function and writes its answer."""
    answer = (
        {"predictions": [{"decision": "glass", "probability": 0.9}]} if good else {"error": {"code": "fault"}}
    )
    tool = tmp_path / "aws"
    tool.write_text(
        "#!/usr/bin/env python3\nimport sys, json, pathlib\n"
        "if sys.argv[1] == 'cloudformation': print('function-1')\n"
        "else:\n"
        "    assert sys.argv[4] == 'function-1'\n"
        "    event = json.loads(pathlib.Path(sys.argv[8].removeprefix('file://')).read_text())\n"
        "    assert event['image'].startswith('/9j/')\n"
        f"    pathlib.Path(sys.argv[9]).write_text({json.dumps(answer)!r})\n"
    )
    tool.chmod(0o755)
    line = [sys.executable, ROOT / "deploy/smoke_function.py", "trash-classifier-canary"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if good else 1)
    assert "glass, 90.0%" in done.stdout if good else "fault" in done.stderr


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").rglob("*.py")), ids=lambda path: path.name)
def test_what_scripts_import_from_the_package_is_there(script: Path) -> None:
    """Read, not run: many need photos, an idle machine or a GPU."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("image_classification_trash."):
            file = ROOT / f"{str(node.module).replace('.', '/')}.py"
            names = set(re.findall(r"\w+", file.read_text(encoding="utf-8"))) if file.exists() else set()
            wanted = {alias.name for alias in node.names}
            assert wanted <= names or (file.with_suffix("") / "__init__.py").exists(), (node.module, wanted)

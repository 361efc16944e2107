"""What is said in two places is the same in both."""

import ast
import re
import tomllib

import pytest

from tests.harness import CHOSEN, PROJECT, QUESTIONS
from tools.bake import TEMPLATE

LOCKS = [
    # (what we ask for, the closure that has to hold it)
    (f"{PROJECT}/requirements.in", f"{PROJECT}/requirements.txt"),
    (f"{PROJECT}/requirements.in", f"{PROJECT}/requirements-gpu.txt"),
    ("requirements-dev.in", "requirements-dev.txt"),
]


def template_text(path: str) -> str:
    return (TEMPLATE / path).read_text(encoding="utf-8")


def package_names(text: str) -> set[str]:
    """Return the packages that the lines of a requirements file start with."""
    return set(re.findall(r"^([A-Za-z0-9][\w.-]*)(?=[\s=<>\[;]|$)", text, flags=re.MULTILINE))


def test_the_hook_knows_the_choices_of_cookiecutter_json():
    tree = ast.parse(template_text("hooks/pre_gen_project.py"))
    assigned = {
        node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(assigned["CHOICES"]) == CHOSEN


def test_the_models_to_choose_from_are_those_of_the_zoo(bake):
    """All whose weights are installed; those behind an address are for who sets model.id by hand.
    """
    project = bake()
    code = "from scripts.modeling.zoo import ENTRIES; print(*(e.id for e in ENTRIES.values() if not e.experimental))"
    complete = project.run("-c", code).stdout.split()
    assert CHOSEN["model"] == complete
    assert all(f"`{model_id}`" in project.read("docs/training.md") for model_id in complete)


@pytest.mark.parametrize(("wishes", "lock"), LOCKS)
def test_a_lock_holds_all_we_ask_for_with_hashes_and_no_address(wishes, lock):
    locked = template_text(lock)
    # On Linux the lock for GPUs holds tensorflow[and-cuda] instead.
    replaced = {"tensorflow-cpu"} if "gpu" in lock else set()
    assert package_names(template_text(wishes)) - replaced <= package_names(locked)
    pins = [line for line in locked.splitlines() if re.match(r"[a-z]", line)]
    assert all("==" in line and line.endswith("\\") for line in pins)
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:", locked)


def test_both_locks_of_the_environment_agree():
    """`make` installs both into one environment."""
    pin = re.compile(r"^([a-z0-9.-]+)==(\S+)", flags=re.MULTILINE)
    project = pin.findall(template_text(f"{PROJECT}/requirements.txt"))
    names = {name for name, _ in project}
    tools = [(name, version) for name, version in pin.findall(template_text("requirements-dev.txt"))
             if name in names]
    assert tools and set(tools) <= set(project)


def test_the_templates_readme_names_every_question_and_choice():
    readme = template_text("README.md")
    for key in QUESTIONS:
        assert key.startswith("_") or f"`{key}`" in readme, key
    for key, choices in CHOSEN.items():
        assert all(f"`{choice}`" in readme for choice in choices), key


def test_the_projects_docs_name_every_setting(bake):
    project = bake()
    readme = project.read("docs/settings.md")
    for table, values in tomllib.loads(project.read("detector.toml")).items():
        assert table in readme
        for key in values:
            assert f"`{table}.{key}`" in readme, f"{table}.{key}"


def test_the_projects_readme_names_every_task(bake):
    project = bake()
    readme = project.read("README.md")
    tasks = re.findall(r"^  ([a-z][a-z-]*)", project.invoke("--list").stdout, flags=re.MULTILINE)
    assert "tflite" in tasks and "doctor" in tasks
    for task in tasks:
        assert re.search(rf"`(invoke )?{task}\b", readme), task


def test_the_projects_docs_show_the_reader_as_it_is(bake):
    project = bake()
    (shown,) = re.findall(r"```python\n(.*?)```", project.read("docs/deploy.md"), flags=re.DOTALL)
    assert shown == project.read("clients/detect.py")


@pytest.mark.parametrize("folder", [".", PROJECT])
def test_links_between_texts_lead_somewhere(folder):
    texts = [*(TEMPLATE / folder).glob("*.md"), *(TEMPLATE / folder / "docs").glob("*.md")]
    for text in texts:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text.read_text(encoding="utf-8")):
            assert "://" in link or (text.parent / link).exists(), f"{text.name}: {link}"

"""The design, enforced on the source: floors, sizes, docstrings, exports, and what this library never does."""

import ast
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import tinyllm

ROOT = Path(tinyllm.__file__).parent
FLOORS = {
    0: ("storage",),
    1: ("kernels",),
    2: ("autograd",),
    3: ("ops",),
    4: ("nn", "optim", "tokenizers", "data"),
    5: ("models", "compile"),
    6: ("decoding", "training"),
    7: ("chat", "pretraining", "finetuning"),
    8: ("rlhf", "labels", "scaling", "evaluation"),
    9: ("report",),
    10: ("recipes",),
    11: ("server",),
    12: ("cli",),
}
FLOOR_OF = {package: floor for floor, packages in FLOORS.items() for package in packages}
FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)
TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MANY_PARAMETERS = ("kernels",)  # loops take every number and array that the equation names


def label(path):
    return str(path.relative_to(ROOT.parent))


every_file = pytest.mark.parametrize("path", FILES, ids=label)


def module_name(path):
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def package_of(path):
    """The floor's package a file belongs to; None for tinyllm/__init__.py."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else None


def imported(tree, path):
    """Every module or name of tinyllm that a file imports, as dotted names, wherever in the file the import stands."""
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS)]


def length(function):
    return function.end_lineno - function.lineno + 1


def qualified(node, path):
    return f"{label(path)}:{node.lineno} {node.name}"


# ---- floors


def test_every_package_stands_on_a_floor():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - FLOOR_OF.keys() == set()
    assert [label(path) for path in ROOT.glob("*.py") if path.name not in ("__init__.py", "__main__.py")] == []
    assert [folder.name for folder in ROOT.iterdir() if any(folder.glob("*.py")) and not (folder / "__init__.py").exists()] == []


@every_file
def test_imports_go_down_and_never_sideways(path):
    own = package_of(path)
    wrong = []
    for name in imported(TREES[path], path):
        parts = name.split(".")
        if parts[0] != "tinyllm" or len(parts) < 2 or own in (None, parts[1]):
            continue
        # `from tinyllm import Tensor`: the top-level package re-exports autograd, floor 2, and recipes' load
        floor = FLOOR_OF.get(parts[1], FLOOR_OF["recipes" if parts[1] == "load" else "autograd"])
        if floor >= FLOOR_OF[own] and parts[1] != "__version__":
            wrong.append(name)
    assert wrong == []


def test_kernels_and_storage_know_no_tensor():
    for path in FILES:
        if package_of(path) in ("kernels", "storage"):
            assert not any(isinstance(node, ast.Name) and node.id == "Tensor" for node in ast.walk(TREES[path])), label(path)


@pytest.mark.parametrize(
    "module",
    ["tinyllm", "tinyllm.ops", "tinyllm.models", "tinyllm.optim", "tinyllm.tokenizers", "tinyllm.recipes", "tinyllm.cli.main"],
)
def test_importing_does_not_load_numba(module):
    if importlib.util.find_spec(module) is None:
        pytest.fail(f"{module} is gone")
    heavy = ["numba", "llvmlite", "matplotlib", "tqdm", "hypothesis", "torch"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    environment = {key: value for key, value in os.environ.items() if key != "TINYLLM_KERNELS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT.parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# ---- sizes


@every_file
def test_files_have_at_most_400_lines_of_at_most_130_characters(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 400
    assert [i for i, line in enumerate(lines, start=1) if len(line) > 130] == []


@every_file
def test_no_function_is_longer_than_60_lines(path):
    assert [qualified(f, path) for f in functions(TREES[path]) if length(f) > 60] == []


def test_half_of_all_functions_have_at_most_12_lines():
    assert statistics.median(length(f) for tree in TREES.values() for f in functions(tree)) <= 12


def positional(function):
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return [name for name in names if name not in ("self", "cls")]


@every_file
def test_functions_take_at_most_ten_parameters(path):
    if package_of(path) in MANY_PARAMETERS:
        return
    crowded = [
        qualified(f, path)
        for f in functions(TREES[path])
        if len(positional(f)) + len(f.args.kwonlyargs) > 10 and not f.name.startswith("_")
    ]
    assert crowded == []


def is_op(function):
    return any(isinstance(decorator, ast.Name) and decorator.id == "op" for decorator in function.decorator_list)


@every_file
def test_public_functions_take_at_most_three_positional_arguments_ops_their_operands(path):
    """Two, or a third that the call reads naturally with (dy, x, key); flags and numbers are keywords."""
    if package_of(path) in MANY_PARAMETERS:
        return
    public = [f for f in top_level(TREES[path]) if not f.name.startswith("_") and isinstance(f, DEFINITIONS)]
    assert [qualified(f, path) for f in public if len(positional(f)) > 3 and not is_op(f)] == []


@every_file
def test_flags_are_keywords(path):
    """f(x, True) cannot be read: a parameter whose default is a bool is keyword-only (train(True) is known everywhere)."""
    found = []
    for f in functions(TREES[path]):
        arguments = [*f.args.posonlyargs, *f.args.args]
        defaults = f.args.defaults
        for argument, default in zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True):
            if isinstance(default, ast.Constant) and isinstance(default.value, bool):
                if not f.name.startswith("_") and (f.name, argument.arg) != ("train", "mode"):
                    found.append(f"{qualified(f, path)}({argument.arg}={default.value})")
    assert found == []


# ---- documentation


def top_level(tree):
    """Module-level functions and classes, and the methods of public classes."""
    for node in tree.body:
        if isinstance(node, (*DEFINITIONS, ast.ClassDef)):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (child for child in node.body if isinstance(child, DEFINITIONS))


@every_file
def test_every_file_begins_with_a_docstring(path):
    text = ast.get_docstring(TREES[path]) or ""
    assert text.strip(), "no docstring"
    assert text.count("\n") <= 20, "a lecture of two to eight lines, or a table"


@every_file
def test_public_functions_and_classes_have_a_docstring(path):
    """Exempt: properties whose name says it all, `...` in a Protocol, and methods documented in the base class."""
    missing = []
    for node in top_level(TREES[path]):
        private = node.name.startswith("_") and node.name != "__call__"
        if private or ast.get_docstring(node) or is_property(node) or is_declaration(node):
            continue
        if not inherits_docstring(node, path):
            missing.append(qualified(node, path))
    assert missing == []


def is_property(node):
    return any(dotted(decorator) in ("property", "functools.cached_property") for decorator in node.decorator_list)


def is_declaration(node):
    return len(node.body) == 1 and isinstance(node.body[0], ast.Expr) and getattr(node.body[0].value, "value", 0) is ...


def inherits_docstring(node, path):
    module = importlib.import_module(module_name(path))
    for owner in TREES[path].body:
        if isinstance(owner, ast.ClassDef) and node in owner.body:
            return bool(inspect.getdoc(getattr(getattr(module, owner.name), node.name)))
    return False


@every_file
def test_public_signatures_are_annotated(path):
    """The operands of ops and the arguments of kernels are arrays by definition; everything else says what it takes."""
    missing = []
    for node in top_level(TREES[path]):
        if not isinstance(node, DEFINITIONS) or node.name.startswith("_") or package_of(path) == "kernels":
            continue
        operators = is_op(node)
        arguments = [] if operators else [*node.args.posonlyargs, *node.args.args]
        arguments += [argument for argument in node.args.kwonlyargs if argument.arg != "needs"]
        if any(argument.annotation is None for argument in arguments if argument.arg not in ("self", "cls")):
            missing.append(qualified(node, path))
        elif node.returns is None and not operators:
            missing.append(qualified(node, path))
    assert missing == []


# ---- exports


def all_names(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return node.value
    return None


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=label)
def test_every_package_says_what_it_exports(path):
    if len(path.relative_to(ROOT).parts) > 2 and len(TREES[path].body) == 1:
        return  # a room within a package is a folder with a word on it: the package exports for it
    assert all_names(TREES[path]) is not None
    module = importlib.import_module(module_name(path))
    assert len(set(module.__all__)) == len(module.__all__)
    if package_of(path) != "kernels":  # loaded name by name, see test_every_kernel_in_the_table_exists
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
        names = [name for name in module.__all__ if not name.startswith("__")]
        assert names in (sorted(names), sorted(names, key=str.casefold), sorted(names, key=constants_first))
    public = {alias.asname or alias.name for node in TREES[path].body if isinstance(node, ast.ImportFrom) for alias in node.names
              if (node.module or "").startswith("tinyllm") and not (alias.asname or alias.name).startswith("_")}  # fmt: skip
    assert public - set(module.__all__) == set(), "imported here, not exported"


def constants_first(name):
    """ruff's order: CONSTANTS, Classes, functions."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_every_kernel_in_the_table_exists():
    from tinyllm import kernels
    from tinyllm.kernels import reference

    for name, file in kernels.TABLE.items():
        assert callable(getattr(reference, name)), name
        tree = TREES[ROOT / "kernels" / f"{file.replace('.', '/')}.py"]
        defined = {node.name for node in tree.body if isinstance(node, (*DEFINITIONS, ast.ClassDef))}
        assert name in defined, f"{file}.py has no {name}"


@pytest.mark.parametrize("name", sorted(info.name for info in pkgutil.walk_packages([str(ROOT)], "tinyllm.")))
def test_every_module_can_be_imported(name):
    if name.endswith("__main__"):
        return
    importlib.import_module(name)


# ---- names, and what is never done


@every_file
def test_files_are_named_by_what_a_student_would_type(path):
    assert path.stem not in ("utils", "util", "common", "helpers", "helper", "misc", "tools", "base", "core")


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch", "jax"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}


def dotted(node):
    """ "np.random.seed" of the expression np.random.seed; "" if it is not a plain chain of names."""
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return left and f"{left}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree):
    return [(dotted(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@every_file
def test_nothing_is_unpickled_or_evaluated(path):
    names = {name.split(".")[0] for name in imported(TREES[path], path)}
    assert names & FORBIDDEN_IMPORTS == set()
    allowed = {"input"} if package_of(path) == "cli" else set()
    assert [f"{node.lineno} {name}" for name, node in calls(TREES[path]) if name in FORBIDDEN_CALLS - allowed] == []
    for _, node in calls(TREES[path]):
        assert not any(k.arg == "allow_pickle" and getattr(k.value, "value", True) for k in node.keywords), node.lineno


@every_file
def test_library_code_never_prints(path):
    if package_of(path) == "cli":
        return
    quiet = ("print", "sys.stdout.write", "sys.stderr.write")
    assert [f"{node.lineno} {name}" for name, node in calls(TREES[path]) if name in quiet] == []


MADE_HERE = ("Generator", "default_rng", "SeedSequence", "PCG64", "BitGenerator", "Philox")


@every_file
def test_randomness_comes_from_an_explicit_generator(path):
    found = []
    for node in ast.walk(TREES[path]):
        name = dotted(node) if isinstance(node, ast.Attribute) else ""
        if name.startswith(("np.random.", "numpy.random.")) and name.split(".")[2] not in MADE_HERE:
            found.append(f"{node.lineno} {name}")
    assert found == []
    assert "random" not in {name.split(".")[0] for name in imported(TREES[path], path)}, "Python's global generator"


@every_file
def test_no_unseeded_generator_is_made(path):
    bare = [node.lineno for name, node in calls(TREES[path]) if name.endswith("default_rng") and not (node.args or node.keywords)]
    assert bare == []


@every_file
def test_fastmath_never_covers_nan_and_infinity(path):
    if package_of(path) != "kernels":
        assert "numba" not in {name.split(".")[0] for name in imported(TREES[path], path)} or package_of(path) == "cli"
        return
    for name, node in calls(TREES[path]):
        for keyword in node.keywords:
            assert keyword.arg != "fastmath", f"{node.lineno} {name}: kernels/jit.py alone knows Numba's options"
    if path.stem == "jit":
        from tinyllm.kernels.jit import FASTMATH, OPTIONS

        assert FASTMATH <= {"contract", "reassoc", "nsz", "arcp", "afn"} and OPTIONS["fastmath"] == set(FASTMATH)


@every_file
def test_nothing_is_promised_that_is_not_there(path):
    text = path.read_text("utf-8")
    assert [word for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if word in text] == []


# ---- this file can fail


def test_the_import_parser_sees_every_form():
    source = ["import tinyllm.nn.linear", "from tinyllm import ops", "from ..models import gpt", "from . import parts",
              "def f():\n    from tinyllm.cli import main"]  # fmt: skip
    names = set(imported(ast.parse("\n".join(source)), ROOT / "nn" / "linear.py"))
    assert names == {"tinyllm.nn.linear", "tinyllm.ops", "tinyllm.models.gpt", "tinyllm.nn.parts", "tinyllm.cli.main"}
    assert set(imported(ast.parse("from . import parts"), ROOT / "nn" / "__init__.py")) == {"tinyllm.nn.parts"}


def test_the_floor_map_is_the_one_readers_are_shown():
    """Every floor printed in the docstring of tinyllm is one of FLOORS, and nothing that exists is missing there."""
    shown = {}
    for line in (tinyllm.__doc__ or "").splitlines():
        words = line.split()
        if words and words[0].isdigit():
            shown |= {word: int(words[0]) for word in words[1:] if word in FLOOR_OF}
    assert all(FLOOR_OF[package] == floor for package, floor in shown.items())
    existing = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert existing - shown.keys() == set()


# ---- settings


def splatted_once(function):
    """Names in a function that hold a dict written out there, and go into calls as ** once and nowhere else."""
    written = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                for name, value in zip(target.elts, node.value.elts, strict=False) if both else [(target, node.value)]:
                    if (
                        isinstance(name, ast.Name)
                        and isinstance(value, ast.Dict)
                        and all(isinstance(k, ast.Constant) for k in value.keys)
                    ):
                        written[name.id] = node.lineno
    reads = [node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    splats = [keyword.value.id for node in ast.walk(function) if isinstance(node, ast.Call) for keyword in node.keywords
              if keyword.arg is None and isinstance(keyword.value, ast.Name)]  # fmt: skip
    return [(line, name) for name, line in written.items()
            if splats.count(name) == 1 and sum(read.id == name for read in reads) == 1]  # fmt: skip


@every_file
def test_settings_are_written_where_they_are_given(path):
    """A dict made to be splatted into one call hides that call's parameters: write them there, or make a settings object."""
    found = {f"{function.name}:{line} {name}" for function in functions(TREES[path]) for line, name in splatted_once(function)}
    assert found == set()


def test_the_command_line_parses_calls_and_shows():
    lines = [len(path.read_text("utf-8").splitlines()) for path in FILES if package_of(path) == "cli"]
    assert len(lines) > 20 and sum(lines) <= 2610, "what is more than parsing, calling and showing is a recipe's"


# ---- circles


def needed_modules(path):
    """Modules of tinyllm that a file's imports run, wherever they stand in it: those named, and the packages around them."""
    known, own = {module_name(other) for other in FILES}, module_name(path)
    for name in imported(TREES[path], path):
        module = name if name in known else name.rpartition(".")[0]
        while module.startswith("tinyllm."):
            if module in known and not (own + ".").startswith(module + "."):
                yield module
            module = module.rpartition(".")[0]


def test_no_modules_need_each_other_in_a_circle():
    """In packages as between them, also for imports within functions: whoever reads one file can read what it needs first."""
    needs = {module_name(path): set(needed_modules(path)) for path in FILES}
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    circle = {name: sorted(others & needs.keys()) for name, others in needs.items()}
    assert circle == {}


# ---- one guess


GUESSES = [row.split("|")[1:4] for row in (ROOT.parent / "CONTRIBUTING.md").read_text("utf-8").splitlines()
           if row.startswith("| ") and "`" in row]  # fmt: skip


@pytest.mark.parametrize("row", GUESSES, ids=lambda row: row[0].strip())
def test_what_a_reader_looks_for_is_in_the_file_named_for_it_and_on_its_first_screen(row):
    """CONTRIBUTING.md's table: each file defines a name beside it, and one of them before line 60."""
    files, names = (re.findall(r"`([\w/.]+)`", cell) for cell in row[1:])
    for file in files:
        lines = (ROOT / file).read_text("utf-8").splitlines()
        places = [number for number, line in enumerate(lines, start=1) if re.match(rf"(def|class) ({'|'.join(names)})\b", line)]
        assert places and places[0] <= 60, (file, places)


def test_the_table_has_what_everybody_looks_for():
    shown = " ".join(row[0] for row in GUESSES)
    for subject in ("attention", "causal mask", "PPO loss", "GAE", "BPE merge loop", "top-p", "Adam", "LoRA", "KL estimator",
                    "loss mask", "KV cache", "reward model's loss", "backward walk"):  # fmt: skip
        assert subject in shown, subject


# ---- types


def untyped(tree):
    """Parameters and fields that are a model, a tokenizer or a chat, and say Any."""
    named = [(arg.arg, arg.annotation, arg.lineno) for function in functions(tree)
             for arg in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]  # fmt: skip
    named += [(node.target.id, node.annotation, node.lineno) for node in ast.walk(tree)
              if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]  # fmt: skip
    subjects = re.compile(r"(.*_)?(model|policy|reference|trunk|critic|tokenizer|chat)")
    return [f"{line} {name}" for name, annotation, line in named
            if subjects.fullmatch(name) and annotation is not None and "Any" in ast.unparse(annotation).split(" | ")]  # fmt: skip


@every_file
def test_models_tokenizers_and_chats_have_types_above_the_layers(path):
    """What a model is stands in models/contract.py; who takes Any has to guess, and so has the reader."""
    if package_of(path) in FLOOR_OF and FLOOR_OF[package_of(path)] > FLOOR_OF["nn"]:
        assert untyped(TREES[path]) == []

"""Processes in the environment of their backend: what is set, what is kept, and how a child's end is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from strategies import refused

from nin_multi import heartbeat, launcher, registry
from nin_multi.errors import BackendNotFound, BackendUnavailable, SpecError, raise_again
from nin_multi.heartbeat import Sign
from nin_multi.launcher import ADDED, MARK, Child, ChildResult, ask_each, environment_for

OURS = ("torch", "mindspore", "mxnet", "numpy")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a user's shell does: no mark, none of the variables that a backend asks for."""
    monkeypatch.delenv(MARK, raising=False)
    monkeypatch.delenv(ADDED, raising=False)
    for name in OURS:
        for variable in registry.load(name).environment():
            monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", OURS)
def test_what_the_backend_asks_for_is_added(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIN_TEST_OWN", "kept")
    environment = environment_for(name)
    asked = registry.load(name).environment()
    assert {key: environment[key] for key in asked} == dict(asked)
    assert environment[MARK] == name
    assert environment[ADDED].split(",") == list(asked) or not asked
    assert {key: value for key, value in environment.items() if key not in (*asked, MARK, ADDED)} == dict(os.environ)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    environment = environment_for("mindspore")
    assert environment["OMP_NUM_THREADS"] == "17"
    assert environment["ONEDNN_MAX_CPU_ISA"] == "SSE41"
    assert environment["MALLOC_ARENA_MAX"] == "1"


def test_our_own_process_is_not_changed() -> None:
    before = dict(os.environ)
    environment_for("mindspore")
    assert dict(os.environ) == before


def test_another_backends_variables_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    # MindSpore asks for the instruction set (for its own convolutions) and the log level, PyTorch for neither.
    for key, value in environment_for("mindspore", "fp32", {"convolution": "conv2d"}).items():
        monkeypatch.setenv(key, value)
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    environment = environment_for("torch")
    assert environment[MARK] == "torch"
    assert {"ONEDNN_MAX_CPU_ISA", "GLOG_v", "MALLOC_ARENA_MAX"} & set(environment) == set()
    assert environment["OMP_NUM_THREADS"] == registry.load("torch").environment()["OMP_NUM_THREADS"]


@pytest.mark.parametrize("name", ["torch", "mindspore", "mxnet"])
def test_what_the_user_has_set_stays_through_two_processes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    for key, value in environment_for("mindspore").items():
        monkeypatch.setenv(key, value)
    assert environment_for(name)["OMP_NUM_THREADS"] == "17"


def test_precision_and_tuning_decide_on_variables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = environment_for("mindspore")
    assert {"ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"} & set(plain) == set()
    assert environment_for("mindspore", "bf16")["ONEDNN_DEFAULT_FPMATH_MODE"] == "BF16"
    for key, value in environment_for("mindspore", "bf16", {"convolution": "conv2d"}).items():
        monkeypatch.setenv(key, value)
    assert environment_for("mindspore") == plain


def test_an_unknown_backend() -> None:
    with refused(BackendNotFound, "'torhc'", "'torch'"):
        environment_for("torhc")


# --- real processes --------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_the_launcher_runs_python_with_its_arguments() -> None:
    program = f"import os, sys; print(os.environ['{MARK}'], os.environ['GLOG_v'], sys.argv[1:])"
    ended = run("-m", "nin_multi.launcher", "mindspore", "-c", program, "a b", "--json", "")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "mindspore 3 ['a b', '--json', '']\n"


def test_the_launcher_hands_on_the_exit_status() -> None:
    assert run("-m", "nin_multi.launcher", "numpy", "-c", "raise SystemExit(7)").returncode == 7


@pytest.mark.parametrize(("arguments", "word"), [([], "usage"), (["numpy"], "usage"), (["nmpy", "-V"], "'numpy'")])
def test_the_launcher_refuses_in_a_line_or_two(arguments: list[str], word: str) -> None:
    ended = run("-m", "nin_multi.launcher", *arguments)
    assert ended.returncode == 2, ended.stderr
    assert word in ended.stderr
    assert 1 <= len(ended.stderr.splitlines()) <= 2, ended.stderr


def test_a_process_begins_anew_once_and_keeps_its_options(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    program = (
        "import os, sys\n"
        f"open({str(log)!r}, 'a').write('start\\n')\n"
        "from nin_multi.launcher import ensure_environment\n"
        "ensure_environment('mindspore')\n"
        f"print(os.environ['{MARK}'], os.environ['GLOG_v'], sys.flags.utf8_mode, sys.argv[1:])\n"
    )
    ended = run("-X", "utf8", "-c", program, "one two", "--flag")
    assert ended.stdout == "mindspore 3 1 ['one two', '--flag']\n", ended.stderr
    assert log.read_text() == "start\n" * 2


# --- children --------------------------------------------------------------------------------------------------------


def test_a_childs_answer() -> None:
    result = Child("numpy", ["summary", "--arch", "nin"]).result()
    assert (result.backend, result.exit_status, result.failure()) == ("numpy", 0, "")
    assert result.answer is not None
    assert result.answer["parameters"] == 1_992_166


def test_a_childs_error_is_its_own_words() -> None:
    result = Child("numpy", ["summary", "--arch", "nim"]).result()
    assert result.exit_status == 2
    assert "no architecture is called 'nim'" in result.failure()
    with refused(SpecError, "'nim'", "Did you mean 'nin'?"):
        raise_again(result.answer, result.failure())


def test_a_child_without_json() -> None:
    result = Child("numpy", ["shapes", "--help"]).result()
    assert result.answer is None
    assert result.failure() == "numpy: its process ended with status 0 and no answer"
    with refused(BackendUnavailable, "numpy: its process ended with status 0"):
        raise_again(result.answer, result.failure())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 1])
def test_a_child_that_a_signal_ends(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python runs this module before anything else: the child ends as one does that its framework brings down.
    (tmp_path / "sitecustomize.py").write_text(f"import os; os.kill(os.getpid(), {int(number)})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = Child("numpy", ["summary"]).result()
    assert (result.exit_status, result.answer) == (-number, None)
    text = result.failure()
    assert text.startswith("numpy: its process was ended by")
    assert getattr(number, "name", str(int(number))) in text
    assert len(text.splitlines()) == 1


def test_a_child_that_breaks_before_it_can_speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; print('hello', flush=True); os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = Child("numpy", ["summary"]).result()
    assert result.failure() == "numpy: its process ended with status 9 and no answer"


def test_each_is_asked_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    program = (
        f"import os; open({str(log)!r}, 'a').write(os.environ.get('{MARK}', '-') + ' ' + str(os.getpid()) + '\\n')"
    )
    (tmp_path / "sitecustomize.py").write_text(program + "\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    results = list(ask_each(["numpy", "numpy"], ["shapes", "--arch", "nin-mnist"]))
    assert [result.failure() for result in results] == ["", ""]
    assert all(result.answer is not None and result.answer["agree"] for result in results)
    starts = [line.split() for line in log.read_text().splitlines()]
    assert [mark for mark, _ in starts] == ["numpy", "numpy"]  # and none had to begin anew
    assert len({pid for _, pid in starts}) == 2


@pytest.mark.parametrize(
    ("number", "cause"),
    [(signal.SIGKILL, "lack of memory"), (signal.SIGSEGV, "crashed"), (signal.SIGABRT, "crashed"), (signal.SIGHUP, "")],
)
def test_a_signal_in_words(number: signal.Signals, cause: str) -> None:
    """Its name, what it usually means, and where the process said last that it stood."""
    result = ChildResult("torch", -number, None, None, Sign("training", 120, 469, "runs/a"))
    text = result.failure()
    assert text.startswith(f"torch: its process was ended by {number.name}")
    assert text.endswith(", last heard of at step 120 of 469")
    assert cause in text
    assert ("(" in text) == bool(cause)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (ChildResult("numpy", 0, {"status": "done"}), 0),
        (ChildResult("numpy", 2, {"error": {}}), 2),
        (ChildResult("numpy", 143, {"status": "interrupted"}), 143),
        (ChildResult("numpy", 0, None), 3),
        (ChildResult("numpy", 1, None), 3),  # a traceback
        (ChildResult("numpy", 9, None), 3),
        (ChildResult("numpy", -11, {"status": "done"}), 3),
        (ChildResult("numpy", 143, {"status": "interrupted"}, silence=600.0), 3),
    ],
)
def test_what_an_end_adds_to_the_exit_status(result: ChildResult, status: int) -> None:
    assert result.status == status
    assert result.died == (status == 3)


# --- children that are watched ---------------------------------------------------------------------------------------


def prelude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """What children do before anything else; the watch looks and waits in tenths of a second here."""
    (tmp_path / "sitecustomize.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    monkeypatch.setattr(launcher, "POLL", 0.1)
    monkeypatch.setattr(launcher, "GRACE", 1.0)


SILENT = {
    "asleep": ("import time; time.sleep(1000)", {-signal.SIGTERM}),
    "stopped": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", {-signal.SIGKILL}),
    "deaf": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)",
        {-signal.SIGKILL},
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_child_that_gives_no_sign_of_life(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, statuses = SILENT[name]
    begins = "from nin_multi.heartbeat import beat; beat('training', 120, 469, 'runs/a')\n"
    prelude(tmp_path, monkeypatch, begins + program)
    began = time.monotonic()
    child = Child("numpy", ["summary"], patience=2.0)
    result = child.result()
    assert 2.0 < time.monotonic() - began < 30.0
    assert result.exit_status in statuses
    assert result.last == Sign("training", 120, 469, "runs/a")
    assert result.failure().startswith("numpy: it gave no sign of life for 2 s")
    assert result.failure().endswith(", last heard of at step 120 of 469; it was stopped")
    with pytest.raises(ProcessLookupError):
        os.kill(child._process.pid, 0)


def test_a_child_that_gives_signs_of_life_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import time\nfrom nin_multi.heartbeat import beat\n"
    prelude(tmp_path, monkeypatch, program + "for i in range(16): beat('training', i); time.sleep(0.5)\n")
    began = time.monotonic()
    result = Child("numpy", ["summary"], patience=6.0).result()
    assert time.monotonic() - began > 6.0
    assert (result.exit_status, result.failure(), result.silence) == (0, "", None)


@pytest.mark.parametrize("patience", [None, float("inf")])
def test_without_an_end_to_our_patience(
    patience: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prelude(tmp_path, monkeypatch, "import time; time.sleep(2)")
    assert Child("numpy", ["summary"], patience=patience).result().exit_status == 0


def test_a_child_that_is_not_watched_does_not_speak_in_our_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours"
    ours.touch()
    monkeypatch.setenv(heartbeat.VARIABLE, str(ours))
    prelude(tmp_path, monkeypatch, "from nin_multi.heartbeat import beat; beat('training', 1)")
    assert Child("numpy", ["summary"]).result().exit_status == 0
    result = Child("numpy", ["summary"], patience=60.0).result()
    assert result.last == Sign("training", 1)
    assert ours.read_text() == ""


def test_what_a_child_leaves_behind_does_not_hold_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader's process keeps the pipe open that we read the answer from."""
    pid = tmp_path / "pid"
    program = (
        "import os, time\n"
        f"if not os.path.exists({str(pid)!r}) and os.fork() == 0:\n"
        f"    open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(1000)\n"
    )
    prelude(tmp_path, monkeypatch, program)
    result = Child("numpy", ["summary"]).result()
    assert (result.exit_status, result.failure()) == (0, "")
    assert result.answer is not None
    until = time.monotonic() + 10
    while time.monotonic() < until and _runs(int(pid.read_text())):
        time.sleep(0.05)
    assert not _runs(int(pid.read_text()))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # of a zombie nobody may have taken notice yet
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("answer", [{}, {"error": {}}, {"rows": []}])
def test_an_answer_without_an_error_is_no_failure(answer: dict[str, object]) -> None:
    assert ChildResult("numpy", 0, json.loads(json.dumps(answer))).failure() == ""

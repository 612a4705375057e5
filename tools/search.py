"""Searches hyper-parameters with Optuna, one `train` process per trial: `make search MINUTES=60`.

    python tools/search.py --storage study/search.log --minutes 60
    python tools/search.py --storage postgresql://host/name --minutes 60        # on several machines at once

Each trial is told to stop, and counts as pruned, once it is below the median of the trials before it after as many
epochs. What the time cut off is gone on with the next time, where its run is. Trials are judged by the first half of
the test images only; the best one is then measured on the other half, which has chosen nothing. All that is known goes
to docs/studies/search.json.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from study_rows import ends
from study_run import RunFailed, go_on

from nin_multi.errors import NinMultiError, UsageError
from nin_multi.files import write_json
from nin_multi.training.recipe import RECIPES
from nin_multi.training.run_directory import RunDirectory

STORE = Path(__file__).parents[1] / "docs" / "studies" / "search.json"
SEARCHED = ("lr", "momentum", "batch_size", "warm_up", "dropout_rate")
FIRST = {name: RECIPES["dependable"][name] for name in SEARCHED}
JUDGED, ALL = 5_000, 10_000  # test images that judge a trial, and all there are
CUT_OFF, GOES_ON = "cut_off", "goes_on_from"


def main() -> int:
    """Trials as long as there is time, then the file of all trials."""
    options = _options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = open_study(options.storage, options.name)
        deadline, done = time.monotonic() + 60 * options.minutes, 0
        while done < options.trials and (left := deadline - time.monotonic()) > 0:
            _enqueue_what_was_cut_off(study)
            _try(study, options, left)
            done += 1
    except RunFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except NinMultiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    found = export(study, options)
    if found["trials"]:
        write_json(options.store, found)
    print(json.dumps(found["best"]))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="study/search.log", help="a file, or a database's address (%(default)s)")
    parser.add_argument("--name", default="nin-mnist", help="of the study in the storage (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder whose runs/ has the runs (%(default)s)")
    parser.add_argument("--store", type=Path, default=STORE, help="file of results (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    parser.add_argument("--trials", type=int, default=10**9, help="at most so many more")
    parser.add_argument("--backend", default="torch", help="(%(default)s)")
    parser.add_argument("--arch", default="nin-mnist", help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of each trial (%(default)s)")
    parser.add_argument("--precision", default="bf16", help="(%(default)s)")
    parser.add_argument("--dataset", default="fashion-mnist", help="(%(default)s)")
    parser.add_argument("--train-examples", type=int, help="only the first N; all if not given")
    return parser.parse_args()


def open_study(storage: str, name: str) -> optuna.Study:
    """The study of that name, made where there is none. Raises UsageError where its storage cannot be reached."""
    try:
        return _open(_database(storage) if "://" in storage else _file(storage), name)
    except OSError as error:
        raise UsageError(f"--storage {_shown(storage)}: cannot be used ({error.strerror or error})") from None


def _shown(storage: str) -> str:
    """Without the password that a database's address may have."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", storage)


def _open(place: RDBStorage | JournalStorage, name: str) -> optuna.Study:
    # The first trials are not random: the recipe that is known to work is what the others have to beat.
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)
    study = optuna.create_study(
        storage=place, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True
    )
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(FIRST, skip_if_exists=True)
    return study


def _file(path: str) -> JournalStorage:
    """One that many processes append to."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        return JournalStorage(JournalFileBackend(path))  # reads it
    except (ValueError, LookupError, TypeError):
        raise UsageError(f"--storage {path}: expected a new file or one that a search has made") from None


def _database(address: str) -> RDBStorage:
    """One that many machines share."""
    try:
        try:
            return RDBStorage(address)
        except (IntegrityError, ProgrammingError):  # who begins at the same instant has just made the same tables
            time.sleep(2.0)
            return RDBStorage(address)
    except ImportError as error:
        module = getattr(error.__context__, "name", None) or "for that database"
        raise UsageError(
            f"--storage {_shown(address)}: Python's module {module} is not installed; "
            "for PostgreSQL: pip install 'psycopg[binary]'"
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise UsageError(f"--storage {_shown(address)}: the database cannot be used: {said}") from None


def suggest(trial: Trial) -> dict[str, Any]:
    """The space that is searched."""
    return {
        "lr": trial.suggest_float("lr", 0.01, 0.5, log=True),
        "momentum": trial.suggest_float("momentum", 0.0, 0.98),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
        "warm_up": trial.suggest_int("warm_up", 0, 900, step=100),
        "dropout_rate": trial.suggest_float("dropout_rate", 0.0, 0.5),
    }


def _enqueue_what_was_cut_off(study: optuna.Study) -> None:
    """A trial whose time ran out is tried once more, from its checkpoint, by whoever has its run."""
    trials = study.get_trials(deepcopy=False)
    taken = {trial.user_attrs.get(GOES_ON) for trial in trials}
    for trial in trials:
        run = trial.user_attrs.get(CUT_OFF)
        is_here = run and (Path(run, "run.json").exists() or "run_dir" not in trial.user_attrs)  # or it never began
        if is_here and trial.number not in taken:
            study.enqueue_trial(trial.params, user_attrs={GOES_ON: trial.number, "run": run})


def _try(study: optuna.Study, options: argparse.Namespace, seconds: float) -> None:
    """One trial to its end, to where it is pruned, or to the end of the time."""
    trial = study.ask()
    values = suggest(trial)
    run = Path(trial.user_attrs.get("run", options.out / "runs" / f"search-{options.name}-t{trial.number}"))
    watch = _Watch(trial, run)
    try:
        result = go_on(run, _arguments(options, values), seconds, watch.should_stop)
    except RunFailed:
        study.tell(trial, state=TrialState.FAIL)
        raise
    watch.should_stop()  # the last epoch may have ended since
    _describe(trial, run)
    accuracy = result.get("test_acc") or 0.0
    if result["status"] == "interrupted" and not watch.pruned:
        trial.set_user_attr(CUT_OFF, str(run))
        study.tell(trial, state=TrialState.FAIL)
    elif result["status"] == "interrupted":
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, accuracy)
    print(f"trial {trial.number}: {result['status']}, test acc {accuracy:.4f}, {values}", flush=True)


def _arguments(options: argparse.Namespace, values: dict[str, Any]) -> list[str]:
    fixed = {"backend": options.backend, "arch": options.arch, "recipe": "dependable", "tune": "off"}
    fixed |= {"dataset": options.dataset, "epochs": options.epochs, "precision": options.precision}
    fixed |= {"test-examples": JUDGED, **({"train-examples": options.train_examples} if options.train_examples else {})}
    named = {**fixed, **{name.replace("_", "-"): value for name, value in values.items()}}
    return [word for name, value in named.items() for word in (f"--{name}", str(value))]


class _Watch:
    """Tells Optuna of each epoch as the run's events grow, and whether it is worth going on."""

    def __init__(self, trial: Trial, run: Path) -> None:
        self.trial, self.run = trial, run
        self.told: set[int] = set()
        self.pruned = False

    def should_stop(self) -> bool:
        for end in ends(self.run):
            if end["epoch"] not in self.told and end["test_acc"] is not None:
                self.told.add(end["epoch"])
                self.trial.report(end["test_acc"], end["epoch"])
                self.pruned = self.pruned or self.trial.should_prune()
        return self.pruned


def _describe(trial: Trial, run: Path) -> None:
    """What the file of results says of a trial, kept in the storage: its run may be on another machine."""
    if not (run / "run.json").exists():
        return
    facts = RunDirectory.open(run).facts()
    trial.set_user_attr("run_dir", str(run))
    for name in ("versions", "machine", "backend", "precision", "recipe"):
        trial.set_user_attr(name, facts[name])
    trial.set_user_attr("train_examples", facts["dataset"]["train_examples"])
    trial.set_user_attr("seconds", [round(end["seconds"], 1) for end in ends(run)])


# --- the file of results ---------------------------------------------------------------------------------------------


def export(study: optuna.Study, options: argparse.Namespace) -> dict[str, Any]:
    """All trials, which hyper-parameters mattered, and the best trial on images that have not chosen it."""
    trials = [trial for trial in study.get_trials() if trial.state.is_finished()]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return {
        "study": "search",
        "name": study.study_name,
        "arch": options.arch,
        "epochs": options.epochs,
        "judged_by": JUDGED,
        "first": FIRST,
        "trials": [_row(trial, options.epochs) for trial in trials],
        "importances": importances(study) if len(complete) > 3 else {},
        "recipe": next((_measured(trial, options) for trial in complete if trial.params == FIRST), None),
        "best": _measured(study.best_trial, options) if complete else None,
    }


def _row(trial: FrozenTrial, epochs: int) -> dict[str, Any]:
    attrs = trial.user_attrs
    # Who ends by itself before the last epoch has diverged; Optuna's sampler has to learn from such a one, too.
    is_diverged = trial.state is TrialState.COMPLETE and len(trial.intermediate_values) < epochs
    state = "CUT OFF" if CUT_OFF in attrs else "DIVERGED" if is_diverged else trial.state.name
    names = ("versions", "machine", "backend", "precision", "train_examples", "seconds", "recipe", GOES_ON)
    facts = {name: attrs.get(name) for name in names}
    accuracies = [value for _, value in sorted(trial.intermediate_values.items())]
    row = {"number": trial.number, "state": state, "params": trial.params, "test_accs": accuracies}
    return {**row, "run": Path(attrs.get("run_dir", "")).name, **facts}


def importances(study: optuna.Study) -> dict[str, float]:
    """By how much each hyper-parameter tells the better half from the others; they sum to 1."""
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _measured(trial: FrozenTrial, options: argparse.Namespace) -> dict[str, Any]:
    """Its accuracy on the test images that judged the trials, and on the others: None where its run is elsewhere."""
    run = trial.user_attrs.get("run_dir", "")
    found: dict[str, Any] = {"number": trial.number, "params": trial.params, "run": Path(run).name}
    found |= {"judged_acc": trial.value, "held_out_acc": None}
    if Path(run, "weights.safetensors").exists() and options.dataset == "fashion-mnist":
        correct = [round(size * _accuracy(run, size)) for size in (JUDGED, ALL)]
        found["held_out_acc"] = (correct[1] - correct[0]) / (ALL - JUDGED)
    return found


def _accuracy(run: str, images: int) -> float:
    command = [sys.executable, "-m", "nin_multi", "evaluate", run, "--test-examples", str(images), "--json"]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["acc"])


if __name__ == "__main__":
    sys.exit(main())

"""Runs what a study asks for, one process each, and keeps the results: `make study STUDY=recipes MINUTES=60`.

    python tools/study.py recipes --minutes 60 --backends torch --seeds 0-4

A study is docs/studies/NAME.yaml (tools/study_file.py says what stands in it), its results are docs/studies/NAME.json.
Goes on where it stopped: a run with a row there is not run again, on whatever machine it ran; one that was cut off is
resumed from its directory. What ran elsewhere is added by --take FOLDER, once it is what a case asks for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from study_file import Study, StudyRun, read_study
from study_rows import Row, Rows, events, has_enough, is_over, row_of
from study_run import RunFailed, go_on

from nin_multi.cli.train_words import parse_seeds
from nin_multi.errors import NinMultiError, UsageError
from nin_multi.sweep.wanted import differences

STUDIES = Path(__file__).parents[1] / "docs" / "studies"


def main() -> int:
    """Runs as long as there is time, then a table of everything that is known."""
    mine, more = _split(sys.argv[1:])
    options = _options(mine)
    try:
        path = Path(options.study) if options.study.endswith(".yaml") else STUDIES / f"{options.study}.yaml"
        study = read_study(path, _extra(more))
        rows = Rows(options.json or path.with_suffix(".json"), study.name)
        asked = _chosen(study, options)
        if options.take is not None:
            _take(options.take, asked, rows)
        failed = _run_all(asked, rows, options)
    except NinMultiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(_table(study, asked, rows.read()))
    return 1 if failed else 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before "--", and what after it."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="its name, or its file")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder whose runs/ has the runs (%(default)s)")
    parser.add_argument("--json", type=Path, help="file of results; beside the study's file if not given")
    parser.add_argument("--only", help="cases, with commas")
    parser.add_argument("--backends", help="with commas; those of the study if not given")
    parser.add_argument("--seeds", type=parse_seeds, help="one or FIRST-LAST; those of the study if not given")
    parser.add_argument("--enough", type=float, help="test accuracy to stop a run at, after an epoch")
    parser.add_argument("--minutes", type=float, default=60.0, help="0 runs nothing (%(default)s)")
    parser.add_argument("--take", type=Path, metavar="FOLDER", help="add finished runs of the directories in it")
    parser.epilog = "After --, more options of `train` for every run, each with its value."
    return parser.parse_args(words)


def _extra(words: list[str]) -> dict[str, object]:
    """Options added for now, as a study's file has them: --epochs 1 becomes {"epochs": "1"}."""
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise UsageError("after --, expected options of `train`, each with its value")
    return {name[2:]: value for name, value in zip(words[::2], words[1::2], strict=True)}


def _chosen(study: Study, options: argparse.Namespace) -> list[StudyRun]:
    cases = options.only.split(",") if options.only else list(study.entry.cases)
    backends = options.backends.split(",") if options.backends else None
    if unknown := sorted(set(cases) - set(study.entry.cases)):
        there = ", ".join(study.entry.cases)
        raise UsageError(f"--only: expected cases of {study.path} ({there}), got {unknown[0]!r}")
    more = {} if options.enough is None else {"test_acc": options.enough}
    return [
        replace(one, enough=one.enough.model_copy(update=more))
        for one in study.wanted()
        if one.case in cases
        and (backends is None or one.backend in backends)
        and (options.seeds is None or one.seed in options.seeds)
    ]


def _run_all(asked: list[StudyRun], rows: Rows, options: argparse.Namespace) -> int:
    """As long as there is time; how many failed."""
    ends, failed = time.monotonic() + 60 * options.minutes, 0
    for wanted in asked:
        left = ends - time.monotonic()
        if left <= 0:
            break
        if rows.find(wanted) is not None:
            continue
        if row := rows.borrow(wanted):
            print(f"{row['run']}: the same run, from another study", flush=True)
            continue
        try:
            _run(wanted, options.out / "runs" / wanted.run_name, rows, left)
        except RunFailed as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed += 1
    return failed


def _run(wanted: StudyRun, run: Path, rows: Rows, seconds: float) -> None:
    if (run / "run.json").exists() and (other := differences(wanted, run)):
        raise RunFailed(f"{run} holds another run ({'; '.join(other)}): remove it, or choose another --out")
    if not is_over(run, wanted.enough):
        began, told = time.monotonic(), len(events(run))

        def may_stop() -> bool:
            # Not before it trains: one that had enough and was killed has no result yet, and would never get one.
            return len(events(run)) > told and has_enough(run, wanted.enough)

        ended = go_on(run, wanted.arguments(), seconds, may_stop)
        took = time.monotonic() - began
        print(f"{run.name}: {ended['status']}, test acc {ended['test_acc']}, {took:.0f} s", flush=True)
    if is_over(run, wanted.enough):
        rows.add(wanted, row_of(wanted, run))


def _take(folder: Path, asked: list[StudyRun], rows: Rows) -> None:
    """A line for each directory: added to which case, or why not."""
    for run in sorted(path.parent for path in folder.glob("*/run.json")):
        matching = [wanted for wanted in asked if not differences(wanted, run)]
        for wanted in matching:
            if not is_over(run, wanted.enough):
                print(f"{run.name}: not over yet")
            elif rows.add(wanted, row_of(wanted, run)):
                print(f"{run.name}: added to {wanted.case}")
            else:
                known = rows.find(wanted)
                print(f"{run.name}: {wanted.case} has its row already, of {known and known['run']}")
        if not matching:
            near = min((differences(wanted, run) for wanted in asked), key=len, default=[])
            print(f"{run.name}: no case asks for it; the nearest differs by: {'; '.join(near)}")


def _table(study: Study, asked: list[StudyRun], rows: list[Row]) -> str:
    """A line per case and backend: how many of the runs asked for are there, and their test accuracies."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    wanted = {(one.key, one.net, str(one.recipe)) for one in asked}
    for row in rows:
        if ((row["case"], row["backend"], row["seed"]), row["net"], str(row["recipe"])) in wanted:
            found[row["case"], row["backend"]].append(row)
    lines = [f"{study.name}: {study.entry.question.strip()}"]
    for case, backend in dict.fromkeys((one.case, one.backend) for one in asked):
        part = found[case, backend]
        total = sum((one.case, one.backend) == (case, backend) for one in asked)
        accuracies = [row["test_acc"] for row in part if row["test_acc"] is not None]
        words = f"{case:24} {backend:10} {len(part)} of {total} runs"
        if accuracies:
            low, middle, high = min(accuracies), statistics.median(accuracies), max(accuracies)
            words += f", test acc {low:.3f} {middle:.3f} {high:.3f} (lowest, median, highest)"
        lines.append(words)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

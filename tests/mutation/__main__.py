"""python tests/mutation [--jobs N] [--every K] [--list] [FILE...]: do the tests notice every small change?

Each change of a file of kernels/, aosa_fast/metrics/ or csrc/ is made in a copy of the package, in which the file's
tests of subjects.toml must fail. survivors.toml says why some need not. Exits with 1 where less than 95 % are killed or
explained, or where survivors.toml says what is not so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants import Mutant, find_mutants

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDERS = ("kernels/*.py", "aosa_fast/metrics/*.py", "csrc/*.cpp", "csrc/*.h")
LEAST = 0.95


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="tests/mutation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at once")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="about one mutant in K, always the same ones")
    parser.add_argument("--list", action="store_true", help="say what would be done, and what is wrong with the lists")
    parser.add_argument("files", nargs="*", metavar="FILE", help="default: all of subjects.toml")
    options = parser.parse_args()
    subjects = tomllib.loads((HERE / "subjects.toml").read_text(encoding="utf-8"))
    survivors = tomllib.loads((HERE / "survivors.toml").read_text(encoding="utf-8"))
    tuning = subjects.pop("tuning")
    unknown = sorted(set(options.files) - set(subjects))
    if unknown:
        parser.error(f"FILE must be one of subjects.toml; got {', '.join(unknown)}")
    mutants = {
        path: find_mutants(
            path,
            (ROOT / path).read_text(encoding="utf-8"),
            subject.get("tuning", []) + tuning.get(Path(path).suffix, []),
        )
        for path, subject in subjects.items()
    }
    reasons = {
        (path, entry["line"], entry["becomes"]): entry["why"] for path, own in survivors.items() for entry in own
    }
    wrong = _wrong(subjects, mutants, reasons)
    chosen = {path: [m for m in mutants[path] if _draw(m) % options.every == 0] for path in options.files or subjects}
    if options.list:
        _say("\n".join(str(mutant) for own in chosen.values() for mutant in own))
    else:
        wrong += _try(subjects, mutants, chosen, reasons, options.jobs)
    _say("".join(f"error: {line}\n" for line in wrong))
    return 1 if wrong else 0


def _draw(mutant: Mutant) -> int:
    """A number of the change alone, so that a sample stays the same when other lines change."""
    return zlib.crc32(f"{mutant.line}\n{mutant.becomes}".encode())


def _wrong(subjects: dict, mutants: dict, reasons: dict) -> list[str]:
    """What the lists and the files do not agree on."""
    there = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in ROOT.glob(folder)}
    known = {(m.path, m.line, m.becomes) for own in mutants.values() for m in own}
    return [
        *(f"subjects.toml must name {path}" for path in sorted(there - set(subjects))),
        *(
            f"subjects.toml must give tests of {path}"
            for path, own in mutants.items()
            if own and not subjects[path]["tests"]
        ),
        *(
            f"survivors.toml explains what is no mutant of {path}: {line} -> {becomes}"
            for path, line, becomes in sorted(set(reasons) - known)
        ),
    ]


def _try(subjects: dict, mutants: dict, chosen: dict, reasons: dict, jobs: int) -> list[str]:
    """Prints a row for each file and each survivor; gives what was not as it should be."""
    from extension import compile_clean
    from trials import Workshop

    wrong, total = [], Counter()
    _say("file                                  all  tried  killed  explained  survived   score")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        workshop = Workshop(jobs, Path(folder))
        if any(path.startswith("csrc/") for path in chosen):
            compile_clean()
        for path, own in chosen.items():
            if not own:
                continue
            tests, text = subjects[path]["tests"], (ROOT / path).read_text(encoding="utf-8")
            seconds = workshop.clean(tests)
            results = list(pool.map(lambda m: workshop.trial(path, m.apply(text), tests, seconds), own))  # noqa: B023
            count = Counter()
            left = []
            for mutant, result in zip(own, results, strict=True):
                explained = (path, mutant.line, mutant.becomes) in reasons
                if result == "survived" and explained:
                    result = "explained"
                count[result] += 1
                if result == "survived":
                    left.append(str(mutant))
                elif result == "killed" and explained:
                    wrong.append(f"survivors.toml explains what is killed: {mutant}")
            total += count
            _say(_row(path, len(mutants[path]), count))
            _say("\n".join(left))
    _say(_row("all", sum(map(len, mutants.values())), total))
    if _score(total) < LEAST:
        wrong.append(f"killed and explained must be at least {LEAST:.0%} of the mutants; got {_score(total):.1%}")
    return wrong


def _row(name: str, found: int, count: Counter) -> str:
    tried = count["killed"] + count["explained"] + count["survived"]
    raw = f"killed alone {count['killed'] / max(tried, 1):.1%}, no change {count['same'] + count['invalid']}"
    return (
        f"{name:36} {found:5} {tried:6} {count['killed']:7} {count['explained']:10} {count['survived']:9}"
        f"  {_score(count):6.1%}  ({raw})"
    )


def _score(count: Counter) -> float:
    tried = count["killed"] + count["explained"] + count["survived"]
    return (count["killed"] + count["explained"]) / tried if tried else 1.0


def _say(text: str) -> None:
    if text:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m benchmarks.resume --data FOLDER`: a run survives `kill -9` of its server and ends with the same table.

Two runs of the same pictures wait in one data folder. The real server, a process of its own, works on them; at random
moments of the first run it is killed and started again, as often as asked. The second run is left in peace. Every
picture must then have exactly one result, and both tables must be the same to the last byte of `predictions.csv`, the
column `elapsed_ms` aside, and so must the figures of an evaluation. What happened is printed as JSON; exit code 1 if
the runs did not end alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks._page import machine, table, write_section
from benchmarks._pick import spread
from dashboard import tasks
from dashboard.settings import ROOT, Settings
from dashboard.store import BULK, DONE, EVALUATION, FAILED, QUEUED, Run, RunStore
from model.dataset import LabelError, LabelledSet, from_source_set
from model.detector import Detector
from model.sources import SourceError, SourceSet

PAGE = ROOT / "docs" / "resume.md"
KILLED, UNDISTURBED = "killed", "undisturbed"
POLL_SECONDS = 0.1
SILENT_SECONDS = 900.0  # without a new picture, after which a server is given up


class StuckError(RuntimeError):
    """A server that ended by itself or does nothing any more; the message ends with its log."""


def main() -> int:
    arguments = _arguments()
    try:
        picked = spread(arguments.data, arguments.images)
        inputs = from_source_set(picked) if arguments.evaluate else picked
    except (SourceError, LabelError) as error:
        print(f"resume: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="reality-check-") as folder:
        try:
            facts = measure(inputs, arguments, Path(folder))
        except StuckError as error:
            print(f"resume: {error}", file=sys.stderr)
            return 2
    print(json.dumps(facts, indent=2))
    if arguments.write:
        name = f"{facts['kind']}, {len(facts['kills'])} kills"
        write_section(PAGE, name, page_section(facts))
    return 0 if facts["same"] else 1


def command(arguments: argparse.Namespace, checkpoint: str | None, name: str) -> str:
    """What makes a section again, without the places of this machine.

    Parameters
    ----------
    checkpoint : str, optional
        As it was chosen, by option or setting: a name or a path.
    name : str
        What the checkpoint calls itself. A setting is named too: elsewhere it may be another.
    """
    if checkpoint not in (None, name):
        name = "FILE"
    return (
        f"python -m benchmarks.resume {'--evaluate ' * arguments.evaluate}--checkpoint {name} --images "
        f"{arguments.images} --kills {arguments.kills} --seed {arguments.seed} --data FOLDER --write"
    )


def moments(count: int, kills: int, seed: int) -> list[tuple[int, float]]:
    """When to kill: after so many pictures, and so many seconds later; spread over the first nine tenths of a run."""
    draw = random.Random(seed)
    return [(int(0.9 * count * (number + draw.random()) / kills), draw.random()) for number in range(kills)]


def measure(inputs: SourceSet | LabelledSet, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Work both runs off; what happened, with `same` true if they ended alike."""
    settings = Settings(data_dir=folder, folder_roots=(arguments.data.resolve(),))
    if arguments.checkpoint is not None:
        settings = settings.model_copy(update={"default_checkpoint": arguments.checkpoint})
    store = RunStore(folder / "runs")
    first, second = (hand_in(store, name, inputs, settings, arguments.data) for name in (KILLED, UNDISTURBED))
    server = Server(settings, folder / "server.log")
    before: dict[str, float] = {}
    kills = []
    try:
        for goal, delay in moments(len(inputs), arguments.kills, arguments.seed):
            server.start()
            server.wait(partial(_reached, store, first, goal), sign=lambda: len(times(first)))
            time.sleep(delay)
            server.kill()
            before = times(first)
            kills.append(len(before))
            print(f"killed after {len(before):,} of {len(inputs):,} pictures", file=sys.stderr, flush=True)
        server.start()
        server.wait(
            lambda: all(state(store, run) in (DONE, FAILED) for run in (first, second)),
            sign=lambda: (len(times(first)), len(times(second))),
        )
    finally:
        server.kill()
    facts = {"kind": first.kind, "checkpoint": first.checkpoint, "pictures": len(inputs), "seed": arguments.seed}
    facts["command"] = command(arguments, settings.default_checkpoint, first.checkpoint)
    names = [source.name for source in inputs.sources]
    return facts | {"kills": kills} | compared(store, first, second, before, names)


def hand_in(store: RunStore, name: str, inputs: SourceSet | LabelledSet, settings: Settings, data: Path) -> Run:
    """A run that waits for a server."""
    detector = Detector.load(settings.default_checkpoint, precision=settings.precision)
    run = store.create(
        EVALUATION if isinstance(inputs, LabelledSet) else BULK,
        name,
        checkpoint=detector.checkpoint.name,
        checkpoint_sha256=detector.checkpoint.sha256,
        settings=tasks.recipe(detector, settings),
        origin=str(data.resolve()),
    )
    tasks.keep_inputs(run, inputs)
    run = store.update(run.id, total=len(inputs), state=QUEUED) or run
    store.release(run.id)
    return run


def compared(store: RunStore, first: Run, second: Run, before: dict[str, float], names: list[str]) -> dict[str, Any]:
    """How both runs ended, and whether with the same bytes."""
    ended = [store.get(run.id) or run for run in (first, second)]
    facts: dict[str, Any] = {
        run.name: {"state": run.state, "error": run.error, "done": run.done, "seconds": round(run.seconds, 1)}
        | {"counts": run.counts}
        for run in ended
    }
    if any(run.state != DONE for run in ended):
        return facts | {"same": False}
    tables = [pd.read_parquet(run.table) for run in ended]
    after = dict(tables[0].drop_duplicates("path")[["path", "elapsed_ms"]].itertuples(index=False))
    facts["taken_over_at_the_last_start"] = sum(after[name] == value for name, value in before.items())
    checks = {"one_result_each": all(_once_each(table, names) for table in tables)}
    left, right = (tasks.csv_bytes(table.drop(columns="elapsed_ms")) for table in tables)
    facts["bytes"] = len(left)
    checks["predictions_csv"] = left == right and ended[0].digest == ended[1].digest
    if ended[0].kind == EVALUATION:
        figures = [run.metrics.read_bytes() for run in ended]
        checks["metrics_json"] = figures[0] == figures[1]
    return facts | {"checks": checks, "same": all(checks.values())}


def _once_each(faces: pd.DataFrame, names: list[str]) -> bool:
    """Whether the table has every picture once, in order: a row for each of its faces, one row where it has none."""
    rows = faces.groupby("path", sort=False).agg(rows=("path", "size"), faces=("faces", "first"))
    return rows.index.tolist() == names and bool((rows["rows"] == rows["faces"].clip(lower=1)).all())


def page_section(facts: dict[str, Any]) -> str:
    """What happened, for the page."""
    killed, undisturbed = (facts[name] for name in (KILLED, UNDISTURBED))
    rows = [
        ("Pictures", f"{facts['pictures']:,}"),
        ("Killed after this many pictures", ", ".join(f"{count:,}" for count in facts["kills"])),
        ("Taken over at the last start", f"{facts.get('taken_over_at_the_last_start', 0):,}"),
        ("Seconds of work, killed and undisturbed", f"{killed['seconds']:,.1f} and {undisturbed['seconds']:,.1f}"),
        ("Bytes of predictions.csv without elapsed_ms", f"{facts.get('bytes', 0):,}"),
        *((name.replace("_", " "), "yes" if held else "NO") for name, held in facts.get("checks", {}).items()),
    ]
    return "\n\n".join(
        (
            f"## A run that is killed ({facts['kind']}, {len(facts['kills'])} times)",
            f"{machine()} Written by `{facts['command']}` with `{facts['checkpoint']}`; two runs of the same pictures, "
            "one of them with its server killed by `kill -9` at random moments.",
            table(("", ""), rows),
        )
    )


class Server:
    """The real server in a process of its own."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        variables = {
            "REALITY_CHECK_DATA_DIR": str(settings.data_dir),
            "REALITY_CHECK_REUSE_RESULTS": "false",  # the second run must really be judged
            "REALITY_CHECK_FOLDER_ROOTS": json.dumps([str(root) for root in settings.folder_roots]),
            "PYTHONPATH": str(ROOT),
        }
        if settings.default_checkpoint is not None:
            variables["REALITY_CHECK_DEFAULT_CHECKPOINT"] = settings.default_checkpoint
        self.environment = os.environ | variables
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to serve on a free port; it takes up unfinished runs by itself."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "dashboard", "app", "--port", str(port)]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(command, env=self.environment, stdout=stream, stderr=stream)

    def wait(self, condition: Callable[[], bool], *, sign: Callable[[], object]) -> None:
        """Until the condition holds; `StuckError` if the server ends or the sign of life does not change any more."""
        last, since = sign(), time.monotonic()
        while not condition():
            if (now := sign()) != last:
                last, since = now, time.monotonic()
            if self.process is None or self.process.poll() is not None:
                raise StuckError(f"the server ended by itself:\n{self.log.read_text()[-2000:]}")
            if time.monotonic() - since > SILENT_SECONDS:
                raise StuckError(f"nothing for {SILENT_SECONDS:.0f} s:\n{self.log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """As `kill -9` does it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def times(run: Run) -> dict[str, float]:
    """By picture, the time in the journal of a run, which may be cut off anywhere or gone."""
    try:
        lines = run.table.with_name(run.table.name + ".journal").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    entries = (json.loads(line) for line in lines)
    return {entry["name"]: entry["rows"][0]["elapsed_ms"] for entry in entries}


def _reached(store: RunStore, run: Run, goal: int) -> bool:
    if state(store, run) in (DONE, FAILED):
        raise StuckError("the first run was over before its server could be killed; take more --images")
    return len(times(run)) >= goal


def state(store: RunStore, run: Run) -> str:
    """How a run stands in the index."""
    found = store.get(run.id)
    return FAILED if found is None else found.state


def _arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures; nothing is written to it")
    parser.add_argument("--images", type=int, default=5000, help="at most so many of them")
    parser.add_argument("--kills", type=int, default=1, help="how often the server is killed")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which it is killed")
    parser.add_argument("--write", action="store_true", help="write a section of docs/resume.md")
    parser.add_argument("--evaluate", action="store_true", help="an evaluation: FOLDER holds real/ and fake/")
    parser.add_argument("--checkpoint", help="name or path; the setting default_checkpoint if not given")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())

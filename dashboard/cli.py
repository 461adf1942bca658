"""The command `reality-check`: everything the dashboard does, for scripts.

Results go to stdout, progress and messages to stderr. Exit code 0: done; 1: done, but some images could not be read
(each is named in the results); 2: the input or the settings cannot be used, and one line on stderr says why.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:  # torch takes a second to import: each command imports what it needs
    from model.calibration import Thresholds
    from model.detector import Detector
    from model.results import ImageResult
    from model.sources import ImageSource, SourceSet
    from model.training.config import TrainConfig

app = typer.Typer(
    name="reality-check",
    help="Tell AI-generated faces from photographs, see why, and measure how often that is wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
SOME_FAILED, UNUSABLE = 1, 2
_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # a disk that is full or broken; the error names no file
_IMAGES = ("image could", "images could")
_SHOWN = 10  # names listed on stderr before "and N more"


class Tier(StrEnum):
    """How pictures are delivered before they are judged; see `model.tiers`."""

    clean = "clean"
    web = "web"
    hard = "hard"


class Precision(StrEnum):
    """Arithmetic of the network."""

    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


class Computing(StrEnum):
    """What computes the network; see `model.runtimes`."""

    torch = "torch"
    cuda = "cuda"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    auto = "auto"


class Engine(StrEnum):
    """Where bulk work is done."""

    local = "local"
    ray = "ray"


class Architecture(StrEnum):
    """Networks with a recipe for training on a plain folder."""

    clip_vit_b16 = "clip_vit_b16"
    resnet50 = "resnet50"


Checkpoint = Annotated[str | None, typer.Option("--checkpoint", "-c", help="Name or path of a checkpoint.")]
Arithmetic = Annotated[Precision | None, typer.Option(help="Arithmetic; the setting `precision` if not given.")]
RuntimeName = Annotated[
    Computing | None,
    typer.Option(
        help="What computes the network; auto measures what is installed and takes the quickest. The setting `runtime` "
        "if not given."
    ),
]
ClusterBy = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column that says which images belong together, such as the person shown."),
]
Root = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="What a table's paths are relative to; else its own folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _version(wanted: bool) -> None:
    if wanted:
        from model import __version__

        typer.echo(f"reality-check {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Tell AI-generated faces from photographs, see why, and measure how often that is wrong."""


@app.command(name="app")
def serve(
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
) -> None:
    """Start the dashboard and print its address."""
    with _usable():
        from dashboard import server
        from dashboard.settings import get_settings

        settings = get_settings()
        server.check_free(address, port)
        typer.echo(f"Reality Check: {server.url(address, port)}   (Ctrl+C stops it)")
        sys.stdout.flush()
        server.run(settings, address, port)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="New tar file.")],
) -> None:
    """Copy all kept runs into one file, while the server works."""
    with _usable():
        from dashboard.backup import save
        from dashboard.settings import get_settings

        count = save(get_settings().data_dir / "runs", target)
    typer.echo(f"{_counted(count, 'run', 'runs')} in {target}", err=True)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
) -> None:
    """Put such a copy into an empty data folder; the server must not run."""
    with _usable():
        from dashboard.backup import restore as unpack
        from dashboard.settings import get_settings

        count = unpack(source, get_settings().data_dir / "runs")
    typer.echo(f"{_counted(count, 'run', 'runs')} restored", err=True)


@app.command()
def classify(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per image and line.")] = False,
    heatmap: Annotated[Path | None, typer.Option(help="Folder for one evidence picture per face (PNG).")] = None,
    checkpoint: Checkpoint = None,
    precision: Arithmetic = None,
    runtime: RuntimeName = None,
) -> None:
    """Judge single images."""
    with _usable():
        from model.sources import Source, SourceError

        if not any(os.path.isfile(image) for image in images):
            raise SourceError(f"{images[0]}: there is no such image file. For a folder use `reality-check bulk`.")
        detector = _detector(checkpoint, precision, runtime)
        if heatmap is not None:
            heatmap.mkdir(parents=True, exist_ok=True)
        sources = [Source(_printable(image), Path(image)) for image in images]
        failed = False
        given: dict[str, None] = {}  # verdicts in the order of their first picture
        for source, result in zip(sources, detector.classify_many(sources), strict=True):
            failed |= result.error is not None
            _print_result(result, as_json=as_json)
            if result.error is None:
                given[result.verdict] = None
            if heatmap is not None:
                _write_heatmaps(detector, source, result, heatmap)
        if not as_json:
            _print_error_rates(detector, given)
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    packet: Annotated[
        Path | None, typer.Option(help="Evidence packet to write (.zip); it holds the original file.")
    ] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="One-page report to write, .html or .pdf; may be repeated.")
    ] = None,
    tests: Annotated[
        bool, typer.Option("--tests", help="Also pass the image on in eight ways and test its map; takes longer.")
    ] = False,
    checkpoint: Checkpoint = None,
    precision: Arithmetic = None,
    runtime: RuntimeName = None,
) -> None:
    """Say what moved the score of one image, part by part; write it down for a reviewer."""
    with _usable():
        from dashboard.examination import Picture, examine
        from dashboard.report import image_report
        from model import packet as packets
        from model.redelivery import holds
        from model.sources import Source

        for path in report or []:
            if path.suffix.lower() not in (".html", ".pdf"):
                raise UnusableError(f"{path}: a report ends in .html or .pdf.")
        written = [*([packet] if packet is not None else []), *(report or [])]
        for path in written:  # before the work
            if path.is_dir() or not os.access(path.parent, os.W_OK):
                raise UnusableError(f"{path}: cannot be written there. Name a file in a folder that can.")
        name = _printable(str(image))
        data = Source(name, image).read()
        detector = _detector(checkpoint, precision, runtime)
        if packet is not None:
            packets.require_repeatable(detector)
        found = examine(detector, Picture(name, data, ""))
        result, digest = found.result, None
        if tests:
            found.test()
        if packet is not None:
            packet.write_bytes(found.packet())
            digest = packets.digest(found.packet())
        for path in report or []:
            path.write_bytes(found.report(path.suffix.lower()[1:], sealed=packet is not None))
        _print_result(result, as_json=False)
        if result.error is None:
            _print_error_rates(detector, [result.verdict])
        for line in image_report.ledger_lines(result.deciding) if result.deciding else ():
            typer.echo(f"{line.log_odds:+8.3f}  {line.region}")
    if result.logit is not None:
        typer.echo(f"{result.logit:+8.3f}  Sum: the logit")
    for sentence in [*found.remarks(), *([holds(found.redelivered())] if found.has("redelivered") else [])]:
        typer.echo(sentence)
    for path in written:
        typer.echo(f"Wrote {path}", err=True)
    if digest is not None:
        typer.echo(f"Packet digest {digest}")
    if result.error is not None:
        raise typer.Exit(SOME_FAILED)


@app.command()
def verify(
    packet: Annotated[Path, typer.Argument(metavar="PACKET", help="Evidence packet, as explain --packet writes it.")],
    digest: Annotated[
        str | None, typer.Option(metavar="HEX", help="Digest noted when it was made, such as that on the report.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", "-c", help="Name or path of a checkpoint to look among, beside the bundled ones."),
    ] = None,
    hashes_only: Annotated[bool, typer.Option("--hashes-only", help="Do not judge the original again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check an evidence packet: hash everything anew, judge the original again, say what agrees and what differs.

    Exit code 0: everything agrees; 1: something differs or could not be checked; 2: the file is not a packet.
    """
    with _usable():
        from dashboard.overlay import overlay
        from model import packet as packets
        from model.checkpoint import list_checkpoints, read_info, resolve

        data = packets.read(packet)
        at_hand = list_checkpoints() + ([] if checkpoint is None else [read_info(resolve(checkpoint))])
        found = packets.verify(
            data,
            name=_printable(str(packet)),
            expected=digest,
            checkpoints=at_hand,
            judge=not hashes_only,
            paint=overlay,
        )
    if as_json:
        checks = [vars(check) for check in found.checks]
        typer.echo(json.dumps({"digest": found.digest, "agrees": found.agrees, "checks": checks}, indent=2))
    else:
        for check in found.checks:
            within = f" (within {check.tolerance})" if check.tolerance and check.outcome == "agrees" else ""
            typer.echo(f"{check.outcome:11}  {check.item}: {check.detail}{within}")
        typer.echo(f"Packet digest {found.digest}")
        bad = len(found.failed)
        typer.echo(
            "Everything agrees."
            if found.agrees
            else f"{bad} of {len(found.checks)} items {'differs' if bad == 1 else 'differ'} or could not be checked: "
            + "; ".join(check.item for check in found.failed[:_SHOWN])
        )
    if not found.agrees:
        raise typer.Exit(SOME_FAILED)


@app.command()
def bulk(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|ZIP|PATTERN|LIST|URL",
            help="PATTERN: such as 'pictures/**/*.jpg', in quotes. LIST: a .txt file with one path or URL per line; - "
            "reads stdin. URL: a folder, file or pattern in an object store or elsewhere, such as s3://bucket/folder; "
            "needs fsspec's driver for it, such as s3fs.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write, .csv or .parquet: one row per face.")],
    resume: Annotated[bool, typer.Option("--resume", help="Take over what an earlier run has judged.")] = False,
    checkpoint: Checkpoint = None,
    precision: Arithmetic = None,
    runtime: RuntimeName = None,
    engine: Annotated[Engine, typer.Option(help="ray: on a Ray cluster, or on one started here.")] = Engine.local,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on Ray, one processor each; as many as it has if not given.")
    ] = None,
) -> None:
    """Judge any number of images and write a table."""
    with _usable():
        from dashboard.settings import get_settings
        from model import bulk as bulk_run

        if not resume and bulk_run.interrupted(out):
            raise bulk_run.BulkError(
                f"{out}: an earlier run into it was interrupted. Add --resume to go on with it, or delete "
                f"{out.name}.journal beside it to begin anew."
            )
        found = _sources(source)
        detector = _detector(checkpoint, precision, runtime)
        judge: bulk_run.Judge = detector
        if engine == Engine.ray:
            from model import cluster

            judge = cluster.ClusterDetector(detector, workers=workers)
        _report_skipped(found.skipped)
        with _progress("Classifying") as progress:
            summary = bulk_run.run(
                judge, found, out, resume=resume, batch_size=get_settings().batch_size, progress=progress
            )
    verdicts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(summary.verdicts.items()))
    typer.echo(f"{summary.images:,} images: {verdicts}. Written to {out}.")
    if summary.taken_over:
        typer.echo(f"{summary.taken_over:,} of them were taken over from an earlier run.", err=True)
    if summary.failed:
        _list([message for _, message in summary.failed], _counted(len(summary.failed), *_IMAGES) + " not be read:")
        raise typer.Exit(SOME_FAILED)


@app.command()
def evaluate(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|CSV|ZIP", help="Folders real/ and fake/, or a table with path and label.")
    ],
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.json, predictions and report.html.")] = None,
    checkpoint: Checkpoint = None,
    tier: Annotated[Tier, typer.Option(help="Judge copies as this kind of delivery brings them.")] = Tier.clean,
    group_by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column whose values are compared; may be repeated. `group` if not given."),
    ] = None,
    cluster_by: ClusterBy = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of AI-generated images where the detector will be used, 0 to 1.")
    ] = None,
    cost_fp: Annotated[float, typer.Option(min=0, help="Cost of a photograph called AI-generated.")] = 1.0,
    cost_fn: Annotated[float, typer.Option(min=0, help="Cost of a missed AI-generated image.")] = 1.0,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Call fake from this probability; else the checkpoint's own.")
    ] = None,
    precision: Arithmetic = None,
    runtime: RuntimeName = None,
    as_json: AsJson = False,
) -> None:
    """Measure the detector on images whose answer is known."""
    with _usable():
        from dashboard import evaluation
        from dashboard.settings import get_settings
        from model.checkpoint import training_hashes
        from model.dataset import load_labelled
        from model.metrics import Costs

        labelled = load_labelled(source, root=root)
        # What cannot be is refused before the work, not after it.
        Costs(cost_fp, cost_fn, 0.5 if prevalence is None else prevalence)
        columns = group_by or ["group"]
        evaluation.check_columns(labelled, columns, cluster_by)
        if out is not None:
            evaluation.prepare_folder(out)
        detector = _detector(checkpoint, precision, runtime, threshold)
        for row in labelled.folders.itertuples():
            typer.echo(f"{row.folder}: {row.label}, {row.images:,} images", err=True)
        _report_skipped(labelled.skipped)
        with _progress("Classifying") as progress:
            predictions = evaluation.predict(
                detector, labelled, delivery=tier, batch_size=get_settings().batch_size, progress=progress
            )
        written = evaluation.write_predictions(predictions, out) if out is not None else []
        typer.echo("Computing figures and intervals", err=True)
        done = evaluation.measure(
            labelled,
            predictions,
            delivery=tier,
            training=training_hashes(detector.checkpoint),
            threshold=threshold,
            group_by=columns,
            cluster_by=cluster_by,
            prevalence=prevalence,
            cost_fp=cost_fp,
            cost_fn=cost_fn,
        )
        written += evaluation.write_figures(done, out) if out is not None else []
        for path in written:
            typer.echo(f"Wrote {path}", err=True)
    if as_json:
        typer.echo(evaluation.json_text(done.metrics), nl=False)
    else:
        typer.echo(evaluation.summary(done.metrics))
    errors = predictions.loc[predictions["error"].notna(), "error"]
    if len(errors):
        _list(errors.tolist(), _counted(len(errors), *_IMAGES) + " not be read:")
        raise typer.Exit(SOME_FAILED)


@app.command()
def compare(
    run_a: Annotated[
        Path, typer.Argument(metavar="RUN_A", help="Folder that evaluate --out wrote, or its predictions table.")
    ],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another evaluation of the same images.")],
    out: Annotated[Path | None, typer.Option(help="CSV of every image with both scores; those apart first.")] = None,
    threshold_a: Annotated[
        float | None, typer.Option(min=0, max=1, help="A calls fake from this probability; else its own threshold.")
    ] = None,
    threshold_b: Annotated[float | None, typer.Option(min=0, max=1, help="The same of B.")] = None,
    cluster_by: ClusterBy = None,
    as_json: AsJson = False,
) -> None:
    """Compare two evaluations of the same images: which is better, how sure is that, where do they disagree."""
    with _usable():
        from dashboard import evaluation
        from model import metrics
        from model.results import write_csv

        found = metrics.compare(
            evaluation.read_predictions(run_a),
            evaluation.read_predictions(run_b),
            threshold_a=threshold_a,
            threshold_b=threshold_b,
            cluster_by=cluster_by,
        )
        if out is not None:
            write_csv(found.images.drop(columns=["row_a", "row_b"]), out)
            typer.echo(f"Wrote {out}", err=True)
    typer.echo(evaluation.json_text(found.figures) if as_json else evaluation.comparison_text(found), nl=not as_json)


@app.command()
def measure(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|CSV|ZIP", help="Faces that no checkpoint was trained on, as for evaluate.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for figures and score tables; what was judged before is not judged again.")
    ] = Path("runs/accuracy"),
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", "-c", help="Name or path; may be repeated. Every bundled one if not given."),
    ] = None,
    no_face: Annotated[Path | None, typer.Option(help="Folder or ZIP of pictures without a face.")] = None,
    manipulated: Annotated[
        Path | None, typer.Option(help="Labelled set of face swaps and edits; its groups are their kinds.")
    ] = None,
    flips: Annotated[
        int, typer.Option(min=2, metavar="N", help="Pictures that are passed on in eight ways, half of them real.")
    ] = 200,
    limit: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="At most so many pictures of each set; for trials.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Markdown page to write from all figures in --out; else it is printed.")
    ] = None,
    precision: Arithmetic = None,
    runtime: RuntimeName = None,
) -> None:
    """Hold checkpoints against the targets for accuracy: unseen, degraded, passed-on and faceless pictures."""
    with _usable():
        from dashboard.settings import get_settings
        from model import accuracy
        from model.checkpoint import list_checkpoints
        from model.dataset import load_labelled
        from model.sources import from_path

        material = accuracy.Material(
            load_labelled(source),
            list(from_path(no_face)) if no_face is not None else [],
            load_labelled(manipulated) if manipulated is not None else None,
        )
        for name in checkpoint or [str(info.path) for info in list_checkpoints()]:
            accuracy.measure(
                _detector(name, precision, runtime),
                material,
                out,
                flips=flips,
                limit=limit,
                batch_size=get_settings().batch_size,
                watch=_progress,
            )
        text = accuracy.page(accuracy.load(out))
        if page is not None:
            page.write_text(text, "utf-8")
    typer.echo(f"{page}" if page is not None else text, nl=page is not None)


@app.command()
def audit(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|CSV|ZIP", help="A labelled set, as for evaluate.")],
    root: Root = None,
    checkpoint: Checkpoint = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Results of evaluate or bulk on this set: checks faces and scores as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what would make an evaluation on a labelled set misleading.

    Columns of a table that begin with original_ (original_format, original_width ...) are checked as facts about the
    files that the images were made from.
    """
    with _usable():
        from dashboard.evaluation import read_predictions
        from dashboard.settings import get_settings
        from model.audit import audit as examine
        from model.checkpoint import read_info, resolve, training_hashes
        from model.dataset import load_labelled

        labelled = load_labelled(source, root=root)
        results = labelled.attach(read_predictions(predictions)) if predictions is not None else None
        info = read_info(resolve(checkpoint or get_settings().default_checkpoint))
        trained_on = training_hashes(info)
        if trained_on is None:
            typer.echo(f"{info.name} does not say what it was trained on: overlap is not checked.", err=True)
        findings = [finding.to_dict() for finding in examine(labelled, results, training=trained_on)]
    if as_json:
        typer.echo(json.dumps(findings, indent=2, ensure_ascii=False))
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in labelled.counts.items())
    typer.echo(f"{len(labelled):,} images: {counts}.")
    for finding in findings:
        typer.echo(f"\n{finding['code']} ({finding['severity']}): {finding['title']}")
        typer.echo(f"  {finding['detail']}\n  {finding['advice']}")
    if not findings:
        typer.echo("Nothing found that would mislead.")


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the bundled checkpoints and what was measured of them."""
    with _usable():
        from dashboard import words
        from model.checkpoint import list_checkpoints

        found = list_checkpoints()
    if as_json:
        entries = [{"name": info.name, "default": info.default, "sha256": info.sha256, **info.header} for info in found]
        typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    for info in found:
        mark = " (default)" if info.default else ""
        typer.echo(f"{info.name}{mark}: {info.header['architecture']}, {info.header['licence']}, {info.sha256[:12]}")
        limits = info.thresholds
        rate = "unknown" if limits.fpr is None else words.rate(limits.fpr)
        typer.echo(f"  fake from {limits.fake:.3f}, real up to {limits.real:.3f}; stated false-positive rate {rate}")
        for name, figures in info.header["metrics"].items():
            if isinstance(figures, dict) and "roc_auc" in figures:
                typer.echo(f"  {name}: {_figures(figures)}")
    if not found:
        typer.echo("No checkpoint is bundled. Train one with `reality-check train`.", err=True)


@app.command()
def train(
    folder: Annotated[
        Path | None, typer.Argument(help="Labelled folder (real/, fake/) to train on; split at random.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Recipe (TOML), such as those in model/training/configs.")] = None,
    architecture: Annotated[
        Architecture, typer.Option(help="Recipe to use with FOLDER when no --config is given.")
    ] = Architecture.clip_vit_b16,
    data: Annotated[Path | None, typer.Option(help="Folder of the images; in place of the recipe's.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table path,label,split[,source,generator]; in place of it.")
    ] = None,
    folds: Annotated[Path | None, typer.Option(help="Leave-one-out folds (CSV); in place of the recipe's.")] = None,
    init: Annotated[
        str | None, typer.Option(help="donor:NAME, imagenet, scratch or a checkpoint; in place of the recipe's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new checkpoint.")] = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also train without this fold's sources and measure on them; may be repeated; all for every fold.",
        ),
    ] = None,
    folds_only: Annotated[bool, typer.Option("--folds-only", help="Measure folds; leave the checkpoint out.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME if not given.")] = None,
) -> None:
    """Train a checkpoint, on your own images or by a bundled recipe; an interrupted run continues."""
    with _usable():
        from model.training.run import train as fit

        recipe = _recipe(folder, config, architecture, data, manifest, folds, init, name)
        run = out or Path("runs") / recipe.name
        info = fit(recipe, run, fold_names=fold, folds_only=folds_only)
    if info is None:
        typer.echo(f"{run / 'leave_one_out.csv'}")
        return
    typer.echo(f"{info.path}")
    typer.echo(f"Use it: reality-check classify --checkpoint {info.path} IMAGE", err=True)


@app.command()
def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="Name or path of a checkpoint; its weights stay as they are.")],
    data: Annotated[Path, typer.Option(help="Labelled folder or ZIP; or the folder that a manifest's paths are in.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Table path,label[,split]; of a table with splits the rows val are used.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Checkpoint to write; runs/NAME_calibrated.safetensors if not given.")
    ] = None,
    max_fpr: Annotated[
        float, typer.Option(min=0.0001, max=0.4, help="Share of photographs that may be called AI-generated.")
    ] = 0.01,
) -> None:
    """Fit a checkpoint's calibration and thresholds to your own images, which it was not trained on."""
    with _usable():
        from dashboard import words
        from model.checkpoint import resolve
        from model.training.calibrate import labelled_rows, recalibrate

        labelled = labelled_rows(data, manifest)
        _report_skipped(labelled.skipped)
        path = resolve(checkpoint)
        target = out or Path("runs") / f"{path.stem}_calibrated.safetensors"
        with _progress("Scoring") as progress:
            done = recalibrate(path, labelled, target, max_false_positive_rate=max_fpr, progress=progress)
    typer.echo(f"{done.info.path}")
    for name, (before, after) in done.ece.items():
        real, fake = done.counts[name]
        typer.echo(f"{name}: {real:,} real, {fake:,} fake; calibration error {before:.4f}, now {after:.4f}")
    for name, limits in (("before", done.before), ("now", done.after)):
        rate = "unknown" if limits.fpr is None else words.rate(limits.fpr)
        typer.echo(f"{name}: fake from {limits.fake:.4f}, real up to {limits.real:.4f}; false alarms at most {rate}")
    if done.left_out:
        typer.echo(_counted(done.left_out, "image has", "images have") + " no face that can be scored.", err=True)
    fewest = min(real for real, _ in done.counts.values())
    if fewest * max_fpr < 1:
        typer.echo(
            f"With {fewest:,} photographs a rate of {words.rate(max_fpr)} cannot be told from 0: no false alarm was "
            "allowed.",
            err=True,
        )


@app.command()
def card(
    checkpoint: Annotated[
        Path, typer.Argument(help="The checkpoint (.safetensors) whose header and card to complete.")
    ],
    measured: Annotated[
        list[str], typer.Argument(help="NAME=metrics.json, as `evaluate` wrote it; such as test=out/metrics.json.")
    ],
) -> None:
    """Put measured figures into a checkpoint's header and write its card anew."""
    with _usable():
        from model.training.card import attach

        pairs = dict(entry.partition("=")[::2] for entry in measured)
        missing = [entry for entry, file in pairs.items() if not Path(file).is_file()]
        if missing:
            raise UnusableError(f"{missing[0]}: give it as NAME=FILE, with the file of an evaluation.")
        info = attach(checkpoint, {entry: Path(file) for entry, file in pairs.items()})
    typer.echo(f"{info.card}")


class UnusableError(ValueError):
    """Input that a command cannot use."""


@contextmanager
def _usable() -> Iterator[None]:
    """Turn what is wrong with the input into one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        if not _is_expected(error):
            raise
        _give_up(_one_line(error))
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(130) from None


def _is_expected(error: Exception) -> bool:
    """Whether the message was written for users; anything else is a defect and keeps its traceback."""
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in _PLACE
    known = ("model", "dashboard", "pydantic_core", "pydantic_settings", "tomllib")
    return type(error).__module__.split(".")[0] in known


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None) + "."
    entries = getattr(error, "errors", None)
    if callable(entries):  # pydantic: a setting
        text = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in entries())
        return f"settings: {text}. Correct reality-check.toml or the REALITY_CHECK_ variables."
    if type(error).__module__ == "tomllib":
        return f"reality-check.toml: is not valid TOML ({error})."
    return " ".join(str(error).split())


def _give_up(message: str) -> NoReturn:
    typer.echo(f"reality-check: {message}", err=True)
    raise typer.Exit(UNUSABLE)


def _detector(
    checkpoint: str | None,
    precision: Precision | None,
    runtime: Computing | None,
    threshold: float | None = None,
) -> Detector:
    from dashboard.settings import get_settings
    from model import bfloat16
    from model.detector import Detector

    settings = get_settings()
    detector = Detector.load(
        checkpoint or settings.default_checkpoint,
        precision=settings.precision if precision is None else precision.value,
        runtime=settings.runtime if runtime is None else runtime.value,
        threads=settings.threads,
    )
    if detector.choice is not None:
        typer.echo(str(detector.choice), err=True)
    if detector.runtime == "torch-bf16" and bfloat16.emulated():
        typer.echo("bf16 is emulated on this processor, several times slower than fp32.", err=True)
    return detector if threshold is None else detector.with_thresholds(_custom(detector.thresholds, threshold))


def _custom(own: Thresholds, fake: float) -> Thresholds:
    from model.calibration import Thresholds

    return Thresholds(real=min(own.real, fake), fake=fake, fpr=None, custom=True)


def _sources(text: str) -> SourceSet:
    from glob import has_magic

    from model.remote import from_url, is_url
    from model.sources import SourceError, SourceSet, from_glob, from_path

    path = Path(text)
    if text == "-":
        lines, base = os.fsdecode(sys.stdin.buffer.read()).split("\n"), Path()  # a name may be no Unicode
    elif is_url(text):
        return _some(from_url(text), text)
    elif path.suffix.lower() in (".txt", ".lst") and path.is_file():
        try:
            lines, base = path.read_text("utf-8-sig").split("\n"), path.parent
        except UnicodeDecodeError as error:
            raise SourceError(f"{path}: is not a UTF-8 list of paths ({error.reason}). Save it as UTF-8.") from error
    elif has_magic(text) and not path.exists():
        return _some(from_glob(text), text)
    else:
        return _some(from_path(path), text)
    names = [line.removesuffix("\r") for line in lines if line.strip()]  # nothing else is no part of a name
    if not names:
        raise SourceError(f"{text}: lists no paths. Write one path per line.")
    return SourceSet([_listed(name, base) for name in dict.fromkeys(names)], [], root=path.stem)


def _listed(name: str, base: Path) -> ImageSource:
    from model.remote import RemoteSource, is_url
    from model.sources import Source

    return RemoteSource(_printable(name), name) if is_url(name) else Source(_printable(name), base / name)


def _some(found: SourceSet, text: str) -> SourceSet:
    from model.sources import SourceError

    if not len(found):
        raise SourceError(f"{text}: holds no images by their names ({len(found.skipped)} other files).")
    return found


def _recipe(
    folder: Path | None,
    config: Path | None,
    architecture: Architecture,
    data: Path | None,
    manifest: Path | None,
    folds: Path | None,
    init: str | None,
    name: str | None,
) -> TrainConfig:
    """The configuration that the options of `train` describe."""
    from pydantic import ValidationError

    from model.training import config as recipes

    if config is None and folder is None:
        raise UnusableError("name a labelled folder or a recipe: `train FOLDER` or `train --config FILE`.")
    changes: dict[str, Any] = {}
    if config is None:
        bundled = Path(recipes.__file__).parent / "configs"
        if architecture is Architecture.resnet50:
            base = recipes.load(bundled / "resnet50_half.toml")
            changes = {"name": "resnet50", "options": {}, "init": "imagenet"}
        else:
            base = recipes.load(bundled / f"{architecture}.toml")
    else:
        base = recipes.load(config)
    places: dict[str, Any] = {"root": data, "manifest": manifest, "folds": folds}
    if folder is not None:
        if not folder.is_dir():
            raise UnusableError(f"{folder}: is not a folder.")
        changes["data"] = base.data.model_copy(update={"root": folder, "manifest": None, "folds": None, "extra": []})
        base = base.model_copy(update=changes)
    given = {key: value for key, value in places.items() if value is not None}
    changes["data"] = base.data.model_copy(update=given)
    changes |= {key: value for key, value in (("init", init), ("name", name)) if value is not None}
    try:
        return recipes.TrainConfig.model_validate(base.model_copy(update=changes).model_dump())
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        raise UnusableError(reasons) from error


def _print_result(result: ImageResult, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False))
        return
    from dashboard import words

    verdict = words.VERDICTS[result.verdict].title
    if result.p_fake is None:
        reason = words.summary(result).removeprefix(f"{result.name}: ")
        typer.echo(f"{result.name}: {verdict}. {reason}")
        return
    count = len(result.faces)
    which = "1 face" if count == 1 else f"face {(result.deciding_face or 0) + 1} of {count} decides"
    chance = words.probability(result.p_fake, result.thresholds)
    typer.echo(f"{result.name}: {verdict}. Probability of AI-generated {chance}, {which}.")


def _print_error_rates(detector: Detector, verdicts: Iterable[str]) -> None:
    """How often the detector errs, for each of the verdicts that were given."""
    from dashboard import words

    for verdict in verdicts:
        rates = words.stated_error_rates(detector.checkpoint, verdict, detector.thresholds)
        typer.echo(f"{words.VERDICTS[verdict].title}: {rates}")


def _write_heatmaps(detector: Detector, source: ImageSource, result: ImageResult, folder: Path) -> None:
    """One PNG per examined face: the crop, and beside it the same with its signed evidence."""
    from PIL import Image

    from dashboard.overlay import overlay
    from model.imaging import decode

    if result.deciding_face is None:
        return
    image = decode(source.read()).pixels
    for number, face in enumerate(result.faces, start=1):
        if face.evidence is None:
            continue
        crop = detector.crop(image, face.face)
        pair = Image.new("RGB", (2 * crop.width, crop.height))
        pair.paste(crop, (0, 0))
        pair.paste(overlay(crop, face.evidence), (crop.width, 0))
        path = folder / f"{Path(source.name).stem}-{result.sha256[:8]}-face{number}.png"
        pair.save(path)
        typer.echo(f"Wrote {path}", err=True)


def _figures(figures: dict[str, Any]) -> str:
    wanted = {"roc_auc": "AUC", "accuracy": "accuracy", "recall": "recall", "specificity": "specificity"}
    parts = [
        f"{title} {figures[key]['value']:.4f}" for key, title in wanted.items() if _value(figures, key) is not None
    ]
    counts = f"{figures['n_real']:,} real, {figures['n_fake']:,} fake" if "n_real" in figures else ""
    return ", ".join(parts) + (f" on {counts}" if counts else "")


def _value(figures: dict[str, Any], key: str) -> float | None:
    entry = figures.get(key)
    return entry.get("value") if isinstance(entry, dict) else None


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; a line now and then where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(what: str, every: float = 20.0) -> Callable[[int, int], None]:
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > every:
            last = time.monotonic()
            typer.echo(f"{what}: {done:,} of {total:,}", err=True)

    return show


def _report_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    if skipped:
        _list(
            [f"{name}: {reason}" for name, reason in skipped],
            _counted(len(skipped), "file was", "files were") + " left out:",
        )


def _list(lines: Sequence[str], title: str) -> None:
    typer.echo(title, err=True)
    for line in lines[:_SHOWN]:
        typer.echo(f"  {line}", err=True)
    if len(lines) > _SHOWN:
        typer.echo(f"  and {len(lines) - _SHOWN:,} more", err=True)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _printable(name: str) -> str:
    from model.sources import printable

    return printable(name)

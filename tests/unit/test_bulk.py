"""Bulk runs: the same table however often, and in however many pieces, it is made."""

from __future__ import annotations

import json
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model import bulk
from model.calibration import Thresholds
from model.detector import Detector
from model.results import COLUMNS, ImageResult, rows_to_frame, to_frame, write_csv, write_parquet
from model.sources import MemorySource

Picture = Callable[..., bytes]


@pytest.fixture
def detector(tiny_checkpoint: Path, one_face: None) -> Detector:
    return Detector.load(tiny_checkpoint)


@pytest.fixture
def sources(picture: Picture) -> list[MemorySource]:
    """Pictures with awkward names, and one that cannot be read."""
    names = ["=1+1.png", "plain.png", "NA", 'with,comma and "quotes".png', "'=quoted.png", "ümläut.png", "bad.png"]
    return [MemorySource(name, picture(index)) for index, name in enumerate(names[:-1])] + [
        MemorySource(names[-1], b"no image, whatever the name says")
    ]


class Interrupted(Exception):
    """Stands for a power cut."""


class Fragile(Detector):
    """A detector that fails after some images and counts those that it judged."""

    judged = 0
    left = 10**9

    def classify_many(self, sources, **options) -> Iterator[ImageResult]:
        for result in super().classify_many(sources, **options):
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            self.judged += 1
            yield result


def fragile(path: Path, left: int = 10**9) -> Fragile:
    found = Fragile.load(path)
    assert isinstance(found, Fragile)
    found.left = left
    return found


def table(path: Path) -> pd.DataFrame:
    """The table without times, texts as written."""
    read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
    return read(path).drop(columns="elapsed_ms")


def names_of(path: Path) -> Sequence[str]:
    return list(dict.fromkeys(pd.read_parquet(path)["path"]))


@pytest.mark.parametrize("suffix", bulk.SUFFIXES)
def test_running_again_gives_the_same_table(
    detector: Detector, sources: list[MemorySource], tmp_path: Path, suffix: str
) -> None:
    for name in ("first", "second"):
        bulk.run(detector, sources, tmp_path / (name + suffix))
    first, second = table(tmp_path / ("first" + suffix)), table(tmp_path / ("second" + suffix))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert len(first) == len(sources)


def test_the_table_is_that_of_the_results(detector: Detector, sources: list[MemorySource], tmp_path: Path) -> None:
    bulk.run(detector, sources, tmp_path / "out.parquet")
    expected = to_frame(list(detector.classify_many(sources)))
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert tuple(found.columns) == COLUMNS
    pd.testing.assert_frame_equal(
        found.drop(columns="elapsed_ms"), expected.drop(columns="elapsed_ms"), check_exact=True, check_dtype=False
    )


@pytest.mark.parametrize("suffix", bulk.SUFFIXES)
def test_an_interrupted_run_resumes_where_it_was(
    sources: list[MemorySource], tiny_checkpoint: Path, one_face: None, tmp_path: Path, suffix: str
) -> None:
    whole, pieces = tmp_path / ("whole" + suffix), tmp_path / ("pieces" + suffix)
    bulk.run(fragile(tiny_checkpoint), sources, whole)
    with pytest.raises(Interrupted):
        bulk.run(fragile(tiny_checkpoint, left=5), sources, pieces, batch_size=2)
    assert not pieces.exists()
    assert bulk.journalled(pieces)["path"].tolist() == [source.name for source in sources[:5]]
    assert len(bulk.journalled(pieces, batch_size=2)) == 4
    journal = pieces.with_name(pieces.name + ".journal")
    with journal.open("ab") as file:
        file.write(b'{"name": "cut off in the mid')
    rest = fragile(tiny_checkpoint)
    summary = bulk.run(rest, sources, pieces, resume=True, batch_size=2)
    assert rest.judged == len(sources) - 4  # the fifth was of a batch that was not complete
    assert (summary.images, summary.taken_over) == (len(sources), 4)
    pd.testing.assert_frame_equal(table(whole), table(pieces), check_exact=True)
    assert not journal.exists()
    assert bulk.journalled(pieces).empty


class Mixing(Fragile):
    """As if a score depended on what shares its batch."""

    def score(self, crops):
        evidence, logits = super().score(crops)
        return evidence, logits + 1e-3 * float(sum(crop.sum() for crop in crops))


@pytest.mark.parametrize("left", range(12))
def test_a_resumed_run_puts_its_images_into_the_same_batches(
    picture: Picture, tiny_checkpoint: Path, one_face: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    for module in ("detector", "bulk"):  # batches that are full of images before they are full of faces
        monkeypatch.setattr(f"model.{module}.READ_AHEAD", 4)
    sources = [MemorySource(f"{index}.png", b"no image" if index == 1 else picture(index)) for index in range(12)]
    whole, pieces = tmp_path / "whole.csv", tmp_path / "pieces.csv"
    bulk.run(Mixing.load(tiny_checkpoint), sources, whole, batch_size=8)
    for stop in (left, 3):
        cut = Mixing.load(tiny_checkpoint)
        cut.left = stop
        with pytest.raises(Interrupted):
            bulk.run(cut, sources, pieces, resume=True, batch_size=8)
    bulk.run(Mixing.load(tiny_checkpoint), sources, pieces, resume=True, batch_size=8)
    assert table(whole).to_csv() == table(pieces).to_csv()


class Overflowing(Mixing):
    """As if the network had no finite answer to some of the faces."""

    def score(self, crops):
        evidence, logits = super().score(crops)
        return evidence, np.where([zlib.crc32(crop.tobytes()) % 3 == 0 for crop in crops], np.nan, logits)


@pytest.mark.parametrize("suffix", bulk.SUFFIXES)
@pytest.mark.parametrize("left", range(1, 14, 2))
def test_faces_without_a_finite_answer_shift_no_batch(
    picture: Picture, tiny_checkpoint: Path, one_face: None, tmp_path: Path, left: int, suffix: str
) -> None:
    sources = [MemorySource(f"{index}.png", picture(index)) for index in range(14)]
    whole, pieces = tmp_path / ("whole" + suffix), tmp_path / ("pieces" + suffix)
    summary = bulk.run(Overflowing.load(tiny_checkpoint), sources, whole, batch_size=3)
    assert 2 < len(summary.failed) < 10 and "not a finite number" in summary.failed[0][1]
    for stop in (left, 4):
        cut = Overflowing.load(tiny_checkpoint)
        cut.left = stop
        with suppress(Interrupted):
            bulk.run(cut, sources, pieces, resume=True, batch_size=3)
    bulk.run(Overflowing.load(tiny_checkpoint), sources, pieces, resume=True, batch_size=3)
    assert table(whole).to_csv() == table(pieces).to_csv()


def test_a_line_without_its_end_is_judged_again(
    sources: list[MemorySource], tiny_checkpoint: Path, one_face: None, tmp_path: Path
) -> None:
    out, journal = tmp_path / "out.csv", tmp_path / "out.csv.journal"
    with pytest.raises(Interrupted):
        bulk.run(fragile(tiny_checkpoint, left=4), sources, out, batch_size=2)
    journal.write_bytes(journal.read_bytes()[:-1])
    assert len(bulk.journalled(out)) == 3
    for _ in range(2):  # interrupted again: what was appended can still be read
        with pytest.raises(Interrupted):
            bulk.run(fragile(tiny_checkpoint, left=2), sources, out, resume=True, batch_size=2)
    assert len(bulk.journalled(out, batch_size=2)) == 6
    bulk.run(fragile(tiny_checkpoint), sources, out, resume=True, batch_size=2)
    assert pd.read_csv(out, keep_default_na=False)["path"].tolist()[1:3] == ["plain.png", "NA"]


@pytest.mark.parametrize("suffix", bulk.SUFFIXES)
def test_a_finished_table_is_taken_over_but_for_new_changed_and_unreadable_files(
    sources: list[MemorySource], picture: Picture, tiny_checkpoint: Path, one_face: None, tmp_path: Path, suffix: str
) -> None:
    out, fresh = tmp_path / ("out" + suffix), tmp_path / ("fresh" + suffix)
    bulk.run(fragile(tiny_checkpoint), sources, out)
    changed = [MemorySource("new.png", picture(50)), *sources]
    changed[2] = MemorySource("plain.png", picture(51))
    again = fragile(tiny_checkpoint)
    bulk.run(again, changed, out, resume=True)
    assert again.judged == 3  # the new one, the changed one, and the one that could not be read
    bulk.run(fragile(tiny_checkpoint), changed, fresh)
    pd.testing.assert_frame_equal(table(out), table(fresh), check_exact=True)


def test_files_are_compared_a_few_at_a_time_and_the_search_is_told(
    tiny_checkpoint: Path, sources: list[MemorySource], tmp_path: Path
) -> None:
    class Met(MemorySource):
        """Is read when another one is: alone it would wait for ever."""

        def read(self) -> bytes:
            meeting.wait(timeout=20)
            return super().read()

    bulk.run(fragile(tiny_checkpoint), sources, tmp_path / "out.csv", batch_size=2)
    meeting, told, again = threading.Barrier(2), [], fragile(tiny_checkpoint)
    slow = [Met(source.name, source.read()) for source in sources[:-1]]
    summary = bulk.run(
        again, slow + sources[-1:], tmp_path / "out.csv", resume=True, progress=lambda *at: told.append(at)
    )
    assert (summary.taken_over, again.judged) == (len(slow), 1)
    assert told == [(done, 7) for done in range(8)]


def test_digests_come_in_order_and_end_when_asked_to(sources: list[MemorySource]) -> None:
    def step() -> None:
        if len(read) == 3:
            raise Interrupted
        read.append(1)

    many = sources * 3
    assert list(bulk.digests_of(many)) == [(source, bulk.digest_of(source)) for source in many]
    read: list[int] = []
    with pytest.raises(Interrupted):
        list(bulk.digests_of(sources, step))


def test_an_interrupted_take_over_is_begun_again(
    sources: list[MemorySource], tiny_checkpoint: Path, one_face: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, append = tmp_path / "out.csv", bulk._Journal.append

    def stops(journal: bulk._Journal, *about, **more) -> None:
        if len(journal.places) == 3:
            raise KeyboardInterrupt
        append(journal, *about, **more)

    bulk.run(fragile(tiny_checkpoint), sources, out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bulk._Journal, "append", stops)
        bulk.run(fragile(tiny_checkpoint), sources, out, resume=True)
    assert list(tmp_path.iterdir()) == [out]
    (tmp_path / "out.csv.journal.partial").write_bytes(b'{"name": "of one that was killed')
    again = fragile(tiny_checkpoint)
    bulk.run(again, sources, out, resume=True)
    assert again.judged == 1  # the one that could not be read
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_began_anew_goes_on_without_the_table_it_replaces(
    detector: Detector, sources: list[MemorySource], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    bulk.run(detector.with_thresholds(Thresholds(0.1, 0.9, custom=True)), sources, out)
    with pytest.raises(Interrupted):
        bulk.run(fragile(tiny_checkpoint, left=1), sources, out)
    again = fragile(tiny_checkpoint)
    bulk.run(again, sources, out, resume=True)
    assert again.judged == len(sources)


@pytest.mark.parametrize("suffix", bulk.SUFFIXES)
def test_a_table_is_taken_over_piece_by_piece(
    detector: Detector, sources: list[MemorySource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    out, sizes = tmp_path / ("out" + suffix), []

    def counted(rows: list[dict]) -> pd.DataFrame:
        sizes.append(len(rows))
        return rows_to_frame(rows)

    rows = [row for result in detector.classify_many(sources) for row in result.rows()]
    rows[1:2] = [rows[1] | {"face": face, "faces": 4} for face in range(4)]  # of one image, in several pieces
    frame = rows_to_frame(rows)
    (write_csv if suffix == ".csv" else write_parquet)(frame, out)
    before = table(out)
    monkeypatch.setattr(bulk, "_CHUNK", 2)
    monkeypatch.setattr(bulk, "rows_to_frame", counted)
    summary = bulk.run(detector, sources, out, resume=True)
    assert summary.taken_over == len(sources) - 1
    assert max(sizes) == 5 < len(rows)  # of two images, when they are written
    pd.testing.assert_frame_equal(table(out), before, check_exact=True)


def as_known(table: Path) -> bulk.Known:
    """What a finished table says, for every source with one of its names."""
    rows = json.loads(pd.read_parquet(table).to_json(orient="records", double_precision=15))

    def known(left: Sequence) -> Iterator[tuple[str, list[dict]]]:
        for source in left:
            if found := [row for row in rows if row["path"] == source.name]:
                yield source.name, found

    return known


def test_what_is_known_is_not_judged_but_for_unreadable_files(
    sources: list[MemorySource], picture: Picture, tiny_checkpoint: Path, one_face: None, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    bulk.run(fragile(tiny_checkpoint), sources, whole)
    seen: list[int] = []
    detector = fragile(tiny_checkpoint)
    more = [MemorySource("new.png", picture(50)), *sources]
    summary = bulk.run(
        detector, more, out, known=as_known(whole), progress=lambda done, of: seen.append(done), batch_size=2
    )
    assert detector.judged == 2  # the new one, and the one that could not be read
    assert (summary.images, summary.taken_over, summary.known) == (8, 6, 6)
    assert seen == [6, 7, 8]
    assert names_of(out) == [source.name for source in more]
    pd.testing.assert_frame_equal(table(out)[1:].reset_index(drop=True), table(whole), rtol=1e-12)


def test_what_another_detector_said_is_left_aside(
    detector: Detector, sources: list[MemorySource], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.parquet"
    bulk.run(detector.with_thresholds(Thresholds(0.1, 0.9, custom=True)), sources, whole)
    again = fragile(tiny_checkpoint)
    summary = bulk.run(again, sources, tmp_path / "out.parquet", known=as_known(whole))
    assert (again.judged, summary.known) == (len(sources), 0)


@pytest.mark.parametrize("left", range(6))
def test_known_images_belong_to_no_batch(
    picture: Picture, tiny_checkpoint: Path, one_face: None, tmp_path: Path, left: int
) -> None:
    sources = [MemorySource(f"{index}.png", picture(index)) for index in range(12)]
    other, whole, pieces = (tmp_path / f"{name}.parquet" for name in ("other", "whole", "pieces"))
    bulk.run(Mixing.load(tiny_checkpoint), sources[1:8:2], other, batch_size=3)
    known = as_known(other)
    bulk.run(Mixing.load(tiny_checkpoint), sources, whole, batch_size=3, known=known)
    for stop in (left, 2):
        cut = Mixing.load(tiny_checkpoint)
        cut.left = stop
        with pytest.raises(Interrupted):
            bulk.run(cut, sources, pieces, resume=True, batch_size=3, known=known)
        # once something was judged, all that is known since would only shift the batches
        known = as_known(whole) if left >= 3 else known
    summary = bulk.run(Mixing.load(tiny_checkpoint), sources, pieces, resume=True, batch_size=3, known=known)
    pd.testing.assert_frame_equal(table(whole), table(pieces), check_exact=True)
    assert summary.known == 4


def test_two_processes_do_not_work_on_one_table(
    detector: Detector, sources: list[MemorySource], tmp_path: Path
) -> None:
    out, refused = tmp_path / "out.csv", []

    class Meddled(Detector):
        """While it judges, somebody begins the same run again."""

        def classify_many(self, sources, **options) -> Iterator:
            for result in super().classify_many(sources, **options):
                for resume in (True, False):
                    with pytest.raises(bulk.BulkError, match="another process is working on this run") as error:
                        bulk.run(detector, sources, out, resume=resume)
                    refused.append(error)
                yield result

    meddled = Meddled.load(detector.checkpoint.path)
    assert bulk.run(meddled, sources, out).images == len(sources)
    assert len(refused) == 2 * len(sources)
    assert not bulk.interrupted(out)
    bulk.run(detector, sources, tmp_path / "plain.csv")
    assert table(out).equals(table(tmp_path / "plain.csv"))


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
@pytest.mark.parametrize("moment", ["_take_over", "_write_table"])
def test_who_begins_while_another_takes_over_or_writes_is_refused(
    detector: Detector, sources: list[MemorySource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    out, step, refused = tmp_path / "out.csv", getattr(bulk, moment), []

    def meet(*about) -> None:
        for then in (lambda: None, lambda: step(*about)):  # before it, and after it
            then()
            for resume in (True, False):
                with pytest.raises(bulk.BulkError, match="another process is working on this run") as error:
                    bulk.run(detector, sources, out, resume=resume)
                refused.append(error)

    bulk.run(detector, sources, out)
    before = table(out)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, moment, meet)
        bulk.run(detector, sources, out, resume=True)
    assert len(refused) == 4
    assert table(out).equals(before)
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_killed_run_leaves_behind_stands_in_nobodys_way(
    sources: list[MemorySource], tiny_checkpoint: Path, one_face: None, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    bulk.run(fragile(tiny_checkpoint), sources, out)
    (tmp_path / "out.csv.lock").touch()
    (tmp_path / "out.csv.journal").touch()  # empty, which is no journal
    assert not bulk.interrupted(out)
    again = fragile(tiny_checkpoint)
    bulk.run(again, sources, out, resume=True)
    assert again.judged == 1  # the one that could not be read
    assert list(tmp_path.iterdir()) == [out]


def test_without_resume_everything_is_judged_again(
    sources: list[MemorySource], tiny_checkpoint: Path, one_face: None, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    bulk.run(fragile(tiny_checkpoint), sources, out)
    again = fragile(tiny_checkpoint)
    bulk.run(again, sources[:3], out)
    assert again.judged == 3
    assert len(pd.read_csv(out)) == 3


def test_runs_of_different_thresholds_are_not_mixed(
    detector: Detector, sources: list[MemorySource], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    bulk.run(detector, sources, out)
    before = out.read_bytes()
    other = detector.with_thresholds(Thresholds(0.1, 0.9, custom=True))
    with pytest.raises(bulk.BulkError, match="threshold_real"):
        bulk.run(other, sources, out, resume=True)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_foreign_table_is_not_taken_for_results(
    detector: Detector, sources: list[MemorySource], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(bulk.BulkError, match=r"out\.csv"):
        bulk.run(detector, sources, out, resume=True)
    assert out.read_text() == "a,b\n1,2\n"
    assert list(tmp_path.iterdir()) == [out]


def test_failures_are_named_and_verdicts_counted(
    detector: Detector, sources: list[MemorySource], tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    summary = bulk.run(detector, sources, tmp_path / "out.csv", progress=lambda *at: seen.append(at))
    assert [name for name, _ in summary.failed] == ["bad.png"]
    assert sum(summary.verdicts.values()) == summary.images == len(sources)
    assert seen == [(done, len(sources)) for done in range(len(sources) + 1)]


def test_every_face_is_in_the_journal_at_once(
    sources: list[MemorySource], tiny_checkpoint: Path, one_face: None, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        bulk.run(fragile(tiny_checkpoint, left=2), sources, tmp_path / "out.csv")
    lines = (tmp_path / "out.csv.journal").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["=1+1.png", "plain.png"]


def test_order_is_that_of_the_sources(detector: Detector, sources: list[MemorySource], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    bulk.run(detector, sources[::-1], out)
    assert names_of(out) == [source.name for source in sources[::-1]]
    bulk.run(detector, sources, out, resume=True)
    assert names_of(out) == [source.name for source in sources]


def test_no_images_make_an_empty_table(detector: Detector, tmp_path: Path) -> None:
    for suffix in bulk.SUFFIXES:
        bulk.run(detector, [], tmp_path / ("out" + suffix))
        found = table(tmp_path / ("out" + suffix))
        assert len(found) == 0
        assert set(found.columns) == set(COLUMNS) - {"elapsed_ms"}

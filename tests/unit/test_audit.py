"""Audit: every fault is found where it is put, and a clean set is left alone."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from model import audit, imaging
from model.dataset import from_source_set
from model.sources import MemorySource, SourceSet


def picture(seed, size=(96, 96)):
    """A smooth random picture: as different from the next as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def build(count=40, real=None, fake=None, **extra):
    """A set of `count` images per class; `real` and `fake` turn a seed into (suffix, bytes)."""

    def usual(seed):
        return "jpg", encoded(picture(seed))

    sources = []
    for name, make, offset in (("real", real or usual, 0), ("fake", fake or usual, 10_000)):
        for index in range(count):
            suffix, data = make(offset + index)
            sources.append(MemorySource(f"{name}/{index:03}.{suffix}", data))
    sources += [MemorySource(name, data) for name, data in extra.get("more", [])]
    return from_source_set(SourceSet(sources))


def of(findings, code):
    return [finding for finding in findings if finding.code == code]


def faces(count=200, fake_side=100.0, left_out=0):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], count)
    side = rng.normal(100, 5, 2 * count) + (fake_side - 100) * label
    p = rng.random(2 * count)
    p[count : count + left_out] = np.nan
    return pd.DataFrame(
        {
            "path": [f"{index}.jpg" for index in range(2 * count)],
            "label": label,
            "p_fake": p,
            "verdict": np.where(np.isnan(p), "not_applicable", "real"),
            "x0": 100 - side / 2, "x1": 100 + side / 2, "y0": 100 - side / 2, "y1": 100 + side / 2,
            "width": 200, "height": 200,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def clean():
    return build()


def test_groups_of_single_images_are_said_to_be_no_kinds():
    frame = pd.DataFrame({"label": [0, 1] * 60, "group": [f"person{index // 2}" for index in range(120)]})
    titles = [finding.title for finding in audit.too_few(frame)]
    assert "Groups of single images" in titles
    assert "Small groups" not in titles
    frame["group"] = [f"kind{index // 20}" for index in range(120)]
    assert "Small groups" in [finding.title for finding in audit.too_few(frame)]


def test_a_clean_set_has_no_finding_but_its_size(clean):
    findings = audit.audit(clean, None)
    assert {finding.code for finding in findings} == {"RC004"}


def test_findings_are_worst_first_and_ready_for_json(clean):
    findings = audit.audit(build(20, fake=lambda seed: ("png", encoded(picture(seed), "PNG"))))
    ranks = [audit.SEVERITIES.index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks, reverse=True)
    assert set(findings[0].to_dict()) == {"code", "title", "severity", "detail", "advice", "images"}
    assert json.loads(json.dumps(findings[0].to_dict())) == findings[0].to_dict()


def test_a_finding_names_each_image_once_and_not_too_many():
    names = ("b", "a", "b", *map(str, range(100)))
    found = audit.Finding("RC000", "", "info", "", "", names)
    assert found.images[:3] == ("b", "a", "0")
    assert len(found.images) == audit.MAX_NAMED


# --- RC001 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_real", "n_fake", "severity"),
    [(10, 10, None), (10, 29, None), (10, 30, "info"), (200, 10, "warning"), (10, 0, "severe"), (0, 10, "severe")],
)
def test_imbalance(n_real, n_fake, severity):
    found = audit.class_imbalance(pd.DataFrame({"label": [0] * n_real + [1] * n_fake}))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if severity == "severe":
        assert ("Add fake" if n_real else "Add real") in found[0].advice


# --- RC002 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fake", "told"),
    [
        (lambda seed: ("png", encoded(picture(seed), "PNG")), "file format"),
        (lambda seed: ("jpg", encoded(picture(seed, (128, 128)))), "picture size"),
        (lambda seed: ("jpg", encoded(picture(seed), quality=75)), "JPEG quantisation table"),
        (lambda seed: ("jpg", encoded(picture(seed), subsampling=0)), "JPEG chroma subsampling"),
        (lambda seed: ("jpg", encoded(picture(seed), comment=b"made by")), "kinds of metadata"),
        (lambda seed: ("jpg", encoded(picture(seed).filter(ImageFilter.GaussianBlur(4)))), "bytes per pixel"),
        (lambda seed: ("jpg", encoded(picture(seed).convert("L"))), "colour mode"),
        (lambda seed: ("jpeg", encoded(picture(seed))), "file suffix"),
    ],
)
def test_a_property_of_the_file_that_tells_the_label_is_found(fake, told):
    labelled = build(fake=fake)
    (finding,) = audit.format_leak(audit.file_facts(labelled.sources, labelled.frame["label"].tolist()))
    assert finding.severity == "severe"
    assert told in finding.detail


def test_a_mixture_that_is_the_same_in_both_classes_tells_nothing():
    def mixed(seed):
        size = (96, 96) if seed % 2 else (128, 128)
        kind = "PNG" if seed % 3 == 0 else "JPEG"
        return ("png" if kind == "PNG" else "jpg"), encoded(picture(seed, size), kind)

    labelled = build(60, real=mixed, fake=lambda seed: mixed(seed - 10_000 + 600))
    assert audit.format_leak(audit.file_facts(labelled.sources, labelled.frame["label"].tolist())) == []


def test_sizes_that_are_all_different_tell_nothing():
    def sized(seed):
        return "jpg", encoded(picture(seed, (90 + seed * 7 % 40, 90 + seed * 11 % 40)))

    labelled = build(60, real=sized, fake=lambda seed: sized(seed - 10_000 + 40))
    facts = audit.file_facts(labelled.sources, labelled.frame["label"].tolist())
    assert facts["size"].nunique() > 20
    assert audit.format_leak(facts) == []


def test_one_class_alone_cannot_leak(clean):
    facts = audit.file_facts(clean.sources, clean.frame["label"].tolist())
    assert audit.format_leak(facts[facts["label"] == 1]) == []


def test_unreadable_files_are_left_to_the_evaluation():
    labelled = build(5, more=[("fake/broken.jpg", b"broken"), ("real/empty.png", b"")])
    facts = audit.file_facts(labelled.sources, labelled.frame["label"].tolist())
    assert len(facts) == 10
    assert audit.audit(build(0, more=[("fake/broken.jpg", b"broken")]))  # nothing readable: no crash


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_one_damaged_file_costs_the_audit_that_file_alone(kind):
    """Decoders of these answer damage with errors of any kind."""
    whole = encoded(picture(1, (64, 64)), kind)
    damaged = [whole[:at] + b"\0" + whole[at + 1 :] for at in range(20, 300) if whole[at]]
    sources = [MemorySource(f"{number}.img", data) for number, data in enumerate([whole, *damaged])]
    facts = audit.file_facts(sources, [0] * len(sources))
    assert facts["name"].iloc[0] == "0.img"
    assert len(facts) < len(sources)


def test_files_are_looked_at_where_pictures_are_decoded():
    labelled = build(2)
    asked = []

    class Elsewhere:
        def glance(self, data, side):
            asked.append(data)
            return imaging.glance_here(data, side)

    with imaging.decoding_by(Elsewhere()):
        assert len(audit.file_facts(labelled.sources, [0] * 4)) == len(asked) == 4


def test_an_audit_can_be_ended_before_each_file(clean):
    class Ended(Exception):
        pass

    done = []

    def step():
        done.append(None)
        if len(done) == 3:
            raise Ended

    with pytest.raises(Ended):
        audit.audit(clean, step=step)


# --- RC003 ----------------------------------------------------------------------------------------


def test_the_same_file_under_both_labels_is_severe():
    data = encoded(picture(70_000))
    found = of(audit.audit(build(40, more=[("real/x.jpg", data), ("fake/x.jpg", data)])), "RC003")
    severe = [finding for finding in found if finding.severity == "severe"]
    assert len(severe) == 1
    assert "fake/x.jpg" in severe[0].detail
    assert set(severe[0].images) == {"real/x.jpg", "fake/x.jpg"}


def test_repeats_within_a_class_are_named():
    data = encoded(picture(50_000))
    (finding,) = of(audit.audit(build(40, more=[("real/x.jpg", data), ("real/y.jpg", data)])), "RC003")
    assert finding.title == "Repeated files"
    assert finding.detail.startswith("1 files repeat")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, quality=40),
        lambda image: encoded(image.resize((64, 64))),
        lambda image: encoded(image, "PNG"),
        lambda image: encoded(image.point(lambda level: min(255, int(level * 1.05)))),
    ],
    ids=["recompressed", "resized", "converted", "brighter"],
)
def test_near_duplicates_across_labels_are_found(change):
    labelled = build(20, more=[("real/x.jpg", encoded(picture(7_777))), ("fake/x.png", change(picture(7_777)))])
    (finding,) = of(audit.audit(labelled), "RC003")
    assert finding.title == "Nearly the same picture under both labels"
    assert "real/x.jpg and fake/x.png" in finding.detail


def test_different_pictures_are_no_pair(clean):
    facts = audit.file_facts(clean.sources, clean.frame["label"].tolist())
    assert audit.near_pairs(facts).empty
    assert audit.near_pairs(facts.iloc[:1]).empty


def test_a_set_full_of_near_duplicates_ends_the_search(monkeypatch):
    monkeypatch.setattr("model.audit._duplicates.MAX_PAIRS", 10)
    frames = build(30, real=lambda seed: ("jpg", encoded(picture(0), quality=60 + seed)))
    titles = [finding.title for finding in of(audit.audit(frames), "RC003")]
    assert "The set is full of near-duplicates" in titles


def test_the_hash_of_a_picture_changes_little_with_its_size():
    image = picture(3).convert("L")
    bits = np.unpackbits(audit.perceptual_hash(image) ^ audit.perceptual_hash(image.resize((48, 48))))
    other = np.unpackbits(audit.perceptual_hash(image) ^ audit.perceptual_hash(picture(4).convert("L")))
    assert bits.sum() <= audit.NEAR_BITS < other.sum()


# --- RC004 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_real", "n_fake", "severities"),
    [(20, 500, ["severe", "info"]), (100, 500, ["warning", "info"]), (500, 500, ["info"]), (1000, 1000, [])],
)
def test_few_images_weaken_claims(n_real, n_fake, severities):
    frame = pd.DataFrame({"label": [0] * n_real + [1] * n_fake, "group": ""})
    assert [finding.severity for finding in audit.too_few(frame)] == severities


def test_small_groups_are_named():
    frame = pd.DataFrame({"label": [0] * 1000 + [1] * 1000, "group": [""] * 1000 + ["gan"] * 980 + ["rare"] * 20})
    (finding,) = audit.too_few(frame)
    assert "1 of 2 groups" in finding.detail
    assert "rare (20)" in finding.detail


# --- RC005 ----------------------------------------------------------------------------------------


def test_faces_of_one_framing_are_left_alone():
    assert audit.framing_leak(faces()) == []
    assert audit.framing_leak(faces().query("label == 1")) == []


def test_larger_faces_in_one_class_are_found():
    (finding,) = audit.framing_leak(faces(fake_side=120))
    assert (finding.code, finding.severity) == ("RC005", "warning")
    assert "height of the face in pixels" in finding.detail
    assert "vertical position" not in finding.detail


@pytest.mark.parametrize(("each", "found"), [(14, 0), (15, 1)])
def test_the_framing_of_a_few_images_tells_nothing(each, found):
    images = faces(fake_side=120).groupby("label").head(each)
    assert len(audit.framing_leak(images)) == found


def test_the_framing_of_the_few_that_have_a_face_tells_nothing():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        images = faces(count=40).assign(y0=50.0, y1=rng.normal(150, 5, 80), x0=50.0, x1=rng.normal(150, 5, 80))
        images.loc[3:39, ["x0", "x1", "y0", "y1", "p_fake"]] = np.nan
        titles = [finding.title for finding in audit.framing_leak(images)]
        assert titles == ["One class is left out more often"]


def test_one_class_left_out_more_often_is_found():
    (finding,) = audit.framing_leak(faces(left_out=60))
    assert "0.0 % of the real and 30.0 % of the fake" in finding.detail


def test_predictions_without_geometry_are_accepted():
    assert audit.framing_leak(faces()[["path", "label", "p_fake", "verdict"]]) == []

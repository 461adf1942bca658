from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from dashboard.settings import Settings, unknown_variables


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reality-check.toml").write_text("max_upload_mb = 5\nkeep_days = 1.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REALITY_CHECK_MAX_UPLOAD_MB", "7")
    settings = Settings()
    assert (settings.max_upload_mb, settings.keep_days) == (7, 1.5)


def test_an_unknown_setting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reality-check.toml").write_text("folder_root = []\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match="folder_root"):
        Settings()


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one() -> None:
    assert unknown_variables(["REALITY_CHECK_THREAD", "reality_check_threads", "REALITY_CHECK_CACHE_DIR", "HOME"]) == {
        "REALITY_CHECK_THREAD": "REALITY_CHECK_THREADS"
    }
    assert unknown_variables(["REALITY_CHECK_KEEP_DAY"]) == {"REALITY_CHECK_KEEP_DAY": "REALITY_CHECK_KEEP_DAYS"}


def test_roots_may_be_written_like_a_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALITY_CHECK_FOLDER_ROOTS", os.pathsep.join(["/data/a", "/data/b"]))
    assert Settings().folder_roots == (Path("/data/a"), Path("/data/b"))


def test_roles_come_from_a_table_or_from_json_and_no_other_role_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reality-check.toml").write_text('[roles]\n"ada@example.org" = "administrator"\n')
    monkeypatch.chdir(tmp_path)
    assert Settings().roles == {"ada@example.org": "administrator"}
    monkeypatch.setenv("REALITY_CHECK_ROLES", '{"bob": "viewer"}')
    assert Settings().roles == {"ada@example.org": "administrator", "bob": "viewer"}
    monkeypatch.setenv("REALITY_CHECK_ROLES", '{"bob": "root"}')
    with pytest.raises(ValidationError, match="roles"):
        Settings()

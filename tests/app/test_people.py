"""Who a visitor is, what that person may do and see, and what deleting one's data leaves behind."""

from __future__ import annotations

import ctypes
import io
import itertools
import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import memory, resources, session
from dashboard.guards import COOKIE, SECURE_COOKIE, token_of
from dashboard.jobs import Job, JobQueue
from dashboard.people import LOCAL, Visit, identify
from dashboard.settings import Settings, get_settings
from dashboard.start import check_room
from dashboard.store import BULK, DONE, INTERRUPTED, Run, RunStore, StoreError

from .conftest import archive, open_page, picture
from .test_pages import text_of
from .test_runs import bulk_run, click, until_finished

TOKEN, OTHER = "a" * 43, "b" * 43


def visit(**changes: Any) -> Visit:
    known: dict[str, Any] = {
        "user": {},
        "provider": False,
        "proxy_name": None,
        "cookies": {COOKIE: TOKEN},
        "alone": False,
        "tab": "t",
    }
    return Visit(**known | changes)


def key(seen: Visit, **settings: Any) -> str | None:
    person = identify(seen, Settings(**settings))
    return None if person is None else person.key


def test_a_browser_is_known_by_its_cookie_of_which_only_a_hash_is_kept() -> None:
    mine = key(visit())
    assert mine == key(visit(tab="another"))
    assert mine != key(visit(cookies={COOKIE: OTHER}))
    assert mine is not None and TOKEN not in mine
    assert key(visit(cookies={COOKIE: OTHER, SECURE_COOKIE: TOKEN})) == mine


@pytest.mark.parametrize("bad", ["", "short", "a" * 42, "a" * 44, "a" * 42 + "\n", "ä" * 43, "../" + "a" * 40])
def test_a_cookie_of_another_form_is_none(bad: str) -> None:
    assert token_of({COOKIE: bad}) is None
    assert key(visit(cookies={COOKIE: bad}, tab="1")) != key(visit(cookies={COOKIE: bad}, tab="2"))


def test_without_a_cookie_only_a_server_on_ones_own_machine_knows_the_visitor_again() -> None:
    assert key(visit(cookies={}, alone=True)) == LOCAL
    assert key(visit(cookies={}, tab="1")) != key(visit(cookies={}, tab="2"))


def test_with_an_identity_provider_nobody_gets_in_without_signing_in() -> None:
    ada = {"is_logged_in": True, "iss": "https://id.example", "sub": "1", "email": "ada@example.org", "name": "Ada"}
    assert identify(visit(provider=True), Settings()) is None
    assert identify(visit(provider=True, user={"is_logged_in": False, "sub": "1"}), Settings()) is None
    assert identify(visit(provider=True, user={"is_logged_in": True}), Settings()) is None
    assert identify(visit(), Settings(sign_in=True)) is None
    person = identify(visit(provider=True, user=ada), Settings())
    assert person is not None and person.name == "Ada"
    assert key(visit(provider=True, user=ada, cookies={COOKIE: OTHER})) == person.key  # on every device
    assert key(visit(provider=True, user=ada | {"iss": "https://evil.example"})) != person.key
    assert key(visit(provider=True, user=ada | {"email": "renamed@example.org"})) == person.key
    assert key(visit(provider=True), sign_in=False) == key(visit())


def test_a_proxy_that_is_trusted_must_name_the_visitor() -> None:
    assert identify(visit(proxy_name=""), Settings()) is None
    person = identify(visit(proxy_name="ada"), Settings(roles={"Ada": "viewer"}))
    assert person is not None and (person.name, person.role) == ("ada", "viewer")


def test_the_proxy_names_the_visitor_in_its_header(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALITY_CHECK_PROXY_USER_HEADER", "X-Remote-User")
    get_settings.cache_clear()
    assert another(app).title[0].value == "Please sign in"
    monkeypatch.setattr(session.st.context.__class__, "headers", {"X-Remote-User": "ada"})
    assert "Signed in as **ada**" in text_of(open_page(another(app), "about"))


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"email": "ADA@example.org", "email_verified": "true"}, "administrator"),
        ({"email": "ada@example.org", "email_verified": True}, "administrator"),
        ({"email": "ada@example.org"}, "viewer"),
        ({"email": "ada@example.org", "email_verified": False}, "viewer"),
        ({"email": "bob@example.org"}, "viewer"),
        ({}, "viewer"),
    ],
)
def test_roles_go_by_verified_addresses(claims: dict[str, Any], role: str) -> None:
    user = {"is_logged_in": True, "iss": "i", "sub": "1"} | claims
    settings = Settings(roles={"ada@example.org": "administrator"}, default_role="viewer")
    person = identify(visit(provider=True, user=user), settings)
    assert person is not None
    assert (person.role, person.administers, person.may_run) == (role, role == "administrator", role != "viewer")


@pytest.fixture
def as_visitor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Be the visitor with this cookie from now on."""

    def become(token: str) -> None:
        monkeypatch.setattr(session.st.context.__class__, "cookies", _Cookies({COOKIE: token}))

    return become


class _Cookies(dict):
    to_dict = dict.copy


def another(app: AppTest) -> AppTest:
    return AppTest.from_file(app._script_path, default_timeout=60).run()


def test_a_run_is_seen_by_its_owner_alone(app: AppTest, as_visitor: Any) -> None:
    as_visitor(TOKEN)
    job = bulk_run(app, "mine.png")
    as_visitor(OTHER)
    for page in ("bulk", "evaluate"):
        stranger = another(app)
        stranger.query_params["run"] = job.id
        open_page(stranger, page)
        assert not stranger.exception
        assert "is gone" in stranger.warning[0].value
        assert "mine.png" not in text_of(stranger)
        assert not [
            button for button in stranger.button if button.label in ("Open", "Continue", "Delete this run for good")
        ]
    stranger.session_state[f"job_{BULK}"] = job.id  # as if the id had been learnt and put into the session
    open_page(stranger, "bulk")
    assert "mine.png" not in text_of(stranger)
    as_visitor(TOKEN)
    again = another(app)
    again.query_params["run"] = job.id
    open_page(again, "bulk")
    assert not again.warning
    assert {metric.label: metric.value for metric in again.metric}["Pictures"] == "1"


def test_a_tab_that_somebody_else_takes_over_shows_nothing_of_before(app: AppTest, as_visitor: Any) -> None:
    as_visitor(TOKEN)
    tab = another(app)
    tab.button(key=next(b.key for b in tab.button if b.key and b.key.startswith("sample_"))).click().run()
    assert tab.session_state["picture"] is not None
    as_visitor(OTHER)
    assert tab.run().session_state["picture"] is None
    assert not tab.exception


def test_runs_are_shared_where_that_is_set(app: AppTest, as_visitor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    as_visitor(TOKEN)
    job = bulk_run(app)
    as_visitor(OTHER)
    assert resources.job_queue().get(job.id, owner=session.person().key) is None
    monkeypatch.setenv("REALITY_CHECK_SHARED_RUNS", "true")
    get_settings.cache_clear()
    assert resources.job_queue().get(job.id, owner=session.owner()) is not None


def test_runs_of_a_time_without_owners_go_to_the_one_person_of_a_machine(app: AppTest) -> None:
    job = bulk_run(app)
    resources.job_queue().store.update(job.id, owner=None)
    other = open_page(another(app), "bulk")
    assert [button.key for button in other.button if button.label == "Open"] == [f"open_{job.id}"]


def test_deleting_my_data_deletes_it_all_and_says_so(app: AppTest, as_visitor: Any, app_home: Path) -> None:
    as_visitor(OTHER)
    theirs = bulk_run(another(app), "theirs.png", picture(seed=9))
    as_visitor(TOKEN)
    mine = [bulk_run(app, "one.png"), bulk_run(another(app), "two.png", picture(seed=5))]
    tab = another(app)
    tab.button(key=next(b.key for b in tab.button if b.key and b.key.startswith("sample_"))).click().run()
    assert tab.session_state["picture"] is not None
    content = picture()
    assert any(content in file.read_bytes() for file in (app_home / "data").rglob("*") if file.is_file())

    open_page(app, "about")
    assert "**2 runs** of yours" in text_of(app)
    delete = next(button for button in app.button if button.label == "Delete everything")
    assert delete.disabled
    app.checkbox(key="delete_sure").check().run()
    click(app, "Delete everything")
    assert not app.exception
    said = app.success[0].value
    assert "Deleted 2 runs with 2 uploaded files" in said
    assert "backups" in text_of(app)

    store = resources.job_queue().store
    assert [run.id for run in store.runs()] == [theirs.id]
    assert all(not job.folder.exists() for job in mine)
    files = [file.read_bytes() for file in (app_home / "data").rglob("*") if file.is_file()]
    assert not any(content in data or b"one.png" in data or mine[0].id.encode() in data for data in files)
    assert app.session_state["picture"] is None
    assert tab.run().session_state["picture"] is None  # another tab of the same person
    as_visitor(OTHER)
    other = another(app)
    other.query_params["run"] = theirs.id
    assert not open_page(other, "bulk").warning


def test_a_viewer_looks_and_does_not_run(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bulk_run(app)
    resources.job_queue().store.update(job.id, state="cancelled")
    monkeypatch.setenv("REALITY_CHECK_DEFAULT_ROLE", "viewer")
    get_settings.cache_clear()
    for page in ("bulk", "evaluate"):
        fresh = open_page(another(app), page)
        assert "not begin runs" in fresh.info[0].value
        assert not fresh.file_uploader
    fresh = another(app)
    fresh.query_params["run"] = job.id
    open_page(fresh, "bulk")
    assert not [button for button in fresh.button if button.label == "Continue"]
    with pytest.raises(ValueError, match="Your role"):
        check_room(resources.job_queue(), session.person(), get_settings())


def test_administration_is_for_administrators_and_shows_no_names(
    app: AppTest, as_visitor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_visitor(OTHER)
    job = bulk_run(app, "secret-name.png")
    as_visitor(TOKEN)
    session.remove_runs(resources.job_queue().store.runs())
    assert resources.job_queue().store.get(job.id) is not None
    monkeypatch.setenv("REALITY_CHECK_DEFAULT_ROLE", "administrator")
    get_settings.cache_clear()
    admin = open_page(another(app), "administration")
    assert not admin.exception
    shown = admin.dataframe[0].value
    assert list(shown["State"]) == [DONE]
    assert "secret-name" not in shown.to_csv() + text_of(admin)
    admin.query_params["run"] = job.id
    assert "is gone" in open_page(admin, "bulk").warning[0].value


def kept(store: RunStore, *names: str) -> list[str]:
    """Ids of new runs, of which nobody works on any; the last is the newest."""
    found = []
    for name in names:
        found.append(store.create(BULK, name, checkpoint="c", checkpoint_sha256="0" * 64, settings={}).id)
        store.release(found[-1])
    return found


@pytest.fixture
def admin(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """A tab of an administrator, beside an application that has begun."""
    monkeypatch.setenv("REALITY_CHECK_DEFAULT_ROLE", "administrator")
    get_settings.cache_clear()
    return another(app)


def select(admin: AppTest, *rows: int) -> AppTest:
    """Select rows of the table of runs."""
    admin.session_state[admin.dataframe[0].key] = {"selection": {"rows": list(rows)}}
    return admin.run()


def test_an_administrator_deletes_what_was_selected_once_it_is_confirmed(admin: AppTest) -> None:
    store = resources.job_queue().store
    first, second, third = kept(store, "a", "b", "c")
    open_page(admin, "administration")
    select(admin, 0, 2)  # the newest first
    (button,) = (button for button in admin.button if button.label == "Delete 2 runs for good")
    assert button.disabled
    admin.checkbox[0].check().run()
    click(admin, "Delete 2 runs for good")
    assert [run.id for run in store.runs()] == [second]
    assert store.get(first) is None and store.get(third) is None
    select(admin, 0)
    assert not admin.checkbox[0].value  # confirmed for the others only


def test_runs_that_nobody_works_on_are_not_in_the_queue(admin: AppTest) -> None:
    kept(resources.job_queue().store, "dead", "dead too")
    open_page(admin, "administration")
    assert {metric.label: metric.value for metric in admin.metric}["In the queue"].startswith("0 of")
    assert list(admin.dataframe[0].value["State"]) == [INTERRUPTED] * 2


def test_a_selection_of_runs_does_not_outlive_the_rows_that_it_was_made_on(admin: AppTest) -> None:
    store = resources.job_queue().store
    kept(store, "a", "b")
    open_page(admin, "administration")
    select(admin, 0, 1)
    assert any(button.label == "Delete 2 runs for good" for button in admin.button)
    kept(store, "begun meanwhile")
    admin.run()
    (button,) = (button for button in admin.button if button.label.endswith("for good"))
    assert button.label == "Delete 0 runs for good" and button.disabled
    select(admin, 0)
    admin.checkbox[0].check().run()
    click(admin, "Delete 1 run for good")
    assert sorted(run.name for run in store.runs()) == ["a", "b"]
    assert not admin.dataframe[0].value.empty
    assert all(button.disabled for button in admin.button if button.label.endswith("for good"))


@pytest.mark.parametrize("error", [StoreError("The index is gone."), PermissionError(13, "Permission denied")])
def test_the_administration_page_stands_when_the_store_does_not(
    admin: AppTest, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(RunStore, "runs", fail)
    monkeypatch.setattr(RunStore, "free", fail)
    open_page(admin, "administration")
    assert not admin.exception
    assert {metric.label: metric.value for metric in admin.metric}["Runs kept"] == "—"
    assert ("The index is gone." if isinstance(error, StoreError) else "Permission denied") in admin.error[0].value


def test_nobody_passes_the_router_where_signing_in_is_needed(monkeypatch: pytest.MonkeyPatch, app: AppTest) -> None:
    monkeypatch.setenv("REALITY_CHECK_SIGN_IN", "true")
    get_settings.cache_clear()
    closed = another(app)
    assert not closed.exception
    assert closed.title[0].value == "Please sign in"
    assert not closed.file_uploader
    assert "has to configure" in closed.error[0].value


def test_one_signs_in_with_the_configured_provider(app: AppTest) -> None:
    visitor = AppTest.from_file(app._script_path, default_timeout=60)
    visitor.secrets["auth"] = {"client_id": "x", "redirect_uri": "http://localhost/oauth2callback"}
    visitor.user = {"is_logged_in": False}
    visitor.run()
    assert visitor.title[0].value == "Please sign in"
    assert [button.label for button in visitor.button] == ["Sign in"]
    visitor.user = {"is_logged_in": True, "iss": "i", "sub": "1", "name": "Ada *L*"}
    visitor.run()
    assert visitor.title[0].value == "Is this face real?"
    assert "Signed in as **Ada \\*L\\*** (analyst)" in text_of(open_page(visitor, "about"))


def test_a_purpose_is_asked_for_and_kept(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALITY_CHECK_CONFIRM_PURPOSE", "true")
    get_settings.cache_clear()
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("one.png", picture())
    app.run()
    assert next(button for button in app.button if button.label == "Start").disabled
    app.text_input(key="bulk_purpose").set_value("because").run()
    app.checkbox(key="bulk_sure").check().run()
    assert next(button for button in app.button if button.label == "Start").disabled
    app.text_input(key="bulk_purpose").set_value("  check reader   pictures for the story ").run()
    click(app, "Start")
    until_finished(app, BULK)
    (run,) = resources.job_queue().store.runs()
    assert run.purpose == "check reader pictures for the story"
    assert json.loads((run.folder / "run.json").read_text())["purpose"] == run.purpose


def made(store: RunStore, owner: str, size: int = 0) -> Run:
    run = store.create(BULK, "x", checkpoint="c", checkpoint_sha256="0", settings={}, owner=owner)
    (run.uploads / "0.bin").write_bytes(bytes(size))
    store.release(run.id)
    return run


def test_one_person_cannot_fill_queue_or_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = JobQueue(store := RunStore(tmp_path / "runs"))
    settings = Settings(owner_queued_jobs=2, owner_stored_mb=1, min_free_mb=0)
    me, you = (identify(visit(cookies={COOKIE: token}), settings) for token in (TOKEN, OTHER))
    assert me is not None and you is not None
    first, second = made(store, me.key), made(store, me.key)
    assert store.claim(first.id) and store.claim(second.id)
    with pytest.raises(RuntimeError, match="2 runs of yours"):
        check_room(queue, me, settings)
    check_room(queue, you, settings)
    store.update(first.id, state=DONE)
    check_room(queue, me, settings)
    (second.uploads / "1.bin").write_bytes(bytes(2**20))
    with pytest.raises(ValueError, match="more than 1 MB"):
        check_room(queue, me, settings)
    monkeypatch.setattr(RunStore, "free", lambda self: 2**20)
    with pytest.raises(StoreError, match="nearly full"):
        check_room(queue, you, Settings(min_free_mb=2))
    store.close()


def test_runs_that_nobody_works_on_do_not_count(tmp_path: Path) -> None:
    queue = JobQueue(store := RunStore(tmp_path / "runs"))
    settings = Settings(owner_queued_jobs=2, min_free_mb=0)
    me = identify(visit(cookies={COOKIE: TOKEN}), settings)
    assert me is not None
    for _ in range(2):
        made(store, me.key)
    check_room(queue, me, settings)


def test_uploads_go_with_their_tab(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
    from streamlit.runtime.uploaded_file_manager import UploadedFileRec

    manager = MemoryUploadedFileManager("/upload")
    for tab in ("open", "closed"):
        manager.add_file(tab, UploadedFileRec("1", "a.png", "image/png", b"x" * 100))
    server = type("Runtime", (), {"uploaded_file_mgr": manager, "is_active_session": lambda self, tab: tab == "open"})()
    monkeypatch.setattr(memory.runtime, "exists", lambda: True)
    monkeypatch.setattr(memory.runtime, "get_instance", lambda: server)
    own = memory.Tabs()
    monkeypatch.setattr(memory, "tabs", own)
    own.seen("open", "ada")
    own.seen("closed", "ada")
    assert memory.held() == 200
    closed = memory.swept({}, 60)
    assert list(closed) == ["closed"] and memory.held() == 200
    assert memory.swept({"closed": closed["closed"] - 61}, 60) == {}
    assert (memory.held(), len(own)) == (100, 1)
    assert memory.forget(own.delete("ada")) == 100
    assert memory.held() == 0
    assert own.seen("open", "ada") == 1


def test_an_upload_goes_once_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
    from streamlit.runtime.uploaded_file_manager import UploadedFileRec

    manager = MemoryUploadedFileManager("/upload")
    for number in ("1", "2"):
        manager.add_file("mine", UploadedFileRec(number, "a.png", "image/png", b"x" * 100))
    manager.add_file("theirs", UploadedFileRec("1", "a.png", "image/png", b"x" * 100))
    monkeypatch.setattr(memory, "_manager", lambda: manager)
    monkeypatch.setattr(memory, "get_script_run_ctx", lambda: type("Context", (), {"session_id": "mine"})())
    memory.release([type("Upload", (), {"file_id": "1"})(), io.BytesIO(b"not an upload")])
    assert [record.file_id for record in manager.get_files("mine", ["1", "2"])] == ["2"]
    assert memory.held() == 200


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc can be asked for it")
def test_what_was_freed_in_the_middle_of_a_heap_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    blocks = [b"x" * 50_000 for _ in range(4_000)]
    blocks = blocks[::100]  # what stays keeps the heap from shrinking at its end
    before = resident()
    assert memory.trim()
    assert before - resident() > 150e6
    assert len(blocks) == 40


def test_keys_of_the_picture_inputs_differ_from_the_last_and_come_round_again(app: AppTest) -> None:
    open_page(app, "classify")
    keys = []
    for _ in range(9):
        (upload,) = app.file_uploader
        keys.append(upload.key)
        upload.upload("one.png", picture()).run()
        click(app, "Check another picture")
    assert all(one != other for one, other in itertools.pairwise(keys))
    assert len(set(keys)) < 6


def test_an_archive_of_a_run_that_is_deleted_while_it_waits_goes_too(app: AppTest) -> None:
    queue = resources.job_queue()
    queue._pool.submit(time.sleep, 1.0)
    open_page(app, "bulk")
    app.file_uploader(key="bulk_files").upload("set.zip", archive({"a/one.png": picture()}))
    app.run()
    click(app, "Start")
    (run,) = queue.store.runs(owner=LOCAL)
    queue.remove(Job.of(run))
    assert queue.store.runs() == []
    end = time.monotonic() + 20
    while run.folder.exists():
        assert time.monotonic() < end
        time.sleep(0.05)

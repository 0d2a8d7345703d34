import pytest

from serve_app.local import preflight
from serve_app.local.database import DatabaseUnsuitable, require_major, url_of_login
from serve_app.local.errors import Refused
from serve_app.local.setting_names import require_known


def test_too_little_memory_is_refused_with_both_numbers():
    with pytest.raises(Refused, match=r"only 2\.0 GiB of memory is available, at least 3 GiB is needed"):
        preflight.require_memory("MemTotal: 9000000 kB\nMemAvailable:    2097152 kB\n")


def test_enough_memory_and_an_unknown_amount_pass():
    preflight.require_memory("MemAvailable:    3145728 kB\n")
    preflight.require_memory("")
    assert preflight.available_bytes("MemAvailable: 1 kB") == 1024
    assert preflight.available_bytes("") is None


def test_an_old_python_is_refused():
    with pytest.raises(Refused, match=r"this is Python 3\.10, at least 3\.11 is needed"):
        preflight.require_python((3, 10))


def test_missing_instructions_are_refused_by_name():
    with pytest.raises(Refused, match="the processor lacks avx2, fma") as refused:
        preflight.require_instructions(("avx2", "fma"))
    assert "Ollama" in refused.value.hint


def test_a_server_below_postgresql_15_is_refused():
    with pytest.raises(DatabaseUnsuitable, match="version 14, at least 15 is needed"):
        require_major(14)


@pytest.mark.parametrize(
    ("admin", "expected"),
    [
        ("postgresql://postgres:a@/gfe?host=/tmp/x&port=5432", "postgresql://r:p%40@/gfe?host=/tmp/x&port=5432"),
        ("postgresql://admin:a@db.example:6000/books?sslmode=require", "postgresql://r:p%40@db.example:6000/books?sslmode=require"),
        ("dbname=gfe user=me", "postgresql://r:p%40@localhost:5432/gfe"),
    ],
)
def test_a_login_gets_the_administrators_url_with_its_own_name(admin, expected):
    assert url_of_login(admin, "r", "p@") == expected


def test_a_mistyped_setting_is_refused_with_the_nearest_name():
    with pytest.raises(Refused) as refused:
        require_known(["PATH", "GFE_SLOTS", "GFE_JOB_PRISE"])
    assert "GFE_JOB_PRISE" in refused.value.what
    assert "GFE_JOB_PRICE" in refused.value.hint


def test_a_name_like_no_other_is_refused_too():
    with pytest.raises(Refused, match="GFE_ZZZZZZZZZZZZZ"):
        require_known(["GFE_ZZZZZZZZZZZZZ"])

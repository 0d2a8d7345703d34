"""Secrets of several machines: each service gets what it reads, nobody gets more, and the parts start from them."""

import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from ledger.identity.signing_keys import SigningKeys
from ledger.settings import LedgerSettings
from serve_app.auditor.settings import AuditorSettings
from serve_app.cli import app
from serve_app.dashboard_guard.settings import RAY_TOKEN, GuardSettings
from serve_app.local import database, fleet_secrets
from serve_app.local.errors import Refused
from serve_app.settings import ServeSettings

URL = "postgresql://admin:pw@db.example:5433/gfe?sslmode=require"
PRIVATE = (
    "api_key_pepper",
    "service_serve.pem",
    "service_edge.pem",
    "service_auditor.pem",
    "service_guard.pem",
    "auditor_sealing.key",
    "batch_key",
    "webhook_root",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet") / "secrets"
    fleet_secrets.make(folder, URL, ["gfe-ledger", "192.0.2.7"])
    return folder


def test_what_is_private_has_one_owner(made):
    assert {path.name for path in made.iterdir()} == {*fleet_secrets.FILES, "ray", "signing", "authority"}
    for name in PRIVATE:
        assert len(list(made.rglob(name))) == 1, name
    keys = [path.read_text() for path in made.rglob("internal.key")]
    assert len(keys) == len(set(keys)) == 6
    assert [path.parent.name for path in made.rglob("internal_ca.key")] == ["authority"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in [made, *made.rglob("*")])


def test_only_the_migrations_have_the_login_that_may_do_everything(made):
    assert [path.parent.name for path in made.rglob("*") if path.is_file() and "admin:pw" in path.read_text()] == ["database"]
    for folder, login in (("ledger", "ledger"), ("ledger", "pay"), ("serve", "serve")):
        role = database.LOGINS[login]
        password = (made / "database" / f"password_{role}").read_text()
        assert (made / folder / f"{login}_database_url").read_text() == (
            f"postgresql://{role}:{password}@db.example:5433/gfe?sslmode=require"
        )


def test_the_parts_read_what_they_need(made):
    serve = ServeSettings(secrets_dir=made / "serve", ledger_internal_url="https://gfe-ledger:8091")
    public = serve.secret("auditor_sealing.pub").decode()
    auditor = AuditorSettings(secrets_dir=made / "auditor", ledger_internal_url="https://gfe-ledger:8091")
    assert auditor.sealing_key().public_key().public_bytes_raw().hex() == public
    assert serve.secret("service_serve.pub.pem") == (made / "ledger" / "service_serve.pub.pem").read_bytes().strip()
    assert len((made / "ray" / "auth_token").read_text()) == 64
    guard = GuardSettings(secrets_dir=made / "guard", ledger_internal_url="https://gfe-ledger:8091")
    assert guard.secret(RAY_TOKEN) == (made / "ray" / "auth_token").read_text()
    ledger = LedgerSettings(secrets_dir=made / "ledger", ledger_socket=made / "s")
    assert len(ledger.secret("api_key_pepper")) == 64


def test_the_ledger_signs_with_the_key(made, tmp_path):
    (tmp_path / "jwt").symlink_to(made / "signing")
    (key,) = (made / "signing").iterdir()
    assert SigningKeys(tmp_path, "https://gpu.example").kid == key.stem.partition("-")[2]


def test_certificates_are_the_authoritys_and_fit_their_keys(made):
    authority = x509.load_pem_x509_certificate((made / "authority" / "internal_ca.crt").read_bytes())
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for service in ("ledger", *fleet_secrets.CALLERS):
        certificate = x509.load_pem_x509_certificate((made / service / "internal.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)
        key = load_pem_private_key((made / service / "internal.key").read_bytes(), None)
        assert key.public_key() == certificate.public_key()
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ledger = x509.load_pem_x509_certificate((made / "ledger" / "internal.crt").read_bytes())
    names = ledger.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gfe-ledger"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def test_nothing_is_written_over(made):
    with pytest.raises(Refused, match="is not empty"):
        fleet_secrets.make(made, URL, ["gfe-ledger"])


def test_the_command_names_the_folders(tmp_path):
    url = tmp_path / "url"
    url.write_text(f"{URL}\n")
    asked = ["admin", "secrets", str(tmp_path / "made"), "--database-url-file", str(url), "--ledger-host", "gfe-ledger", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["folders"] == sorted({*fleet_secrets.FILES, "ray", "signing"})
    assert (tmp_path / "made" / "database" / "admin_database_url").read_text() == URL
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 1
    missing = CliRunner().invoke(app, [*asked[:2], str(tmp_path / "other"), "--database-url-file", str(tmp_path / "none"), *asked[5:]])
    assert missing.exit_code == 1

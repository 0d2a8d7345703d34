"""The catalog for operators: which models may be offered."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from ledger.api.admin import Operator
from ledger.api.admin_shapes import Asked
from ledger.api.callers import Context, of
from ledger.api.routes import both, moment
from ledger.api.shapes import Moment
from ledger.operators import catalog
from ledger.operators.catalog import CatalogModel, Listed

router = APIRouter(prefix="/api/admin/catalog", redirect_slashes=False)
NAME = r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9._-])?$"  # a tag that is begun is not empty
Words = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]


class NewModel(Asked):
    """A model that may be offered."""

    name: Annotated[
        str, Field(min_length=1, max_length=290, pattern=NAME, description="As Ollama writes it; the tag `latest` is added where none is.")
    ]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its GGUF file, as `gfe nodes show --json` tells it.")]
    source: Annotated[Words, Field(description="Where it comes from.")]
    license: Words
    size_bytes: Annotated[int, Field(ge=1, le=10**15)]
    context_tokens: Annotated[int, Field(ge=1, le=10**8, description="Context that one job should have.")]


class CatalogRow(NewModel):
    """A model of the catalog."""

    added_at: Moment


class CatalogRows(BaseModel):
    """The catalog."""

    results: list[CatalogRow]


def _row(one: Listed) -> CatalogRow:
    return CatalogRow(**asdict(one.model), added_at=moment(one.added_at))


@both(router, "GET", "/", id="admin_list_catalog")
async def list_catalog(context: Context, caller: Operator) -> CatalogRows:
    """List the models that may be offered."""
    return CatalogRows(results=[_row(one) for one in await context.database.run(catalog.list_models)])


@both(router, "POST", "/", id="admin_add_to_catalog", status=201)
async def add_model(context: Context, caller: Operator, body: NewModel, request: Request) -> CatalogRow:
    """Take a model in, or in place of what its name meant before."""
    model = CatalogModel(**body.model_dump())
    return _row(await context.database.transact(lambda connection: catalog.add_model(connection, model, of(caller, request))))


@both(router, "DELETE", "/{name:path}/", id="admin_remove_from_catalog", status=204, refusals=(401, 403, 404, 503))
async def remove_model(context: Context, caller: Operator, name: str, request: Request) -> Response:
    """Take a model out: where the catalog is the law, it is not offered any more."""
    await context.database.transact(lambda connection: catalog.remove_model(connection, name, of(caller, request)))
    return Response(status_code=204)

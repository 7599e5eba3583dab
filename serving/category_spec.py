"""What a manifest says of the candidate cut."""

from pydantic import BaseModel, ConfigDict


class CategoryCutSpec(BaseModel):
    """Only items of the likeliest next categories are candidates: `serving.category_cut`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    column: str
    share: float
    """Least share of the catalogue that makes up the candidates."""

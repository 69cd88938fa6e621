"""The settings of tenants."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from trunkline.settings.kinds import LiveInt, Names
from trunkline.settings.naming import require_patterns

Patterns = Annotated[Names, AfterValidator(require_patterns)]


class TenantSettings(BaseModel):
    """Which tenants there are, and what is not a tenant's own, by patterns of names."""

    tenants_required: bool = Field(False, description="refuse credentials whose tenant has no record")
    metrics_tenants: LiveInt = Field(20, ge=0, description="tenants with a label of their own on /metrics")
    shared_topics: Patterns = Field((), description="topics that all tenants have in common")
    shared_methods: Patterns = Field((), description="names under which clients serve methods to all tenants")
    shared_collections: Patterns = Field((), description="collections that all tenants have in common")

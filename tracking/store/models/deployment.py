"""What deployments need to know."""

from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class CodeRevision(Base):
    """A revision whose code runs on the schema as it is: kept by the migrations."""

    __tablename__ = "code_revisions"

    revision: Mapped[str] = mapped_column(primary_key=True)

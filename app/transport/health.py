"""GET /healthz and /readyz."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.domain.errors import ServiceError
from app.transport.admission import Admission


class Health:
    """Alive as soon as it answers; ready from the end of its start until its shutdown."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.started = False

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.started and not self._admission.closing

    async def healthz(self, request: Request) -> JSONResponse:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> JSONResponse:
        """The service takes requests; 503 when not."""
        if not self.ready:
            raise ServiceError("The service is not ready.", code="not_ready", status=503)
        return JSONResponse({"status": "ready"})

"""GET /healthz and /readyz."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.transport.admission import Admission
from app.wire.errors import HttpError


class Health:
    """Healthy as soon as it responds; ready from the end of startup until the shutdown begins."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.started = False

    @property
    def ready(self) -> bool:
        """Whether requests are accepted."""
        return self.started and not self._admission.closing

    async def healthz(self, request: Request) -> JSONResponse:
        """Return 200: the process responds."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> JSONResponse:
        """Return 200 if the service accepts requests. Raise HttpError with status 503 otherwise."""
        if not self.ready:
            raise HttpError(503, "The service is not ready.", code="not_ready")
        return JSONResponse({"status": "ready"})

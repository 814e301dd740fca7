"""A FastAPI application: run it with `uvicorn shop:app`."""

from fastapi import FastAPI
from loguru import logger

import chatscope

chatscope.configure(service_name="shop")
app = FastAPI()


@app.get("/items/{item_id}")
async def item(item_id: int) -> dict[str, int]:
    """Show one item."""
    logger.bind(item=item_id).info("item shown")
    return {"id": item_id}


@app.get("/broken")
async def broken() -> None:
    """Raise, to see what a bug looks like."""
    raise RuntimeError("out of stock")


app = chatscope.instrument(app)

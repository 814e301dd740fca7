"""Example programs that use the installed package."""

from tests.unit.package.environment import Environment, stop

# The service name of every program.
SERVICE = "shop"
_CELERY = """
import logging
import chatscope
from celery import Celery
from opentelemetry import trace
from opentelemetry.metrics import get_meter

chatscope.configure(service_name="shop")
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control",
    "polling_interval": 0.05,
}
done = get_meter("shop").create_counter("orders")

@app.task
def order(number):
    with trace.get_tracer("shop").start_as_current_span("order", attributes={"number": number}):
        logging.getLogger("shop").warning("order %d", number)
        done.add(1)
"""
_SCRIPT = """
import logging, sys, time
import chatscope
from opentelemetry import trace
from opentelemetry.metrics import get_meter

chatscope.configure(service_name="shop")
with trace.get_tracer("shop").start_as_current_span("work"):
    logging.getLogger("shop").warning("working")
get_meter("shop").create_counter("work_done").add(1)
print("worked", flush=True)
if sys.argv[1:] == ["wait"]:
    time.sleep(60)
"""
_WORKER = (
    *("celery", "-A", "tasks", "worker", "-c", "2", "-l", "INFO"),
    *("--without-mingle", "--without-gossip"),
)


def write_script(environment: Environment) -> str:
    """Write a script that records one span, one log record and one count; return its name."""
    (environment.folder / "script.py").write_text(_SCRIPT)
    return "script.py"


def run_orders(environment: Environment, endpoint: str, count: int, **variables: str) -> str:
    """Send Celery tasks and run a worker until they are done; return the worker's output.

    Each task records a span `order`, a log record and a count of `orders`.
    """
    folder = environment.folder
    (folder / "tasks.py").write_text(_CELERY)
    for name in ("queue", "control"):
        (folder / name).mkdir(exist_ok=True)
    send = f"import tasks\nfor number in range({count}): tasks.order.delay(number)"
    with environment.running(endpoint, "python", "-c", send) as sender:
        output, _ = sender.communicate(timeout=240)
        assert sender.returncode == 0, output
    with environment.running(endpoint, *_WORKER, **variables) as process:
        assert process.stdout is not None
        done = 0
        while done < count:
            line = process.stdout.readline()
            assert line
            done += "succeeded" in line
        return stop(process)

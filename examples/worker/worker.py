"""A pool of forked worker processes: run it with `python worker.py`.

Each process has an instance ID of its own, and delivers what it recorded before it ends.
"""

import logging
import multiprocessing

from opentelemetry import metrics, trace

import chatscope

logger = logging.getLogger("worker")
tracer = trace.get_tracer("worker")
jobs = metrics.get_meter("worker").create_counter("worker.jobs", "{job}", "Jobs that were done.")


def work(number: int) -> int:
    """Do one job."""
    with tracer.start_as_current_span("job", attributes={"job.number": number}):
        logger.info("job %d done", number)
        jobs.add(1)
        return number * number


def main() -> None:
    """Do twenty jobs in two processes."""
    logging.basicConfig(level=logging.INFO)
    chatscope.configure(service_name="worker")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sum(pool.map(work, range(20))))
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()

"""Machine instructions of a request, a chunk, a span and a record, beside committed figures."""

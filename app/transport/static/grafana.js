// Links to Grafana: one query, from shortly before a response until shortly after it.

const MARGIN_MS = 60_000;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Links of one Grafana; all are null if its address is unknown. */
export class Grafana {
  /** `address`: of Grafana; `service`: the service's name in telemetry. */
  constructor(address, service) {
    this.home = address ? reachable(address) : null;
    this.service = service;
    this.clockOffset = 0; // ms that the service's clock is ahead of this one
  }

  /** The trace of a response. */
  trace(traceId, from, to) {
    const query = { queryType: "traceql", query: traceId };
    return this.#explore("tempo", query, from, to);
  }

  /** The log lines of a response. */
  logs(traceId, from, to) {
    const expr = `{service_name="${this.service}"} | trace_id="${traceId}"`;
    return this.#explore("loki", { expr, queryType: "range" }, from, to);
  }

  /** The turns of a conversation that began at `from`. */
  conversation(id, from) {
    const time = new URLSearchParams({ from: this.#time(from - MARGIN_MS), to: "now" });
    return this.home
      && `${this.home}/d/chatscope-conversations?var-conversation=${encodeURIComponent(id)}&${time}`;
  }

  #explore(datasource, query, from, to) {
    const source = { type: datasource, uid: datasource };
    const range = { from: this.#time(from - MARGIN_MS), to: this.#time(to + MARGIN_MS) };
    const pane = { datasource, queries: [{ refId: "A", datasource: source, ...query }], range };
    const panes = encodeURIComponent(JSON.stringify({ a: pane }));
    return this.home && `${this.home}/explore?schemaVersion=1&orgId=1&panes=${panes}`;
  }

  #time(ms) {
    return String(Math.round(ms + this.clockOffset));
  }
}

/** The service calls its own machine by a loopback address, which means another one elsewhere. */
function reachable(address) {
  const url = new URL(address);
  if (LOOPBACK.test(url.hostname) && !LOOPBACK.test(location.hostname)) {
    url.hostname = location.hostname;
  }
  return url.href.replace(/\/$/, "");
}

// One question and its response on the page.
import { button, copyButton, element, shape } from "./elements.js";
import { MarkdownView } from "./markdown.js";
import { Marks, seconds, showTimeline, speed } from "./timeline.js";

const NOTES = {
  cancelled: "Stopped.",
  length: "Cut: the response reached its maximum length.",
  content_filter: "Cut by the provider's content filter.",
};
const LOST = "The connection was lost before the response had ended.";

const THUMB = "M2 9h3v9H2zM7 18V9l4-7q2 0 2 2l-1 4h6q1 0 1 1l-2 8q0 1-1 1z";

/** Shows a turn: `{ question, text, model, marks, conversationId, traceId, done, error }`.
 *
 * Exactly one of `done` and `error` is set when it has ended. */
export class TurnView {
  #waiting = element("p", "waiting", "Sending …");
  #body = element("div", "response");
  #markdown;
  #timer = 0;

  /** `page` has the drawer, `grafana`, `onRender()`, `retry(turn)` and `rate(turn, label)`. */
  constructor(turn, page) {
    this.turn = turn;
    this.page = page;
    const question = element("article", "user", element("h2", "hidden", "Question"), turn.question);
    question.dir = "auto";
    this.response = element("article", "assistant", element("h2", "hidden", "Response"));
    this.elements = [question, this.response];
    this.#markdown = new MarkdownView(this.#body, page.onRender);
  }

  /** Show that the request was sent. */
  start() {
    this.turn.marks = new Marks();
    this.response.append(this.#waiting, this.#body);
    this.#timer = setInterval(() => this.#showWaiting(), 1000);
  }

  /** Show that the service calls the model. */
  accepted({ model, trace_id: traceId, conversation_id: conversationId }) {
    this.turn.marks.accept();
    Object.assign(this.turn, { model, traceId, conversationId });
    this.#showWaiting();
  }

  /** Show a chunk. */
  chunk(text) {
    this.turn.marks.chunk(text);
    this.turn.text += text;
    this.#waiting.remove();
    this.#markdown.append(text);
  }

  /** Show the end, with figures or an error. */
  end({ done = null, error = null, traceId = this.turn.traceId }) {
    clearInterval(this.#timer);
    this.turn.marks.finish();
    Object.assign(this.turn, { done, error, traceId });
    if (done) this.turn.conversationId = done.conversation_id;
    this.#showEnd();
  }

  /** Show a turn of an earlier visit; one that had not ended then is lost. */
  restore() {
    if (!this.turn.done && !this.turn.error) this.turn.error = { message: LOST };
    this.response.append(this.#body);
    if (this.turn.text) this.#markdown.append(this.turn.text);
    this.#showEnd();
  }

  remove() {
    for (const each of this.elements) each.remove();
  }

  #showWaiting() {
    const { marks, model } = this.turn;
    const time = Math.floor((Date.now() - marks.sent) / 1000);
    const what = marks.accepted === null ? "Sending …" : `Waiting for ${model} …`;
    this.#waiting.textContent = time < 1 ? what : `${what} ${time} s`;
  }

  #showEnd() {
    const { turn } = this;
    this.#waiting.remove();
    this.#markdown.end();
    if (turn.done) this.response.append(...this.#notes(), this.#facts());
    else this.response.append(this.#error());
    this.response.append(this.#actions());
  }

  #notes() {
    const { text, done } = this.turn;
    const notes = [NOTES[done.finish_reason]];
    if (!text && done.finish_reason !== "cancelled") notes.unshift("The response is empty.");
    return notes.filter(Boolean).map((note) => element("p", "note", note));
  }

  #facts() {
    const { done } = this.turn;
    const { usage, cost } = done;
    const perSecond = speed(done);
    const facts = [
      done.model,
      seconds(done.seconds),
      done.first_token_seconds !== null && `first token ${seconds(done.first_token_seconds)}`,
      perSecond && `${perSecond.toFixed(perSecond < 10 ? 1 : 0)} tokens/s`,
      usage && `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`,
      cost !== null && `$${cost.toFixed(6)}`,
    ];
    return element("div", "facts",
      ...facts.filter(Boolean).map((fact) => element("span", "", fact)));
  }

  #error() {
    const { message, code, provider } = this.turn.error;
    const reasons = [
      code && `Code ${code}`,
      provider?.status && `provider's status ${provider.status}`,
      provider?.code && `provider's code ${provider.code}`,
    ].filter(Boolean);
    const shown = element("div", "error", element("p", "", message),
      reasons.length ? element("p", "code", reasons.join(" · ")) : null);
    shown.setAttribute("role", "alert");
    return shown;
  }

  #actions() {
    const { turn, page } = this;
    const line = element("div", "actions");
    if (turn.error) line.append(button("Retry", () => page.retry(this)));
    if (turn.text) line.append(copyButton("Copy", "Copy the response", () => turn.text));
    line.append(...this.#links(), button("Timeline", () => showTimeline(page.drawer, turn)));
    if (turn.done && turn.traceId) line.append(...this.#ratings());
    if (turn.traceId) {
      line.append(element("span", "trace", "trace", element("code", "", turn.traceId),
        copyButton("Copy", "Copy the trace ID", () => turn.traceId)));
    }
    return line;
  }

  #links() {
    const { traceId, conversationId, marks } = this.turn;
    const { grafana, conversationStart } = this.page;
    if (!traceId || !grafana.home) return [];
    const end = marks.sent + (marks.end ?? 0);
    return [
      link("Trace", grafana.trace(traceId, marks.sent, end)),
      link("Logs", grafana.logs(traceId, marks.sent, end)),
      conversationId
        && link("Conversation", grafana.conversation(conversationId, conversationStart())),
    ].filter(Boolean);
  }

  #ratings() {
    const { turn } = this;
    const buttons = [["good", "Good response"], ["bad", "Bad response"]].map(([label, name]) => {
      const made = button(thumb(), () => rate(label), name);
      made.dataset.label = label;
      return made;
    });
    const failure = element("span", "");
    failure.setAttribute("role", "status");
    const show = () => {
      for (const each of buttons) {
        each.disabled = Boolean(turn.rating);
        each.setAttribute("aria-pressed", String(each.dataset.label === turn.rating));
      }
    };
    const rate = async (label) => {
      const isSent = await this.page.rate(turn, label);
      failure.textContent = isSent ? "" : "The rating could not be sent.";
      show();
    };
    show();
    return [...buttons, failure];
  }
}

/** A thumb; the style turns it down. Not every system has a font with that sign. */
function thumb() {
  const made = shape("svg", { viewBox: "0 0 20 20", width: 14, height: 14, "aria-hidden": "true" });
  made.append(shape("path", { d: THUMB, fill: "none", stroke: "currentColor", "stroke-width": 1.5,
    "stroke-linejoin": "round" }));
  return made;
}

function link(text, address) {
  const made = element("a", "", text);
  made.href = address;
  made.target = "_blank";
  made.rel = "noopener";
  made.title = `${text} in Grafana`;
  return made;
}

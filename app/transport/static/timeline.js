// The timeline of one response: what the page saw, and what the service measured.
import { element, shape } from "./elements.js";

const MOST_POINTS = 300;
const WIDTH = 400;
const BAR_Y = 18;
const CURVE_Y = 44;
const CURVE_HEIGHT = 90;
const LONG_PAUSE = 0.2; // of the whole time

/** What happened to a request, in ms since it was sent. */
export class Marks {
  #zero = performance.now();

  constructor() {
    this.sent = Date.now(); // epoch ms
    this.accepted = this.first = this.last = this.end = null;
    this.chunks = this.characters = this.longestPause = this.pauseEnd = 0;
    this.points = []; // [ms, characters until then]
    this.step = 1; // chunks for each point
  }

  accept() {
    this.accepted = this.#now();
  }

  chunk(text) {
    const now = this.#now();
    if (this.first === null) this.first = now;
    else if (now - this.last > this.longestPause) {
      this.longestPause = now - this.last;
      this.pauseEnd = now;
    }
    this.last = now;
    this.characters += text.length;
    if (++this.chunks % this.step === 0) this.#add(now);
  }

  finish() {
    this.end = this.#now();
  }

  #add(now) {
    this.points.push([Math.round(now), this.characters]);
    if (this.points.length < MOST_POINTS) return;
    this.points = this.points.filter((_, index) => index % 2 === 1);
    this.step *= 2;
  }

  #now() {
    return performance.now() - this.#zero;
  }
}

/** Show the timeline of a turn in the drawer. */
export function showTimeline(dialog, turn) {
  const title = element("p", "note", turn.question.slice(0, 200));
  dialog.querySelector("div").replaceChildren(title, picture(turn.marks), table(turn));
  dialog.showModal();
}

/** Return seconds in a form for people. */
export function seconds(value) {
  if (value >= 60) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return value < 0.1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`;
}

/** Return tokens per second after the first one, or null. */
export function speed(done) {
  const { usage, seconds: all, first_token_seconds: first } = done;
  const time = all - (first ?? all);
  return usage?.completion_tokens > 1 && time > 0.001 ? (usage.completion_tokens - 1) / time : null;
}

function table({ marks, done, error }) {
  const rows = events(marks, done, error).filter(([, at]) => at !== null && at !== undefined);
  const body = element("tbody", "", ...rows.map(([what, at, by]) => element("tr", "",
    element("th", "", what), element("td", "right", at), element("td", "", by))));
  for (const cell of body.querySelectorAll("th")) cell.scope = "row";
  const names = ["Event", "After", "Measured by"].map((name) => element("th", "", name));
  for (const name of names) name.scope = "col";
  return element("table", "", element("thead", "", element("tr", "", ...names)), body);
}

function events(marks, done, error) {
  const ms = (value) => value === null ? null : seconds(value / 1000);
  const service = done?.seconds ?? null;
  const tokens = done && speed(done);
  return [
    ["Sent", `at ${new Date(marks.sent).toLocaleTimeString()}`, "page"],
    ["Accepted", ms(marks.accepted), "page"],
    ["First token sent", done?.first_token_seconds == null
      ? null : seconds(done.first_token_seconds), "service"],
    ["First token received", ms(marks.first), "page"],
    ["Longest pause", marks.longestPause ? ms(marks.longestPause) : null, "page"],
    ["Last token received", ms(marks.last), "page"],
    [error ? "Failed" : "End", ms(marks.end), "page"],
    ["Whole response", service === null ? null : seconds(service), "service"],
    ["Network and browser", service === null || marks.end === null
      ? null : ms(Math.max(0, marks.end - service * 1000)), "both"],
    ["Chunks", String(marks.chunks), "page"],
    ["Characters", marks.characters.toLocaleString("en"), "page"],
    ["Tokens per second", tokens ? tokens.toFixed(1) : null, "service"],
  ];
}

function picture(marks) {
  const whole = marks.end ?? marks.last ?? 1;
  const x = (ms) => (WIDTH * Math.min(ms, whole)) / Math.max(whole, 1);
  const first = marks.first ?? whole;
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${CURVE_Y + CURVE_HEIGHT + 18}`, role: "img" });
  svg.setAttribute("aria-label", `The first token after ${seconds(first / 1000)} of `
    + `${seconds(whole / 1000)}; the curve shows the characters received. Figures are below.`);
  svg.append(
    shape("rect", { class: "wait", y: BAR_Y, height: 14, width: x(first) }),
    shape("rect", { class: "receive", x: x(first), y: BAR_Y, height: 14, width: x(whole) - x(first) }),
    shape("rect", { class: "frame", y: CURVE_Y, height: CURVE_HEIGHT, width: WIDTH }),
  );
  if (marks.longestPause > whole * LONG_PAUSE) {
    svg.append(shape("rect", { class: "pause", x: x(marks.pauseEnd - marks.longestPause),
      y: CURVE_Y, height: CURVE_HEIGHT, width: x(marks.longestPause) }));
  }
  svg.append(shape("path", { class: "curve", d: curve(marks, x) }));
  svg.append(words(x(first), BAR_Y - 5, first < whole ? "first token" : "no token"));
  svg.append(words(0, CURVE_Y + CURVE_HEIGHT + 14, "0"));
  svg.append(words(WIDTH, CURVE_Y + CURVE_HEIGHT + 14, seconds(whole / 1000)));
  return svg;
}

function curve(marks, x) {
  const most = Math.max(marks.characters, 1);
  const y = (count) => CURVE_Y + CURVE_HEIGHT * (1 - count / most);
  const points = [[marks.first ?? 0, 0], ...marks.points, [marks.last ?? 0, marks.characters]];
  return points.map(([at, count], index) =>
    `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(count).toFixed(1)}`).join("");
}

function words(x, y, text) {
  const anchor = x < 60 ? "start" : x > WIDTH - 60 ? "end" : "middle";
  const made = shape("text", { x, y, "text-anchor": anchor, "font-size": 11, fill: "currentColor" });
  made.textContent = text;
  return made;
}

// The chat page: its controls, and what the service sends.
import { Chats, history } from "./chats.js";
import { Connection } from "./connection.js";
import { button, element } from "./elements.js";
import { Grafana } from "./grafana.js";
import { TurnView } from "./turn.js";

const EXAMPLES = [
  "What do a trace and its log records show about a slow response?",
  "Write a Python function that returns the mean of a list.",
  "Compare two headphones for 200 euros in a table.",
];
const FOLLOW_PX = 80; // from the end, within which the page follows a response
const TITLE_CHARACTERS = 40;
const TOO_LARGE = 1009; // close code

const $ = (id) => document.getElementById(id);
const facts = JSON.parse(document.querySelector("meta[name=chatscope]").content);
const grafana = new Grafana(facts.grafana, facts.service);
const chats = new Chats();
const models = new Map();
let key = sessionStorage.getItem("key") ?? ""; // if the service requires one
let answering = null; // the view of the response in progress
let known = null; // the chat that the service remembers as it is shown
let sendsHistory = true;
let followed = true; // whether the end of the talk is in sight

// What each turn needs of the page.
const page = {
  drawer: $("timeline"),
  grafana,
  onRender: follow,
  retry,
  rate,
  conversationStart: () => chats.current.turns[0]?.marks.sent ?? Date.now(),
};

// -- connection ---------------------------------------------------------------------------------

const connection = new Connection({
  // A browser sends no headers with a handshake, and a key in a URL would be recorded: the key is
  // offered as a subprotocol.
  protocols: () => key ? ["chatscope.v1", `chatscope.key.${key}`] : [],
  onMessage: take,
  onChange: connectionChanged,
  onRefused: askForKey,
});

const authorization = () => key ? { authorization: `Bearer ${key}` } : {};

async function askForKey() {
  const answer = await fetch("v1/models", { headers: authorization() }).catch(() => null);
  if (answer?.status !== 401) return;
  key = prompt("API key of this service")?.trim() ?? "";
  sessionStorage.setItem("key", key);
}

function connectionChanged(closeCode) {
  if (connection.isOpen) {
    if (!models.size) loadModels();
  } else {
    known = null; // the service's memory is that of the connection
    if (answering) end({ error: lostError(closeCode) });
  }
  update();
}

function lostError(closeCode) {
  if (closeCode !== TOO_LARGE) {
    return { message: "The connection was lost before the response had ended." };
  }
  sendsHistory = false;
  return { message: "The question and its history are larger than the service accepts "
    + "(MAX_BODY_BYTES). Retry sends the question alone." };
}

function take(message) {
  if (message.type === "error" && !answering) return say(message.error.message);
  if (!answering) return undefined;
  switch (message.type) {
    case "accepted": return answering.accepted(message);
    case "delta": return answering.chunk(message.content);
    case "done": return end({ done: message, traceId: message.trace_id });
    case "error": return end({ error: message.error, traceId: message.trace_id });
  }
  return undefined;
}

async function loadModels() {
  const answer = await fetch("v1/models", { headers: authorization() }).catch(() => null);
  if (!answer?.ok) return;
  const date = Date.parse(answer.headers.get("date"));
  // A header has whole seconds.
  if (Math.abs(date - Date.now()) > 2000) grafana.clockOffset = date - Date.now();
  for (const model of (await answer.json()).data) {
    if (model.architecture?.output_modalities?.includes("embeddings")) continue;
    models.set(model.id, model);
    $("model").append(new Option(model.id));
  }
  const chosen = sessionStorage.getItem("model");
  if (models.has(chosen)) $("model").value = chosen;
  showPrice();
}

// -- asking ---------------------------------------------------------------------------------------

function ask(question) {
  if (answering) return false;
  if (!connection.isOpen) {
    say("Not sent: there is no connection. Your text is kept.");
    return false;
  }
  const chat = chats.current;
  const turn = { question, text: "", done: null, error: null };
  const message = { type: "message", content: question, acknowledge: true, ...options() };
  if (known !== chat) message.history = sendsHistory ? history(chat) : [];
  connection.send({ ...message, conversation_id: chat.id });
  known = chat;
  answering = new TurnView(turn, page);
  answering.start();
  chat.turns.push(turn);
  $("talk").append(...answering.elements);
  followed = true;
  follow();
  showChats();
  update();
  return true;
}

function options() {
  const temperature = $("temperature").valueAsNumber;
  return {
    model: $("model").value || null,
    system: $("system").value.trim() || null,
    temperature: Number.isFinite(temperature) ? temperature : null,
  };
}

function end(how) {
  answering.end(how);
  answering = null;
  chats.save();
  follow();
  update();
}

function retry(view) {
  if (answering || !connection.isOpen) return say("Not sent: there is no connection.");
  const { turns } = chats.current;
  turns.splice(turns.indexOf(view.turn), 1);
  view.remove();
  known = null; // it may remember a part of the response
  return ask(view.turn.question);
}

function stop() {
  if (!answering) return;
  connection.send({ type: "cancel" });
  $("text").focus();
}

async function rate(turn, label) {
  const headers = { "content-type": "application/json", ...authorization() };
  const body = JSON.stringify({ label, trace_id: turn.traceId, model: turn.done.model });
  const sent = await fetch("v1/feedback", { method: "POST", headers, body }).catch(() => null);
  if (!sent?.ok) return false;
  turn.rating = label;
  chats.save();
  return true;
}

// -- what is shown ------------------------------------------------------------------------------

/** Show that something was not sent, where one types. */
function say(text) {
  $("lost").hidden = false;
  $("lost").firstElementChild.textContent = text;
}

function update() {
  const { isOpen } = connection;
  const isLost = !isOpen && connection.wasOpen;
  $("state").textContent = answering ? "answering …"
    : isOpen ? "ready" : isLost ? "connection lost" : "connecting …";
  if (isLost) say("The connection is lost. Trying again …");
  $("lost").hidden = isOpen || !isLost;
  $("connect").hidden = isOpen;
  $("send").disabled = !isOpen;
  $("send").hidden = answering !== null;
  $("stop").hidden = answering === null;
  $("new").disabled = $("chat").disabled = answering !== null;
  $("empty").hidden = chats.current.turns.length > 0;
  $("talk").setAttribute("aria-busy", String(answering !== null));
}

function follow() {
  const view = document.querySelector("main");
  if (followed) view.scrollTop = view.scrollHeight;
}

function showChat() {
  const views = chats.current.turns.map((turn) => new TurnView(turn, page));
  $("talk").replaceChildren(...views.flatMap((view) => view.elements));
  for (const view of views) view.restore();
  followed = true;
  follow();
  showChats();
  update();
}

function showChats() {
  const kept = chats.all.filter((chat) => chat.turns.length || chat === chats.current);
  $("chats").hidden = kept.length < 2;
  $("chat").replaceChildren(...kept.toReversed().map((chat) => {
    const title = chat.turns[0]?.question.slice(0, TITLE_CHARACTERS) ?? "New chat";
    return new Option(title, chat.id, false, chat === chats.current);
  }));
}

function showPrice() {
  const model = models.get($("model").value);
  const price = (usd) => {
    const perMillion = Number((usd * 1e6).toPrecision(6));
    return `$${Number.isInteger(perMillion * 100) ? perMillion.toFixed(2) : perMillion}`;
  };
  const parts = model?.pricing && [
    `${price(model.pricing.prompt)} in, ${price(model.pricing.completion)} out per million tokens`,
  ];
  const context = model?.context_length
    && `${model.context_length.toLocaleString("en")} tokens of context`;
  $("price").textContent = [model && `by ${model.owned_by}`, ...(parts ?? []), context]
    .filter(Boolean).join(" · ");
}

// -- controls -------------------------------------------------------------------------------------

function askWritten() {
  const text = $("text").value.trim();
  if (text && ask(text)) $("text").value = "";
}

function recallQuestion() {
  const last = chats.current.turns.at(-1);
  if (last) $("text").value = last.question;
}

$("ask").onsubmit = (event) => { event.preventDefault(); askWritten(); };
$("text").onkeydown = (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    askWritten();
  } else if (event.key === "ArrowUp" && !$("text").value) {
    event.preventDefault();
    recallQuestion();
  }
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("timeline").open) stop();
});
$("stop").onclick = stop;
$("connect").onclick = () => connection.connect();
$("close").onclick = () => $("timeline").close();
$("timeline").onclick = (event) => { if (event.target === $("timeline")) $("timeline").close(); };
$("new").onclick = () => { chats.add(); showChat(); $("text").focus(); };
$("chat").onchange = () => { if (chats.open($("chat").value)) showChat(); };
$("model").onchange = () => { sessionStorage.setItem("model", $("model").value); showPrice(); };
for (const id of ["system", "temperature"]) {
  $(id).value = sessionStorage.getItem(id) ?? "";
  $(id).onchange = () => sessionStorage.setItem(id, $(id).value);
}
document.querySelector("main").addEventListener("scroll", (event) => {
  const { scrollHeight, scrollTop, clientHeight } = event.target;
  followed = scrollHeight - scrollTop - clientHeight < FOLLOW_PX;
});
// The window, the drawer of options or a font may change what fits.
const resized = new ResizeObserver(follow);
for (const each of [$("talk"), document.querySelector("main")]) resized.observe(each);
addEventListener("pagehide", () => chats.save());

for (const example of EXAMPLES) $("examples").append(button(example, () => ask(example)));
if (grafana.home) {
  $("grafana").hidden = $("dashboards").hidden = false;
  $("dashboards").href = grafana.home;
}
showChat();
connection.connect();

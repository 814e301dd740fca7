// The chats of this tab, which survive a reload.

const KEY = "chatscope.chats";
const VERSION = 1;
// What the service is sent of a conversation that it does not remember.
const HISTORY_TURNS = 50;
const HISTORY_CHARACTERS = 100_000;

/** All chats, the newest last; each has an `id`, `turns`, and whether the service `knows` it. */
export class Chats {
  constructor() {
    this.all = stored();
    this.current = this.all.at(-1) ?? this.add();
  }

  /** Begin a chat, unless the current one is empty. */
  add() {
    if (this.current?.turns.length === 0) return this.current;
    this.current = { id: newId(), turns: [] };
    this.all.push(this.current);
    return this.current;
  }

  /** Continue the chat with this ID; return whether there is one. */
  open(id) {
    const found = this.all.find((chat) => chat.id === id);
    if (!found) return false;
    this.all = [...this.all.filter((chat) => chat !== found && chat.turns.length), found];
    this.current = found;
    return true;
  }

  /** Keep all chats in the tab; the oldest are given up where there is no room. */
  save() {
    for (let skipped = 0; skipped < this.all.length; skipped++) {
      const kept = { version: VERSION, chats: this.all.slice(skipped) };
      try {
        sessionStorage.setItem(KEY, JSON.stringify(kept));
        return;
      } catch {
        continue; // the quota, or storage is blocked
      }
    }
  }
}

/** Return the turns of a chat as the service accepts them, the newest within its limits. */
export function history(chat) {
  const turns = [];
  let characters = 0;
  for (const turn of chat.turns.toReversed()) {
    characters += turn.question.length + turn.text.length;
    if (turns.length === HISTORY_TURNS || characters > HISTORY_CHARACTERS) break;
    if (turn.text) turns.unshift({ question: turn.question, response: turn.text });
  }
  return turns;
}

function stored() {
  try {
    const { version, chats } = JSON.parse(sessionStorage.getItem(KEY));
    const isValid = version === VERSION && chats.every((chat) => chat.id && isTurns(chat.turns));
    return isValid ? chats : [];
  } catch {
    return [];
  }
}

function isTurns(turns) {
  return turns.every((turn) => typeof turn.question === "string" && typeof turn.text === "string");
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is for https only
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

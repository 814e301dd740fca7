// The WebSocket to the service, opened again when it is lost.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/** Calls `onMessage(message)`, and `onChange(closeCode)` when it was opened or lost. */
export class Connection {
  #socket = null;
  #timer = 0;
  #wait = FIRST_WAIT_MS;

  /** `protocols()` returns the subprotocols; `onRefused()` is awaited after a failed try. */
  constructor({ protocols, onMessage, onChange, onRefused }) {
    Object.assign(this, { protocols, onMessage, onChange, onRefused });
    this.wasOpen = false;
    addEventListener("online", () => this.connect());
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Send a message; return false without a connection. */
  send(message) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Connect now, unless it is connected or being connected. */
  connect() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    const socket = new WebSocket(
      new URL("ws/chat", location.href.replace(/^http/, "ws")), this.protocols());
    let opened = false;
    this.#socket = socket;
    socket.onopen = () => {
      opened = this.wasOpen = true;
      this.#wait = FIRST_WAIT_MS;
      this.onChange();
    };
    socket.onmessage = (event) => this.onMessage(JSON.parse(event.data));
    socket.onclose = async ({ code }) => {
      if (!opened) await this.onRefused();
      this.#socket = null;
      this.#timer = setTimeout(() => this.connect(), this.#wait);
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
      this.onChange(code);
    };
  }
}

// Markdown of a response, shown while it arrives.
//
// Finished blocks are rendered once; only the last block, which may still grow, is rendered again.
// Rendering takes a fifth of the time at most. Raw HTML stays text, and whatever the parser makes
// passes through DOMPurify, the only code that the content policy lets make markup of text.
/* global markdownit, DOMPurify */
import { copyButton, element } from "./elements.js";

// Characters of one block; longer ones are shown as plain text. Code is parsed in linear time.
const LONGEST_BLOCK = 100_000;
const LONGEST_CODE = 2_000_000;
const MOST_TOKENS = 60_000; // of one block: a table may have more cells than characters
const FRAME_MS = 40;
const TIME_SHARE = 4; // pause after rendering, in times of its duration
const FENCE = /^\s*(```|~~~)/;
const WEB = /^(?:https?|mailto):/i;

const parser = markdownit({ html: false, linkify: true, breaks: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
parser.validateLink = (url) => WEB.test(url);
parser.core.ruler.push("page", (state) => {
  for (const token of state.tokens) {
    // The page has headings of its own above those of a response.
    if (token.type.startsWith("heading")) token.tag = `h${Math.min(6, Number(token.tag[1]) + 2)}`;
    const style = token.attrGet("style"); // which the content policy blocks
    if (style) token.attrs = [["class", style.split(":")[1]]];
  }
});
// An image would be loaded from an address that the model chose: it is shown as a link.
parser.renderer.rules.image = (tokens, index) => {
  const { attrs, content } = tokens[index];
  const { escapeHtml } = parser.utils;
  return `<a href="${escapeHtml(attrs[0][1])}">Image: ${escapeHtml(content || attrs[0][1])}</a>`;
};

const ALLOWED = {
  ALLOWED_TAGS: ["a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol",
    "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["class", "href", "start", "title"],
  ALLOWED_URI_REGEXP: WEB,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** The text of one response. */
export class MarkdownView {
  #tail = element("div", "tail");
  #env = {}; // link definitions
  #source = ""; // the text with \n as its line ends
  #done = 0; // characters of it whose blocks are finished
  #plain = null; // the rest as a text node, once a block was too long
  #timer = 0;
  #cost = 0; // ms that the last rendering took

  /** Show the text in `root`; `onRender` is called after each change. */
  constructor(root, onRender = () => {}) {
    this.root = root;
    this.onRender = onRender;
    this.text = "";
    root.append(this.#tail);
  }

  /** Add a chunk; it is shown soon. */
  append(chunk) {
    this.text += chunk;
    this.#source += chunk.replaceAll("\r", "");
    this.#timer ||= setTimeout(() => this.#show(), Math.max(FRAME_MS, this.#cost * TIME_SHARE));
  }

  /** Show all of it. */
  end() {
    clearTimeout(this.#timer);
    this.#render(true);
    this.#tail.remove();
    this.onRender();
  }

  #show() {
    const started = performance.now();
    this.#timer = 0;
    this.#render(false);
    this.onRender();
    this.#cost = performance.now() - started;
  }

  #render(final) {
    while (this.#plain === null) {
      const limit = FENCE.test(this.#source.slice(this.#done, this.#done + 100))
        ? LONGEST_CODE : LONGEST_BLOCK;
      const rest = this.#source.slice(this.#done, this.#done + limit);
      const isAll = this.#done + rest.length === this.#source.length;
      const tokens = parser.parse(rest, this.#env);
      const [index, line] = lastBlock(tokens, rest);
      const isHuge = tokens.length - index > MOST_TOKENS;
      if (final && isAll && !isHuge) {
        this.#tail.before(this.#html(tokens));
        return;
      }
      if (index > 0) this.#tail.before(this.#html(tokens.slice(0, index)));
      if (line > 0) this.#done += offsetOf(line, rest);
      if (isAll && !isHuge) {
        this.#tail.replaceChildren(this.#html(tokens.slice(index)));
        return;
      }
      if (line === 0 || isHuge) this.#showPlain();
    }
    this.#plain.appendData(this.#source.slice(this.#done));
    this.#done = this.#source.length;
  }

  #showPlain() {
    this.#plain = document.createTextNode("");
    this.#tail.replaceChildren();
    this.#tail.before(
      element("p", "note", "From here on as plain text: the next block is too large."),
      element("div", "plain", this.#plain),
    );
  }

  #html(tokens) {
    const made = parser.renderer.render(tokens, parser.options, this.#env);
    return completed(DOMPurify.sanitize(made, ALLOWED));
  }
}

/** Return the index of the first token of the last block, and its first line.
 *
 * A block ends where another one begins, but not with a line that is incomplete: `#` may become
 * `#tag`, which continues a paragraph. */
function lastBlock(tokens, text) {
  const complete = text.split("\n").length - 1;
  const begins = (token) => token.level === 0 && token.nesting >= 0 && token.map?.[0] < complete;
  const index = tokens.findLastIndex(begins);
  return index < 0 ? [0, 0] : [index, tokens[index].map[0]];
}

function offsetOf(line, text) {
  let offset = 0;
  for (let left = line; left > 0; left--) offset = text.indexOf("\n", offset) + 1;
  return offset;
}

/** Add what Markdown has no word for: copy buttons, scrolling, directions, safe links. */
function completed(fragment) {
  for (const block of fragment.children) block.dir = "auto";
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const pre of fragment.querySelectorAll("pre")) {
    const code = pre.firstElementChild ?? pre;
    const language = code.className.replace("language-", "");
    const block = element("div", "code-block");
    pre.replaceWith(block);
    pre.tabIndex = 0;
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", "Code");
    block.append(
      element("div", "", element("span", "", language || "code"),
        copyButton("Copy", "Copy the code", () => code.textContent)),
      pre,
    );
  }
  for (const table of fragment.querySelectorAll("table")) {
    const scroll = element("div", "scroll");
    table.replaceWith(scroll);
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "group");
    scroll.setAttribute("aria-label", "Table");
    scroll.append(table);
  }
  return fragment;
}

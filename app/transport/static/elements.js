// Elements, and the clipboard.

/** Return a new element with a class and children, of which texts stay text. */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return a new SVG element with attributes. */
export function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Return a button that calls `action`. */
export function button(text, action, label = "") {
  const made = element("button", "", text);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  made.onclick = action;
  return made;
}

/** Return a button that copies what `read` returns. */
export function copyButton(text, label, read) {
  const made = button(text, async () => {
    made.textContent = (await copy(read())) ? "Copied" : "Not copied";
    setTimeout(() => { made.textContent = text; }, 1500);
  }, label);
  return made;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelection(text); // only https and loopback have a clipboard
  }
}

function copySelection(text) {
  const field = element("textarea", "hidden", text);
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return copied;
}

/* Elements by hand: the page takes no markup from the server, and every text is a text node. */
const byId = id => document.getElementById(id);

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Writes only what differs: a reader's selection and a screen reader's place stay. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The colour of worker or pod number `id`, the same in table and plots; neighbours differ. */
const colorOf = id => `hsl(${(210 + (id - 1) * 137.5) % 360} 62% 54%)`;

/** Explains a heading: as its tooltip, and in the list at the end of the page, which needs no pointer. */
function explain(element, label, help) {
  element.title = help;
  if (!EXPLAINED.has(label)) EXPLAINED.set(label, help);
  return element;
}

const EXPLAINED = new Map();

function showHelp() {
  const entries = [...EXPLAINED].sort(([a], [b]) => a.localeCompare(b));
  byId('help-list').replaceChildren(
    ...entries.map(([label, help]) => make('div', '', make('dt', '', label), make('dd', '', help))),
  );
}

function pill(cell, state, text) {
  const element = cell.firstElementChild ?? cell.appendChild(make('span'));
  element.className = `pill ${state}`;
  write(element, text);
}

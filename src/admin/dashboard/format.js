/* Numbers for people, and elements by hand: the page takes no markup from the server. */
const MINUTE = 60;
const formatNumber = value => (value >= 100 ? Math.round(value).toLocaleString('en') : String(Math.round(value * 10) / 10));
const formatMs = value => `${value >= 10 ? Math.round(value) : Math.round(value * 10) / 10} ms`;
const formatBytes = bytes => (bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`);
const formatPercent = share => `${Math.round(share * 100)} %`;
const formatClock = at => new Date(at).toLocaleTimeString('en-GB');

function formatDuration(seconds) {
  if (seconds < 2 * MINUTE) return `${Math.round(seconds)} s`;
  if (seconds < 120 * MINUTE) return `${Math.round(seconds / MINUTE)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

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

/** The colour of a worker, the same in table and plots; neighbours differ. */
const colorOf = id => `hsl(${(210 + (id - 1) * 137.5) % 360} 62% 54%)`;

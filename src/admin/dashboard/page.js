/* Listens to /events and shows what comes. EventSource reconnects by itself, and the first message then is the history again. */
const KEPT_SAMPLES = 600;
const KEPT_EVENTS = 200;
const STRIP_MS = 600_000;
const MARKS = {
  ready: 'good',
  restarted: 'good',
  starting: '',
  restart: 'warn',
  resize: 'warn',
  draining: 'warn',
  cordoned: 'warn',
  policy: '',
  keys: '',
  'restart-failed': 'bad',
  check: 'good',
  'check-failing': 'bad',
};

/** @type {import("../../protocol/api.ts").Sample[]} */
let samples = [];
/** @type {import("../../protocol/api.ts").ShownEvent[]} */
let events = [];
/** @type {import("../../protocol/api.ts").Status} */
let status;

function showStatus() {
  const { service, state, version, pid, policy, generation, uptimeSeconds, workers, sizing, drains } = status;
  const last = samples.at(-1);
  const pill = byId('state');
  pill.className = `pill ${state}`;
  write(pill, state);
  document.title = service.name;
  write(byId('service'), service.name);
  write(
    byId('facts'),
    `${version} · process ${pid} · generation ${generation} · policy ${policy} · up ${formatDuration(uptimeSeconds)}`,
  );
  write(byId('sizing'), sizingInWords(sizing));
  const sum = pick => workers.reduce((total, worker) => total + pick(worker), 0);
  const rate = Object.values(last?.workers ?? {}).reduce((total, [each]) => total + each, 0);
  showTiles([
    ['requests/s', formatNumber(rate)],
    ['p50', formatMs(last?.p50 ?? 0)],
    ['p99', formatMs(last?.p99 ?? 0)],
    ['open requests', String(sum(({ inFlight }) => inFlight))],
    ['connections', String(sum(({ connections }) => connections))],
    ['CPU', (last?.cpus ?? 0).toFixed(2), `of ${sizing.cpus.effective}`],
    [
      'memory',
      formatBytes(last?.memoryBytes ?? 0),
      sizing.memory.limitBytes === null ? '' : `of ${formatBytes(sizing.memory.limitBytes)}`,
    ],
    ['requests cut', String(drains.cutRequests)],
  ]);
  showWorkers(status, last?.workers ?? {});
  showChecks(status.health);
  showError(status.dev?.error);
}

/** Under `bosun dev`. Without the permission to read more, its class and its place. */
function showError(error) {
  byId('dev').hidden = !error;
  if (!error) return;
  const { class: name = 'Error', code = '', file, line } = error.summary ?? {};
  write(byId('dev-error'), error.stack ?? [name, code, file && `at ${file}:${line}`].filter(Boolean).join(' '));
}

function sizingInWords({ reason, memory, wanted, workers }) {
  const heap = memory.heapPerWorkerMb === null ? 'V8’s default heap each' : `${memory.heapPerWorkerMb} MiB of heap each`;
  return `${reason}; ${heap}${wanted !== undefined && wanted !== workers ? `; ${wanted} wanted` : ''}.`;
}

function showTiles(tiles) {
  const list = byId('tiles');
  tiles.forEach(([label, value, of = ''], index) => {
    const tile =
      list.children[index] ??
      list.appendChild(make('div', '', make('dt', '', label), make('dd', '', make('span'), ' ', make('small'))));
    const [number, , small] = tile.lastElementChild.childNodes;
    write(number, value);
    write(small, of);
  });
}

const markOf = ({ kind, reason }) => (kind === 'exit' ? (FAILURES.includes(reason) ? 'bad' : '') : MARKS[kind]);

function showEvents() {
  const rowOf = event => {
    const time = make('time', '', formatClock(event.at));
    time.dateTime = new Date(event.at).toISOString();
    return make('li', '', make('span', `mark ${markOf(event)}`), time, make('span', '', event.text));
  };
  byId('events').replaceChildren(...events.toReversed().map(rowOf));
  showStrip();
}

function showStrip() {
  const now = Date.now();
  const recent = events.filter(({ at }) => now - at < STRIP_MS);
  byId('strip').replaceChildren(
    ...recent.map(event => {
      const mark = make('i', markOf(event));
      mark.style.left = `calc(${(1 - (now - event.at) / STRIP_MS) * 100}% - 4px)`;
      mark.title = `${formatClock(event.at)} ${event.text}`;
      return mark;
    }),
  );
}

function lost() {
  const pill = byId('state');
  pill.className = 'pill lost';
  write(pill, 'no connection');
}

/** EventSource gives up if an answer is no event stream, such as a proxy's 502: then we open a new one. */
const AGAIN_MS = 2000;

function listen() {
  const source = new EventSource('events');
  const on = (name, handle) => source.addEventListener(name, ({ data }) => handle(JSON.parse(data)));
  on('history', history => {
    samples = history.samples;
    events = history.events;
    showEvents();
    showPlots(samples);
  });
  on('sample', sample => {
    samples = [...samples, sample].slice(-KEPT_SAMPLES);
    if (document.hidden) return;
    showPlots(samples);
    showStrip();
  });
  on('fleet', showFleet);
  on('lifecycle', event => {
    events = [...events, event].slice(-KEPT_EVENTS);
    showEvents();
  });
  on('message', now => {
    status = now;
    showStatus();
  });
  source.addEventListener('error', () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  });
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => redrawPlots(samples));
showColumns();
listen();

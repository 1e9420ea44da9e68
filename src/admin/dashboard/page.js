/* Listens to /events and shows what comes. EventSource reconnects by itself, and the first message then is the history again. */

/** @type {import("../../protocol/api.ts").Status} */
let status;
/** @type {import("../../protocol/api.ts").Peer[]} */
let pods = [];
let range = '10m';
let view = 'pod';
let isPaused = false;

const showWorkers = addTable({
  id: 'workers',
  title: 'Workers',
  help: 'The processes that serve the app.',
  columns: WORKER_COLUMNS,
  keyOf: ({ pid }) => pid,
  whenEmpty: 'no worker runs',
});
const showPods = addTable({
  id: 'pods',
  title: 'Pods',
  help: 'The pods of this deployment, from the heartbeats that they send over Redis once a second.',
  columns: POD_COLUMNS,
  keyOf: ({ origin }) => origin,
});
const showChecks = addTable({
  id: 'checks',
  title: 'Health checks',
  help: 'Checks of the app (kit.health), as the workers that serve report them.',
  columns: CHECK_COLUMNS,
  keyOf: ({ name }) => name,
});
const showLeaders = addTable({
  id: 'leaders',
  title: 'Leaders',
  help: 'Who runs alone what the app has given to kit.leader.',
  columns: LEADER_COLUMNS,
  keyOf: ({ name }) => name,
});

const showErrors = addTable({
  id: 'errors',
  title: 'Errors',
  note: 'the last ones',
  help: 'What has failed, the latest first; the same error of one route is one row.',
  columns: ERROR_COLUMNS,
  keyOf: ({ class: name, code, file, line, method, route, status: answer }) =>
    [name, code, file, line, method, route, answer].join(' '),
  whenEmpty: 'none since the primary started',
});
const showRoutes = addTable({
  id: 'routes',
  title: 'Slowest routes',
  note: 'by their share of the time, last 10 minutes',
  help: 'Where the time goes: the routes that took most of it together. Shown with METRICS_ROUTES=true.',
  columns: ROUTE_COLUMNS,
  keyOf: ({ method, route }) => `${method} ${route}`,
});

function showStatus() {
  if (status === undefined) return;
  const { service, pod, state, version, pid, policy, generation, uptimeSeconds, sizing } = status;
  pill(byId('state'), state, state);
  document.title = `${service.name} · ${pod}`;
  write(byId('service'), service.name);
  write(byId('pod'), pod);
  const facts = [
    version,
    `process ${pid}`,
    `generation ${generation}`,
    `policy ${policy}`,
    `up ${formatDuration(uptimeSeconds)}`,
  ];
  write(byId('facts'), facts.join(' · '));
  write(byId('sizing'), sizingInWords(sizing));
  showWarnings(sizing.warnings);
  showTiles(view === 'fleet' ? fleetTiles(pods) : podTiles(status, past.samples));
  showWorkers(workerRows(status, past.samples.at(-1)?.workers ?? {}));
  showChecks(named(status.health));
  showErrors(status.recentErrors);
  showRoutes(status.routes);
  showLeaders(named(status.leader));
  showError(status.dev?.error);
}

function showFleet() {
  byId('views').hidden = pods.length < 2;
  if (pods.length < 2 && view === 'fleet') choose('view', 'pod');
  showPods(pods.length < 2 ? [] : pods);
}

/** Under `bosun dev`. Without the permission to read more, its class and its place. */
function showError(error) {
  byId('dev').hidden = !error;
  if (!error) return;
  const { class: name = 'Error', code = '', file, line } = error.summary ?? {};
  write(byId('dev-error'), error.stack ?? [name, code, file && `at ${file}:${line}`].filter(Boolean).join(' '));
}

function showWarnings(warnings) {
  const list = byId('warnings');
  list.hidden = warnings.length === 0;
  if (list.dataset.key === warnings.join('\n')) return;
  list.dataset.key = warnings.join('\n');
  list.replaceChildren(...warnings.map(warning => make('li', '', warning)));
}

function sizingInWords({ reason, memory, wanted, workers }) {
  const heap = memory.heapPerWorkerMb === null ? 'V8’s default heap each' : `${memory.heapPerWorkerMb} MiB of heap each`;
  return `${reason}; ${heap}${wanted !== undefined && wanted !== workers ? `; ${wanted} wanted` : ''}.`;
}

function showPast() {
  const samples = samplesOf(range);
  const span = spanOf(samples, range);
  showTimeline(past.events, span, range);
  showPlots(samples, range, plotMarks(past.events));
}

function showAll() {
  if (isPaused || document.hidden) return;
  showStatus();
  showFleet();
  showEvents(past.events);
  showPast();
}

function lost() {
  pill(byId('state'), 'lost', 'no connection');
}

/** EventSource gives up if an answer is no event stream, such as a proxy's 502: then we open a new one. */
const AGAIN_MS = 2000;

function listen() {
  const source = new EventSource('events');
  /** While the page is paused it keeps what comes, and shows it afterwards. */
  const on = (name, take, show) =>
    source.addEventListener(name, ({ data }) => {
      take(JSON.parse(data));
      if (!isPaused && !document.hidden) show();
    });
  const takeHistory = history => {
    past = history;
  };
  const takeLonger = longer => {
    for (const [list, sample] of Object.entries(longer)) keep(list, sample);
  };
  on('history', takeHistory, showAll);
  on('longer', takeLonger, () => undefined);
  on('sample', sample => keep('samples', sample), showPast);
  on(
    'lifecycle',
    event => keep('events', event),
    () => showEvents(past.events),
  );
  on(
    'fleet',
    all => {
      pods = all;
    },
    showFleet,
  );
  on(
    'message',
    now => {
      status = now;
    },
    showStatus,
  );
  source.addEventListener('error', () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  });
}

/** A radio button, and what follows from it. */
function choose(name, value) {
  document.querySelector(`input[name="${name}"][value="${value}"]`).checked = true;
  if (name === 'range') range = value;
  if (name === 'view') setView(value);
  for (const note of document.querySelectorAll('.range')) write(note, `last ${RANGES[range].words}`);
  showStatus();
  showPast();
}

function setView(value) {
  view = value;
  document.body.dataset.view = value;
  setPlots(value === 'fleet' ? FLEET_PLOTS : POD_PLOTS);
}

function pause() {
  isPaused = !isPaused;
  const button = byId('pause');
  button.setAttribute('aria-pressed', String(isPaused));
  write(byId('paused'), isPaused ? `paused at ${formatClock(Date.now())}` : '');
  showAll();
}

addEventListener('resize', fitTiles);
byId('pause').addEventListener('click', pause);
for (const input of document.querySelectorAll('input[type=radio]'))
  input.addEventListener('change', () => choose(input.name, input.value));
document.addEventListener('visibilitychange', showAll);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  forgetColors();
  showAll();
});
byId('help').addEventListener('toggle', showHelp);
addTimeline();
setView('pod');
listen();

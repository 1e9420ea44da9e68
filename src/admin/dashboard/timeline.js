/* What happened: a strip with a lane for each kind of event, and the events in words. */

/** Each kind with its lane and its mark. */
const KINDS = {
  starting: ['workers', ''],
  ready: ['workers', 'good'],
  draining: ['workers', 'warn'],
  cordoned: ['workers', 'warn'],
  restart: ['restarts', 'warn'],
  restarted: ['restarts', 'good'],
  'restart-failed': ['restarts', 'bad'],
  'restart-refused': ['restarts', 'bad'],
  resize: ['scaling', 'warn'],
  check: ['other', 'good'],
  'check-failing': ['other', 'bad'],
  policy: ['other', ''],
  rebalanced: ['other', ''],
  keys: ['other', ''],
  leader: ['other', ''],
};
const LANES = {
  exits: 'Workers that ended: red by a failure, grey as planned.',
  restarts: 'Rolling restarts: amber begun, green done, red failed or refused.',
  scaling: 'Changes of the number of workers.',
  workers: 'Workers that start (grey), are ready (green), drain or are cordoned (amber).',
  other: 'Health checks (red failing, green passing), leaders, balancing policy, moved connections, session keys.',
};
const KEY = [
  ['', 'started, planned'],
  ['good', 'ready, done'],
  ['warn', 'changing'],
  ['bad', 'failed'],
];
/** On the plots, too. */
const EXPLAINING = { restarts: '--warn', scaling: '--warn', exits: '--bad' };

const laneOf = ({ kind }) => (kind === 'exit' ? 'exits' : (KINDS[kind]?.[0] ?? 'other'));
const markOf = ({ kind, reason }) => (kind === 'exit' ? (FAILURES.includes(reason) ? 'bad' : '') : (KINDS[kind]?.[1] ?? ''));

function addTimeline() {
  const lanes = Object.entries(LANES).map(([name, help]) =>
    make('div', 'lane', explain(make('span', 'name', name), name, help), make('div', 'track')),
  );
  byId('strip').append(...lanes, make('div', 'axis'));
  byId('key').append(...KEY.map(([mark, words]) => make('span', '', make('i', `mark ${mark}`), words)));
}

/** The marks are placed again every second: the strip ends now. */
function showTimeline(events, span, range) {
  const tracks = Object.fromEntries(
    Object.keys(LANES).map((name, index) => [name, byId('strip').children[index].lastElementChild]),
  );
  const [from, to] = span;
  const placeOf = at => `${((at / 1000 - from) / (to - from)) * 100}%`;
  const marks = Object.fromEntries(Object.keys(LANES).map(name => [name, []]));
  for (const event of events) {
    if (event.at / 1000 < from) continue;
    const mark = make('i', markOf(event));
    mark.style.left = placeOf(Math.min(event.at, to * 1000));
    mark.title = `${formatClock(event.at)} ${event.text}`;
    marks[laneOf(event)].push(mark);
  }
  for (const [name, all] of Object.entries(marks)) tracks[name].replaceChildren(...all);
  const step = to - from < 300 ? 30 : RANGES[range].tickSeconds;
  const ticks = [];
  // A time at the end would be wider than the strip.
  const last = to - ((to - from) * HALF_TIME) / Math.max(HALF_TIME, byId('strip').lastElementChild.clientWidth);
  for (let at = Math.ceil(from / step) * step; at <= last; at += step) {
    const tick = make('span', '', (step < 60 ? formatClock : formatMinute)(at * 1000));
    tick.style.left = placeOf(at * 1000);
    ticks.push(tick);
  }
  byId('strip').lastElementChild.replaceChildren(...ticks);
}

/** The events that explain what the plots show. */
const plotMarks = events =>
  events
    .filter(event => EXPLAINING[laneOf(event)] && (laneOf(event) !== 'exits' || markOf(event) === 'bad'))
    .map(event => ({ at: event.at, color: EXPLAINING[laneOf(event)] }));

function showEvents(events) {
  const rowOf = event => {
    const time = make('time', '', formatClock(event.at));
    time.dateTime = new Date(event.at).toISOString();
    return make('li', '', make('i', `mark ${markOf(event)}`), time, make('span', '', event.text));
  };
  byId('events').replaceChildren(...events.toReversed().map(rowOf));
}

/* The tiles: one figure each, with what it is measured by. */

const tile = (label, help, { value, of = '', mark = '' }) => ({ label, help, value, of, mark });

/** Above this share of failed answers the tile is red: as the alert of the kit. */
const MANY_ERRORS = 0.05;

const rateTile = rate => tile('requests/s', 'Answers per second.', { value: formatRate(rate) });

const errorTile = (errors, share) =>
  tile('errors', 'Answers with a status of 500 or above, over 10 s: their share of all answers, and how many per second.', {
    value: formatShare(share),
    of: `${formatRate(errors)}/s`,
    mark: share > MANY_ERRORS ? 'bad' : errors > 0 ? 'warn' : '',
  });

const openTile = open => tile('open', 'Requests that have arrived and are not answered yet.', { value: formatCount(open) });

const cpuTile = (used, limit) =>
  tile('CPU', 'CPUs that all processes use, of those that they may use.', {
    value: formatCores(used),
    of: `of ${formatLimit(limit)}`,
  });

const memoryTile = (bytes, limitBytes) =>
  tile('memory', 'Of all processes; what they share counts once. With a limit: of that limit.', {
    value: formatBytes(bytes),
    of: limitBytes === null ? '' : `of ${formatBytes(limitBytes)}`,
    mark: limitBytes !== null && bytes > 0.9 * limitBytes ? 'bad' : '',
  });

const usedTile = share =>
  tile(
    'in use',
    'How full the pod is, over 15 s: the larger of event loop utilization and CPU time by limit. Autoscalers can follow it.',
    {
      value: share === null ? NONE : formatPercent(share),
      mark: share > 0.9 ? 'bad' : '',
    },
  );

/** Over as many seconds as the errors of `/status`: those per second with a status of 500 or above, and their share. */
const ERROR_SAMPLES = 10;

function errorRates(samples) {
  const recent = samples.slice(-ERROR_SAMPLES);
  const mean = pick => recent.reduce((total, { statuses }) => total + pick(statuses), 0) / (recent.length || 1);
  const errors = mean(statuses => statuses[3]);
  return [errors, errors / (mean(statuses => statuses.reduce((total, rate) => total + rate, 0)) || 1)];
}

const PRESSURES = { cpu: 'CPU', memory: 'memory', io: 'I/O' };

/** Of the resource that tasks waited for most; none where the kernel does not report it. */
function pressureTiles(pressure = {}) {
  const all = Object.entries(pressure).map(([name, { waiting }]) => [waiting.percent, PRESSURES[name]]);
  if (all.length === 0) return [];
  const [percent, name] = all.reduce((most, one) => (one[0] > most[0] ? one : most));
  const help = `Share of the last 10 s in which a task waited for a CPU, for memory or for I/O (the kernel's PSI): the largest of the three.`;
  return [
    tile('pressure', help, { value: `${percent.toFixed(1)} %`, of: percent > 0 ? name : '', mark: percent > 50 ? 'warn' : '' }),
  ];
}

/** Of all workers, with ADAPTIVE_CONCURRENCY. */
function concurrencyTiles(workers) {
  const all = workers.flatMap(({ concurrency }) => concurrency ?? []);
  if (all.length === 0) return [];
  const sum = key => all.reduce((total, one) => total + one[key], 0);
  const rejected = sum('rejectedPerSecond');
  return [
    tile('concurrency', 'ADAPTIVE_CONCURRENCY: requests that the app handles, of the limits of all workers together.', {
      value: formatCount(sum('inFlight')),
      of: `of ${formatCount(sum('limit'))}`,
    }),
    tile('turned away', 'ADAPTIVE_CONCURRENCY: requests per second that got 503, and those that wait now.', {
      value: `${formatRate(rejected)}/s`,
      of: `${formatCount(sum('queued'))} wait`,
      mark: rejected > 0 ? 'warn' : '',
    }),
  ];
}

function podTiles({ workers, sizing, drains, utilization, pressure }, samples) {
  const last = samples.at(-1);
  const sum = pick => workers.reduce((total, worker) => total + pick(worker), 0);
  return [
    rateTile(Object.values(last?.workers ?? {}).reduce((total, [rate]) => total + rate, 0)),
    errorTile(...errorRates(samples)),
    tile(
      'p99',
      'Response time of the slowest worker, over the last 5 to 10 seconds: 99 of 100 answers took at most this long. Below it the median (p50) of the pod.',
      { value: formatMs(last?.p99 ?? 0), of: `p50 ${formatMs(last?.p50 ?? 0)}` },
    ),
    openTile(sum(({ inFlight }) => inFlight)),
    tile('connections', 'Open connections of all workers.', { value: formatCount(sum(({ connections }) => connections)) }),
    cpuTile(last?.cpus ?? 0, sizing.cpus.effective),
    memoryTile(last?.memoryBytes ?? 0, sizing.memory.limitBytes),
    usedTile(utilization),
    ...pressureTiles(pressure),
    ...concurrencyTiles(workers),
    tile('requests cut', 'Requests that ended without an answer, since the primary started.', {
      value: formatCount(drains.cutRequests),
      mark: drains.cutRequests > 0 ? 'warn' : '',
    }),
  ];
}

/** Made again where the list of tiles is another one, else updated in place. */
function showTiles(tiles) {
  const list = byId('tiles');
  const key = tiles.map(({ label }) => label).join();
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...tiles.map(newTile));
    fitTiles();
  }
  tiles.forEach(({ value, of, mark }, index) => {
    const figure = list.children[index].lastElementChild;
    const [number, small] = figure.children;
    figure.className = mark;
    write(number, value);
    write(small, of);
  });
}

const MIN_TILE_PX = 100;
const TILE_GAP_PX = 8;

/** As few rows as fit, of the same length but for the last. */
function fitTiles() {
  const { clientWidth, childElementCount: count, style } = byId('tiles');
  const most = Math.max(1, Math.floor((clientWidth + TILE_GAP_PX) / (MIN_TILE_PX + TILE_GAP_PX)));
  style.setProperty('--columns', String(Math.ceil(count / Math.ceil(count / most))));
}

function newTile({ label, help }) {
  const name = explain(make('dt', '', label), label, help);
  return make('div', '', name, make('dd', '', make('span'), make('small')));
}

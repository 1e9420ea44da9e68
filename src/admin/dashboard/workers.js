/* The workers of this pod. */

/** Workers report once a second: one that has missed a report is shown as silent, whatever its last report was. */
const SILENT_AFTER_S = 1.5;
const isSilent = ({ state, silentSeconds }) => state !== 'starting' && silentSeconds > SILENT_AFTER_S;

const hasConcurrency = rows => rows.some(({ concurrency }) => concurrency);

/** `rates` are those of the last sample, by worker. */
const WORKER_COLUMNS = [
  {
    label: 'worker',
    help: 'The number of the worker, and its colour in the plots. A worker that replaces another one takes its number.',
    left: true,
    show: (cell, { id }) => {
      if (cell.childElementCount > 0) return;
      const dot = make('span', 'dot');
      dot.style.background = colorOf(id);
      cell.append(make('span', '', dot, String(id)));
    },
  },
  { label: 'pid', help: 'The process id in the container.', ch: 5, show: text(({ pid }) => pid) },
  {
    label: 'state',
    help: 'starting, ready, cordoned (takes no new connections) or draining; or how long it has not reported.',
    left: true,
    ch: 13,
    show: (cell, worker) => {
      const { pid, state, silentSeconds } = worker;
      const silent = isSilent(worker);
      cell.parentElement.dataset.pid = String(pid);
      cell.parentElement.classList.toggle('stale', silent);
      pill(cell, silent ? 'lost' : state, silent ? `silent ${formatDuration(silentSeconds)}` : state);
    },
  },
  {
    label: 'gen',
    help: 'Generation: the number of the rolling restart that started it.',
    show: text(({ generation }) => generation),
  },
  { label: 'up', help: 'How long it has run.', ch: 6, show: text(({ uptimeSeconds }) => formatDuration(uptimeSeconds)) },
  { label: 'conns', help: 'Open connections.', ch: 5, show: text(({ connections }) => formatCount(connections)) },
  { label: 'open', help: 'Open requests.', ch: 4, show: text(({ inFlight }) => formatCount(inFlight)) },
  {
    label: 'limit',
    help: 'ADAPTIVE_CONCURRENCY: how many requests the app of the worker handles at once.',
    ch: 5,
    when: hasConcurrency,
    show: text(({ concurrency }) => orNone(concurrency?.limit, formatCount)),
  },
  {
    label: 'wait',
    help: 'ADAPTIVE_CONCURRENCY: requests that wait because the limit is reached.',
    ch: 4,
    when: hasConcurrency,
    show: text(({ concurrency }) => orNone(concurrency?.queued, formatCount)),
  },
  {
    label: 'requests/s',
    help: 'Answers per second, by its last two reports.',
    ch: 6,
    show: text(({ rate }) => formatRate(rate)),
  },
  {
    label: '4xx/s',
    help: 'Answers with a status of 400 to 499 per second, over 10 s.',
    ch: 5,
    when: rows => rows.some(({ errors }) => errors),
    show: text(({ errors }) => orNone(errors?.['4xx'].perSecond, formatRate)),
  },
  {
    label: '5xx/s',
    help: 'Answers with a status of 500 or above per second, over 10 s.',
    ch: 5,
    when: rows => rows.some(({ errors }) => errors),
    show: text(({ errors }) => orNone(errors?.['5xx'].perSecond, formatRate)),
  },
  {
    label: 'errors',
    help: 'The share of answers with a status of 500 or above, over 10 s.',
    ch: 7,
    when: rows => rows.some(({ errors }) => errors),
    show: (cell, { errors }) => {
      cell.classList.toggle('bad', errors?.share > MANY_ERRORS);
      write(cell, orNone(errors?.share, formatShare));
    },
  },
  {
    label: 'p50',
    help: 'Median response time of the last 5 to 10 seconds.',
    ch: 8,
    show: text(({ responseTimeMs }) => formatMs(responseTimeMs.p50)),
  },
  {
    label: 'p99',
    help: 'Of the last 5 to 10 seconds: 99 of 100 answers took at most this long.',
    ch: 8,
    show: text(({ responseTimeMs }) => formatMs(responseTimeMs.p99)),
  },
  {
    label: 'loop',
    help: 'Event loop utilization of the last second: 100 % is a worker that cannot do more.',
    ch: 6,
    show: meter(
      ({ eventLoopUtilization }) => eventLoopUtilization,
      ({ eventLoopUtilization }) => formatPercent(eventLoopUtilization),
    ),
  },
  {
    label: 'delay',
    help: 'Event loop delay: how late timers ran in the last second, in the mean.',
    ch: 7,
    show: text(({ eventLoopDelayMs }) => formatMs(eventLoopDelayMs)),
  },
  {
    label: 'memory',
    help: 'Resident memory. The bar, with a memory limit only: of an equal share of the limit.',
    ch: 9,
    show: meter(
      ({ memory, shareBytes }) => shareBytes && memory.rss / shareBytes,
      ({ memory }) => formatBytes(memory.rss),
    ),
  },
  {
    label: 'heap',
    help: 'Used JavaScript heap. The bar, where the kit has set a heap limit: of that limit.',
    ch: 9,
    show: meter(
      ({ memory, heapBytes }) => heapBytes && memory.heapUsed / heapBytes,
      ({ memory }) => formatBytes(memory.heapUsed),
    ),
  },
];

/** The rows: each worker with its rate, and the limits that its bars are measured by. */
function workerRows({ workers, sizing: { memory } }, rates) {
  const shareBytes = memory.limitBytes === null ? undefined : memory.limitBytes / Math.max(1, workers.length);
  const heapBytes = memory.heapPerWorkerMb === null ? undefined : memory.heapPerWorkerMb * 2 ** 20;
  return workers.map(worker => ({ ...worker, rate: rates[worker.id]?.[0] ?? 0, shareBytes, heapBytes }));
}

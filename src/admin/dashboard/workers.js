/* The worker table: a row per process, updated in place. */
const meterCell = share => cell => {
  const bar = cell.querySelector('i') ?? addMeter(cell);
  bar.style.width = `${Math.min(100, Math.round(share.value * 100))}%`;
  bar.className = share.value > 0.9 ? 'high' : '';
  write(cell.lastElementChild, share.text);
};

function addMeter(cell) {
  const bar = make('i');
  cell.append(make('span', 'meter', bar), make('span'));
  return bar;
}

const textCell = text => cell => write(cell, text);

const COLUMNS = [
  [
    'worker',
    'left',
    ({ id }) =>
      cell => {
        if (cell.childElementCount === 0) {
          const dot = make('span', 'dot');
          dot.style.background = colorOf(id);
          cell.append(make('span', '', dot, String(id)));
        }
      },
  ],
  ['pid', '', ({ pid }) => textCell(String(pid))],
  [
    'state',
    'left',
    ({ state }) =>
      cell => {
        const pill = cell.firstElementChild ?? cell.appendChild(make('span'));
        pill.className = `pill ${state}`;
        write(pill, state);
      },
  ],
  ['gen', '', ({ generation }) => textCell(String(generation))],
  ['up', '', ({ uptimeSeconds }) => textCell(formatDuration(uptimeSeconds))],
  ['conns', '', ({ connections }) => textCell(String(connections))],
  ['open', '', ({ inFlight }) => textCell(String(inFlight))],
  ['requests/s', '', (_, rate) => textCell(formatNumber(rate))],
  ['p50', '', ({ responseTimeMs }) => textCell(formatMs(responseTimeMs.p50))],
  ['p99', '', ({ responseTimeMs }) => textCell(formatMs(responseTimeMs.p99))],
  ['loop', '', ({ eventLoopUtilization: busy }) => meterCell({ value: busy, text: formatPercent(busy) })],
  ['late', '', ({ eventLoopDelayMs }) => textCell(formatMs(eventLoopDelayMs))],
  ['memory', '', ({ memory }, _, full) => meterCell({ value: memory.rss / full.rss, text: formatBytes(memory.rss) })],
  ['heap', '', ({ memory }, _, full) => meterCell({ value: memory.heapUsed / full.heap, text: formatBytes(memory.heapUsed) })],
];

const rows = new Map();

function showColumns() {
  byId('columns').append(
    ...COLUMNS.map(([label, className]) => {
      const head = make('th', className, label);
      head.scope = 'col';
      return head;
    }),
  );
}

/** `rates` are requests per second by worker id. */
function showWorkers({ workers, sizing }, rates) {
  const { limitBytes, heapPerWorkerMb } = sizing.memory;
  const largest = Math.max(1, ...workers.map(({ memory }) => memory.rss));
  const full = worker => ({
    rss: limitBytes === null ? largest * 1.25 : limitBytes / Math.max(1, workers.length),
    heap: heapPerWorkerMb === null ? Math.max(1, worker.memory.heapTotal) : heapPerWorkerMb * 2 ** 20,
  });
  const present = new Set(workers.map(({ pid }) => pid));
  for (const [pid, row] of rows) {
    if (present.has(pid)) continue;
    row.remove();
    rows.delete(pid);
  }
  for (const worker of workers) {
    const row = rows.get(worker.pid) ?? addRow(worker.pid);
    for (const [index, [, , show]] of COLUMNS.entries())
      show(worker, rates[worker.id]?.[0] ?? 0, full(worker))(row.children[index]);
  }
}

function addRow(pid) {
  const row = make('tr');
  row.dataset.pid = String(pid);
  for (const [label, className] of COLUMNS) {
    const cell = make('td', className);
    cell.dataset.label = label;
    row.append(cell);
  }
  rows.set(pid, row);
  byId('workers').append(row);
  return row;
}

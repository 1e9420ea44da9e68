/* The health checks of the app, where it has some. */
const CHECK_PILLS = { ok: 'ready', failing: 'lost', unknown: '' };

function showChecks(checks = {}) {
  const all = Object.entries(checks);
  byId('checks').hidden = all.length === 0;
  byId('check-rows').replaceChildren(...all.map(rowOfCheck));
}

function rowOfCheck([name, { state, isUnready, workers, failing, failures, durationMs, failure = '', message }]) {
  const pill = make('span', `pill ${CHECK_PILLS[state]}`, state);
  const often = failures > 1 ? ` (${failures} times in a row)` : '';
  const how = [failure && `${failure}${often}`, message, isUnready && 'the pod is not ready because of it'].filter(Boolean);
  const cells = [
    ['check', 'left', name],
    ['state', 'left', pill],
    ['fails in', '', `${failing} of ${workers}`],
    ['last run', '', formatMs(durationMs)],
    ['how it fails', 'left', how.join(': ')],
  ].map(([label, className, content]) => {
    const cell = make('td', className, content);
    cell.dataset.label = label;
    return cell;
  });
  return make('tr', '', ...cells);
}

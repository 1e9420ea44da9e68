/* Numbers for people: each with the same number of decimals from one second to the next, so that nothing jumps. */
const MINUTE = 60;
const NONE = '–';
const orNone = (value, format) => (value === undefined ? NONE : format(value));

const formatCount = value => Math.round(value).toLocaleString('en');
const formatRate = value => (value >= 100 ? formatCount(value) : value.toFixed(1));
const formatMs = value =>
  value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value >= 10 ? formatCount(value) : value.toFixed(1)} ms`;
const formatBytes = bytes => (bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`);
const formatPercent = share => `${Math.round(share * 100)} %`;
/** Of errors, where one in a thousand counts. */
const formatShare = share => `${(share * 100).toFixed(1)} %`;
const formatCores = value => value.toFixed(2);
/** The limit of CPUs, as it was set. */
const formatLimit = value => String(Math.round(value * 100) / 100);
const formatClock = at => new Date(at).toLocaleTimeString('en-GB');
const formatMinute = at => formatClock(at).slice(0, 5);

function formatDuration(seconds) {
  if (seconds < 2 * MINUTE) return `${Math.round(seconds)} s`;
  if (seconds < 120 * MINUTE) return `${Math.round(seconds / MINUTE)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/* What the page keeps, as much as the primary does: a sample a second for ten minutes, one per ten seconds for an hour, per five minutes for a day. */
const RANGES = {
  '10m': { words: '10 minutes', seconds: 600, tickSeconds: 120 },
  '1h': { words: 'hour', seconds: 3600, tickSeconds: 600 },
  '24h': { words: '24 hours', seconds: 86_400, tickSeconds: 4 * 3600 },
};
const KEPT = { samples: 600, hour: 360, day: 288, events: 600 };
/** A young pod's range begins with this span, and grows. */
const MIN_SPAN_SECONDS = 60;

/** @type {import("../../protocol/api.ts").StreamedEvents['history']} */
let past = { samples: [], hour: [], day: [], events: [] };

function keep(list, ...entries) {
  past = { ...past, [list]: [...past[list], ...entries].slice(-KEPT[list]) };
}

/** Those of a range, the end of it by the finer samples. */
function samplesOf(range) {
  const { samples, hour, day } = past;
  if (range === '10m') return samples;
  const coarse = range === '24h' ? [...day, ...after(day, hour)] : hour;
  return [...coarse, ...after(coarse, samples)];
}

function after(earlier, later) {
  const at = earlier.at(-1)?.at ?? 0;
  return later.filter(sample => sample.at > at);
}

/** From and to, in seconds since the epoch. */
function spanOf(samples, range) {
  const to = (samples.at(-1)?.at ?? Date.now()) / 1000;
  const first = (samples[0]?.at ?? Date.now()) / 1000;
  return [Math.max(to - RANGES[range].seconds, Math.min(first, to - MIN_SPAN_SECONDS)), to];
}

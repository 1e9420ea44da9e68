/**
 * Names of metrics: those of the app that collide with one of the kit get a prefix. Pure.
 */
import type { AppMetric } from '../protocol/snapshot.ts';

/** Of the kit's metrics, also of those that are shown only with a memory limit or with Redis. */
const KIT_PREFIX = 'bosun_';
const APP_PREFIX = 'app_';
/** What histograms and summaries add to their names. */
const SUFFIXES = ['', '_bucket', '_sum', '_count'];

export interface NamedMetric {
  name: string;
  type: unknown; // a string, which prom-client declares as a number
}

/** Names of the samples that a metric may have on the page. */
function samplesOf({ name, type }: NamedMetric): string[] {
  const hasSuffixes = ['histogram', 'summary'].includes(String(type));
  return hasSuffixes ? SUFFIXES.map(suffix => `${name}${suffix}`) : [name];
}

/**
 * Renames those that collide with a metric of the kit: `app_` before their names.
 * @returns the metrics of every worker, and the names that were changed
 */
export function withoutCollisions(
  byWorker: readonly AppMetric[][],
  kits: readonly NamedMetric[],
): { byWorker: AppMetric[][]; renamed: string[] } {
  const taken = new Set(kits.flatMap(samplesOf));
  const collides = (metric: AppMetric) =>
    metric.name.startsWith(KIT_PREFIX) || samplesOf(metric).some(sample => taken.has(sample));
  const renamed = new Set(byWorker.flat().flatMap(metric => (collides(metric) ? [metric.name] : [])));
  // If the app also has a metric with the new name, that one stays.
  const kept = new Set(byWorker.flat().flatMap(({ name }) => (renamed.has(name) ? [] : [name])));
  const free = byWorker.map(metrics =>
    metrics.flatMap(metric => {
      if (!renamed.has(metric.name)) return [metric];
      return kept.has(APP_PREFIX + metric.name) ? [] : [prefixed(metric)];
    }),
  );
  return { byWorker: free, renamed: [...renamed] };
}

function prefixed(metric: AppMetric): AppMetric {
  const values = metric.values.map(value => {
    const { metricName } = value as { metricName?: string };
    return metricName === undefined ? value : { ...value, metricName: APP_PREFIX + metricName };
  });
  return { ...metric, name: APP_PREFIX + metric.name, values };
}

/**
 * `/metrics` in the format OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), which plain text lacks exemplars of. Samples have
 * the same names and labels in both formats: a series does not change where Prometheus requests the other one.
 */
import type { OpenMetricsContentType, Registry } from 'prom-client';
import type { Exemplar } from '../protocol/snapshot.ts';
import type { Answer } from './server.ts';

/** A metric in prom-client's JSON, as it is there: its declaration has numbers as types. */
export interface OpenMetric {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram' | 'summary' | 'unknown';
  values: { metricName?: string }[];
}

const TOTAL = '_total';

/** The exemplar of a sample, as prom-client writes it. */
export const exemplarOf = ({ traceId, seconds, at }: Exemplar) => ({
  exemplar: { labelSet: { trace_id: traceId }, value: seconds, timestamp: at / 1000 },
});

/** The page of all `metrics`, in their order. No two have one name. */
export async function openMetrics(metrics: readonly OpenMetric[], Page: typeof Registry): Promise<Answer> {
  const page: Registry<OpenMetricsContentType> = new Page();
  page.setContentType(Page.OPENMETRICS_CONTENT_TYPE);
  const names = new Set(metrics.map(({ name }) => name));
  for (const metric of metrics) {
    const family = familyOf(metric, names);
    page.registerMetric({ ...family, get: () => family } as never); // the part of a metric that a registry uses
  }
  return { contentType: page.contentType, text: await page.metrics() };
}

/** A counter is named without `_total`, which its samples have. One that has no such name is `unknown`, as the Go client writes it. */
function familyOf(metric: OpenMetric, names: ReadonlySet<string>): OpenMetric {
  // prom-client does not escape quotes there.
  const help = metric.help.replaceAll('"', "'");
  if (metric.type !== 'counter') return { ...metric, help };
  const name = metric.name.slice(0, -TOTAL.length);
  const isNamed = metric.name.endsWith(TOTAL) && !names.has(name) && !names.has(`${name}_created`);
  return isNamed ? { ...metric, help, name } : { ...metric, help, type: 'unknown' };
}

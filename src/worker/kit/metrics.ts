/**
 * The app's own metrics in this worker: its registry, and what the reports to the primary take from it.
 */
import { createRequire } from 'node:module';
import type { Registry } from 'prom-client';
import type { LogSource } from '../../log/log.ts';
import { MAX_METRICS, MAX_VALUES } from '../../protocol/app-metric-shapes.ts';
import type { AppMetric } from '../../protocol/snapshot.ts';
import { loggable } from '../error-report.ts';
import { within } from './app-call.ts';

/** A report waits no longer for the app's metrics, which may query other services: the primary considers a silent worker hung. */
const COLLECT_TIMEOUT_MS = 500;

export class AppMetrics {
  readonly #log: LogSource;
  #registry: Registry | undefined;
  #last: AppMetric[] = [];
  #collecting: Promise<void> | undefined;
  #collectFails = false;
  #hasTooMany = false;

  constructor(log: LogSource) {
    this.#log = log;
  }

  /** prom-client is loaded with the first use. */
  get registry(): Registry {
    if (this.#registry === undefined) {
      const prom = createRequire(import.meta.url)('prom-client') as typeof import('prom-client');
      this.#registry = new prom.Registry();
    }
    return this.#registry;
  }

  /** None if the app never used the registry, the last ones while its collectors fail or take long. */
  async json(): Promise<AppMetric[]> {
    if (this.#registry === undefined) return [];
    this.#collecting ??= this.#collect(this.#registry).finally(() => {
      this.#collecting = undefined;
    });
    await within(COLLECT_TIMEOUT_MS, this.#collecting);
    return this.#last;
  }

  async #collect(registry: Registry): Promise<void> {
    try {
      this.#last = await registry.getMetricsAsJSON();
      this.#warnIfTooMany(this.#last);
      this.#collectFails = false;
    } catch (error) {
      if (!this.#collectFails) this.#log().error({ event: 'metrics.collect-failed', err: loggable(error) });
      this.#collectFails = true;
    }
  }

  #warnIfTooMany(metrics: readonly AppMetric[]): void {
    const values = metrics.reduce((sum, metric) => sum + metric.values.length, 0);
    if (this.#hasTooMany || (metrics.length <= MAX_METRICS && values <= MAX_VALUES)) return;
    this.#hasTooMany = true;
    const warning = `/metrics shows the first ${MAX_METRICS} metrics of the app, with ${MAX_VALUES} values in all, and drops the rest`;
    this.#log().warn({ event: 'metrics.too-many', metrics: metrics.length, values, warning });
  }
}

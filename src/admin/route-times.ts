/**
 * The routes that the time of the pool goes to (METRICS_ROUTES), out of what the workers have counted; the clock (monotonic, in milliseconds) is
 * passed in. Loaded only where it is on.
 */
import type { RouteStatus } from '../protocol/error-status.ts';
import { type HttpSeries, round } from '../protocol/snapshot.ts';

const WINDOW_MS = 600_000;
/** The window begins at one of the readings, and is up to so much longer. */
const STEP_MS = 30_000;
const MAX_SHOWN = 20;

interface Count {
  method: string;
  route: string;
  requests: number;
  seconds: number;
  /** Answers of 5xx. */
  errors: number;
}
type Counts = ReadonlyMap<string, Count>;

export class RouteTimes {
  /** Since the start, the newest last. */
  readonly #readings: { at: number; counts: Counts }[];

  constructor(now: number) {
    this.#readings = [{ at: now, counts: new Map() }];
  }

  /** Keeps what was counted since the start, every STEP_MS. To be called more often. */
  sample(http: () => readonly HttpSeries[], now: number): void {
    const readings = this.#readings;
    if (now - (readings.at(-1)?.at ?? 0) < STEP_MS) return;
    readings.push({ at: now, counts: countsOf(http()) });
    while ((readings[1]?.at ?? now) <= now - WINDOW_MS) readings.shift();
  }

  /** Of the last 10 minutes, by their share of the time. `http` is what was counted since the start. */
  shown(http: readonly HttpSeries[]): RouteStatus[] {
    const before = this.#readings[0]?.counts;
    const recent = [...countsOf(http)].map(([key, count]) => difference(count, before?.get(key)));
    const seconds = recent.reduce((sum, count) => sum + count.seconds, 0);
    return recent
      .filter(({ requests }) => requests > 0)
      .sort((a, b) => b.seconds - a.seconds)
      .slice(0, MAX_SHOWN)
      .map(({ method, route, requests, seconds: own, errors }) => ({
        method,
        route,
        requests,
        share: round(own / (seconds || 1), 4),
        meanMs: round((own / requests) * 1000, 2),
        errors,
      }));
  }
}

function countsOf(http: readonly HttpSeries[]): Counts {
  const all = new Map<string, Count>();
  for (const { method, status, route, sumSeconds, counts } of http) {
    if (route === undefined) continue;
    const key = `${method} ${route}`;
    const count = all.get(key) ?? { method, route, requests: 0, seconds: 0, errors: 0 };
    const requests = counts.reduce((sum, each) => sum + each, 0);
    count.requests += requests;
    count.seconds += sumSeconds;
    if (status >= 500) count.errors += requests;
    all.set(key, count);
  }
  return all;
}

function difference(now: Count, before: Count | undefined): Count {
  if (before === undefined) return now;
  const { requests, seconds, errors } = before;
  return { ...now, requests: now.requests - requests, seconds: Math.max(0, now.seconds - seconds), errors: now.errors - errors };
}

/**
 * The answers of each worker by status class, and how many of them come per second. It reads what the workers have reported; the clock
 * (monotonic, in milliseconds) is passed in.
 *
 * A request whose client leaves before the answer begins has no status: it is abandoned, and no error.
 */
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { ErrorStatus } from '../protocol/error-status.ts';
import { type HttpSeries, round, type Snapshot } from '../protocol/snapshot.ts';

/** Rates cover this time. */
const WINDOW_MS = 10_000;
/** Workers report every second. */
const MAX_SILENCE_MS = 2000;

/** Answers by class: below 300, 3xx, 4xx, and 5xx with what is above. */
export type Classes = [success: number, redirect: number, clientError: number, serverError: number];

/** Of the answers in `http`, by class. */
export function classesOf(http: readonly HttpSeries[]): Classes {
  const classes: Classes = [0, 0, 0, 0];
  for (const { status, counts } of http) {
    const answers = counts.reduce((sum, count) => sum + count, 0);
    if (status < 300) classes[0] += answers;
    else if (status < 400) classes[1] += answers;
    else if (status < 500) classes[2] += answers;
    else classes[3] += answers;
  }
  return classes;
}

/** The parts of a worker that count. */
export type RatedWorker = Pick<WorkerProcess, 'startedAt' | 'reportedAt'> & {
  snapshot: Pick<Snapshot, 'http' | 'abandoned'> | undefined;
};

interface Reading {
  at: number;
  classes: Classes;
  abandoned: number;
}

/** Per second. */
type Rates = Record<'all' | 'clientErrors' | 'serverErrors' | 'abandoned', number>;

const NO_RATES: Rates = { all: 0, clientErrors: 0, serverErrors: 0, abandoned: 0 };

export class ErrorRates {
  /** Of the last seconds, the newest last. */
  readonly #readings = new WeakMap<RatedWorker, Reading[]>();

  /** Keeps what was reported since the last call, a second ago. */
  sample(workers: readonly RatedWorker[]): void {
    for (const worker of workers) {
      const { snapshot, reportedAt, startedAt } = worker;
      const readings = this.#readings.get(worker) ?? [{ at: startedAt, classes: [0, 0, 0, 0], abandoned: 0 }];
      this.#readings.set(worker, readings);
      if (snapshot === undefined || readings.at(-1)?.at === reportedAt) continue;
      readings.push({ at: reportedAt, classes: classesOf(snapshot.http), abandoned: snapshot.abandoned });
      while ((readings[1]?.at ?? reportedAt) <= reportedAt - WINDOW_MS) readings.shift();
    }
  }

  /** Of one worker since its start. */
  of(worker: RatedWorker, now: number): ErrorStatus {
    const { http = [], abandoned = 0 } = worker.snapshot ?? {};
    return statusOf(classesOf(http), abandoned, this.#rates(worker, now));
  }

  /** Of the pool: `counters` are those of the workers that have ended too. */
  pool(workers: readonly RatedWorker[], counters: Pick<Snapshot, 'http' | 'abandoned'>, now: number): ErrorStatus {
    const rates = workers.map(worker => this.#rates(worker, now)).reduce(addRates, NO_RATES);
    return statusOf(classesOf(counters.http), counters.abandoned, rates);
  }

  #rates(worker: RatedWorker, now: number): Rates {
    const readings = this.#readings.get(worker) ?? [];
    const newest = readings.at(-1);
    if (newest === undefined) return NO_RATES;
    // A blocked worker answers nothing.
    const until = now - newest.at > MAX_SILENCE_MS ? now : newest.at;
    const oldest = readings.find(({ at }) => until - at <= WINDOW_MS) ?? newest;
    const perSecond = (count: number) => (count * 1000) / Math.max(1, until - oldest.at);
    const [, , clientErrors, serverErrors] = newest.classes.map((count, index) =>
      perSecond(count - (oldest.classes[index] ?? 0)),
    );
    return {
      all: perSecond(totalOf(newest.classes) - totalOf(oldest.classes)),
      clientErrors: clientErrors ?? 0,
      serverErrors: serverErrors ?? 0,
      abandoned: perSecond(newest.abandoned - oldest.abandoned),
    };
  }
}

const totalOf = (classes: Classes): number => classes.reduce((sum, count) => sum + count, 0);

function addRates(a: Rates, b: Rates): Rates {
  return {
    all: a.all + b.all,
    clientErrors: a.clientErrors + b.clientErrors,
    serverErrors: a.serverErrors + b.serverErrors,
    abandoned: a.abandoned + b.abandoned,
  };
}

function statusOf([, , clientErrors, serverErrors]: Classes, abandoned: number, rates: Rates): ErrorStatus {
  return {
    '4xx': { count: clientErrors, perSecond: round(rates.clientErrors, 2) },
    '5xx': { count: serverErrors, perSecond: round(rates.serverErrors, 2) },
    share: round(rates.serverErrors / (rates.all || 1), 4),
    abandoned: { count: abandoned, perSecond: round(rates.abandoned, 2) },
  };
}

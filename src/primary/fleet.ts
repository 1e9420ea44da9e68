/**
 * The pods of this deployment, as they tell of themselves once a second over Redis. Each primary keeps what it hears: nothing is stored
 * anywhere, and no two clocks are compared.
 */
import { hostname } from 'node:os';
import { type Pod, type PodState, slowestP99Ms } from './admin/status.ts';

/** What a primary tells of its pod. */
export interface Beat {
  /** The start of a primary. */
  origin: string;
  /** The host name: a pod's, or a container's id. */
  pod: string;
  version: string;
  state: PodState | 'gone';
  generation: number;
  /** Workers that serve, and that are wanted. */
  workers: number;
  wanted: number;
  requestsPerSecond: number;
  /** Of its slowest worker, milliseconds. */
  p99Ms: number;
  /** The last change of the session keys by which all its workers go. */
  keysRead?: string;
}

export interface Member extends Beat {
  /** Since its last beat. */
  silentSeconds: number;
  isSelf: boolean;
}

/** A pod that has said no goodbye is shown for this long. */
const FORGET_AFTER_MS = 30_000;
const MOST_MEMBERS = 1000;

export class Fleet {
  readonly #origin: string;
  readonly #pod: () => Pod;
  readonly #now: () => number;
  readonly #members = new Map<string, { beat: Beat; heardAt: number }>();
  #last: { requests: number; at: number };

  /** `now` is a monotonic clock in milliseconds. */
  constructor(origin: string, pod: () => Pod, now = () => performance.now()) {
    this.#origin = origin;
    this.#pod = pod;
    this.#now = now;
    this.#last = { requests: 0, at: now() };
  }

  /** What to tell of this pod; its rate is that since the last call. */
  beat(keysRead?: string): Beat {
    const { version, state, supervisor, totals } = this.#pod();
    const { requests } = totals.countersWith(supervisor.handles);
    const seconds = (this.#now() - this.#last.at) / 1000;
    const requestsPerSecond = seconds > 0 ? Math.max(0, Math.round(((requests - this.#last.requests) / seconds) * 10) / 10) : 0;
    this.#last = { requests, at: this.#now() };
    const beat: Beat = {
      origin: this.#origin,
      pod: hostname(),
      version,
      state,
      generation: supervisor.generation,
      workers: supervisor.serving.length,
      wanted: supervisor.wanted,
      requestsPerSecond,
      p99Ms: slowestP99Ms(supervisor.handles),
      ...(keysRead !== undefined && { keysRead }),
    };
    this.#heard(beat);
    return beat;
  }

  goodbye(): Beat {
    return { ...this.beat(), state: 'gone' };
  }

  /** Takes a beat of another pod; nonsense is left alone. */
  heard(text: string): void {
    const beat = parse(text);
    if (beat !== undefined && beat.origin !== this.#origin) this.#heard(beat);
  }

  /** This pod, then the others by name. */
  get members(): Member[] {
    const now = this.#now();
    for (const [origin, { heardAt }] of this.#members) if (now - heardAt > FORGET_AFTER_MS) this.#members.delete(origin);
    const members = [...this.#members.values()].map(({ beat, heardAt }) => ({
      ...beat,
      silentSeconds: Math.round((now - heardAt) / 100) / 10,
      isSelf: beat.origin === this.#origin,
    }));
    return members.sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || a.pod.localeCompare(b.pod));
  }

  #heard(beat: Beat): void {
    if (beat.state === 'gone') this.#members.delete(beat.origin);
    else if (this.#members.size < MOST_MEMBERS || this.#members.has(beat.origin))
      this.#members.set(beat.origin, { beat, heardAt: this.#now() });
  }
}

const STATES: readonly string[] = ['starting', 'ready', 'draining', 'gone'] satisfies Beat['state'][];
const NUMBERS = ['generation', 'workers', 'wanted', 'requestsPerSecond', 'p99Ms'] as const;

function parse(text: string): Beat | undefined {
  try {
    const beat = JSON.parse(text) as Beat;
    const isBeat =
      [beat.origin, beat.pod, beat.version].every(value => typeof value === 'string') &&
      STATES.includes(beat.state) &&
      NUMBERS.every(name => Number.isFinite(beat[name])) &&
      ['undefined', 'string'].includes(typeof beat.keysRead);
    return isBeat ? beat : undefined;
  } catch {
    return undefined;
  }
}

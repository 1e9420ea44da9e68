/**
 * The pods of this deployment, as they tell of themselves once a second over Redis. Each primary keeps what it hears: nothing is stored
 * anywhere. Data from other pods is bounded and made printable here, because terminals and the dashboard show it.
 */
import { hostname } from 'node:os';
import { type Pod, type PodState, slowestP99Ms } from '../admin/status.ts';
import { MalformedError, number, object, oneOf, optional, string } from '../protocol/shapes.ts';
import { ORIGIN } from '../state/inbox.ts';
import { printable } from '../state/redis-health.ts';
import { CLOCK_TOLERANCE_MS } from '../state/retained.ts';

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

/** A beat in transit. A signed beat can be replayed, but not with a later number and time. */
interface Sent extends Beat {
  /** Counts the beats of this origin. */
  beat?: number;
  /** Milliseconds since the epoch. */
  at?: number;
}

export interface Member extends Beat {
  /** Since its last beat. */
  silentSeconds: number;
  isSelf: boolean;
}

/** A pod that has said no goodbye is shown for this long. */
const FORGET_AFTER_MS = 30_000;
const MOST_MEMBERS = 1000;
/** Above the length of any beat. */
const MOST_BEAT_LENGTH = 4096;
/** Pods whose last beat is remembered after they are forgotten. */
const MOST_REMEMBERED = 2 * MOST_MEMBERS;

export class Fleet {
  readonly #origin: string;
  readonly #pod: () => Pod;
  readonly #now: () => number;
  readonly #members = new Map<string, { beat: Beat; heardAt: number }>();
  /** Beats that were ignored, by reason. */
  readonly ignored = { malformed: 0, unauthenticated: 0, stale: 0, crowded: 0 };
  readonly #numbers = new Map<string, number>();
  readonly #epochNow: () => number;
  #last: { requests: number; at: number };
  #beats = 0;

  /** `now` is a monotonic clock in milliseconds, `epochNow` the time since the epoch. */
  constructor(origin: string, pod: () => Pod, now = () => performance.now(), epochNow = Date.now) {
    this.#origin = origin;
    this.#pod = pod;
    this.#now = now;
    this.#epochNow = epochNow;
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

  /** A beat as it is sent. */
  textOf(beat: Beat): string {
    return JSON.stringify({ ...beat, beat: ++this.#beats, at: this.#epochNow() } satisfies Sent);
  }

  /** Takes a beat of another pod; malformed beats and signed old ones are ignored. */
  heard(text: string, isSigned = false): void {
    const sent = parse(text);
    if (sent === undefined) this.ignored.malformed++;
    else if (sent.origin === this.#origin) return;
    else if (isSigned && !this.#isNew(sent)) this.ignored.stale++;
    else {
      const { beat: _, at: __, ...beat } = sent;
      this.#heard(beat);
    }
  }

  #isNew({ origin, beat = 0, at = 0 }: Sent): boolean {
    const isNew = beat > (this.#numbers.get(origin) ?? 0) && Math.abs(this.#epochNow() - at) <= CLOCK_TOLERANCE_MS;
    if (!isNew) return false;
    this.#numbers.delete(origin);
    this.#numbers.set(origin, beat);
    const [silent] = this.#numbers.keys();
    if (this.#numbers.size > MOST_REMEMBERED && silent !== undefined) this.#numbers.delete(silent);
    return true;
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
    else this.ignored.crowded++;
  }
}

const words: (maxLength: number) => (value: unknown, at: string) => string = maxLength => (value, at) =>
  printable(string(MOST_BEAT_LENGTH)(value, at), maxLength);

const sentBeat = object<Sent>({
  origin: (value, at) => {
    const origin = string(MOST_BEAT_LENGTH)(value, at);
    if (ORIGIN.test(origin)) return origin;
    throw new MalformedError(at, 'an origin', origin);
  },
  pod: words(253),
  version: words(64),
  state: oneOf('starting', 'ready', 'draining', 'gone'),
  generation: number(0),
  workers: number(0),
  wanted: number(0),
  requestsPerSecond: number(0),
  p99Ms: number(0),
  keysRead: optional(words(64)),
  beat: optional(number(0)),
  at: optional(number(0)),
});

function parse(text: string): Sent | undefined {
  if (text.length > MOST_BEAT_LENGTH) return undefined;
  try {
    return sentBeat(JSON.parse(text), 'beat');
  } catch {
    return undefined;
  }
}

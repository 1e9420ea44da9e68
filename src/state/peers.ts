/**
 * The pods of this deployment, by the heartbeat that each one publishes once a second over Redis. Each primary remembers what it receives;
 * nothing is stored. Data of other pods is bounded and made printable here, because terminals and the dashboard show it.
 */
import { hostname } from 'node:os';
import type { Heartbeat, Peer } from '../protocol/api.ts';
import { boolean, MalformedError, number, object, oneOf, optional, printable, string } from '../protocol/shapes.ts';
import { CLOCK_TOLERANCE_MS, ORIGIN } from './broadcast.ts';

/** A heartbeat in transit. A signed one can be replayed, but not with a later number and time. */
interface SentHeartbeat extends Heartbeat {
  /** Counts the heartbeats of this origin. */
  beat?: number;
  /** Milliseconds since the epoch. */
  at?: number;
}

/** This pod now; `requests` counts up since its start. */
export interface OwnPod extends Omit<Heartbeat, 'origin' | 'pod' | 'requestsPerSecond' | 'keysRead'> {
  requests: number;
}

/** A pod that ended without a last heartbeat is shown for this long. */
const FORGET_AFTER_MS = 30_000;
const MAX_PEERS = 1000;
/** That are named in a line. */
const MAX_STRANGERS = 5;
/** A rate over less jumps. */
const MIN_RATE_SECONDS = 0.5;
/** Above the length of any heartbeat. */
const MAX_LENGTH = 4096;
/** Pods whose last number is remembered, also after they are forgotten. */
const MAX_NUMBERS = 2 * MAX_PEERS;

export class Peers {
  /** Ignored heartbeats, by reason. */
  readonly ignored = { malformed: 0, unauthenticated: 0, stale: 0, crowded: 0 };
  readonly #origin: string;
  readonly #ownPod: () => OwnPod;
  readonly #now: () => number;
  readonly #epochNow: () => number;
  readonly #peers = new Map<string, { heartbeat: Heartbeat; receivedAt: number }>();
  /** The last number of each origin, the longest silent first. */
  readonly #numbers = new Map<string, number>();
  #last: { requests: number; at: number; rate: number };
  #sent = 0;

  /** `now` is a monotonic clock in milliseconds, `epochNow` the time since the epoch. */
  constructor(origin: string, ownPod: () => OwnPod, now = () => performance.now(), epochNow = Date.now) {
    this.#origin = origin;
    this.#ownPod = ownPod;
    this.#now = now;
    this.#epochNow = epochNow;
    this.#last = { requests: 0, at: now(), rate: 0 };
  }

  /** This pod's next heartbeat; its request rate is that since the last one, or the same where that was just now. */
  heartbeat(keysRead?: string): Heartbeat {
    const { requests, ...ownPod } = this.#ownPod();
    const seconds = (this.#now() - this.#last.at) / 1000;
    if (seconds >= MIN_RATE_SECONDS) {
      const rate = Math.max(0, Math.round(((requests - this.#last.requests) / seconds) * 10) / 10);
      this.#last = { requests, at: this.#now(), rate };
    }
    const { rate: requestsPerSecond } = this.#last;
    const heartbeat: Heartbeat = {
      origin: this.#origin,
      pod: hostname(),
      ...ownPod,
      requestsPerSecond,
      ...(keysRead !== undefined && { keysRead }),
    };
    this.#remember(heartbeat);
    return heartbeat;
  }

  goodbye(): Heartbeat {
    return { ...this.heartbeat(), state: 'gone' };
  }

  /** A heartbeat as it is sent. */
  textOf(heartbeat: Heartbeat): string {
    return JSON.stringify({ ...heartbeat, beat: ++this.#sent, at: this.#epochNow() } satisfies SentHeartbeat);
  }

  /** Takes a heartbeat of another pod; malformed ones, and signed ones that are replayed, are counted and ignored. */
  onMessage(text: string, isSigned = false): void {
    const sent = parse(text);
    if (sent === undefined) this.ignored.malformed++;
    else if (sent.origin === this.#origin) return;
    else if (isSigned && !this.#isNew(sent)) this.ignored.stale++;
    else {
      const { beat: _, at: __, ...heartbeat } = sent;
      this.#remember(heartbeat);
    }
  }

  /** The apps, other than this pod's, whose pods use the same names in Redis. */
  get strangers(): string[] {
    const { app: own } = this.#ownPod();
    const apps = [...this.#peers.values()].flatMap(({ heartbeat: { app } }) => (app === undefined || app === own ? [] : [app]));
    return [...new Set(apps)].sort().slice(0, MAX_STRANGERS);
  }

  /** This pod, then the others by name. */
  get all(): Peer[] {
    const now = this.#now();
    for (const [origin, { receivedAt }] of this.#peers) if (now - receivedAt > FORGET_AFTER_MS) this.#peers.delete(origin);
    const peers = [...this.#peers.values()].map(({ heartbeat, receivedAt }) => ({
      ...heartbeat,
      silentSeconds: Math.round((now - receivedAt) / 100) / 10,
      isSelf: heartbeat.origin === this.#origin,
    }));
    return peers.sort((a, b) => Number(b.isSelf) - Number(a.isSelf) || a.pod.localeCompare(b.pod));
  }

  #isNew({ origin, beat: number = 0, at = 0 }: SentHeartbeat): boolean {
    const isNew = number > (this.#numbers.get(origin) ?? 0) && Math.abs(this.#epochNow() - at) <= CLOCK_TOLERANCE_MS;
    if (!isNew) return false;
    this.#numbers.delete(origin);
    this.#numbers.set(origin, number);
    const [silent] = this.#numbers.keys();
    if (this.#numbers.size > MAX_NUMBERS && silent !== undefined) this.#numbers.delete(silent);
    return true;
  }

  #remember(heartbeat: Heartbeat): void {
    if (heartbeat.state === 'gone') this.#peers.delete(heartbeat.origin);
    else if (this.#peers.size < MAX_PEERS || this.#peers.has(heartbeat.origin))
      this.#peers.set(heartbeat.origin, { heartbeat, receivedAt: this.#now() });
    else this.ignored.crowded++;
  }
}

const label = (maxLength: number) => (value: unknown, at: string) => printable(string(MAX_LENGTH)(value, at), maxLength);

const sentHeartbeat = object<SentHeartbeat>({
  origin: (value, at) => {
    const origin = string(MAX_LENGTH)(value, at);
    if (ORIGIN.test(origin)) return origin;
    throw new MalformedError(at, 'an origin', origin);
  },
  pod: label(253),
  version: label(64),
  state: oneOf('starting', 'ready', 'draining', 'gone'),
  generation: number(0),
  workers: number(0),
  wanted: number(0),
  requestsPerSecond: number(0),
  p99Ms: number(0),
  inFlight: optional(number(0)),
  errors: optional(object<NonNullable<Heartbeat['errors']>>({ '4xx': number(0), '5xx': number(0) })),
  cpus: optional(number(0)),
  cpuLimit: optional(number(0)),
  memoryBytes: optional(number(0)),
  limitBytes: optional(number(0)),
  utilization: optional(number(0)),
  keysRead: optional(label(64)),
  service: optional(label(63)),
  app: optional(label(214)),
  isChangingName: optional(boolean),
  beat: optional(number(0)),
  at: optional(number(0)),
});

function parse(text: string): SentHeartbeat | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  try {
    return sentHeartbeat(JSON.parse(text), 'heartbeat');
  } catch {
    return undefined;
  }
}

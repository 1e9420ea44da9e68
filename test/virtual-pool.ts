/**
 * A pool in virtual time: the state machine with simulated processes. A test lets time pass and says when a worker becomes ready, crashes
 * or finishes its drain; forks, kills and timers happen here.
 */
import assert from 'node:assert/strict';
import type { Config } from '../src/config/config.ts';
import type { Effect, PoolEvent } from '../src/pool/effects.ts';
import type { GiveUpReason } from '../src/pool/failures.ts';
import { PoolState } from '../src/pool/state.ts';
import type { WorkerRecord } from '../src/pool/worker-state.ts';
import type { EventName, EventOf, LifecycleEvent } from '../src/protocol/events.ts';
import type { Drain, ErrorReport, ToPrimary } from '../src/protocol/messages.ts';
import type { Sizing } from '../src/protocol/sizing.ts';
import type { Snapshot } from '../src/protocol/snapshot.ts';
import type { Headroom } from '../src/resources/usage.ts';

export const MIB = 2 ** 20;

const DEFAULTS = {
  restartIntensity: 10,
  restartPeriodMs: 60_000,
  startTimeoutMs: 60_000,
  workerStartTimeoutMs: 30_000,
  shutdownTimeoutMs: 25_000,
  workerHeartbeatTimeoutMs: 10_000,
  restartSurge: 'auto',
  workerMaxRequests: 0,
  workerMaxRequestsJitter: 0,
  workerMaxRssMb: 0,
  workerMaxAgeMs: 0,
} as const satisfies Partial<Config>;

/** The settings of a pool, with these changes. */
export const poolConfig = (changes: Partial<Config> = {}): Config => ({ ...DEFAULTS, ...changes }) as unknown as Config;

export const REPORT: ErrorReport = { message: 'no database', stack: '', summary: { class: 'Error' }, isPermanent: false };
const NO_STREAMS = { byKit: 0, byApp: 0 };
export const LEDGER: Drain = {
  finished: 1,
  cutRequests: 0,
  cut: [],
  webSockets: NO_STREAMS,
  eventStreams: NO_STREAMS,
  closedGracefully: 0,
  moved: 0,
  longestRequestMs: 1,
  durationMs: 5,
};

interface Options extends Partial<Config> {
  /** Wanted at first. */
  count?: number;
  cpus?: number;
  heapMb?: number | null;
  /** All workers serve, and have no head start or warm-up ahead of them. */
  isReady?: boolean;
}

export class VirtualPool {
  readonly config: Config;
  readonly state: PoolState;
  now = 0;
  headroom: Headroom | undefined;
  random = 0;
  /** Every effect so far, in order. */
  readonly effects: Effect[] = [];
  readonly answers = new Map<number, { error: Error | undefined }>();
  readonly steps: string[] = [];
  givenUp: GiveUpReason | undefined;
  /** Every worker that was ever forked, in this order. */
  readonly forked: WorkerRecord[] = [];
  readonly exited: WorkerRecord[] = [];
  readonly exitEvents: EventOf<'worker.exit'>[] = [];
  /** Of workers whose replacement was requested because they hang. */
  readonly hungPids = new Set<number>();
  /** Called after each event and its effects. */
  onApply: () => void = () => undefined;
  /** For who checks that none starts after the end. */
  forksAtGiveUp: number | undefined;
  /** Whether a killed process exits at once; otherwise `reap` ends it. */
  killsAtOnce = true;
  wakeAt = Number.POSITIVE_INFINITY;
  #requests = 0;
  readonly #queue: Effect[] = [];
  #isCarryingOut = false;

  constructor({ count = 2, cpus = 8, heapMb = null, isReady = true, ...config }: Options = {}) {
    this.config = poolConfig(config);
    const sensors = { headroom: () => this.headroom, random: () => this.random };
    this.state = new PoolState(this.config, sizingOf(count, cpus, heapMb), sensors, this.now);
    this.apply({ type: 'tick' });
    if (!isReady) return;
    this.pass(300);
    for (const worker of this.forked) this.ready(worker);
    this.pass(1000);
  }

  apply(event: PoolEvent): Effect[] {
    const effects = this.state.apply(event, this.now);
    this.effects.push(...effects);
    this.#queue.push(...effects);
    if (this.#isCarryingOut) return effects;
    // As the supervisor does: what follows from an effect comes after those that wait.
    this.#isCarryingOut = true;
    for (let effect = this.#queue.shift(); effect !== undefined; effect = this.#queue.shift()) this.#carryOut(effect);
    this.#isCarryingOut = false;
    this.onApply();
    return effects;
  }

  /** Lets time pass, and ticks when the pool wants to. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let ticks = 0; this.wakeAt <= end; ticks++) {
      assert.ok(ticks < 200 + ms, `the pool wakes up again and again at ${this.now}`);
      this.now = Math.max(this.now, this.wakeAt);
      this.apply({ type: 'tick' });
    }
    this.now = end;
  }

  /** The worker that was forked as the `number`th, from 1. */
  worker(number: number): WorkerRecord {
    const worker = this.forked[number - 1];
    assert.ok(worker, `only ${this.forked.length} workers were started; steps: ${this.steps.join('; ')}`);
    return worker;
  }

  get present(): WorkerRecord[] {
    return this.state.workers;
  }

  states(): string {
    return this.forked.map(({ state }) => state).join(' ');
  }

  message(worker: WorkerRecord, message: ToPrimary): void {
    this.apply({ type: 'message', worker, message });
  }

  ready(worker: WorkerRecord): void {
    this.message(worker, { type: 'ready', port: 3000 });
  }

  /** It fails to start. */
  fails(worker: WorkerRecord, report: Partial<ErrorReport> = {}): void {
    this.message(worker, { type: 'failed', stage: 'app', ...REPORT, ...report });
    this.exits(worker);
  }

  crashes(worker: WorkerRecord): void {
    this.message(worker, { type: 'crashing', ...REPORT, message: 'boom' });
  }

  /** It has drained and exits. */
  drained(worker: WorkerRecord, drain: Partial<Drain> = {}): void {
    this.message(worker, { type: 'drained', drain: { ...LEDGER, ...drain } });
    this.exits(worker, 0);
  }

  exits(worker: WorkerRecord, code = 1): void {
    this.#exit(worker, { code, signal: null, killer: undefined, lost: undefined });
  }

  killed(worker: WorkerRecord, killer: 'oom' | 'killed' = 'killed'): void {
    this.#exit(worker, { code: null, signal: 'SIGKILL', killer, lost: undefined });
  }

  /** A worker that the pool has killed exits. */
  reap(worker: WorkerRecord): void {
    this.#exit(worker, { code: null, signal: 'SIGKILL', killer: undefined, lost: undefined });
  }

  reports(worker: WorkerRecord, snapshot: Partial<Snapshot> = {}): void {
    this.message(worker, { type: 'stats', snapshot: { requests: 1, inFlight: 3, ...snapshot } as Snapshot });
  }

  /** Lets time pass, in which these workers report every second; the others are silent. */
  passReporting(ms: number, workers: () => readonly WorkerRecord[] = () => this.present): void {
    for (let passed = 0; passed < ms; passed += 500) {
      this.pass(Math.min(500, ms - passed));
      for (const worker of workers()) if (worker.state !== 'exited') this.reports(worker);
    }
  }

  measured(worker: WorkerRecord, mib: number): void {
    this.apply({ type: 'measured', worker, memory: { privateBytes: mib * MIB, sharedBytes: 0 } });
  }

  request(event: { type: 'enlarge'; wanted: number } | { type: 'restart'; worker: WorkerRecord } | { type: 'roll' }): number {
    const request = ++this.#requests;
    this.apply({ ...event, request });
    return request;
  }

  get requests(): number {
    return this.#requests;
  }

  /** The error of an answered request; undefined where it has succeeded. */
  answer(request: number): Error | undefined {
    const answer = this.answers.get(request);
    assert.ok(answer, `request ${request} has no answer; steps: ${this.steps.join('; ')}`);
    return answer.error;
  }

  events<Name extends EventName>(name: Name): EventOf<Name>[] {
    return this.effects.flatMap(effect => (effect.type === 'emit' && isNamed(effect.event, name) ? effect.event : []));
  }

  #exit(
    worker: WorkerRecord,
    how: { code: number | null; signal: string | null; killer: 'oom' | 'killed' | undefined; lost: undefined },
  ): void {
    if (worker.state === 'exited') return;
    this.apply({ type: 'exited', worker, how });
    this.exited.push(worker);
  }

  #carryOut(effect: Effect): void {
    switch (effect.type) {
      case 'fork':
        this.forked.push(effect.worker);
        this.apply({ type: 'forked', worker: effect.worker, pid: 100 + this.forked.length, isInspected: false });
        break;
      case 'kill':
        if (this.killsAtOnce) this.reap(effect.worker);
        break;
      case 'emit':
        if (effect.event.event === 'worker.exit') this.exitEvents.push(effect.event);
        if (effect.event.event === 'worker.replace' && effect.event.reason === 'hung') this.hungPids.add(effect.event.workerPid);
        break;
      case 'progress':
        this.steps.push(effect.text);
        break;
      case 'answer':
        assert.ok(!this.answers.has(effect.request), `request ${effect.request} is answered twice`);
        this.answers.set(effect.request, { error: effect.error });
        break;
      case 'give-up':
        assert.equal(this.givenUp, undefined, 'a pool gives up once');
        this.givenUp = effect.why;
        break;
      case 'wake':
        this.wakeAt = effect.at;
        break;
    }
  }
}

function isNamed<Name extends EventName>(event: LifecycleEvent, name: Name): event is EventOf<Name> {
  return event.event === name;
}

export function sizingOf(workers: number, cpus = 8, heapPerWorkerMb: number | null = null): Sizing {
  return {
    workers,
    wanted: workers,
    reason: 'test',
    cpus: { quota: null, cpuset: null, effective: cpus, source: 'test' },
    memory: { limitBytes: null, source: null, heapPerWorkerMb, semiSpaceMb: heapPerWorkerMb === null ? null : 8 },
    warnings: [],
  };
}

/**
 * The names under which this worker leads or is a candidate, and their connection to Redis. It is one of its own: blocking commands of the app
 * must not hold up a renewal. Loaded when the app calls `kit.leader`.
 */
import { hostname } from 'node:os';
import { type LeaderNotice, leaderNotice } from '../../protocol/leader.ts';
import { GRACE_MS, LEADER_TIMES, type LeaderTimes } from '../../state/leader-candidate.ts';
import { type Acquired, type Held, type LeaderLock, RedisLock } from '../../state/leader-lock.ts';
import { closeRedis, connectRedis, type RedisClient } from '../../state/redis.ts';
import { sendToPrimary } from '../process.ts';
import { LeaderRunner } from './leader-runner.ts';
import type { LeadersHost, Registration } from './leaders.ts';

/** Within the pod nothing expires: the primary knows which workers live. */
const POD_TIMES: LeaderTimes = {
  ...LEADER_TIMES,
  ttl: Number.POSITIVE_INFINITY,
  margin: 0,
  renewEvery: Number.POSITIVE_INFINITY,
};

export class Leading {
  readonly #host: LeadersHost;
  readonly #runners = new Map<string, LeaderRunner>();
  readonly #podLocks = new Map<string, PodLock>();
  #client: RedisClient | undefined;
  #isEnding = false;

  constructor(host: LeadersHost) {
    this.#host = host;
  }

  run({ name, start, scope }: Registration): void {
    if (this.#isEnding) return;
    const lock = scope === 'pod' ? this.#podLock(name) : this.#redisLock(name);
    const runner = new LeaderRunner({
      name,
      scope,
      start,
      lock,
      times: scope === 'pod' ? POD_TIMES : LEADER_TIMES,
      log: this.#host.log,
      report: report => sendToPrimary({ type: 'leader', name, scope, ...report }),
    });
    this.#runners.set(name, runner);
    runner.begin();
  }

  onNotice(json: string): void {
    const notice = parse(json);
    if (notice === undefined) return;
    const runner = this.#runners.get(notice.name);
    if (runner?.scope !== 'fleet') return;
    if (notice.type === 'seen') runner.onSeen(notice.token, notice.isFree);
    else if (runner.token === notice.token) runner.giveUp('request', GRACE_MS);
  }

  /** A message of the primary: with a token the worker leads, without one it gives up. */
  onMessage(name: string, token: number | undefined): void {
    if (token === undefined) this.#runners.get(name)?.giveUp('request', GRACE_MS);
    else this.#podLocks.get(name)?.grant(token);
  }

  async end(timeoutMs: number): Promise<void> {
    this.#isEnding = true;
    const graceMs = Math.min(GRACE_MS, timeoutMs);
    await Promise.all([...this.#runners.values()].map(runner => runner.stop(graceMs)));
    if (this.#client !== undefined) await closeRedis(this.#client);
  }

  #redisLock(name: string): LeaderLock {
    const { config, workerId: worker, root } = this.#host;
    // Its state is that of the worker's other connection, and reported there.
    this.#client ??= connectRedis(config, `bosun:${hostname()}:${worker}:leader`, () => undefined);
    if (this.#client === undefined) throw new Error('no Redis is configured');
    return new RedisLock(this.#client, { name, root, ttlMs: LEADER_TIMES.ttl, pod: hostname(), worker });
  }

  #podLock(name: string): LeaderLock {
    const lock = new PodLock(() => sendToPrimary({ type: 'leader', name, scope: 'pod', step: 'waits' }));
    this.#podLocks.set(name, lock);
    return lock;
  }
}

/** Of one pod: the primary grants it when it is free. What ends a term is reported to the primary, which frees it then. */
class PodLock implements LeaderLock {
  readonly #request: () => void;
  #granted = Promise.withResolvers<number>();

  constructor(request: () => void) {
    this.#request = request;
  }

  grant(token: number): void {
    this.#granted.resolve(token);
  }

  async acquire(): Promise<Acquired | Held> {
    this.#granted = Promise.withResolvers<number>();
    this.#request();
    return { token: await this.#granted.promise };
  }

  async renew(): Promise<boolean> {
    return true;
  }

  async release(): Promise<void> {}
}

function parse(json: string): LeaderNotice | undefined {
  try {
    return leaderNotice(JSON.parse(json), 'notice');
  } catch {
    return undefined; // anyone who can publish in Redis can send it
  }
}

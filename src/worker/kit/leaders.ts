/**
 * `kit.leader` in this worker: checks what the app passes, and begins once the worker serves. A worker that does not start never leads. What
 * leading needs is loaded only if the app calls it.
 */
import type { Config } from '../../config/config.ts';
import { usesRedis } from '../../config/redis-address.ts';
import type { LeaderOptions, LeaderTerm } from '../../index.ts';
import type { LogSource } from '../../log/log.ts';
import { isLeaderName, LEADER_NAME_RULE, type LeaderScope, MAX_LEADERS } from '../../protocol/leader.ts';
import { checkFunction, checkOptions, shown } from './arguments.ts';
import type { Leading } from './leading.ts';

const OPTIONS: Readonly<Record<keyof LeaderOptions, true>> = { scope: true };

export type Start = (term: LeaderTerm) => unknown;

/** A call of `kit.leader`. */
export interface Registration {
  name: string;
  start: Start;
  scope: LeaderScope;
}

/** What leading needs of its worker. */
export interface LeadersHost {
  config: Config;
  workerId: number;
  log: LogSource;
  /** The root of the service's names in Redis. @throws Error if it is not known yet */
  root: () => string;
}

export class Leaders {
  readonly #host: LeadersHost;
  readonly #registrations = new Map<string, Registration>();
  #leading: Promise<Leading> | undefined;
  #serves = false;
  #isEnding = false;

  constructor(host: LeadersHost) {
    this.#host = host;
  }

  /** @throws TypeError, RangeError, or Error if there is no Redis to elect a leader of all pods */
  add(name: unknown, start: unknown, options: LeaderOptions = {}): void {
    if (!isLeaderName(name)) throw new TypeError(`the name of a leader must be ${LEADER_NAME_RULE}, got ${shown(name)}`);
    const call = `kit.leader(${shown(name)})`;
    checkFunction(`${call}: start`, start);
    const scope = scopeOf(options, call);
    if (scope === 'fleet' && !usesRedis(this.#host.config))
      throw Object.assign(
        new Error(
          `${call} elects one leader of all pods and needs Redis, got none: set REDIS_URL, or pass { scope: 'pod' } for one leader in each pod`,
        ),
        { code: 'ERR_LEADER_NEEDS_REDIS' },
      );
    if (this.#registrations.has(name)) throw new TypeError(`${call} was called twice in this worker`);
    if (this.#registrations.size >= MAX_LEADERS) throw new RangeError(`${call}: there are ${MAX_LEADERS} leaders already`);
    const registration: Registration = { name, start: start as Start, scope };
    this.#registrations.set(name, registration);
    if (this.#serves) this.#run(registration);
  }

  /** The worker serves now. */
  begin(): void {
    this.#serves = true;
    for (const registration of this.#registrations.values()) this.#run(registration);
  }

  /** A notice of the kit's own, as JSON. */
  onNotice(json: string): void {
    void this.#leading?.then(leading => leading.onNotice(json));
  }

  /** The primary decides in the scope `pod`. */
  onMessage(name: string, token: number | undefined): void {
    void this.#leading?.then(leading => leading.onMessage(name, token));
  }

  /** Gives up all leads. Resolves when the start functions have ended and the locks are free, or soon after `timeoutMs`. */
  async end(timeoutMs: number): Promise<void> {
    this.#isEnding = true;
    await (await this.#leading)?.end(timeoutMs);
  }

  #run(registration: Registration): void {
    if (this.#isEnding) return;
    this.#leading ??= import('./leading.ts').then(({ Leading }) => new Leading(this.#host));
    void this.#leading.then(leading => leading.run(registration));
  }
}

function scopeOf(options: unknown, call: string): LeaderScope {
  checkOptions(call, options, OPTIONS);
  const { scope = 'fleet' } = options as { scope?: unknown };
  if (scope === 'fleet' || scope === 'pod') return scope;
  throw new TypeError(`${call}: scope must be "fleet" or "pod", got ${shown(scope)}`);
}

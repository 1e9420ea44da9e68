/**
 * Which names in Redis this service uses. Redis keeps that, so that every worker and pod finds the same, also after an upgrade from version
 * 0.1.0, whose names have no service in them, and during a change of the name (control/migrate-service.ts).
 */
import type { Config } from '../config/config.ts';
import type { Service } from '../config/service.ts';
import { isServiceName, NO_NAME } from '../config/service-name.ts';
import type { RedisClient } from './redis.ts';
import { hasUnnamed, unlessForbidden } from './redis-keys.ts';
import { recordKey, rootOf } from './redis-names.ts';
import { registeredName } from './service-registry.ts';

/** Of names in Redis. */
export interface Roots {
  /** Reads look here; writes go here first. */
  root: string;
  /** While the name changes: writes go here too. */
  copy?: string;
}

/** What Redis keeps for a service. */
export interface NameInUse {
  /** Of the service itself, the one before, or `none`. */
  name: string;
  /** Reads have moved from that name to the service's own; writes still go to both. */
  isMoving: boolean;
}

export class ServiceNames {
  /** The service's name; a renamed package keeps its own. */
  name: string;
  readonly service: Service;
  readonly #config: Config;
  #inUse: NameInUse | undefined;
  #roots: Roots | undefined;
  readonly #writes = new Set<Promise<unknown>>();

  constructor(config: Config, service: Service) {
    this.#config = config;
    this.service = service;
    this.name = service.name;
  }

  get isKnown(): boolean {
    return this.#roots !== undefined;
  }

  /** @throws Error if Redis has not answered yet */
  get roots(): Roots {
    if (this.#roots === undefined) throw new Error('the names of this service have not been read from Redis yet');
    return this.#roots;
  }

  /** Undefined until Redis has answered. */
  get inUse(): NameInUse | undefined {
    return this.#inUse;
  }

  /** Of the service's own name. */
  get ownRoot(): string {
    return rootOf(this.name, this.#config.sessionCookie);
  }

  /** Whether this process writes to the names of SERVICE_NAME_BEFORE and to its own. */
  get isChanging(): boolean {
    return this.#roots?.copy !== undefined;
  }

  /**
   * Reads which names are in use; the first process decides. Called on each connect and after each change. A Redis that has lost its data gets
   * the record again. Resolves when no write to earlier names is in progress.
   * @throws if Redis fails
   */
  async read(redis: RedisClient): Promise<Roots> {
    if (!this.service.isGiven) this.name = await registeredName(redis, this.service, this.#config);
    const key = recordKey(this.ownRoot);
    const found = await unlessForbidden(() => redis.get(key), 'forbidden');
    const inUse = found === 'forbidden' ? { name: NO_NAME, isMoving: false } : await this.#decide(redis, key, parse(found));
    const before = this.#roots;
    const roots = this.#rootsFor(inUse);
    this.#inUse = inUse;
    this.#roots = roots;
    if (before?.root !== roots.root || before.copy !== roots.copy) await Promise.allSettled(this.#writes);
    return roots;
  }

  /** Runs a write to the current names. @throws Error if Redis has not answered yet */
  async write<T>(run: (roots: Roots) => Promise<T>): Promise<T> {
    const running = run(this.roots);
    if (this.roots.copy === undefined) return running;
    this.#writes.add(running);
    try {
      return await running;
    } finally {
      this.#writes.delete(running);
    }
  }

  #rootsFor({ name, isMoving }: NameInUse): Roots {
    const root = rootOf(name, this.#config.sessionCookie);
    if (isMoving) return { root: this.ownRoot, copy: root };
    const isCopied = name !== this.name && this.#config.serviceNameBefore !== undefined;
    return isCopied ? { root, copy: this.ownRoot } : { root };
  }

  /** What is in use, given what Redis has recorded; records it. */
  async #decide(redis: RedisClient, key: string, recorded: NameInUse | undefined): Promise<NameInUse> {
    const known = recorded ?? this.#inUse;
    const { serviceNameBefore: before } = this.#config;
    const hasEnded = known !== undefined && (known.isMoving || known.name === this.name);
    if (recorded !== undefined && (hasEnded || before === undefined)) return recorded;
    const isDecided = known !== undefined && (hasEnded || before === undefined);
    const inUse = isDecided ? known : { name: await this.#nameBefore(redis, before), isMoving: false };
    if (recorded === undefined) await redis.set(key, textOf(inUse), 'NX');
    // SERVICE_NAME_BEFORE is another one now.
    else if (recorded.name !== inUse.name) await redis.set(key, textOf(inUse));
    return parse(await redis.get(key)) ?? inUse;
  }

  /** What was in use before this service had a record. */
  async #nameBefore(redis: RedisClient, before: string | undefined): Promise<string> {
    if (before === undefined) return (await hasUnnamed(redis, this.#config)) ? NO_NAME : this.name;
    if (before === NO_NAME || before === this.name) return before;
    // That service may never have had its name in Redis.
    const key = recordKey(rootOf(before, this.#config.sessionCookie));
    const found = parse(await unlessForbidden(() => redis.get(key), null));
    return found === undefined || found.isMoving ? before : found.name;
  }
}

const MOVING = 'moving:';

const textOf = ({ name, isMoving }: NameInUse) => (isMoving ? MOVING + name : name);

/** The value is not trusted: anyone who can write to Redis can change it. @throws Error */
function parse(value: string | null): NameInUse | undefined {
  if (value === null) return undefined;
  const isMoving = typeof value === 'string' && value.startsWith(MOVING);
  const name = isMoving ? value.slice(MOVING.length) : value;
  if (typeof name === 'string' && (name === NO_NAME || isServiceName(name))) return { name, isMoving };
  throw new Error('the record of the service in Redis must be a name, got another value');
}

/** The next step of a change of the name, for every process that reads it. @throws if Redis fails */
export async function recordName(redis: RedisClient, ownRoot: string, inUse: NameInUse): Promise<void> {
  await redis.set(recordKey(ownRoot), textOf(inUse));
}

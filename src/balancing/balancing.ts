/**
 * Balancing as the primary sees it: the policy, the listening sockets that the workers inherit, and which worker accepts from which of them.
 * There is one socket for all workers, or with `reuseport` one for each. The gated policies differ only in what the workers' accept gates do
 * (accept-gate.ts), so they can change while the pool runs.
 */
import { availableParallelism } from 'node:os';
import { ConfigError } from '../config/config.ts';
import { POLICIES, type Policy } from '../config/variables.ts';
import { ACCEPTS_PER_TURN, canPause, ListeningSockets, PortError } from './listener.ts';
import { isGated, RULES } from './policy.ts';
import { Scoreboard } from './scoreboard.ts';
import { waitingConnections } from './tcp-table.ts';

/** The first inherited descriptor: standard input, output, error and the channel to the primary come before. */
const FIRST_FD = 4;
/** Every worker inherits every socket. More workers than this share them. */
const MAX_LISTENERS = 64;

interface Worker {
  id: number;
  isServing: boolean;
  send(message: { type: 'serve'; listeners: number[] }): void;
}

/** What the system must provide; tests replace it. */
const SYSTEM = { createScoreboard: Scoreboard.create, bindMany: ListeningSockets.many, canPause };
export type System = typeof SYSTEM;

export interface BalancingOptions {
  policy: Policy;
  /** A number, not a name. */
  address: string;
  /** Undefined to take none yet. */
  port: number | undefined;
  /** The size of the pool at the start. */
  workers: number;
}

export class Balancing {
  #policy: Policy;
  /** Why the policy is not the configured one. */
  readonly warning: string | undefined;
  readonly #scoreboard: Scoreboard | undefined;
  readonly #bind: (port: number) => ListeningSockets;
  #sockets: ListeningSockets | undefined;
  #inodes: ReadonlySet<number> = new Set();
  #namedPort: number | undefined;
  #port = 0;
  readonly #assignment: ListenerAssignment;
  /** By worker id: the last assignment that was sent to it. */
  readonly #sent = new Map<number, string>();
  /** Of the pool at the last assignment. */
  #signature = '';
  /** Create it before the first fork. If the system lacks what an accept gate needs, the policy is `none`. @throws PortError; ConfigError without SO_REUSEPORT */
  constructor({ policy, address, port, workers }: BalancingOptions, system: Partial<System> = {}) {
    const { createScoreboard, bindMany, canPause } = { ...SYSTEM, ...system };
    this.#policy = policy;
    const isShared = RULES[policy].listener === 'shared';
    const count = isShared ? 1 : Math.min(MAX_LISTENERS, Math.max(workers, availableParallelism()));
    this.#bind = at => (isShared ? ListeningSockets.shared(address, at) : bindReuseport(bindMany, address, at, count));
    this.#assignment = new ListenerAssignment(count);
    if (port !== undefined) this.#open(port);
    if (isGated(policy)) {
      try {
        if (!canPause()) throw new Error(`Node.js ${process.version} cannot pause a listening socket`);
        this.#scoreboard = scoreboardOf(createScoreboard);
        this.#scoreboard.setPolicy(policy);
      } catch (error) {
        this.#policy = 'none';
        if (policy !== 'none') this.warning = `the policy is none instead of ${policy}: ${(error as Error).message}`;
      }
    }
  }

  #open(port: number): void {
    this.#sockets = this.#bind(port);
    this.#inodes = new Set(this.#sockets.inodes);
    this.#port = this.#sockets.port;
  }

  /** The real one if 0 was configured; 0 while none is taken. */
  get port(): number {
    return this.#port;
  }

  /** Workers that start from now on accept at this port, which the app has named; none may serve yet. @throws PortError */
  rebind(port: number): void {
    if (port === this.#namedPort) return;
    this.#sockets?.close();
    this.#open(port);
    this.#namedPort = port;
  }

  get policy(): Policy {
    return this.#policy;
  }

  /** The descriptors that each worker inherits, and the variables that say where it finds them. */
  get inherited(): { fds: number[]; environment: Record<string, string> } {
    const scoreboards = this.#scoreboard === undefined ? [] : [this.#scoreboard.fd];
    const sockets = this.#sockets?.fds ?? [];
    const fds = this.#scoreboard === undefined ? sockets : sockets.flatMap(fd => Array<number>(ACCEPTS_PER_TURN).fill(fd));
    return {
      fds: [...scoreboards, ...fds],
      environment: {
        BOSUN_SCOREBOARD: scoreboards.length === 0 ? '' : String(FIRST_FD),
        BOSUN_SOCKETS: fds.map((_, index) => FIRST_FD + scoreboards.length + index).join(','),
        BOSUN_PORT: String(this.#namedPort ?? ''),
      },
    };
  }

  /** Before a worker with that id starts. @returns the listeners that it accepts from at first */
  enter(id: number, wanted: number): number[] {
    this.clear(id);
    return this.#assignment.forNewcomer(wanted);
  }

  /** A worker with that id has exited. */
  clear(id: number): void {
    this.#scoreboard?.clear(id);
    this.#sent.delete(id);
    this.#signature = '';
  }

  /** After every change of the pool: as long as any worker serves, every listener has a worker. */
  follow(workers: readonly Worker[], wanted: number): void {
    const serving = workers.filter(({ isServing }) => isServing);
    const ids = serving.map(({ id }) => id);
    const signature = `${ids.join()}/${wanted}`;
    if (signature === this.#signature) return;
    this.#signature = signature;
    const assigned = this.#assignment.assign(ids, wanted);
    for (const worker of serving) {
      const listeners = assigned.get(worker.id) ?? [];
      if (this.#sent.get(worker.id) === listeners.join()) continue;
      this.#sent.set(worker.id, listeners.join());
      worker.send({ type: 'serve', listeners });
    }
  }

  /** The index of every listener. */
  get listeners(): number[] {
    return this.#assignment.all;
  }

  /** Connections that no worker has accepted yet; 0 once the last listener is closed. Undefined if the system does not report it. */
  get waiting(): number | undefined {
    return waitingConnections(this.#inodes);
  }

  /** For the shutdown, when workers accept faster than they respond. */
  balanceByConnections(): void {
    this.#scoreboard?.setPolicy('least-connections');
  }

  /** Before the last drain: once the workers have closed their listeners too, connections are refused. */
  close(): void {
    this.#sockets?.close();
  }

  /** @returns the reason if the policy cannot change without losing connections */
  change(name: string): string | undefined {
    if (name === this.#policy) return undefined;
    if (!POLICIES.some(policy => policy === name)) return `unknown policy ${name}: expected one of ${POLICIES.join(', ')}`;
    const restart = 'at run time; set NODE_CLUSTER_SCHED_POLICY and restart';
    if (this.#scoreboard === undefined) return `cannot switch from ${this.#policy} ${restart}`;
    if (!isGated(name)) return `cannot switch to ${name} ${restart}`;
    this.#scoreboard.setPolicy(name);
    this.#policy = name;
    return undefined;
  }
}

function scoreboardOf(create: System['createScoreboard']): Scoreboard {
  try {
    return create();
  } catch (error) {
    throw new Error(`cannot create the scoreboard in memory: ${(error as Error).message}`, { cause: error });
  }
}

function bindReuseport(bindMany: System['bindMany'], address: string, port: number, count: number): ListeningSockets {
  try {
    return bindMany(address, port, count);
  } catch (error) {
    if (error instanceof PortError) throw error;
    const others = POLICIES.filter(name => name !== 'reuseport').join(', ');
    throw new ConfigError([
      `NODE_CLUSTER_SCHED_POLICY must be one of ${others}, got "reuseport", which is not supported on this platform (${(error as Error).message})`,
    ]);
  }
}

/**
 * Which worker accepts from which listener, both by number. All workers share a single listener. With several the kernel spreads connections over
 * them, so each must have a worker at any time. Pure.
 */
export class ListenerAssignment {
  /** By listener: the ids of its workers. A listener stays in use once it is used: closing it would lose its queue. */
  readonly #workers: Set<number>[] = [];
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  /** For a worker that starts: the listeners that have no worker, else the one with the fewest. */
  forNewcomer(wanted: number): number[] {
    this.#use(wanted);
    const orphans = this.all.filter(listener => this.#workersOf(listener).size === 0);
    return orphans.length > 0 ? orphans : [this.#withFewestWorkers()];
  }

  /**
   * Spreads the listeners over the workers `serving` (ids), with as few changes as possible; `wanted` is the size of the pool.
   * @returns the listeners of each
   */
  assign(serving: readonly number[], wanted: number): Map<number, number[]> {
    this.#use(wanted);
    for (const workers of this.#workers) for (const id of workers) if (!serving.includes(id)) workers.delete(id);
    if (serving.length > 0) {
      for (const id of serving) if (this.#listenersOf(id).length === 0) this.#giveListener(id, serving);
      for (const listener of this.all) if (this.#workersOf(listener).size === 0) this.#giveWorker(listener, serving);
    }
    return new Map(serving.map(id => [id, this.#listenersOf(id)]));
  }

  /** Every listener in use. */
  get all(): number[] {
    return [...this.#workers.keys()];
  }

  #use(wanted: number): void {
    while (this.#workers.length < Math.min(wanted, this.#max)) this.#workers.push(new Set());
  }

  /** A worker without a listener gets one that has no worker, takes one over from a worker that has several, or shares one. */
  #giveListener(id: number, serving: readonly number[]): void {
    const orphan = this.all.find(listener => this.#workersOf(listener).size === 0);
    const overloaded = serving.find(other => this.#listenersOf(other).length > 1);
    const listener = orphan ?? (overloaded === undefined ? this.#withFewestWorkers() : this.#listenersOf(overloaded).at(-1)) ?? 0;
    if (overloaded !== undefined) this.#workersOf(listener).delete(overloaded);
    this.#workersOf(listener).add(id);
  }

  /** A listener without a worker gets one that shares another listener, else the worker with the fewest listeners. */
  #giveWorker(listener: number, serving: readonly number[]): void {
    const shared = this.#workers.find(workers => workers.size > 1);
    const [mover] = shared ?? [];
    const [leastBusy = 0] = serving.toSorted((a, b) => this.#listenersOf(a).length - this.#listenersOf(b).length);
    if (mover !== undefined) shared?.delete(mover);
    this.#workersOf(listener).add(mover ?? leastBusy);
  }

  #workersOf(listener: number): Set<number> {
    return this.#workers[listener] ?? new Set();
  }

  #listenersOf(id: number): number[] {
    return this.all.filter(listener => this.#workersOf(listener).has(id));
  }

  #withFewestWorkers(): number {
    return this.all.toSorted((a, b) => this.#workersOf(a).size - this.#workersOf(b).size)[0] ?? 0;
  }
}

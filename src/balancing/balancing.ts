/**
 * The policy of the pool as the primary sees it. The workers accept from sockets that the primary holds and never accepts from: one for
 * all, or with `reuseport` one for each worker. A gate (gate.ts) before the shared one makes the difference between the gated policies;
 * they can change while the pool runs.
 */
import cluster from 'node:cluster';
import { availableParallelism } from 'node:os';
import { ConfigError, type Policy } from '../config/config.ts';
import { POLICIES } from '../config/variables.ts';
import { canPause, PortError, Sockets } from './listener.ts';
import { GATED, type Gated } from './policy.ts';
import { Board } from './scoreboard.ts';
import { waitingConnections } from './tcp-table.ts';

/** What workers inherit comes after standard input, output, error and the channel to the primary. */
const FIRST_FD = 4;
/** Every worker inherits every socket. Workers above this share them. */
const MOST_SLOTS = 64;

const isGated = (policy: string): policy is Gated => GATED.some(name => name === policy);

/** The parts of a worker that matter here. */
interface Server {
  id: number;
  isServing: boolean;
  send(message: { type: 'serve'; slots: number[] }): void;
}

/** What the system must provide; tests take it away. */
export interface Means {
  createBoard: () => Board;
  manySockets: typeof Sockets.many;
  canPause: () => boolean;
}

export const MEANS: Means = { createBoard: Board.create, manySockets: Sockets.many, canPause };

export interface Asked {
  policy: Policy;
  /** A number, not a name. */
  address: string;
  port: number;
  /** In the pool at first. */
  workers: number;
}

export class Balancing {
  #policy: Policy;
  readonly #board: Board | undefined;
  readonly #sockets: Sockets;
  readonly #port: number;
  readonly #inodes: ReadonlySet<number>;
  readonly #slots: Slots;
  /** What each worker was last told to serve. */
  readonly #told = new Map<number, string>();
  #signature = '';
  /** Why the policy is not the one that was asked for. */
  readonly warning: string | undefined;

  /** Call it before the first fork. If the system lacks what a gate needs, the policy is `none`. @throws PortError; ConfigError without SO_REUSEPORT */
  constructor({ policy, address, port, workers }: Asked, means: Means = MEANS) {
    this.#policy = policy;
    const count = policy === 'reuseport' ? Math.min(MOST_SLOTS, Math.max(workers, availableParallelism())) : 1;
    this.#slots = new Slots(count);
    this.#sockets = policy === 'reuseport' ? reuseportSockets(means, address, port, count) : Sockets.shared(address, port);
    this.#port = this.#sockets.port;
    this.#inodes = new Set(this.#sockets.inodes);
    if (isGated(policy)) {
      try {
        if (!means.canPause()) throw new Error(`Node.js ${process.version} can't pause a listening socket`);
        this.#board = boardFor(policy, means);
      } catch (error) {
        this.#policy = 'none';
        if (policy !== 'none') this.warning = `the policy is none instead of ${policy}: ${(error as Error).message}`;
      }
    }
    // Other ports that the app listens on: the workers accept there too, the primary never does.
    cluster.schedulingPolicy = cluster.SCHED_NONE;
    cluster.setupPrimary({ stdio: ['inherit', 'pipe', 'pipe', 'ipc', ...this.#inherited] });
  }

  get policy(): Policy {
    return this.#policy;
  }

  /** Says where the worker finds what it inherits. */
  get workerEnvironment(): NodeJS.ProcessEnv {
    const boards = this.#board === undefined ? 0 : 1;
    const sockets = this.#sockets.fds.map((_, index) => FIRST_FD + boards + index);
    return { BOSUN_BOARD: boards === 0 ? '' : String(FIRST_FD), BOSUN_SOCKETS: sockets.join(',') };
  }

  /** Before a worker with that id starts. @returns the slots that it serves at first */
  enter(id: number, wanted: number): number[] {
    this.clear(id);
    return this.#slots.forNewcomer(wanted);
  }

  /** A worker with that id is gone. */
  clear(id: number): void {
    this.#board?.clear(id);
    this.#told.delete(id);
    this.#signature = '';
  }

  /** After every change of the pool: no slot is without somebody who serves it, as long as anybody serves. */
  follow(workers: readonly Server[], wanted: number): void {
    const serving = workers.filter(({ isServing }) => isServing);
    const signature = `${serving.map(({ id }) => id).join()}/${wanted}`;
    if (signature === this.#signature) return;
    this.#signature = signature;
    const assigned = this.#slots.assign(
      serving.map(({ id }) => id),
      wanted,
    );
    for (const worker of serving) {
      const slots = assigned.get(worker.id) ?? [];
      if (this.#told.get(worker.id) === slots.join()) continue;
      this.#told.set(worker.id, slots.join());
      worker.send({ type: 'serve', slots });
    }
  }

  /** The real one where PORT=0. */
  get port(): number {
    return this.#port;
  }

  /** The listening sockets, by their numbers. */
  get slots(): number[] {
    return this.#slots.all;
  }

  /** Connections that no worker has accepted yet; 0 once the last listener is closed. Undefined if the system does not report it. */
  get waiting(): number | undefined {
    return waitingConnections(this.#inodes);
  }

  /** For the shutdown, when workers accept faster than they answer. */
  balanceByConnections(): void {
    this.#board?.setPolicy('least-connections');
  }

  /** Before the last drain: when the workers have closed theirs too, connections are refused. */
  close(): void {
    this.#sockets.close();
  }

  /** @returns why not, where it can't change without losing connections */
  change(name: string): string | undefined {
    if (name === this.#policy) return undefined;
    if (!POLICIES.some(policy => policy === name)) return `there is no policy ${name}: expected one of ${POLICIES.join(', ')}`;
    if (!isGated(name) || this.#board === undefined) {
      const live = this.#board === undefined ? 'it' : `another one than ${GATED.join(', ')}`;
      return `the policy is ${this.#policy}, and ${live} can't be taken while the primary runs: set NODE_CLUSTER_SCHED_POLICY and start it anew`;
    }
    this.#board.setPolicy(name);
    this.#policy = name;
    return undefined;
  }

  get #inherited(): number[] {
    return [...(this.#board === undefined ? [] : [this.#board.fd]), ...this.#sockets.fds];
  }
}

function boardFor(policy: Gated, { createBoard }: Means): Board {
  try {
    const board = createBoard();
    board.setPolicy(policy);
    return board;
  } catch (error) {
    throw new Error(`no file in memory for the workers' loads: ${(error as Error).message}`);
  }
}

function reuseportSockets({ manySockets }: Means, address: string, port: number, count: number): Sockets {
  try {
    return manySockets(address, port, count);
  } catch (error) {
    if (error instanceof PortError) throw error;
    throw noReuseport(error as Error);
  }
}

function noReuseport({ message }: Error): ConfigError {
  const others = POLICIES.filter(name => name !== 'reuseport').join(', ');
  return new ConfigError([`NODE_CLUSTER_SCHED_POLICY: reuseport is not to be had here (${message}): expected one of ${others}`]);
}

/**
 * Which worker serves which listening socket ("slot"). With one slot all workers share it. With several (`reuseport`) the kernel
 * spreads connections over the slots, and each slot must have somebody who accepts from it at any time. Pure.
 */

export class Slots {
  /** The workers that serve each slot which is listened on. A slot that ever was stays so: closing it would lose its queue. */
  readonly #servers: Set<number>[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** For a worker that starts: what nobody serves, else the slot that fewest serve. */
  forNewcomer(wanted: number): number[] {
    this.#open(wanted);
    const orphans = this.all.filter(slot => this.#serversOf(slot).size === 0);
    return orphans.length > 0 ? orphans : [this.#fewestServers()];
  }

  /**
   * Spreads the slots anew over the workers `serving` (ids), changing as little as possible; `wanted` is the size of the pool.
   * @returns what each of them serves
   */
  assign(serving: readonly number[], wanted: number): Map<number, number[]> {
    this.#open(wanted);
    for (const servers of this.#servers) for (const id of servers) if (!serving.includes(id)) servers.delete(id);
    if (serving.length > 0) {
      for (const id of serving) if (this.#slotsOf(id).length === 0) this.#employ(id, serving);
      for (const slot of this.all) if (this.#serversOf(slot).size === 0) this.#man(slot, serving);
    }
    return new Map(serving.map(id => [id, this.#slotsOf(id)]));
  }

  /** Every slot that is listened on. */
  get all(): number[] {
    return [...this.#servers.keys()];
  }

  #open(wanted: number): void {
    while (this.#servers.length < Math.min(wanted, this.#most)) this.#servers.push(new Set());
  }

  /** A worker without a slot takes over one of a worker that has several, one that nobody serves, or shares. */
  #employ(id: number, serving: readonly number[]): void {
    const orphan = this.all.find(slot => this.#serversOf(slot).size === 0);
    const overworked = serving.find(other => this.#slotsOf(other).length > 1);
    const slot = orphan ?? (overworked === undefined ? this.#fewestServers() : this.#slotsOf(overworked).at(-1)) ?? 0;
    if (orphan === undefined && overworked !== undefined) this.#serversOf(slot).delete(overworked);
    this.#serversOf(slot).add(id);
  }

  /** A slot without a worker gets one that shares another slot, or one more for the worker that has the fewest. */
  #man(slot: number, serving: readonly number[]): void {
    const shared = this.#servers.find(servers => servers.size > 1);
    const [mover] = shared ?? [];
    const [leastBusy = 0] = serving.toSorted((a, b) => this.#slotsOf(a).length - this.#slotsOf(b).length);
    if (mover !== undefined) shared?.delete(mover);
    this.#serversOf(slot).add(mover ?? leastBusy);
  }

  #serversOf(slot: number): Set<number> {
    return this.#servers[slot] ?? new Set();
  }

  #slotsOf(id: number): number[] {
    return this.all.filter(slot => this.#serversOf(slot).has(id));
  }

  #fewestServers(): number {
    return this.all.toSorted((a, b) => this.#serversOf(a).size - this.#serversOf(b).size)[0] ?? 0;
  }
}

/**
 * The policy of the pool as the primary sees it: `rr` hands connections out through the primary; with all others the workers accept
 * from one shared socket, and a gate before it (gate.ts) makes the difference. What is gated can change while the pool runs.
 */
import cluster from 'node:cluster';
import type { Policy } from '../config.ts';
import { Board } from './board.ts';
import { GATED, type Gated } from './choice.ts';

/** Where workers find the board among their descriptors: after standard input, output, error and the channel to the primary. */
export const BOARD_FD = 4;

const isGated = (policy: string): policy is Gated => GATED.some(name => name === policy);

export class Balancing {
  #policy: Policy;
  readonly #board: Board | undefined;
  /** Why the policy is not the one that was asked for. */
  readonly warning: string | undefined;

  /** Before the first fork. `createBoard` throws where the board can't be made: then it is `rr`. */
  constructor(asked: Policy, createBoard: () => Board = Board.create) {
    this.#policy = asked;
    if (isGated(asked)) {
      try {
        this.#board = createBoard();
        this.#board.setPolicy(asked);
      } catch (error) {
        if (asked !== 'none') {
          this.#policy = 'rr';
          this.warning = `the policy is rr and not ${asked}: no file in memory for the workers' loads: ${(error as Error).message}`;
        }
      }
    }
    cluster.schedulingPolicy = this.#policy === 'rr' ? cluster.SCHED_RR : cluster.SCHED_NONE;
    const board = this.#board === undefined ? [] : [this.#board.fd];
    cluster.setupPrimary({ stdio: ['inherit', 'inherit', 'inherit', 'ipc', ...board] });
  }

  get policy(): Policy {
    return this.#policy;
  }

  /** For the environment of workers. */
  get hasBoard(): boolean {
    return this.#board !== undefined;
  }

  /** A worker with that id is about to start, or is gone. */
  clear(id: number): void {
    this.#board?.clear(id);
  }

  /** @returns why not, where it can't change without losing connections */
  change(name: string): string | undefined {
    if (name === this.#policy) return undefined;
    if (!isGated(name) || this.#board === undefined) {
      const live = this.#board === undefined ? 'it' : `another one than ${GATED.join(', ')}`;
      return `the policy is ${this.#policy}, and ${live} can't be taken while the primary runs: set NODE_CLUSTER_SCHED_POLICY and start it anew`;
    }
    this.#board.setPolicy(name);
    this.#policy = name;
    return undefined;
  }
}

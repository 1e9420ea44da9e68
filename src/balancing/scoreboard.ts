/**
 * The board on which workers write their load for each other: an unlinked file in memory that they inherit as a descriptor. A slot
 * per worker id, written only by that worker and, when it is gone, cleared by the primary; slot 0 is the primary's and names the
 * policy. One pwrite per report, one pread per look. A torn read costs one odd decision and no connection.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GATED, type Gated, type Load } from './policy.ts';

/** Of a worker's gate, by number on the board: takes no connections at all, takes them, leaves them to others for now. */
const STATES = ['away', 'open', 'shut'] as const;
export type GateState = (typeof STATES)[number];

/** What a worker has written on the board. */
export interface Entry extends Load {
  id: number;
  pid: number;
  state: GateState;
}

/** Worker ids go up to this: NODE_CLUSTER_WORKERS to half of it, and draining workers keep their ids for a while. */
const MOST_SLOTS = 2048;
const NUMBERS_PER_SLOT = 8;
const SLOT_BYTES = NUMBERS_PER_SLOT * 8;

/** What a look at the board has found. */
export interface View {
  policy: Gated;
  /** Of every worker that is not away. */
  entries: Entry[];
}

export class Board {
  readonly fd: number;
  readonly #slot = new Float64Array(NUMBERS_PER_SLOT);
  /** Grows with the highest id that the primary has named. */
  #view = new Float64Array(2 * NUMBERS_PER_SLOT);
  #highest = 0;
  #policy: Gated = 'none';

  constructor(fd: number) {
    this.fd = fd;
  }

  /** @throws what the file system says: no such folder, read-only, full */
  static create(folder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()): Board {
    // In a folder with a random name and mode 0700: no other user can create it first.
    const own = mkdtempSync(join(folder, 'bosun-board-'));
    let fd: number;
    try {
      fd = openSync(join(own, 'board'), 'wx+', 0o600);
    } finally {
      rmSync(own, { recursive: true });
    }
    // All of it now: a full file system must show here.
    const size = SLOT_BYTES * (MOST_SLOTS + 1);
    const written = writeSync(fd, new Uint8Array(size), 0, size, 0);
    if (written < size) {
      closeSync(fd);
      throw new Error(`ENOSPC: ${folder} has room for ${written} bytes, ${size} needed`);
    }
    return new Board(fd);
  }

  /** The primary's: the policy, from the next look of each worker on. */
  setPolicy(policy: Gated): void {
    this.#policy = policy;
    this.#write(0, GATED.indexOf(policy), this.#highest);
  }

  /** The primary's: before a worker with that id starts, and when it is gone. */
  clear(id: number): void {
    this.#highest = Math.max(this.#highest, id);
    this.setPolicy(this.#policy);
    this.#write(id);
  }

  /** A worker's own. */
  report({ id, pid, state, sequence, connections, responseMs, averagedAt, takenAt, turns }: Entry): void {
    this.#write(id, STATES.indexOf(state), sequence, connections, responseMs, averagedAt, pid, takenAt, turns);
  }

  look(): View {
    readSync(this.fd, this.#view, 0, this.#view.byteLength, 0);
    const [policy = 0, highest = 0] = this.#view;
    const needed = (highest + 1) * NUMBERS_PER_SLOT;
    if (needed > this.#view.length && highest <= MOST_SLOTS) {
      this.#view = new Float64Array(needed);
      return this.look();
    }
    const entries: Entry[] = [];
    for (let id = 1; id <= highest; id++) {
      const at = id * NUMBERS_PER_SLOT;
      const numbers = this.#view.subarray(at, at + NUMBERS_PER_SLOT);
      const [number = 0, sequence = 0, connections = 0, responseMs = 0, averagedAt = 0, pid = 0, takenAt = 0, turns = 0] =
        numbers;
      const state = STATES[number] ?? 'away';
      if (state !== 'away') entries.push({ id, pid, state, sequence, connections, responseMs, averagedAt, takenAt, turns });
    }
    return { policy: GATED[policy] ?? 'none', entries };
  }

  #write(id: number, ...numbers: number[]): void {
    this.#slot.fill(0);
    this.#slot.set(numbers);
    writeSync(this.fd, this.#slot, 0, SLOT_BYTES, id * SLOT_BYTES);
  }
}

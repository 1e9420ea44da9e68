/**
 * The scoreboard, on which workers publish their load to each other: an unlinked file in memory that they inherit as a descriptor. Each worker
 * id has a row, written only by that worker and cleared by the primary once it has exited; row 0 is the primary's and names the policy. A report
 * is one pwrite, a read of all rows one pread. A torn read costs one odd decision and no connection.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GATED_POLICIES, type GatedPolicy, type Load } from './policy.ts';

/**
 * The state of a worker's accept gate, by its number in the file. `stopped`: the worker accepts no connections; also an empty row.
 * `open`: it accepts. `closed`: it leaves connections to others for now.
 */
const STATES = ['stopped', 'open', 'closed'] as const;
export type GateState = (typeof STATES)[number];

/** A worker's row. */
export interface Entry extends Load {
  id: number;
  /** Gets its wake-up signals. */
  thread: number;
  state: GateState;
}

export interface View {
  policy: GatedPolicy;
  /** Of every worker that is not stopped. */
  entries: Entry[];
}

/** Worker ids go up to this: NODE_CLUSTER_WORKERS to half of it, and draining workers keep their ids for a while. */
const MAX_ID = 2048;
const NUMBERS_PER_ROW = 8;
const ROW_BYTES = NUMBERS_PER_ROW * 8;
const FILE_BYTES = ROW_BYTES * (MAX_ID + 1);

export class Scoreboard {
  readonly fd: number;
  readonly #row = new Float64Array(NUMBERS_PER_ROW);
  /** As many rows as were needed so far. */
  #rows = new Float64Array(NUMBERS_PER_ROW);
  #highestId = 0;
  #policy: GatedPolicy = 'none';

  constructor(fd: number) {
    this.fd = fd;
  }

  /** @throws the system's error: no such folder, read-only, full */
  static create(folder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()): Scoreboard {
    // In a folder with a random name and mode 0700: no other user can create it first.
    const own = mkdtempSync(join(folder, 'bosun-scoreboard-'));
    let fd: number;
    try {
      fd = openSync(join(own, 'scoreboard'), 'wx+', 0o600);
    } finally {
      rmSync(own, { recursive: true });
    }
    // Write all of it now, so that a full file system shows here.
    const written = writeSync(fd, new Uint8Array(FILE_BYTES), 0, FILE_BYTES, 0);
    if (written < FILE_BYTES) {
      closeSync(fd);
      throw new Error(`ENOSPC: ${folder} has room for ${written} bytes, ${FILE_BYTES} needed`);
    }
    return new Scoreboard(fd);
  }

  /** For the primary. Workers apply the policy from their next read on. */
  setPolicy(policy: GatedPolicy): void {
    this.#policy = policy;
    this.#write(0, GATED_POLICIES.indexOf(policy), this.#highestId);
  }

  /** For the primary: before a worker with that id starts, and after it has exited. */
  clear(id: number): void {
    this.#highestId = Math.max(this.#highestId, id);
    this.setPolicy(this.#policy);
    this.#write(id);
  }

  /** For a worker: publishes its row. */
  report({ id, thread, state, sequence, connections, responseMs, averagedAt, takenAt, turns }: Entry): void {
    this.#write(id, STATES.indexOf(state), sequence, connections, responseMs, averagedAt, thread, takenAt, turns);
  }

  read(): View {
    readSync(this.fd, this.#rows, 0, this.#rows.byteLength, 0);
    const [policy = 0, highestId = 0] = this.#rows;
    const needed = (highestId + 1) * NUMBERS_PER_ROW;
    if (needed > this.#rows.length) {
      this.#rows = new Float64Array(needed);
      return this.read();
    }
    const entries: Entry[] = [];
    for (let id = 1; id <= highestId; id++) {
      const at = id * NUMBERS_PER_ROW;
      const number = (column: number) => this.#rows[at + column] ?? 0; // a view or a copy of the row would cost more than the read
      const state = STATES[number(0)] ?? 'stopped';
      if (state === 'stopped') continue;
      const [sequence, connections, responseMs, averagedAt] = [number(1), number(2), number(3), number(4)];
      entries.push({
        id,
        thread: number(5),
        state,
        sequence,
        connections,
        responseMs,
        averagedAt,
        takenAt: number(6),
        turns: number(7),
      });
    }
    return { policy: GATED_POLICIES[policy] ?? 'none', entries };
  }

  #write(id: number, ...numbers: number[]): void {
    this.#row.fill(0);
    this.#row.set(numbers);
    writeSync(this.fd, this.#row, 0, ROW_BYTES, id * ROW_BYTES);
  }
}

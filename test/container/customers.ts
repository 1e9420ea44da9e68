/**
 * Customers: each has a session, and knows the value of its counter, which every fourth request reads; the others request nothing
 * much. Most of them keep their connections, every fourth takes a new one for each request. Nothing is ever repeated.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { RawClient } from '../process/clients.ts';
import { type Count, Visitor } from '../visitor.ts';

const NOTHING_MUCH = '/cpu?ms=0';
const COUNTER = '/api/counter';
const LONGEST_MS = 200_000;
const MAX_FAILURES = 1000;

export interface Failure {
  message: string;
  /** By performance.now(). */
  sentAt: number;
}

export interface Service {
  answered: number;
  failures: Failure[];
  /** Answers of the counter, by pod. */
  byPod: Map<string, number>;
}

export class Customers {
  readonly result: Service = { answered: 0, failures: [], byPod: new Map() };
  readonly #deadline = performance.now() + LONGEST_MS;
  readonly #running: Promise<void>;
  #goesOn = true;

  /** `count` at each of these ports, with `pauseMs` after each answer. */
  constructor(ports: readonly number[], { count, pauseMs }: { count: number; pauseMs: number }) {
    const each = ports.flatMap(port => Array.from({ length: count }, (_, index) => this.#live(port, index % 4 !== 0, pauseMs)));
    this.#running = Promise.all(each).then(() => undefined);
  }

  /** Resolves when that many requests are answered. */
  async answered(count: number): Promise<void> {
    const { result } = this;
    while (result.answered < count) {
      if (!this.#isGoingOn) {
        const failed = result.failures.slice(0, 5).map(({ message }) => message);
        throw new Error(`${count} answers expected, got ${result.answered}; failed: ${failed.join('; ') || 'none'}`);
      }
      await pause(10);
    }
  }

  async stop(): Promise<Service> {
    this.#goesOn = false;
    await this.#running;
    return this.result;
  }

  get #isGoingOn(): boolean {
    return this.#goesOn && performance.now() < this.#deadline && this.result.failures.length < MAX_FAILURES;
  }

  async #live(port: number, keepsConnection: boolean, pauseMs: number): Promise<void> {
    const visitor = new Visitor();
    let client: RawClient | undefined;
    let [counter, uncertain] = [0, 0];
    for (let sent = 0; this.#isGoingOn; sent++) {
      const sentAt = performance.now();
      try {
        if (client?.isOpen !== true) client = await RawClient.open(port);
        const readsCounter = sent % 4 === 0;
        const { status, headers, body } = await visitor.requestOn(client, readsCounter ? COUNTER : NOTHING_MUCH);
        if (status !== 200) throw new Error(`status ${status}: ${body}`);
        if (readsCounter) {
          const seen = JSON.parse(body) as Count;
          // Of a request that failed nobody knows whether it was counted.
          const isRight = seen.counter > counter && seen.counter <= counter + 1 + uncertain;
          [counter, uncertain] = [seen.counter, 0];
          if (!isRight) throw new Error(`session lost: the counter said ${seen.counter}`);
          this.result.byPod.set(seen.pod, (this.result.byPod.get(seen.pod) ?? 0) + 1);
        }
        this.result.answered++;
        if (headers.connection === 'close') {
          const end = await client.ended();
          if (end !== 'FIN') throw new Error(`the connection ended with ${end} after its last answer`);
        }
      } catch (error) {
        uncertain++;
        this.result.failures.push({ message: (error as Error).message, sentAt });
        client?.close();
      }
      if (!keepsConnection) client?.close();
      await pause(pauseMs);
    }
    client?.close();
  }
}

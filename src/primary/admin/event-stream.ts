/**
 * `/events`: server-sent events of what `/status` shows. A plain message is the whole `/status`, once a second; `sample` is that second
 * for the plots, `fleet` the pods of this deployment, `lifecycle` what happened; `history` is the last ten minutes of both, first of all.
 */
import type { ServerResponse } from 'node:http';
import type { HistoryListener } from './history.ts';

/** How many may listen, where there are descriptors enough. */
export const MOST_READERS = 50;
/** A reader that lets this much wait is ended: it comes again by itself. */
const MOST_WAITING_BYTES = 4 << 20;
const RECONNECT_MS = 1000;

/** What is told: the history of the pod. */
export interface Told {
  readonly samples: readonly unknown[];
  readonly events: readonly unknown[];
  readonly listeners: Set<HistoryListener>;
  status(): unknown;
}

export class EventStream implements HistoryListener {
  readonly #history: Told;
  readonly #fleet: () => unknown;
  readonly #mostReaders: () => number;
  readonly #readers = new Set<ServerResponse>();

  constructor(history: Told, fleet: () => unknown, mostReaders = () => MOST_READERS) {
    this.#history = history;
    this.#fleet = fleet;
    this.#mostReaders = mostReaders;
    history.listeners.add(this);
  }

  /** Answers one reader until it goes away or `close` ends it. */
  serve(response: ServerResponse): void {
    if (this.#readers.size >= this.#mostReaders()) {
      response.writeHead(503, { 'Content-Type': 'text/plain; charset=utf-8', 'Retry-After': 5 });
      response.end(`${this.#readers.size} readers are listening already\n`);
      return;
    }
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      'X-Accel-Buffering': 'no',
    });
    response.once('close', () => this.#readers.delete(response));
    const { samples, events } = this.#history;
    response.write(`retry: ${RECONNECT_MS}\n\n${named('history', { samples, events })}${this.#now()}`);
    this.#readers.add(response);
  }

  sampled(sample: unknown): void {
    if (this.#readers.size > 0) this.#send(`${named('sample', sample)}${this.#now()}`);
  }

  happened(event: unknown): void {
    if (this.#readers.size > 0) this.#send(named('lifecycle', event));
  }

  close(): void {
    for (const reader of this.#readers) reader.end();
  }

  #now(): string {
    return `${named('fleet', this.#fleet())}${plain(this.#history.status())}`;
  }

  #send(text: string): void {
    for (const reader of this.#readers) {
      if (reader.writableLength > MOST_WAITING_BYTES) reader.destroy();
      else reader.write(text);
    }
  }
}

const plain = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
const named = (event: string, data: unknown) => `event: ${event}\n${plain(data)}`;

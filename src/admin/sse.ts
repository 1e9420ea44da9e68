/**
 * `/events`: server-sent events of what `/status` shows. A plain message is the whole `/status`, once a second; `sample` is that second
 * for the plots, `fleet` the pods of this deployment, `lifecycle` what happened; `history` is the last ten minutes of both, first of all.
 */
import type { ServerResponse } from 'node:http';
import { type Audience, audienceOf } from '../protocol/audience.ts';
import type { HistoryListener } from './history.ts';
import type { Shown } from './lifecycle.ts';

/** The limit of readers, if there are enough descriptors. */
export const MOST_READERS = 50;
/** A reader that lets this much wait is ended: it comes again by itself. */
const MOST_WAITING_BYTES = 4 << 20;
const RECONNECT_MS = 1000;

/** What is told: the history of the pod. */
export interface Told {
  readonly samples: readonly unknown[];
  readonly listeners: Set<HistoryListener>;
  events(audience: Audience): readonly unknown[];
  status(audience: Audience): unknown;
}

export interface EventStreamParts {
  history: Told;
  fleet: () => unknown;
  /** The current ADMIN_TOKEN: readers with another one are disconnected. */
  token: () => string | undefined;
  mostReaders: () => number;
}

export class EventStream implements HistoryListener {
  readonly #parts: EventStreamParts;
  /** With the token that each one sent. */
  readonly #readers = new Map<ServerResponse, string | undefined>();

  constructor(parts: EventStreamParts) {
    this.#parts = parts;
    parts.history.listeners.add(this);
  }

  /** Answers one reader until it goes away or `close` ends it. */
  serve(response: ServerResponse): void {
    if (this.#readers.size >= this.#parts.mostReaders()) {
      response.writeHead(503, { 'Content-Type': 'text/plain; charset=utf-8', 'Retry-After': 5 });
      response.end(`${this.#readers.size} readers are already connected\n`);
      return;
    }
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      'X-Accel-Buffering': 'no',
    });
    response.once('close', () => this.#readers.delete(response));
    const { history, token } = this.#parts;
    const audience = audienceOf(token());
    const past = { samples: history.samples, events: history.events(audience) };
    response.write(`retry: ${RECONNECT_MS}\n\n${named('history', past)}${this.#now(audience)}`);
    this.#readers.set(response, token());
  }

  sampled(sample: unknown): void {
    this.#send(audience => `${named('sample', sample)}${this.#now(audience)}`);
  }

  happened(event: Shown): void {
    this.#send(audience => named('lifecycle', event[audience]));
  }

  close(): void {
    for (const reader of this.#readers.keys()) reader.end();
  }

  #now(audience: Audience): string {
    const { history, fleet } = this.#parts;
    return `${named('fleet', fleet())}${plain(history.status(audience))}`;
  }

  #send(textFor: (audience: Audience) => string): void {
    if (this.#readers.size === 0) return;
    const token = this.#parts.token();
    const text = textFor(audienceOf(token));
    for (const [reader, cameWith] of this.#readers) {
      if (cameWith !== token) reader.end();
      else if (reader.writableLength > MOST_WAITING_BYTES) reader.destroy();
      else reader.write(text);
    }
  }
}

const plain = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
const named = (event: string, data: unknown) => `event: ${event}\n${plain(data)}`;

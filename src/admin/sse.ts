/**
 * `/events`: server-sent events of what `/status` shows (StreamedEvents). A plain message is the whole `/status`, once a second; `sample` is that
 * second for the plots, `fleet` the pods of this deployment, `lifecycle` an event; the first message, `history`, has the last ten minutes.
 */
import type { ServerResponse } from 'node:http';
import type { Peer, Sample, StreamedEvents } from '../protocol/api.ts';
import { type Audience, audienceOf } from '../protocol/audience.ts';
import type { History, HistoryListener, Shown } from './history.ts';

/** The limit of readers, if there are enough descriptors. */
export const MAX_READERS = 50;
/** A reader that leaves more than this unread is disconnected; it reconnects by itself. */
const MAX_WAITING_BYTES = 4 << 20;
const RECONNECT_MS = 1000;

export interface EventStreamOptions {
  history: Pick<History, 'samples' | 'listeners' | 'events' | 'status'>;
  fleet: () => readonly Peer[];
  /** The current ADMIN_TOKEN: readers with another one are disconnected. */
  token: () => string | undefined;
  maxReaders: () => number;
}

export class EventStream implements HistoryListener {
  readonly #options: EventStreamOptions;
  /** With the token of each. */
  readonly #readers = new Map<ServerResponse, string | undefined>();

  constructor(options: EventStreamOptions) {
    this.#options = options;
    options.history.listeners.add(this);
  }

  /** Answers one reader until it disconnects or `close` ends it. */
  serve(response: ServerResponse): void {
    if (this.#readers.size >= this.#options.maxReaders()) {
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
    if (response.req.method === 'HEAD') return void response.end();
    response.once('close', () => this.#readers.delete(response));
    const { history, token } = this.#options;
    const audience = audienceOf(token());
    const past = { samples: history.samples, events: history.events(audience) };
    response.write(`retry: ${RECONNECT_MS}\n\n${named('history', past)}${this.#now(audience)}`);
    this.#readers.set(response, token());
  }

  onSample(sample: Sample): void {
    this.#send(audience => `${named('sample', sample)}${this.#now(audience)}`);
  }

  onEvent(event: Shown): void {
    this.#send(audience => named('lifecycle', event[audience]));
  }

  close(): void {
    for (const reader of this.#readers.keys()) reader.end();
  }

  #now(audience: Audience): string {
    const { history, fleet } = this.#options;
    return `${named('fleet', fleet())}${plain(history.status(audience))}`;
  }

  #send(textFor: (audience: Audience) => string): void {
    if (this.#readers.size === 0) return;
    const token = this.#options.token();
    const text = textFor(audienceOf(token));
    for (const [reader, itsToken] of this.#readers) {
      if (itsToken !== token) reader.end();
      else if (reader.writableLength > MAX_WAITING_BYTES) reader.destroy();
      else reader.write(text);
    }
  }
}

const plain = (data: StreamedEvents['message']) => `data: ${JSON.stringify(data)}\n\n`;
const named = <Name extends keyof StreamedEvents>(event: Name, data: StreamedEvents[Name]) =>
  `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

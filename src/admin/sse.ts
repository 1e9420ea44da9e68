/**
 * `/events`: server-sent events of what `/status` shows (StreamedEvents). A plain message is the whole `/status`, once a second; `sample` is that
 * second for the plots, `longer` one of a longer range, `fleet` the pods of this deployment, `lifecycle` an event; the first message, `history`,
 * has what was before. After a lifecycle event the whole `/status` comes at once.
 */
import type { ServerResponse } from 'node:http';
import type { Sample, StreamedEvents } from '../protocol/api.ts';
import { type Audience, audienceOf } from '../protocol/audience.ts';
import type { History, HistoryListener, Shown } from './history.ts';

/** The limit of readers, if there are enough descriptors. */
export const MAX_READERS = 50;
/** A reader that leaves more than this unread is disconnected; it reconnects by itself. */
const MAX_WAITING_BYTES = 4 << 20;
const RECONNECT_MS = 1000;
const MOMENT_MS = 50;

export interface EventStreamOptions {
  history: Pick<History, 'listeners' | 'past' | 'status' | 'fleet'>;
  /** The current ADMIN_TOKEN: readers with another one are disconnected. */
  token: () => string | undefined;
  maxReaders: () => number;
}

export class EventStream implements HistoryListener {
  readonly #options: EventStreamOptions;
  /** With the token of each. */
  readonly #readers = new Map<ServerResponse, string | undefined>();
  #statusSoon: NodeJS.Timeout | undefined;

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
    response.write(`retry: ${RECONNECT_MS}\n\n${named('history', history.past(audience))}${this.#now(audience)}`);
    this.#readers.set(response, token());
  }

  onSample(sample: Sample, longer: StreamedEvents['longer'] = {}): void {
    const text = `${named('sample', sample)}${longer.hour || longer.day ? named('longer', longer) : ''}`;
    this.#send(audience => `${text}${this.#now(audience)}`);
  }

  /** What the event has changed follows once for all events of a moment. */
  onEvent(event: Shown): void {
    this.#send(audience => named('lifecycle', event[audience]));
    this.#statusSoon ??= setTimeout(() => {
      this.#statusSoon = undefined;
      this.#send(audience => plain(this.#options.history.status(audience)));
    }, MOMENT_MS).unref();
  }

  close(): void {
    for (const reader of this.#readers.keys()) reader.end();
  }

  #now(audience: Audience): string {
    const { history } = this.#options;
    return `${named('fleet', history.fleet)}${plain(history.status(audience))}`;
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

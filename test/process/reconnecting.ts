/**
 * Clients that reconnect as real ones do, and keep a record: what closed them, how long they were gone, whether a message came broken.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import { createClient } from 'graphql-ws';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';
import { until } from '../until.ts';

export type Kind = 'ws' | 'large' | 'polite' | 'events' | 'graphql' | 'socket.io';

export class ReconnectingClient {
  readonly kind: Kind;
  /** Of the worker that has sent the last message. */
  pid: number | undefined;
  /** Whether a message has arrived since it was last closed. */
  isOpen = false;
  /** Close codes, and `end` for an event stream. */
  readonly ends: (number | string)[] = [];
  /** How long it was gone, in milliseconds, and when it came back. */
  readonly returns: { goneMs: number; at: number }[] = [];
  readonly faults: string[] = [];
  /** Attempts of an EventSource that failed, which it repeats: they share connections, and one may end as another client takes it. */
  retries = 0;
  readonly closedAt: number[] = [];
  readonly #close: () => unknown;

  constructor(kind: Kind, port: number) {
    this.kind = kind;
    this.#close = this.#connect(port);
  }

  close(): void {
    this.#close();
  }

  #connect(port: number): () => unknown {
    const at = `127.0.0.1:${port}`;
    switch (this.kind) {
      case 'ws':
      case 'large':
      case 'polite':
        return this.#connectWebSocket(`ws://${at}/${this.kind}`);
      case 'events':
        return this.#connectEventSource(`http://${at}/events`);
      case 'graphql':
        return this.#subscribe(`ws://${at}/graphql`);
      case 'socket.io':
        return this.#connectSocketIo(`http://${at}`);
      default:
        return this.kind satisfies never;
    }
  }

  #onMessage(pid: number): void {
    this.pid = pid;
    if (this.isOpen) return;
    this.isOpen = true;
    const closedAt = this.closedAt.at(-1);
    if (closedAt !== undefined) this.returns.push({ goneMs: performance.now() - closedAt, at: performance.now() });
  }

  #onClosed(end: number | string): void {
    if (!this.isOpen) this.faults.push(`closed before it was open: ${end}`);
    this.isOpen = false;
    this.ends.push(end);
    this.closedAt.push(performance.now());
  }

  /** As docs/guide/websockets.md shows it. */
  #connectWebSocket(url: string): () => unknown {
    let socket: WebSocket;
    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    const connect = () => {
      socket = new WebSocket(url);
      let next = 0;
      socket.on('message', data => {
        const text = String(data);
        const [pid, index, length] = text.split(' ', 3).map(Number);
        if (index !== next++ || length !== text.length) this.faults.push(`message ${index} of ${text.length} characters`);
        this.#onMessage(pid ?? 0);
      });
      socket.on('error', error => this.faults.push(error.message));
      socket.on('close', (code, reason) => {
        if (isOver) return;
        this.#onClosed(code);
        timer = setTimeout(connect, retryMsOf(String(reason)));
      });
    };
    connect();
    return () => {
      isOver = true;
      clearTimeout(timer);
      socket.terminate();
    };
  }

  #connectEventSource(url: string): () => unknown {
    const source = new EventSource(url);
    source.onmessage = ({ data }) => this.#onMessage(Number(data));
    source.onerror = ({ message }) => {
      if (message === undefined) this.#onClosed('end');
      else this.retries++;
    };
    return () => source.close();
  }

  /** By itself it waits 1.3 to 4 s. */
  #subscribe(url: string): () => unknown {
    let retryMs = 0;
    const client = createClient({
      url,
      webSocketImpl: WebSocket,
      retryAttempts: Number.POSITIVE_INFINITY,
      shouldRetry: () => true,
      retryWait: () => pause(retryMs),
      on: {
        closed: event => {
          const { code, reason } = event as CloseEvent;
          this.#onClosed(code);
          retryMs = retryMsOf(reason);
        },
      },
    });
    const unsubscribe = client.subscribe<{ pid: number }>(
      { query: 'subscription { pid }' },
      {
        next: ({ data }) => this.#onMessage(data?.pid ?? 0),
        error: error => this.faults.push(JSON.stringify(error)),
        complete: () => this.faults.push('completed'),
      },
    );
    return () => {
      unsubscribe();
      client.terminate();
    };
  }

  /** It waits 0.5 to 1.5 s by itself. */
  #connectSocketIo(url: string): () => unknown {
    const socket = io(url, { transports: ['websocket'], forceNew: true });
    socket.on('pid', (pid: number) => this.#onMessage(pid));
    socket.on('disconnect', (_reason, details) => {
      const { context } = (details ?? {}) as { context?: { code?: number } };
      this.#onClosed(context?.code ?? 'disconnect');
    });
    socket.on('connect_error', error => this.faults.push(error.message));
    return () => socket.disconnect();
  }
}

/** The hint in the reason of a close. */
function retryMsOf(reason: string): number {
  const [, hint] = /retry in (\d+) ms/.exec(reason) ?? [];
  return Number(hint ?? 1000 + Math.random() * 1000);
}

/** Resolves when all of them get messages of a worker that `isRight`. */
export async function allServed(
  clients: readonly ReconnectingClient[],
  isRight: (pid: number) => boolean,
  timeoutMs?: number,
): Promise<void> {
  const missing = () => clients.filter(({ isOpen, pid }) => !isOpen || pid === undefined || !isRight(pid));
  await until(
    () => missing().length === 0 || undefined,
    () => `${missing().length} clients are not back: ${JSON.stringify(missing().slice(0, 3))}`,
    timeoutMs,
  );
}

/** The largest number of these times within any `ms`. */
export function mostWithin(times: readonly number[], ms: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  let [first, most] = [0, 0];
  for (const [index, time] of sorted.entries()) {
    while ((sorted[first] ?? time) < time - ms) first++;
    most = Math.max(most, index - first + 1);
  }
  return most;
}

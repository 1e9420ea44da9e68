/**
 * Sends requests, and reports to a recorder how each ended. Three loads: autocannon for keep-alive connections at full speed (a third
 * of the cost of node:http), an exact one on node:http for everything else, and users with cookies. Exact, because autocannon repeats a
 * request silently if its connection ends without a response, reports no response at all with a connection per request
 * (`reconnectRate: 1`), and sends the requests of a second in one burst.
 */
import { once } from 'node:events';
import http from 'node:http';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import type Autocannon from 'autocannon';

const REQUEST_TIMEOUT_MS = 10_000;
/** Open loop: how often due requests are sent. */
const PACE_MS = 2;
/** A server this far behind is saturated; more open requests would only fill this process. */
const MAX_OPEN_REQUESTS = 10_000;

/** Receives how requests ended; a Recorder is one. */
export interface Sink {
  answered(ms: number): void;
  failed(kind: string): void;
}

export interface Load {
  /** Sends no more requests; resolves when the open ones have ended. */
  stop(): Promise<void>;
}

export interface LoadOptions {
  /** The URL of each request. */
  next: () => string;
  connections: number;
  /** Requests per second; 0: closed loop. */
  rate: number;
  /** A connection per request. */
  fresh: boolean;
}

/** Keep-alive connections that send the next request after each response. Not in the image, which has no autocannon. */
export function fullSpeed(url: string, connections: number, sink: Sink): Load {
  const autocannon = createRequire(import.meta.url)('autocannon') as typeof Autocannon;
  const ended = Promise.withResolvers<void>();
  const options = { url, connections, duration: 86_400, timeout: REQUEST_TIMEOUT_MS / 1000 };
  const instance = autocannon(options, error => (error ? ended.reject(error) : ended.resolve()));
  instance.on('response', (_client, status, _bytes, ms) => {
    if (status >= 200 && status < 300) sink.answered(ms);
    else sink.failed(`status ${status}`);
  });
  instance.on('reqError', (error: NodeJS.ErrnoException) => sink.failed(error.code ?? error.message));
  return {
    stop: async () => {
      instance.stop();
      await ended.promise;
    },
  };
}

/** Counts every request as a response or as a failure of some kind. With a rate, latency counts from the time at which a request was due. */
export function exact({ next, connections, rate, fresh }: LoadOptions, sink: Sink): Load {
  const agents: http.Agent[] = [];
  const agentOf = (maxSockets: number) => {
    if (fresh) return false;
    // In turns. Last in, first out (Node's default) would leave some idle until just when the server closes them.
    const agent = new http.Agent({ keepAlive: true, maxSockets, scheduling: 'fifo' });
    agents.push(agent);
    return agent;
  };
  let isRunning = true;
  const open = new Set<Promise<void>>();
  const send = (agent: http.Agent | false, dueAt: number) => {
    const request = measured(next(), agent, dueAt, sink).then(() => void open.delete(request));
    open.add(request);
    return request;
  };
  const loop = async (agent: http.Agent | false) => {
    while (isRunning) await send(agent, performance.now());
  };
  let timer: NodeJS.Timeout | undefined;
  if (rate === 0) {
    for (let count = 0; count < connections; count++) void loop(agentOf(1));
  } else {
    const agent = agentOf(connections);
    const intervalMs = 1000 / rate;
    let dueAt = performance.now();
    timer = setInterval(() => {
      for (; dueAt <= performance.now(); dueAt += intervalMs) {
        if (open.size < MAX_OPEN_REQUESTS) void send(agent, dueAt);
        else sink.failed(`not sent: ${MAX_OPEN_REQUESTS} requests are waiting`);
      }
    }, PACE_MS);
  }
  return {
    stop: async () => {
      isRunning = false;
      clearInterval(timer);
      while (open.size > 0) await Promise.all(open);
      for (const agent of agents) agent.destroy();
    },
  };
}

async function measured(url: string, agent: http.Agent | false, dueAt: number, sink: Sink): Promise<void> {
  try {
    const { status } = await get(url, agent);
    if (status >= 200 && status < 300) sink.answered(performance.now() - dueAt);
    else sink.failed(`status ${status}`);
  } catch (error) {
    sink.failed(kindOf(error));
  }
}

export interface Response {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

/** One GET, to the last byte of its response. */
export function get(url: string, agent: http.Agent | false, headers: http.OutgoingHttpHeaders = {}): Promise<Response> {
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  const request = http.get(url, { agent, headers, timeout: REQUEST_TIMEOUT_MS }, response => {
    let body = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk;
    });
    response.once('error', reject);
    response.once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
  });
  request.once('error', reject);
  request.once('timeout', () => request.destroy(new Error('timeout')));
  return promise;
}

export function kindOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}

/** Between two visits of a user: the session is under test, not the throughput. */
const PAUSE_MS = 5;

/**
 * Users with cookies: each logs in under a name of its own and counts its visits. The app must count the same, whichever worker answers,
 * and must never show another user's name. `rate` is visits per second of all users, 0: as fast as the pauses allow.
 */
export function users(origin: string, count: number, rate: number, sink: Sink): Load {
  const run = Math.random().toString(36).slice(2, 8);
  const everyMs = rate === 0 ? 0 : (1000 * count) / rate;
  const stopping = new AbortController();
  const all = Array.from({ length: count }, (_, index) => visits(new User(origin, `user-${run}-${index}`), index / count));
  async function visits(user: User, share: number): Promise<void> {
    let dueAt = performance.now() + everyMs * share;
    for (;;) {
      await pause(dueAt - performance.now(), stopping.signal);
      if (stopping.signal.aborted) return;
      const since = rate === 0 ? performance.now() : dueAt;
      const problem = await user.visit();
      if (problem === undefined) sink.answered(performance.now() - since);
      else sink.failed(problem);
      dueAt = rate === 0 ? performance.now() + PAUSE_MS : dueAt + everyMs;
    }
  }
  return {
    stop: async () => {
      stopping.abort();
      await Promise.all(all);
    },
  };
}

class User {
  readonly #origin: string;
  readonly #name: string;
  readonly #cookies = new Map<string, string>();
  #visits = 0;
  #loggedIn = false;

  constructor(origin: string, name: string) {
    this.#origin = origin;
    this.#name = name;
  }

  /** Returns what went wrong, if anything did. Each visit uses a new connection, so that any worker may get it. */
  async visit(): Promise<string | undefined> {
    try {
      if (!this.#loggedIn) {
        await this.#get(`/login?user=${this.#name}`);
        this.#loggedIn = true;
      }
      const seen = JSON.parse(await this.#get('/api/counter')) as { counter?: unknown; user?: unknown };
      this.#visits++;
      if (seen.user === this.#name && seen.counter === this.#visits) return undefined;
      const verdict = seen.user === undefined ? 'session lost' : seen.user !== this.#name ? 'session mixed up' : 'visits lost';
      this.#visits = Number(seen.counter) || 0; // one loss counts once
      if (seen.user !== this.#name) this.#forget();
      return verdict;
    } catch (error) {
      return kindOf(error);
    }
  }

  #forget(): void {
    this.#cookies.clear();
    this.#loggedIn = false;
    this.#visits = 0;
  }

  async #get(path: string): Promise<string> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const { status, headers, body } = await get(`${this.#origin}${path}`, false, cookie ? { cookie } : {});
    for (const line of headers['set-cookie'] ?? []) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      this.#cookies.set(name, value);
    }
    if (status !== 200) throw new Error(`status ${status} from ${path.split('?')[0]}`);
    return body;
  }
}

/** Resolves after `ms`, or early when the signal aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  if (ms === Number.POSITIVE_INFINITY) await once(signal, 'abort');
  else await sleep(ms, undefined, { signal }).catch(() => 'ended early');
}

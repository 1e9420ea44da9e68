/**
 * Sends requests and tells a recorder how each ended. Two generators: autocannon for keep-alive connections at full speed (it costs
 * a third of node:http), and an exact one for everything else. Exact, since autocannon asks again in silence where a connection
 * ended without an answer, reports no answer at all with a connection per request (`reconnectRate: 1`), and sends the requests of
 * a rate in bursts, a second's at once.
 */
import http from 'node:http';
import { createRequire } from 'node:module';
import type Autocannon from 'autocannon';

const REQUEST_TIMEOUT_MS = 10_000;
/** Open loop: how often it is looked which requests are due. */
const PACE_MS = 2;
/** A server that is this many requests behind is saturated; more would only fill this process. */
const MOST_OPEN = 10_000;

/** Who is told how requests ended; a Recorder is one. */
export interface Sink {
  answered(ms: number): void;
  failed(kind: string): void;
}

export interface Load {
  /** Sends nothing any more; resolves when what is open has ended. */
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

/** Keep-alive connections, each asking again as soon as it is answered. Not in the image, which has no autocannon. */
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

/** Counts every request: an answer, or a failure by its kind. With a rate, latency counts from the time at which a request was due. */
export function exact({ next, connections, rate, fresh }: LoadOptions, sink: Sink): Load {
  const agents: http.Agent[] = [];
  const agentOf = (maxSockets: number) => {
    if (fresh) return false;
    // In turns: of the last first (Node's default) some would rest for long, and be used again just when the server ends them.
    const agent = new http.Agent({ keepAlive: true, maxSockets, scheduling: 'fifo' });
    agents.push(agent);
    return agent;
  };
  let goesOn = true;
  const open = new Set<Promise<void>>();
  const launch = (agent: http.Agent | false, dueAt: number) => {
    const asked = ask(next(), agent, dueAt, sink).then(() => void open.delete(asked));
    open.add(asked);
    return asked;
  };
  const loop = async (agent: http.Agent | false) => {
    while (goesOn) await launch(agent, performance.now());
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
        if (open.size < MOST_OPEN) void launch(agent, dueAt);
        else sink.failed(`not sent: ${MOST_OPEN} requests are waiting`);
      }
    }, PACE_MS);
  }
  return {
    stop: async () => {
      goesOn = false;
      clearInterval(timer);
      while (open.size > 0) await Promise.all(open);
      for (const agent of agents) agent.destroy();
    },
  };
}

async function ask(url: string, agent: http.Agent | false, dueAt: number, sink: Sink): Promise<void> {
  try {
    const { status } = await get(url, agent);
    if (status >= 200 && status < 300) sink.answered(performance.now() - dueAt);
    else sink.failed(`status ${status}`);
  } catch (error) {
    sink.failed(kindOf(error));
  }
}

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

/** One GET, to the last byte of its answer. */
export function get(url: string, agent: http.Agent | false, headers: http.OutgoingHttpHeaders = {}): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
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

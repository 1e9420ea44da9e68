/**
 * The HTTP server of the admin port: read-only, with ADMIN_TOKEN where it is set. terminus answers the probes and runs the shutdown, here and
 * not on the app's port, where it would cut requests (docs/draining.md).
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, OutgoingHttpHeaders, RequestListener, Server, ServerResponse } from 'node:http';
import type { ListenOptions } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createTerminus } from '@godaddy/terminus';
import { isAllowedHost } from './allowed-hosts.ts';
import { ConnectionLimit, SHORT_TIMEOUTS } from './connection-limit.ts';

// As in worker/server.ts: an ESM import would load undici.
const http = process.getBuiltinModule('node:http');

/** The reason is shown whether it is ready or not. */
export type Probe = () => { isReady: boolean; reason?: string };

export interface AdminOptions {
  host: string;
  port: number;
  /** How long to wait for a port that another process has, in milliseconds. */
  patienceMs: number;
  probes: Record<`/${string}`, Probe>;
  routes: Record<`/${string}`, Route>;
  /** Responses without an end: each writes its own. */
  streams: Record<`/${string}`, (response: ServerResponse) => void>;
  /** Required for everything but the probes; undefined: not required. */
  token: () => string | undefined;
  /** Without a token, names that a browser may use for everything but the probes and `anyHost`. */
  allowedHosts: () => readonly string[];
  /** Paths that are read by the name of a Service. */
  anyHost: readonly string[];
  /** The current limit of connections. */
  maxConnections: () => number;
  /** A connection was closed to keep that limit, or one was not accepted. */
  onRefused: (why: string) => void;
  /** An answer failed. The error may contain text of the app, so the client does not get it. */
  onFailed: (error: unknown) => void;
  /** Drains the workers; the admin port answers until it resolves. */
  beforeShutdown: () => Promise<void>;
  /** Ends the process. */
  onShutdown: () => Promise<void>;
}

export interface Answer {
  contentType: string;
  text: string;
  headers?: Record<string, string>;
}

/**
 * terminus listens to "signals" on `process`. This one is not the operating system's: the primary emits it, because signals.ts alone decides
 * what a real signal means (a first, a second, one that came before this server).
 */
export const SHUTDOWN = 'bosun:shutdown';

/** The connection of a client that reads nothing of its answer for this long is closed. */
const UNREAD_ANSWER_TIMEOUT_MS = 30_000;

/** Connections that wait to be accepted. With Node's 511 a burst fills the queue, and a probe whose SYN is dropped comes a second later. */
const BACKLOG = 4096;

const TAKEN_PORT_RETRY_MS = 100;

/** @throws what `listen` reports, for example EADDRINUSE */
export async function openAdmin({
  host,
  port,
  patienceMs,
  probes,
  routes,
  streams,
  token,
  allowedHosts,
  anyHost,
  maxConnections,
  onRefused,
  onFailed,
  beforeShutdown,
  onShutdown,
}: AdminOptions): Promise<Server> {
  const answers = new Map(Object.entries(routes).map(([path, route]) => [path, shared(route)]));
  const server = http.createServer(SHORT_TIMEOUTS, (request, response) => {
    const stream = Object.entries(streams).find(([path]) => path === request.url)?.[1];
    if (stream === undefined)
      return void answer(answers, request, response).catch(error => {
        onFailed(error);
        refuse(response, 500, 'internal error; see the log');
      });
    if (request.method !== 'HEAD') limit.pin(request.socket);
    stream(response);
  });
  server.timeout = UNREAD_ANSWER_TIMEOUT_MS;
  createTerminus(server, {
    signal: SHUTDOWN,
    useExit0: true,
    sendFailuresDuringShutdown: false,
    healthChecks: {
      ...Object.fromEntries(Object.entries(probes).map(([path, probe]) => [path, async () => check(probe)])),
      verbatim: true,
    },
    beforeShutdown,
    onShutdown,
  });
  const open = Object.keys(probes);
  const paths = [...open, ...Object.keys(routes), ...Object.keys(streams)];
  guard(server, paths, (path, { headers }) => {
    if (open.includes(path)) return undefined;
    const wanted = token();
    if (wanted !== undefined) return isAllowed(wanted, headers.authorization) ? undefined : UNAUTHORIZED;
    if (anyHost.includes(path) || isAllowedHost(headers.host, allowedHosts())) return undefined;
    return {
      status: 403,
      text: `host ${JSON.stringify(headers.host)} is not allowed: add its name to ADMIN_ALLOWED_HOSTS, or set ADMIN_TOKEN`,
    };
  });
  const limit = new ConnectionLimit(server, maxConnections, () => onRefused('too many connections'));
  await listening(server, { port, host, backlog: BACKLOG }, performance.now() + patienceMs);
  // Emitted for a connection that could not be accepted (EMFILE); without a listener it would end the process.
  server.on('error', error => onRefused(error.message));
  return server;
}

/** Tries again until `deadline` while another process has the port. */
async function listening(server: Server, options: ListenOptions, deadline: number): Promise<void> {
  server.listen(options);
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || performance.now() > deadline) throw error;
    await sleep(TAKEN_PORT_RETRY_MS);
    await listening(server, options, deadline);
  }
}

/** terminus would show a reason twice, also as `details`. */
async function check(probe: Probe): Promise<{ info: { reason: string } } | undefined> {
  const { isReady, reason } = probe();
  if (!isReady) throw Object.assign(new Error(reason), { statusResponse: { status: 'error', error: { reason } } });
  return reason === undefined ? undefined : { info: { reason } };
}

interface Refusal {
  status: number;
  text: string;
  headers?: OutgoingHttpHeaders;
}

/** Makes a browser prompt for a user and a password; any user name is accepted. */
const CHALLENGE = ['Basic realm="koa-bosun admin port", charset="UTF-8"', 'Bearer realm="koa-bosun admin port"'];
const UNAUTHORIZED: Refusal = {
  status: 401,
  text: 'ADMIN_TOKEN required, as bearer token or as basic password',
  headers: { 'WWW-Authenticate': CHALLENGE },
};
/** RFC 9110, 9.3.2: Node.js leaves out the body of an answer to HEAD. */
const METHODS = ['GET', 'HEAD'];

/** terminus matches the whole URL and any method: it gets only requests of known paths that `refusalOf` lets pass, without their query. */
function guard(
  server: Server,
  paths: readonly string[],
  refusalOf: (path: string, request: IncomingMessage) => Refusal | undefined,
): void {
  const listeners = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    const refusal = refusalOf(path, request);
    if (refusal !== undefined) return refuse(response, refusal.status, refusal.text, refusal.headers);
    if (!paths.includes(path)) return refuse(response, 404, `not found: ${path}; there is ${paths.join(', ')}`);
    if (!METHODS.includes(request.method ?? ''))
      return refuse(response, 405, `GET and HEAD only, got ${request.method}`, { Allow: METHODS.join(', ') });
    request.url = path;
    for (const listener of listeners) listener(request, response as Parameters<RequestListener>[1]);
  });
}

function refuse(response: ServerResponse, status: number, text: string, headers: OutgoingHttpHeaders = {}): void {
  send(response, status, `${text}\n`, {
    'Content-Type': 'text/plain; charset=utf-8',
    'X-Content-Type-Options': 'nosniff',
    ...headers,
  });
}

/** With the length, which an answer to HEAD has too. */
function send(response: ServerResponse, status: number, text: string, headers: OutgoingHttpHeaders): void {
  response.writeHead(status, { 'Content-Length': Buffer.byteLength(text), ...headers });
  response.end(text);
}

/** Of `/metrics`; other paths have one format. */
export type MetricsFormat = 'text' | 'openmetrics';

type Route = (format: MetricsFormat) => Promise<Answer> | Answer;

/**
 * Requests for one format that arrive before their answer is begun share it: a flood costs one answer per turn of the event loop, and probes are answered
 * in between.
 */
function shared(route: Route): Route {
  const next = new Map<MetricsFormat, Promise<Answer>>();
  return format => {
    const begun = next.get(format);
    if (begun !== undefined) return begun;
    const answer = new Promise(resolve => setImmediate(resolve)).then(() => {
      next.delete(format);
      return route(format);
    });
    next.set(format, answer);
    return answer;
  };
}

/** OpenMetrics 1.0 where the Accept header names it, and no lower than plain text (RFC 9110, 12.5.1). Prometheus does. */
export function formatFor(accept = ''): MetricsFormat {
  const weights = { 'application/openmetrics-text': 0, 'text/plain': 0 };
  for (const range of accept.toLowerCase().split(',')) {
    const [type = '', ...parameters] = range.split(';').map(part => part.trim());
    const { q = '1', version = '1.0.0' } = Object.fromEntries(parameters.map(parameter => parameter.split('=', 2)));
    if (type === 'text/plain' || (type === 'application/openmetrics-text' && version === '1.0.0'))
      weights[type] = Math.max(weights[type], Number(q) || 0);
  }
  const { 'application/openmetrics-text': open, 'text/plain': text } = weights;
  return open > 0 && open >= text ? 'openmetrics' : 'text';
}

async function answer(routes: ReadonlyMap<string, Route>, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const route = routes.get(request.url ?? '');
  if (route === undefined) return refuse(response, 404, 'not found');
  const { contentType, text, headers } = await route(formatFor(request.headers.accept));
  send(response, 200, text, { 'Content-Type': contentType, 'Cache-Control': 'no-store', ...headers });
}

/**
 * Takes the same time for every wrong token.
 * @param authorization the header of a request
 */
export function isAllowed(token: string, authorization: string | undefined): boolean {
  return timingSafeEqual(digest(tokenOf(authorization ?? '')), digest(token));
}

function tokenOf(authorization: string): string {
  const [, scheme, credentials = ''] = /^(bearer|basic) +(\S+) *$/i.exec(authorization) ?? [];
  if (scheme?.toLowerCase() !== 'basic') return credentials;
  const login = Buffer.from(credentials, 'base64').toString();
  return login.slice(login.indexOf(':') + 1);
}

/** Of equal length, as timingSafeEqual requires. */
const digest = (text: string) => createHash('sha256').update(text).digest();

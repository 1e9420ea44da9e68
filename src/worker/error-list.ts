/**
 * The request errors of this worker since its last report, bounded in number and size. An error counts when its request is answered with 5xx, or
 * its answer is interrupted: answers of 4xx, and a client that has left, are no errors.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { traceOf } from '../log/telemetry.ts';
import { MAX_ERRORS, type RequestError } from '../protocol/error-status.ts';
import { pathOf } from './connections.ts';
import { reportOf } from './error-report.ts';
import { read } from './shapes.ts';

/** Of one kind in one report: the others count on the last one. Refusals of the kit are all the same, and must not displace errors of the app. */
const MAX_ALIKE = 10;
const REFUSALS = ['Overloaded', 'ConcurrencyLimit'];
const MAX_MESSAGE = 500;
const MAX_FRAME = 300;
const MAX_PATH = 500;

type Request = IncomingMessage & { originalUrl?: string };

/** What ended a request: an error of the app, and what its framework made of the request (route.ts), or an answer of the kit. */
type Cause = { error: unknown; framework: object } | { own: 'Overloaded' | 'ConcurrencyLimit' | 'HandlerTimeout' };

const causes = new WeakMap<IncomingMessage, Cause>();
const listed = new WeakSet<IncomingMessage>();
let errors: RequestError[] = [];
/** Until those that came are in the list. */
let listing: Promise<void> = Promise.resolve();

/** To be called with what goes wrong in a request whose answer is not known yet. */
export function noteCause(request: IncomingMessage, cause: Cause): void {
  causes.set(request, cause);
}

/** Whether the kit has answered it with 503 before the app got it. */
export function isRefused(request: IncomingMessage): boolean {
  const cause = causes.get(request);
  return cause !== undefined && 'own' in cause && cause.own !== 'HandlerTimeout';
}

/**
 * To be called when a request was answered with 5xx: frameworks report its error before, or in the same turn. An app that answers its errors by
 * itself leaves them as `err` on the response, where pino-http reads them, too.
 */
export function onErrorAnswer(request: Request, status: number, response?: ServerResponse): void {
  setImmediate(() => listError(request, status, causes.has(request) ? undefined : read(response, 'err')));
}

/** Lists `error`, else what was noted, for a request that was, or will be, answered with this status. Once for each request. */
export function listError(request: Request, status: number, error?: unknown): void {
  if (listed.has(request)) return;
  listed.add(request);
  const noted = causes.get(request);
  const trace = traceOf(request);
  const described = {
    at: Date.now(),
    ...describe(error === undefined ? noted : { error }, status),
    method: (request.method ?? '').slice(0, 32),
    status,
    count: 1,
    path: pathOf(request.originalUrl ?? request.url).slice(0, MAX_PATH),
    ...(trace && { trace_id: trace.trace_id }),
  };
  listing = listing.then(async () => {
    const { FRAMEWORK, routeOf } = await import('./route.ts'); // not before the first error
    if (noted !== undefined && 'framework' in noted) Object.assign(request, { [FRAMEWORK]: noted.framework });
    add({ ...described, route: routeOf(request) });
  });
}

/** Those since the last call. */
export async function takeErrors(): Promise<RequestError[]> {
  await listing;
  const taken = errors;
  errors = [];
  return taken;
}

function describe(
  cause: Cause | { error: unknown } | undefined,
  status: number,
): Pick<RequestError, 'class' | 'code' | 'file' | 'line' | 'message' | 'frame'> {
  if (cause === undefined) return { class: `HTTP ${status}` };
  if ('own' in cause) return { class: cause.own };
  const { message, stack, summary } = reportOf(cause.error);
  const { own: _, ...place } = summary;
  const frames = stack.split('\n').filter(row => /^\s+at /.test(row));
  const frame = frames.find(row => !/node:|[\\/]node_modules[\\/]/.test(row)) ?? frames[0];
  return {
    ...place,
    message: message.slice(0, MAX_MESSAGE),
    ...(frame !== undefined && { frame: frame.trim().slice(0, MAX_FRAME) }),
  };
}

function add(error: RequestError): void {
  const alike = errors.filter(other => isAlike(other, error));
  const last = alike.at(-1);
  const most = REFUSALS.includes(error.class) ? 1 : MAX_ALIKE;
  if (last !== undefined && (alike.length >= most || errors.length >= MAX_ERRORS))
    Object.assign(last, error, { count: last.count + 1 });
  else if (errors.push(error) > MAX_ERRORS) errors.shift();
}

/** The same error in the same route. */
function isAlike(a: RequestError, b: RequestError): boolean {
  return (['class', 'code', 'file', 'line', 'method', 'route', 'status'] as const).every(key => a[key] === b[key]);
}

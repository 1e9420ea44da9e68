/**
 * OpenTelemetry as the app's process has loaded it: the span that is active, and what is not exported yet. The kit imports none of its packages: its
 * API keeps its state in globals with fixed symbols, which all copies of the API in one process share.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage } from 'node:http';
import { parseTraceparent, type TraceIds } from '../protocol/trace.ts';

const API = Symbol.for('opentelemetry.js.api.1');
const LOGS_API = Symbol.for('io.opentelemetry.js.api.logs');
const LOGS_API_VERSION = 1;
const SPAN_KEY = Symbol.for('OpenTelemetry Context Key SPAN');

/** The parts of the API that an SDK has registered. */
interface Registry {
  context?: { active(): { getValue(key: symbol): Span | undefined } };
  trace?: Provider;
  metrics?: Provider;
}
interface Span {
  spanContext(): { traceId: string; spanId: string; traceFlags: number };
}
interface Provider {
  getTracer?(name: string): { startSpan(name: string, options: object): OpenSpan };
  /** Of the provider that stands in for one which may be set later. */
  getDelegate?(): Provider;
  /** Exports what it has. */
  shutdown?(): Promise<unknown>;
}

interface OpenSpan {
  setStatus(status: { code: number }): void;
  end(): void;
}

const registry = (): Registry | undefined => Reflect.get(globalThis, API);

/** Whether an SDK has begun to follow requests. */
export const isTraced = (): boolean => registry()?.context !== undefined;

const NO_TRACE = '0'.repeat(32);

/** Of the active span. */
function spanIds(): TraceIds | undefined {
  try {
    const context = registry()?.context?.active().getValue(SPAN_KEY)?.spanContext();
    if (context === undefined || context.traceId === NO_TRACE) return undefined;
    const { traceId, spanId, traceFlags } = context;
    return { trace_id: traceId, span_id: spanId, trace_flags: traceFlags.toString(16).padStart(2, '0') };
  } catch {
    return undefined; // another version of the API; the line is written without
  }
}

/** The span that the instrumentation of http has opened for each request. */
const serverSpans = new WeakMap<IncomingMessage, TraceIds>();

/** To be called in the context of the request's own span. */
export function noteSpan(request: IncomingMessage): void {
  const ids = spanIds();
  if (ids !== undefined) serverSpans.set(request, ids);
}

/** The ids of this request: of its span, or those that it came with. */
export function traceOf(request: IncomingMessage): TraceIds | undefined {
  return serverSpans.get(request) ?? parseTraceparent(request.headers.traceparent);
}

/** The trace of this request, if it is sampled: only then a tracing backend has it. */
export function sampledTraceId(request: IncomingMessage): string | undefined {
  if (request.headers.traceparent === undefined && !isTraced()) return undefined;
  const ids = traceOf(request);
  return ids !== undefined && Number.parseInt(ids.trace_flags, 16) & SAMPLED ? ids.trace_id : undefined;
}

/** The bit of `trace_flags`. */
const SAMPLED = 1;

/** The `traceparent` of the request that is being handled. */
const handled = new AsyncLocalStorage<string>();
/** Before, `AsyncLocalStorage` slows down every promise of the process: by half of its time and more. From Node.js 24 on, a request by 0.3 µs. */
const FIRST_CHEAP_NODE = 24;
const isCheap = Number.parseInt(process.versions.node, 10) >= FIRST_CHEAP_NODE;

/** Runs `handle`, so that the lines which it logs carry the ids of the request; OpenTelemetry has its own way. */
export function inTrace<T>({ headers: { traceparent } }: IncomingMessage, handle: () => T): T {
  return typeof traceparent === 'string' && isCheap && !isTraced() ? handled.run(traceparent, handle) : handle();
}

/** The ids of what is being done now, for a log line: of the active span, or of the request that is being handled. */
export function activeTrace(): TraceIds | undefined {
  return spanIds() ?? parseTraceparent(handled.getStore());
}

const CLIENT_KIND = 2;
const ERROR_STATUS = 2;

/**
 * Opens a span for a command to Redis that is sent within another span: instrumentations find an app's ioredis, not the kit's own copy. Call the
 * result when the command has ended.
 * @returns undefined where nothing is traced
 */
export function redisSpan(command: string): ((hasFailed: boolean) => void) | undefined {
  const operation = command.toUpperCase();
  const attributes = { 'db.system.name': 'redis', 'db.operation.name': operation };
  try {
    if (spanIds() === undefined) return undefined;
    const span = registry()?.trace?.getTracer?.('koa-bosun').startSpan(operation, { kind: CLIENT_KIND, attributes });
    return hasFailed => {
      if (hasFailed) span?.setStatus({ code: ERROR_STATUS });
      span?.end();
    };
  } catch {
    return undefined; // the command is sent without
  }
}

/**
 * Ends the SDK: it exports the spans, metrics and logs that it still has, and takes no more. Resolves after `timeoutMs` in any case, and at once where
 * there is no SDK. `forceFlush` would not wait for a batch that is being sent.
 * @returns why that failed, where it did
 */
export async function endTelemetry(timeoutMs: number): Promise<string | undefined> {
  const { promise: timeout, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(resolve, timeoutMs, `not exported within ${Math.round(timeoutMs)} ms`);
  try {
    const ended = Promise.allSettled(providers().map(async provider => provider.shutdown?.()));
    const failed = ended.then(all => all.find(({ status }) => status === 'rejected'));
    const result = await Promise.race([timeout, failed]);
    return typeof result === 'object' ? String(Reflect.get(result, 'reason')) : result;
  } catch (error) {
    return String(error);
  } finally {
    clearTimeout(timer);
  }
}

/** Those of an SDK can be ended; those of the API alone cannot. */
function providers(): Provider[] {
  const { trace, metrics } = registry() ?? {};
  const logs: unknown = Reflect.get(globalThis, LOGS_API);
  const logProvider = typeof logs === 'function' ? (logs(LOGS_API_VERSION) as Provider | undefined) : undefined;
  const found = [trace?.getDelegate?.() ?? trace, metrics, logProvider];
  return found.filter((provider): provider is Provider => typeof provider?.shutdown === 'function');
}

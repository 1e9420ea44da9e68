/**
 * The ids of a request's trace: from its header (the cases of W3C Trace Context), and from OpenTelemetry where an SDK is registered.
 */
import assert from 'node:assert/strict';
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { activeTrace, endTelemetry, inTrace, noteSpan, redisSpan, traceOf } from '../src/log/telemetry.ts';
import { parseTraceparent } from '../src/protocol/trace.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const HEADER = `00-${TRACE}-${PARENT}-01`;
const IDS = { trace_id: TRACE, span_id: PARENT, trace_flags: '01' };
const API = Symbol.for('opentelemetry.js.api.1');
const LOGS_API = Symbol.for('io.opentelemetry.js.api.logs');

function requestWith(traceparent?: string): IncomingMessage {
  const request = new IncomingMessage(new Socket());
  if (traceparent !== undefined) request.headers.traceparent = traceparent;
  return request;
}

/** Registers parts of the API as an SDK does, for one test. */
function register(t: TestContext, parts: object, logs?: unknown): void {
  Reflect.set(globalThis, API, { version: '1.9.1', ...parts });
  if (logs !== undefined) Reflect.set(globalThis, LOGS_API, logs);
  t.after(() => {
    Reflect.deleteProperty(globalThis, API);
    Reflect.deleteProperty(globalThis, LOGS_API);
  });
}

const contextWith = (spanContext: unknown) => ({
  active: () => ({
    getValue: (key: symbol) =>
      key === Symbol.for('OpenTelemetry Context Key SPAN') && spanContext ? { spanContext: () => spanContext } : undefined,
  }),
});

test('a traceparent of the current version has three ids', () => {
  assert.deepEqual(parseTraceparent(HEADER), IDS);
  assert.deepEqual(parseTraceparent(`00-${TRACE}-${PARENT}-00`), { ...IDS, trace_flags: '00' });
});

test('a later version may have more fields, the current one may not', () => {
  assert.deepEqual(parseTraceparent(`cc-${TRACE}-${PARENT}-01-what-comes-later`), IDS);
  assert.deepEqual(parseTraceparent(`cc-${TRACE}-${PARENT}-01`), IDS);
  for (const wrong of [`${HEADER}-x`, `${HEADER}-`, `cc-${TRACE}-${PARENT}-01.x`, `${HEADER}x`])
    assert.equal(parseTraceparent(wrong), undefined, wrong);
});

test('other headers are not valid', () => {
  const wrong = [
    undefined,
    '',
    'x',
    `ff-${TRACE}-${PARENT}-01`,
    `0-${TRACE}-${PARENT}-01`,
    `00-${'0'.repeat(32)}-${PARENT}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${PARENT}-01`,
    `00-${TRACE.slice(1)}-${PARENT}-01`,
    `00-${TRACE}-${PARENT.slice(1)}-01`,
    `00-${TRACE}-${PARENT}-1`,
    `00-${TRACE}-${PARENT}`,
    ` ${HEADER}`,
    `${HEADER}, ${HEADER}`,
    [HEADER],
  ];
  for (const header of wrong) assert.equal(parseTraceparent(header), undefined, String(header));
});

test('what is logged while a request is handled has the ids that it came with, also after an await', async () => {
  const seen = await inTrace(requestWith(HEADER), async () => {
    await new Promise(setImmediate);
    return activeTrace();
  });
  assert.deepEqual(seen, IDS);
  assert.equal(activeTrace(), undefined);
  assert.equal(inTrace(requestWith(), activeTrace), undefined);
  assert.equal(inTrace(requestWith('x'), activeTrace), undefined);
});

test('with an SDK the ids are those of the active span', t => {
  register(t, { context: contextWith({ traceId: TRACE, spanId: '00f067aa0ba902b7', traceFlags: 1 }) });
  assert.deepEqual(activeTrace(), { ...IDS, span_id: '00f067aa0ba902b7' });
  const request = requestWith(HEADER);
  assert.deepEqual(traceOf(request), IDS);
  noteSpan(request);
  assert.deepEqual(traceOf(request), { ...IDS, span_id: '00f067aa0ba902b7' });
});

test('with an SDK that has no span, or an invalid one, a request has the ids that it came with', t => {
  register(t, { context: contextWith(undefined) });
  const request = requestWith(HEADER);
  noteSpan(request);
  assert.deepEqual(traceOf(request), IDS);
  register(t, { context: contextWith({ traceId: '0'.repeat(32), spanId: '0'.repeat(16), traceFlags: 0 }) });
  assert.equal(activeTrace(), undefined);
  register(t, { context: { active: () => null } });
  assert.equal(activeTrace(), undefined);
});

test('a command to Redis within a span has a span of its own, which says whether it failed', t => {
  const spans: unknown[] = [];
  const getTracer = (tracer: string) => ({
    startSpan: (name: string, options: object) => {
      spans.push({ tracer, name, ...options });
      return { setStatus: (status: object) => spans.push(status), end: () => spans.push('end') };
    },
  });
  register(t, { context: contextWith({ traceId: TRACE, spanId: PARENT, traceFlags: 1 }), trace: { getTracer } });
  redisSpan('get')?.(false);
  redisSpan('set')?.(true);
  const attributes = (operation: string) => ({ 'db.system.name': 'redis', 'db.operation.name': operation });
  const opened = (name: string) => ({ tracer: 'koa-bosun', name, kind: 2, attributes: attributes(name) });
  assert.deepEqual(spans, [opened('GET'), 'end', opened('SET'), { code: 2 }, 'end']);
  register(t, { context: contextWith(undefined), trace: { getTracer } });
  assert.equal(redisSpan('get'), undefined);
});

test('the end of a worker ends spans, metrics and logs', async t => {
  const ended: string[] = [];
  const provider = (name: string) => ({ shutdown: async () => void ended.push(name) });
  register(t, { trace: { getDelegate: () => provider('trace') }, metrics: provider('metrics') }, (version: number) =>
    version === 1 ? provider('logs') : {},
  );
  assert.equal(await endTelemetry(1000), undefined);
  assert.deepEqual(ended, ['trace', 'metrics', 'logs']);
});

test('a failed export is reported', async t => {
  const failing = () => {
    throw new Error('refused');
  };
  register(t, { metrics: { shutdown: failing } });
  assert.equal(await endTelemetry(1000), 'Error: refused');
});

test('a registry of another shape ends no worker', async t => {
  const broken = () => {
    throw new Error('of another version');
  };
  register(t, { trace: { getDelegate: broken }, context: { active: broken } });
  assert.equal(await endTelemetry(1000), 'Error: of another version');
  assert.equal(activeTrace(), undefined);
  register(t, { trace: null, metrics: 1 }, () => null);
  assert.equal(await endTelemetry(1000), undefined);
  register(t, { metrics: { shutdown: () => Promise.reject(Object.create(null)) } });
  assert.match(String(await endTelemetry(1000)), /^TypeError: /);
});

test('an export that does not end is reported at its deadline', async t => {
  register(t, { metrics: { shutdown: () => new Promise(() => undefined) } });
  assert.equal(await endTelemetry(5), 'not exported within 5 ms');
});

test('the API without an SDK has nothing to end', async t => {
  register(t, { trace: { getDelegate: () => ({}) }, metrics: {} }, () => ({}));
  assert.equal(await endTelemetry(1000), undefined);
});
